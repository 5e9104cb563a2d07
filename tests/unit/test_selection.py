"""What a person chooses by name, platform and expression, and what of it the nodes of a farm can build."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import choose
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import damaged, describe, select

from .conftest import DEFAULTS, RECIPE, Catalog

BOTH = ("amd64", "arm64")


def names(*images: str, on: tuple[str, ...] = BOTH) -> list[str]:
    return [f"{image} linux/{architecture}" for image in images for architecture in on]


@pytest.mark.parametrize(("images", "platforms", "expression", "chosen"), [
    ([], [], "", names("debian", "static", "app", "base")),
    (["app"], [], "", names("app")),
    (["base", "app"], ["linux/arm64"], "", names("app", "base", on=("arm64",))),
    ([], ["linux/amd64"], "", names("debian", "static", "app", "base", on=("amd64",))),
    (["builder"], [], "", names("builder-c", "builder-go")),
    ([], ["linux/amd64", "linux/arm64"], "[?image=='app']", names("app")),
    ([], [], "[?image=='builder' || image=='app' && platform.architecture=='arm64']", ["app linux/arm64"]),
    (["builder"], ["linux/amd64"], "[?target=='go']", ["builder-go linux/amd64"]),
    ([], [], "[?contains(parents, 'static')]", names("app", "base")),
])
def test_names_platforms_and_expression_choose_together(
        chain: Catalog, images: list[str], platforms: list[str], expression: str, chosen: list[str]) -> None:
    """Of images with targets are chosen only those that are named."""
    found = select(chain.plan(), [AMD64, ARM64], images, platforms, expression)
    assert sorted(map(str, found)) == sorted(chosen)


@pytest.mark.parametrize(("images", "platforms", "expression", "chosen"), [
    ([], [], "", names("base", "debian")),
    ([], ["linux/arm64"], "", names("base", "debian", on=("arm64",))),
    ([], [], "[?image=='app']", names("app")),
    (["app"], [], "", names("app")),
    (["all"], [], "", names("debian", "static", "app", "base")),
    (["all"], ["linux/amd64"], "[?contains(parents, 'static')]", names("app", "base", on=("amd64",))),
    (["all", "builder"], [], "", names("debian", "static", "app", "base", "builder-c", "builder-go")),
])
def test_what_nobody_chose_is_what_the_defaults_of_its_catalog_name(
        chain: Catalog, images: list[str], platforms: list[str], expression: str, chosen: list[str]) -> None:
    chain.write("defaults.yml", DEFAULTS + "images: [debian, base]\n")
    found = select(chain.plan(), [AMD64, ARM64], images, platforms, expression)
    assert sorted(map(str, found)) == sorted(chosen)


def test_defaults_name_images_for_their_own_catalog_alone(chain: Catalog, tmp_path: Path) -> None:
    chain.write("defaults.yml", DEFAULTS + "images: [base]\n")
    other = Catalog(tmp_path / "other")
    for name in ("mine", "yours"):
        other.image(name, "FROM base\n")
    recipes = load_catalog([str(chain.root), str(other.root)])
    assert {name for name, recipe in recipes.items() if recipe.usual} == {"base", "mine", "yours"}
    own = load_catalog(["desimages.farm", str(other.root)])
    assert {name for name, recipe in own.items() if recipe.usual} == {
        "debian", "static", "base", "tools", "registry", "mine", "yours"}


def test_defaults_that_name_no_image_are_told_with_the_nearest_name(chain: Catalog) -> None:
    chain.write("defaults.yml", DEFAULTS + "images:\n  - bass\n  - debian\n  - inputs\n")
    with pytest.raises(BadInput) as error:
        chain.plan()
    assert str(error.value).splitlines()[1:] == [
        "images/defaults.yml:5: 'bass' is not an image of this folder (did you mean 'base'?)",
        "images/defaults.yml:7: 'inputs' is not an image of this folder"]


def test_a_lock_step_takes_all_images_unless_some_are_named(chain: Catalog) -> None:
    chain.write("defaults.yml", DEFAULTS + "images: [base]\n")
    for name in ("app", "base"):
        chain.image(name, f"FROM scratch\nCOPY --from=inputs /{name} /\n",
                    f"inputs: {{{name}: {{url: 'https://example.org'}}}}\n")
    recipes = load_catalog([str(chain.root)], need_locks=False)
    for images in ([], ["all"], ["all", "base"]):
        assert [recipe.name for recipe in choose(recipes, images, "")] == ["app", "base"]
    assert [recipe.name for recipe in choose(recipes, ["base"], "")] == ["base"]
    with pytest.raises(BadInput) as error:
        choose(recipes, ["al"], "")
    assert "farm_images: 'al' is not an image of the catalog" in str(error.value)


@pytest.mark.parametrize(("images", "platforms", "expression", "said"), [
    (["ap", "app", "x"], ["linux/arm", "linux/amd64"], "[?", [
        "farm_images: 'ap' is not an image of the catalog (did you mean 'app'?); images: app, base, builder, debian,"
        " static",
        "farm_images: 'x' is not an image of the catalog; images: app, base, builder, debian, static",
        "farm_platforms: 'linux/arm' is not a platform of the catalog (did you mean 'linux/arm64'?); platforms: "
        "linux/amd64, linux/arm64",
        "farm_select: '[?' does not choose units: "]),
    ([], [], "[].image", ["farm_select: '[].image' does not choose units: "]),
    ([], [], "length(@)", ["farm_select: 'length(@)' does not choose units: it gives a number, not a list of these"]),
    ([], [], "image", ["farm_select: 'image' does not choose units: it gives nothing, not a list of these"]),
    ([], [], "[0]", ["farm_select: '[0]' does not choose units: it gives a mapping, not a list of these"]),
    ([], [], "ceil(`1e999`)", ["farm_select: 'ceil(`1e999`)' does not choose units: jmespath cannot evaluate it ("]),
    ([], [], "[" * 600, [f"farm_select: '{'[' * 600}"]),
    ([], [], "[].{image: image}", ["farm_select: '[].{image: image}' does not choose units: it gives a list of "
                                   "something else, not a list of these; an example: [?image=='registry' && "
                                   "platform.variant=='v6']"]),
    (["x"], [], "", ["farm_images: 'x' is not an image of the catalog; images: app, base, builder, debian, static"]),
    ([], [], "[?image=='bsae']", ["farm_select chooses no unit: correct it"]),
    (["app"], [], "[?image=='base']", ["farm_images and farm_select together choose no unit: correct one of them"]),
])
def test_all_that_is_wrong_with_a_choice_is_told_at_once(
        chain: Catalog, images: list[str], platforms: list[str], expression: str, said: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        select(chain.plan(), [AMD64], images, platforms, expression)
    assert "in the choice:" in str(error.value)
    assert len(error.value.problems) == len(said)
    assert all(found.startswith(words) for found, words in zip(error.value.problems, said, strict=True))


def test_what_no_node_runs_natively_is_told_with_the_step_that_would(chain: Catalog) -> None:
    """A parent may be the reason. Targets that nobody needs there are left out: they come along where they can."""
    chain.image("runs", "FROM debian\nRUN x\n")
    chain.image("child", "FROM runs\nCOPY . /a\n")
    chain.write("child/a", "")
    plan = chain.plan()
    why = ("the steps of runs linux/arm64 run code of linux/arm64, but no node runs that natively: leave the platform"
           " out (farm_platforms)")
    with pytest.raises(BadInput) as error:
        select(plan, [AMD64], [], [], "")
    assert sorted(error.value.problems) == [f"child linux/arm64: {why}", f"runs linux/arm64: {why}"]
    assert [str(key) for key in select(plan, [AMD64], ["child"], ["linux/amd64"], "")] == ["child linux/amd64"]
    assert len(select(plan, [AMD64, ARM64], ["child", "runs"], [], "")) == 4
    found = select(plan, [AMD64], ["builder", "app"], [], "")
    assert sorted(map(str, found)) == [*names("app"), *names("builder-c", "builder-go", on=("amd64",))]


def test_while_a_node_is_away_what_only_it_could_build_is_wanted_as_it_may_exist(chain: Catalog) -> None:
    chain.image("runs", "FROM debian\nRUN x\n")
    assert sorted(map(str, select(chain.plan(), None, ["runs"], [], ""))) == names("runs")
    with pytest.raises(BadInput, match="'x' is not an image"):
        select(chain.plan(), None, ["x"], [], "")


@pytest.mark.parametrize(("native", "here", "found"), [
    (["linux/arm64", "linux/arm/v7", "linux/amd64", "linux/386", "linux/arm64"], "x86_64", [ARM64, AMD64]),
    (["linux/arm/v6"], "x86_64", [Platform("linux", "arm", "v6")]),  # nobody can build for others
    ([], "aarch64", [ARM64]), ([], "riscv64", [AMD64]), ([], "arm64", [AMD64]),  # the last is a Mac
])
def test_the_build_platforms_are_those_of_the_nodes_that_are_there(
        chain: Catalog, monkeypatch: pytest.MonkeyPatch, native: list[str], here: str, found: list[Platform]) -> None:
    """If none is known, the controller's, which need not be one."""
    monkeypatch.setattr(planning.os, "uname", lambda: SimpleNamespace(machine=here))
    assert planning.builds(load_catalog([str(chain.root)]), native) == found


