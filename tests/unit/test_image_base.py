"""An image of another registry as a base: what a plan makes of its lock."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.locks import reader
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock

from .conftest import Catalog

KIND = KINDS["image"]
IMAGE = "registry.example.org/team/os:1"
INPUTS = ("inputs:\n  os: {image: 'registry.example.org/team/os:1'}\n"
          "  cc: {image: 'registry.example.org/team/cc:1', for: build}\n")
FILE = ("FROM --platform=$BUILDPLATFORM cc AS made\nRUN make\nFROM os\nCOPY --from=made /a /a\n")


def lines(**changed: str) -> tuple[Entry, ...]:
    return tuple(KIND.entry(name, hashlib.sha256(f"{name} {platform} {file} {changed.get(name)}".encode()).hexdigest(),
                            7, str(platform), {"image": f"registry.example.org/team/{name}:1", "file": file,
                                               "digest": f"sha256:{'1' * 64}"})
                 for name in ("os", "cc") for platform in (AMD64, ARM64)
                 for file in ("manifest", "config", "layer-001"))


def locked(catalog: Catalog, entries: tuple[Entry, ...] = (), text: str = FILE, inputs: str = INPUTS) -> Plan:
    catalog.image("app", text, inputs)
    recipe = load_catalog([str(catalog.root)], need_locks=False)["app"]
    made_for = {found.name: KINDS[found.kind].made_for(found, recipe.suites, reader(Path(recipe.folder)))
                for found in recipe.inputs}
    catalog.write("app/lock.jsonl", lockfile.dump(Lock(entries or lines(), made_for=made_for)))
    return catalog.plan()


def test_a_base_is_given_to_buildkit_by_the_digest_in_the_lock(empty: Catalog) -> None:
    plan = locked(empty)
    unit = plan.units[Key("app", "", ARM64)]
    assert (unit.inputs, unit.build_inputs, unit.images) == (("os",), ("cc",), ("cc", "os"))
    made = solve.make([unit], plan, empty.sources("app"), build=AMD64, registry="127.0.0.1:5000",
                      repository="desimages/app", digests={}, unpacked={})
    found = {(entry.input, entry.platform): entry.sha256 for entry in lines() if entry.fact["file"] == "manifest"}
    place = "docker-image://127.0.0.1:5000/desimages/archive@sha256:"
    assert {name: value for name, value in made.options.items() if name.startswith("context:")} == {
        "context:os::linux/arm64": place + found["os", "linux/arm64"],
        "context:cc::linux/amd64": place + found["cc", "linux/amd64"]}
    assert set(made.contexts) == {"context", made.options["dockerfilekey"]}, "layers are in no context"
    assert unit.labels["org.opencontainers.image.base.name"] == IMAGE


def test_the_build_id_has_the_content_of_a_base(empty: Catalog) -> None:
    before = locked(empty).units
    other = locked(empty, lines(os="other")).units
    assert all(before[key].id != other[key].id for key in before)
    # another index of the same images, such as one with more platforms
    index = tuple(KIND.entry(entry.input, entry.sha256, 7, entry.platform,
                             {**entry.fact, "digest": f"sha256:{'2' * 64}"}) for entry in lines())
    assert {key: unit.id for key, unit in locked(empty, index).units.items()} == {
        key: unit.id for key, unit in before.items()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM os\nCOPY --from=cc /a /a\n", "Dockerfile:2: cc is used for the platform that is built"),
        ("FROM --platform=$BUILDPLATFORM os AS x\nRUN y\nFROM os\nCOPY --from=x / /\n",
         "Dockerfile:1: os is used for a stage for the build platform: say `for: build`"),
        ("FROM scratch\nCOPY --from=inputs /os /\n", "Dockerfile:2: os is an image: use it by its own name"),
        ("FROM unpacked-cc\n", "Dockerfile:1: cc is an image: use it by its own name"),
        ("FROM os\n", "image.yml:7: cc is an input that the Dockerfile does not use"),
        ("FROM OS\n", "'OS' is not an image of the catalog"),
    ],
)
def test_a_base_is_used_as_the_recipe_says(empty: Catalog, text: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        locked(empty, text=text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"), [("debian", "debian is an input of image.yml and an image of the catalog; rename the input"),
                       ("context", "the name 'context' is reserved"), ("unpacked-x", "'unpacked-x' is reserved"),
                       ("a-", "a- cannot be a name in FROM")])
def test_a_name_is_of_one_thing_only(empty: Catalog, name: str, said: str) -> None:
    empty.image("debian", "FROM scratch\n")
    empty.image("app", f"FROM {name}\n", f"inputs:\n  {name}: {{image: '{IMAGE}'}}\n")
    assert any(said in problem for problem in empty.problems())


def test_a_base_for_build_stages_is_needed_on_every_machine_that_builds(empty: Catalog) -> None:
    text = FILE.replace("FROM os\n", "FROM os\nRUN x\n")
    empty.write("defaults.yml", "build_platforms: [linux/amd64]\nsuites: [trixie]\n")
    empty.image("app", text, INPUTS)
    empty.write("app/image.yml", (empty.root / "app/image.yml").read_text().replace("linux/arm64", "linux/s390x"))
    assert [problem for problem in empty.problems() if "cc is not locked for linux/s390x" in problem]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: None if entry.path == "os/manifest" and entry.platform == "linux/arm64" else entry,
         "os: the lock has no manifest of it for linux/arm64"),
        (lambda entry: replace(entry, facts=(*entry.facts[:1], ("digest", f"sha256:{'3' * 64}"), *entry.facts[2:]))
         if entry.path == "cc/config" else entry, "cc: it has lines of different images"),
        (lambda entry: replace(entry, facts=(("image", "host.example/a:b"), *entry.facts[1:]))
         if entry.path == "cc/config" else entry, f"the recipe says image {IMAGE.replace('os', 'cc')}, this line says"),
    ],
)
def test_lines_of_another_lock_are_refused(empty: Catalog, change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(BadInput) as error:
        locked(empty, tuple(filter(None, map(change, lines()))))
    assert said in str(error.value)


def test_a_line_is_checked() -> None:
    fact = {"image": IMAGE, "digest": f"sha256:{'1' * 64}", "file": "layer-001"}
    assert list(KIND.wrong(fact)) == []
    for name, bad in (("image", "debian"), ("digest", "sha256:1"), ("file", "layer-1")):
        assert [said.split()[0] for said in KIND.wrong({**fact, name: bad})] == [name]
    found = KIND.input("os", {"image": f"{IMAGE}@sha256:{'2' * 64}"})
    entry = KIND.entry("os", "0" * 64, 1, "linux/amd64", {**fact, "image": f"{IMAGE}@sha256:{'2' * 64}"})
    assert "this line says sha256:111" in KIND.foreign(found, entry)
    everywhere = KIND.entry("os", "0" * 64, 1, "", fact)
    assert "an image is for one platform" in KIND.foreign(KIND.input("os", {"image": IMAGE}), everywhere)