def test_a_unit_is_described_for_expressions_and_people(empty: Catalog) -> None:
    empty.write("tool/image.yml", RECIPE.format(name="tool").replace("linux/amd64", "linux/arm/v6")
                + "targets: [go]\ninputs:\n  x: {url: 'https://example.org/x'}\n")
    empty.write("tool/Dockerfile", "FROM seed\nFROM base AS go\nCOPY --from=inputs /x /\nCOPY --from=seed /s /\n")
    for name in ("seed", "base"):
        empty.write(f"{name}/image.yml", RECIPE.format(name=name).replace("linux/amd64", "linux/arm/v6"))
        empty.write(f"{name}/Dockerfile", "FROM scratch\nCOPY . /\n")
    line = '{"input":"x","kind":"url","url":"https://example.org/x","sha256":"' + 64 * "a" + '","size":1}\n'
    empty.write("tool/lock.jsonl", '{"lock":2,"made_for":{"x":{"url":"https://example.org/x"}}}\n' + line)
    plan = empty.plan()
    key = next(key for key in plan.units if key.target and key.platform != ARM64)
    assert describe(plan, key) == {
        "unit": "tool-go linux/arm/v6", "image": "tool", "target": "go", "id": plan.units[key].id,
        "platform": {"os": "linux", "architecture": "arm", "variant": "v6", "name": "linux/arm/v6"},
        "inputs": ["x"], "parents": ["base", "seed"]}
    assert describe(plan, Key("base", "", ARM64))["parents"] == []


def test_damaged_units_are_named_with_the_reason_and_what_is_none_is_refused(chain: Catalog) -> None:
    plan = chain.plan()
    assert damaged(plan, ["app linux/arm64", "base linux/amd64"]) == {
        Key("app", "", ARM64): "damaged in the registry", Key("base", "", AMD64): "damaged in the registry"}
    with pytest.raises(BadInput) as error:
        damaged(plan, ["app linux/arm64", "app linux/s390x", "x"])
    assert error.value.problems == [f"damaged: '{name}' is not a unit of the catalog"
                                    for name in ("app linux/s390x", "x")]
