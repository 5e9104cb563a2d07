"""Recipes: what is refused, and how."""

from __future__ import annotations

import json

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.locks import NO_LOCK
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key

from .conftest import DEFAULTS, RECIPE, Catalog


def problems(catalog: Catalog) -> list[str]:
    with pytest.raises(BadInput) as found:
        catalog.plan()
    return found.value.problems


def test_ten_mistakes_give_ten_messages_with_file_and_line(chain: Catalog) -> None:
    chain.write("app/image.yml",
                "descripton: x\nhome: example.org\nlicense: 3\nplatforms: [linux/amd46]\ninputs:\n  a: {debain: [x]}\n")
    chain.image("base", "FROM debain\nCOPY --from=inputs /b /\nADD https://example.org/x /\n",
                "inputs:\n  c: {url: 'https://example.org/c'}\n")
    found = problems(chain)
    text = "\n".join(found)
    assert len(found) >= 10
    assert "images/app/image.yml:1: 'descripton' is not known here (did you mean 'description'?)" in text
    assert "has no 'description'" not in text  # that is said already
    assert "images/app/image.yml:2: home is 'example.org'" in text
    assert "images/app/image.yml:3: license is the number 3, it must be a string, so put it in quotes" in text
    assert "images/app/image.yml:4: platforms.0 is 'linux/amd46' (did you mean 'linux/amd64'?)" in text
    assert "images/app/image.yml:6: 'debain' is not known here (did you mean 'debian'?)" in text
    assert "images/base/Dockerfile:1: 'debain' is not an image of the catalog (did you mean 'debian'?)" in text
    assert "images/base/Dockerfile:2: 'b' is not an input of image.yml" in text
    assert "images/base/Dockerfile:3: ADD https://example.org/x" in text
    assert "images/base/image.yml:6: c is an input that the Dockerfile does not use" in text


def test_a_mistake_in_a_recipe_hides_none_in_its_dockerfile(chain: Catalog) -> None:
    chain.image("base", "FROM debain\nCOPY --from=inputs /b /\n",
                "licence: MIT\ninputs:\n  c: {url: 'https://example.org/c'}\n")
    found = [problem for problem in problems(chain) if not problem.startswith("images/base/lock.jsonl")]
    assert [problem[:31] for problem in found] == [
        "images/base/Dockerfile:1: 'deba", "images/base/Dockerfile:2: 'b' i", "images/base/image.yml:5: 'licen",
        "images/base/image.yml:7: c is a"]


@pytest.mark.parametrize("name", ["base/", "./base", "../images/base", "x" * 300])
def test_what_defaults_name_is_an_image_and_no_path_to_one(chain: Catalog, name: str) -> None:
    chain.write("defaults.yml", f"{DEFAULTS}images: [debian, {name}]\n")
    (found,) = problems(chain)
    number = DEFAULTS.count("\n") + 1
    assert found.startswith(f"images/defaults.yml:{number}: {name!r} is not an image of this folder")


def test_a_cycle_is_shown_as_a_path(empty: Catalog) -> None:
    for name, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        empty.image(name, f"FROM {parent}\n")
    (found,) = problems(empty)
    assert any(f"images that need each other: {cycle}" in found
               for cycle in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"))


def test_all_cycles_are_told_and_targets_of_one_image_are_apart(empty: Catalog) -> None:
    for name, parent in (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")):
        empty.image(name, f"FROM {parent}\n")
    empty.image("tool", "FROM scratch\nCOPY --from=builder-go /x /x\n")
    empty.image("builder", "FROM scratch AS go\nFROM scratch AS c\nCOPY --from=tool /x /x\n", "targets: [go, c]\n")
    found = problems(empty)
    assert len(found) == 2
    assert ["a" in problem.partition("other: ")[2] for problem in found] == [True, False]


def test_a_key_that_comes_twice_is_a_mistake(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\n", "description: again\n")
    assert problems(empty) == ["images/a/image.yml:5: the key 'description' appears twice"]


def test_text_stays_text_whatever_yaml_1_1_makes_of_it(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nARG A B C\n", "args: {A: no, B: 1.10, C: 2026-11-24}\n")
    assert empty.plan().recipes["a"].args == {"A": "no", "B": "1.10", "C": "2026-11-24"}


def test_a_platform_that_a_parent_lacks_is_a_mistake(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\n")
    empty.write("b/image.yml", RECIPE.format(name="b").replace("linux/arm64]", "linux/s390x]"))
    empty.write("b/Dockerfile", "FROM a\n")
    assert problems(empty) == ["images/b/Dockerfile:1: a is not built for linux/s390x"]


def test_an_input_without_lines_in_the_lock_is_a_mistake(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n", "inputs:\n  x: {url: 'https://example.org/x'}\n")
    assert problems(empty) == [f"images/a/lock.jsonl:1: {NO_LOCK}"]
    line = ('{"input":"x","kind":"url","platform":"linux/amd64","url":"https://example.org/x","sha256":"'
            + 64 * "a" + '","size":1}\n')
    empty.write("a/lock.jsonl", '{"lock":2}\n' + line)
    assert problems(empty) == ["images/a/lock.jsonl:1: it has nothing for x on linux/arm64; run `make lock`"]
    empty.write("a/lock.jsonl", '{"lock":2}\n' + line.replace("aaa", "xyz") + "{}\n")
    assert [problem[:23] for problem in problems(empty)] == ["images/a/lock.jsonl:2: ", "images/a/lock.jsonl:3: "]


def test_an_input_for_the_other_platform_is_a_mistake(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n",
                "inputs:\n  x: {url: 'https://example.org/x', for: build}\n")
    said = "images/a/Dockerfile:2: take x from build-inputs, not from inputs (see `for:` in image.yml)"
    assert said in problems(empty)


def test_symbolic_links_are_refused_where_they_lie(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    (empty.root / "a/hostname").symlink_to("/etc/hostname")
    (empty.root / "a/dangling").symlink_to("/usr/share/zoneinfo/no-such")
    assert [problem.partition(": ")[0] for problem in problems(empty)] == ["images/a/dangling:1", "images/a/hostname:1"]


@pytest.mark.parametrize("name", ["SOURCE_DATE_EPOCH", "BUILDKIT_SYNTAX", "TARGETPLATFORM"])
def test_arguments_that_the_farm_pins_are_refused(empty: Catalog, name: str) -> None:
    empty.image("a", "FROM scratch\n", f"args: {{{name}: x}}\n")
    assert any(name in problem for problem in problems(empty))


def test_an_argument_that_no_arg_takes_is_a_mistake(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nARG FLAVOR=large\n", "args:\n  FLAVOR: small\n  FLAVOUR: small\n")
    assert problems(empty) == ["images/a/image.yml:7: the Dockerfile has no ARG FLAVOUR (did you mean 'FLAVOR'?)"
                               "; write `ARG FLAVOUR` where it is used"]


def test_an_image_of_another_registry_must_be_an_input(empty: Catalog) -> None:
    empty.image("a", "FROM ubuntu:24.04\n")
    assert problems(empty) == ["images/a/Dockerfile:1: 'ubuntu:24.04' is not an image of the catalog; names in the "
                               "catalog have no tag: make an image of another registry an `image` input, and name "
                               "that here"]


def test_an_argument_may_choose_the_parent(empty: Catalog) -> None:
    empty.image("b", "FROM scratch\n")
    empty.image("c", "FROM scratch\n")
    empty.image("a", "ARG B=b\nFROM $B\n", "args: {B: c}\n")
    assert [parent.name for parent in empty.plan().units[Key("a", "", AMD64)].parents] == ["c"]
    empty.image("a", "ARG B=b\nFROM $B\n", "args: {B: d}\n")
    assert problems(empty) == ["images/a/Dockerfile:2: 'd' is not an image of the catalog (FROM $B); images: a, b, c"]


def test_a_name_is_looked_for_on_the_platforms_where_it_stands(empty: Catalog) -> None:
    empty.write("leaf-arm64/image.yml", RECIPE.format(name="x").replace("linux/amd64, ", ""))
    empty.write("leaf-arm64/Dockerfile", "FROM scratch\n")
    empty.image("a", "FROM leaf-${TARGETARCH}\n")
    assert problems(empty) == ["images/a/Dockerfile:1: 'leaf-amd64' is not an image of the catalog (FROM"
                               " leaf-${TARGETARCH} for linux/amd64) (did you mean 'leaf-arm64'?); images: a,"
                               " leaf-arm64"]
    empty.image("leaf-amd64", "FROM scratch\n")
    plan = empty.plan()
    assert {str(key.platform): [parent.name for parent in plan.units[key].parents] for key in plan.units
            if key.image == "a"} == {"linux/amd64": ["leaf-amd64"], "linux/arm64": ["leaf-arm64"]}
    empty.image("a", "FROM leaf-${TARGETARCH#amd64}arm64\n")
    assert [text.partition(" (did")[0] for text in problems(empty)] == [
        "images/a/Dockerfile:1: 'leaf-arm64arm64' is not an image of the catalog (FROM leaf-${TARGETARCH#amd64}arm64"
        " for linux/arm64)",
        "images/a/Dockerfile:1: leaf-arm64 is not built for linux/amd64 (FROM leaf-${TARGETARCH#amd64}arm64"
        " for linux/amd64)"]


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FROM x${TARGETVARIANT:?none}\n", "1: FROM x${TARGETVARIANT:?none}: TARGETVARIANT: none"),
        ("FROM ${TARGETARCH#arm64}b\nFROM ${TARGETARCH#arm64}\n",
         "2: FROM ${TARGETARCH#arm64}: the name is empty (for linux/arm64)"),
        ("FROM --platform=linux/amd64 b\n", "1: --platform=linux/amd64: a stage must be for $BUILDPLATFORM or, without"
         " the flag, for the platform that is built (for linux/arm64 built on linux/arm64)"),
        ("FROM inputs\n", "1: inputs is not an image; take from it with COPY --from=inputs or a mount"),
        ("FROM b AS amd64b\nFROM scratch AS arm64b\nFROM ${BUILDARCH}b\n", "1: b is needed only on some machines (for"
         " linux/amd64, linux/arm64 built on linux/amd64): the content of an image must not depend on the"),
    ],
)
def test_what_a_platform_makes_of_a_from_is_checked(empty: Catalog, dockerfile: str, said: str) -> None:
    empty.image("b", "FROM scratch\n")
    empty.image("amd64b", "FROM scratch\n")
    empty.image("a", dockerfile)
    assert any(problem.startswith(f"images/a/Dockerfile:{said}") for problem in problems(empty)), problems(empty)


def test_a_build_time_parent_may_depend_on_the_machine(empty: Catalog) -> None:
    for name in ("amd64", "arm64"):
        recipe = RECIPE.format(name=name).replace("linux/amd64, linux/arm64", f"linux/{name}")
        empty.write(f"tool-{name}/image.yml", recipe)
        empty.write(f"tool-{name}/Dockerfile", "FROM scratch\n")
    made = "FROM --platform=$BUILDPLATFORM tool-$BUILDARCH AS made\nRUN x\n"
    empty.image("a", made + "FROM scratch\nCOPY --from=made /a /\n")
    plan = empty.plan()
    unit = plan.units[Key("a", "", ARM64)]
    assert plan.parents(unit, AMD64) == [Key("tool-amd64", "", AMD64)]
    assert plan.parents(unit, ARM64) == [Key("tool-arm64", "", ARM64)]
    assert {name: list(ids) for name, ids in unit.record["build_parents"].items()} == {  # type: ignore[attr-defined]
        "tool-amd64": ["linux/amd64"], "tool-arm64": ["linux/arm64"]}


def test_a_cycle_through_one_platform_is_a_cycle(empty: Catalog) -> None:
    empty.image("a", "FROM scratch AS x-amd64\nFROM b AS x-arm64\nFROM x-$TARGETARCH\n")
    empty.image("b", "FROM a\n")
    assert "images that need each other: " in problems(empty)[0]


@pytest.mark.parametrize(
    ("word", "kind", "taken"),
    [("TARGETARCH", "inputs", [("one",), ("two",)]), ("BUILDARCH", "build-inputs", [("one", "two"), ("one", "two")])],
)
def test_inputs_are_used_where_any_platform_uses_them(
        empty: Catalog, word: str, kind: str, taken: list[tuple[str, ...]]) -> None:
    """What only one of the machines takes that may build a unit is among what it needs."""
    line = '{{"input":"{0}","kind":"url","url":"https://example.org/{0}","sha256":"' + 64 * "a" + '","size":1}}\n'
    text = f"FROM scratch AS x-amd64\nCOPY --from={kind} /one /\nFROM scratch AS x-arm64\nCOPY --from={kind} /two /\n"
    side = "build" if kind == "build-inputs" else "target"
    inputs = [f"  {name}: {{url: 'https://example.org/{name}', for: {side}}}\n" for name in ("one", "two")]
    empty.image("a", f"{text}FROM x-${word}\n", "inputs:\n" + "".join(inputs))
    made_for = {name: {"url": f"https://example.org/{name}", **({"for": "build"} if side == "build" else {})}
                for name in ("one", "two")}
    header = {"lock": 2, "made_for": made_for}
    empty.write("a/lock.jsonl", json.dumps(header) + "\n" + line.format("one") + line.format("two"))
    units = empty.plan().units
    found = [units[Key("a", "", platform)] for platform in (AMD64, ARM64)]
    assert [unit.inputs or unit.build_inputs for unit in found] == taken


@pytest.mark.parametrize("text", ["version: {{ v }}\n", "title: \x07\n", "- a\n", ""])
def test_what_is_hardly_yaml_is_told_with_its_file(empty: Catalog, text: str) -> None:
    empty.image("a", "FROM scratch\n")
    empty.write("a/image.yml", text)
    assert all(problem.startswith("images/a/image.yml:") for problem in problems(empty))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1: x\n", "images/a/image.yml:1: YAML does not read the key 1 as a string; put it in quotes"),
        ("true: x\nfoo: y\n", "images/a/image.yml:1: YAML does not read the key true as a string; put it in quotes"),
        ("~: x\n", "images/a/image.yml:1: YAML does not read the key ~ as a string; put it in quotes"),
        ("args: {1: a}\n", "images/a/image.yml:1: YAML does not read the key 1 as a string; put it in quotes"),
        ("a: &x {b: *x}\n", "images/a/image.yml:1: a.b contains itself"),
    ],
)
def test_keys_that_yaml_takes_for_something_else_hide_no_other_mistake(empty: Catalog, text: str, said: str) -> None:
    empty.image("a", "FROM scratch\n")
    empty.write("a/image.yml", text)
    empty.image("b", "FROM nothing\n")
    found = problems(empty)
    assert said in found
    assert any(problem.startswith("images/b/Dockerfile:1: 'nothing'") for problem in found)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("linux/arm64", "platforms is a string 'linux/arm64', it must be 'all' or a list or a mapping"),
        ("3", "platforms is the number 3, it must be 'all' or a list or a mapping"),
        ("{exept: {linux/386: x}}", "'exept' is not known here (did you mean 'except'?); allowed: except"),
        ("[linux/arm]", "platforms.0 is 'linux/arm' (did you mean 'linux/arm64'?)"),
    ],
)
def test_wrong_platforms_are_told_with_what_they_may_be(empty: Catalog, value: str, said: str) -> None:
    empty.image("a", "FROM scratch\n")
    empty.write("a/image.yml", f"description: a\nhome: https://example.org\nlicense: MIT\nplatforms: {value}\n")
    assert any(said in problem for problem in problems(empty)), problems(empty)


def test_addresses_of_an_input_are_for_the_platforms_that_take_it(empty: Catalog) -> None:
    """`build_platforms` of the defaults are amd64 and arm64."""
    dockerfile = "FROM scratch\nCOPY --from=build-inputs /x /x\n"
    two = "linux/amd64: 'https://example.org/a', linux/arm64: 'https://example.org/b'"
    recipe = ("description: a\nhome: https://example.org\nlicense: MIT\nplatforms: [linux/s390x]\n"
              "inputs:\n  x: {{for: build, url: {{{}}}}}\n")
    empty.write("a/Dockerfile", dockerfile)
    empty.write("a/image.yml", recipe.format(two))
    assert not any("has no url" in problem for problem in problems(empty))
    empty.write("a/image.yml", recipe.format("linux/s390x: 'https://example.org/c'"))
    assert any("x has no url for linux/amd64, linux/arm64" in problem for problem in problems(empty))


def test_targets_of_two_images_cannot_have_one_name(empty: Catalog) -> None:
    empty.image("a", "FROM scratch AS b-c\n", "targets: [b-c]\n")
    empty.image("a-b", "FROM scratch AS c\n", "targets: [c]\n")
    assert problems(empty) == ["images/a-b/image.yml:1: its target c is named a-b-c, as is a target of a; rename one"]


def test_a_lock_without_lines_is_not_whole(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n", "inputs:\n  x: {url: 'https://example.org/x'}\n")
    empty.write("a/lock.jsonl", '{"lock":2}\n')
    assert problems(empty) == ["images/a/lock.jsonl:1: it has nothing for x on linux/amd64, linux/arm64; run `make "
                               "lock`"]


def test_a_lock_cannot_reach_out_of_its_context(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n", "inputs:\n  x: {go: example.org/x, version: v1.0.0}\n")
    line = {"input": "x", "kind": "go", "module": "../../../etc/cron.d", "version": "v1", "file": "zip",
            "h1": f"h1:{43 * 'a'}=", "sha256": 64 * "a", "size": 1}
    empty.write("a/lock.jsonl", '{"lock":2}\n' + json.dumps(line) + "\n"
                + json.dumps({**line, "module": "a", "platform": "linux/amd46"}) + "\n")
    found = problems(empty)
    assert "is not a valid path in a context" in found[0]
    assert "module '../../../etc/cron.d' is not valid for a Go module" in found[1]
    assert "platform is 'linux/amd46', it must be one of" in found[2]


def test_a_target_that_is_no_stage_is_a_mistake(empty: Catalog) -> None:
    empty.image("a", "FROM scratch AS go\n", "targets: [gp]\n")
    said = "images/a/image.yml:5: 'gp' is not a stage of the Dockerfile (did you mean 'go'?); stages: go"
    assert said in problems(empty)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My_App", "images/My_App/image.yml:1: 'My_App' is not a valid image name; rename the folder"),
        ("archive", "the name 'archive' is reserved"),
        ("inputs", "the name 'inputs' is reserved"),
        ("all", "the name 'all' is reserved"),
        ("unpacked-seed", "the name 'unpacked-seed' is reserved"),
        ("builder-go", "its target go is named builder-go, which is also an image; rename one"),
    ],
)
def test_an_image_cannot_be_named_anything(chain: Catalog, name: str, said: str) -> None:
    chain.image(name, "FROM scratch\nCOPY . /a\n")
    (problem,) = problems(chain)
    assert said in problem


def test_an_image_is_for_some_platform(chain: Catalog) -> None:
    chain.image("none", "FROM scratch\nCOPY . /a\n", "")
    chain.write("none/image.yml",
                "description: none\nhome: https://example.org\nlicense: MIT\nplatforms: {except: {linux/amd64: no, "
                "linux/arm64: no}}\n")
    assert any("it has no platform" in problem for problem in problems(chain))


def test_whatever_a_file_has_in_it_a_message_is_one_printable_line(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nADD https://\x1b[31m/x /\nCOPY --from=" + 20_000 * "n" + " /a /a\n")
    empty.image("b", "FROM scratch\nCOPY --from=inputs /x /x\n", "inputs:\n  x: {url: 'https://example.org/x'}\n")
    line = {"input": "x", "kind": "url", "url": "https://example.org/x", "sha256": 64 * "a", "size": 1}
    for header in ({"lock": 2, "made_for": {"x": {"url": "\ud800\n\x1b"}}}, {"lock": 2, "\ud800": 1}):
        empty.write("b/lock.jsonl", json.dumps(header) + "\n" + json.dumps(line) + "\n")
        found = problems(empty)
        assert len(found) == 3
        assert all(problem.isprintable() and len(problem) <= 1500 for problem in found)


@pytest.mark.parametrize(
    "given",
    [
        "{url: 'https://example.org/a b'}", "{url: 'https://user:word@example.org/x'}",
        "{url: 'https://example.org/x#y'}", "{url: 'https://example.org:a/x'}",
        "{url: 'https://'}", "{url: 'https:///x'}", '{url: "https://example.org/x\\ny"}',
        "{url: {linux/amd64: 'https://example.org/x', linux/arm64: 'https://u@example.org/x'}}",
        "{go: -x, version: v1.0.0}", "{go: a b, version: v1.0.0}", "{go: ../x, version: v1.0.0}",
        "{go: /x, version: v1.0.0}", "{go: 'https://example.org/x', version: v1.0.0}", "{go: m, version: v1 2}",
        "{go: m, version: v1@2}", "{go: m, version: v1.0.0, package: -x}", "{go: ./x, package: -toolexec=x}",
        "{go: m, version: v1.0.0, package: ../x}", "{go: m, version: v1.0.0, package: 'a\"b'}",
        "{cargo: ../x, version: 1.0.0}", "{cargo: a/b, version: 1.0.0}", "{cargo: 1a, version: 1.0.0}",
        "{cargo: a, version: v1.0.0}", "{cargo: a, version: 1.0}", "{cargo: a, version: ^1.0.0}",
        "{cargo: a, version: 1.0.0/..}", "{cargo: a.b, version: 1.0.0}",
    ],
)
def test_an_address_or_a_module_that_a_lock_could_not_hold_is_refused_in_the_recipe(empty: Catalog, given: str) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n", f"inputs:\n  x: {given}\n")
    assert any(problem.startswith("images/a/image.yml:6: inputs.x.") for problem in problems(empty))


@pytest.mark.parametrize(
    "given",
    ["{url: 'https://example.org:8443/a/b%20c?d=e&f=$g'}", "{url: 'http://[::1]/x'}", "{url: 'https://example.org'}",
     "{go: example.org/m/v2, version: v2.0.0+incompatible, package: ./cmd/x_y}",
     "{go: golang.org/toolchain, version: 'v0.0.1-go1.26.8.linux-{goarch}'}",
     "{go: m, version: v1.0.0, package: ./...}", "{cargo: librespot, version: 0.8.0}",
     "{cargo: _a-B, version: 1.0.0-rc.1+linux.2}"],
)
def test_what_a_lock_can_hold_is_not(empty: Catalog, given: str) -> None:
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n", f"inputs:\n  x: {given}\n")
    assert problems(empty) == [f"images/a/lock.jsonl:1: {NO_LOCK}"]


@pytest.mark.parametrize(("image", "target"), [("build", "inputs"), ("unpacked", "seed")])
def test_a_target_named_like_a_context_is_refused(empty: Catalog, image: str, target: str) -> None:
    empty.image(image, f"FROM scratch AS {target}\n", f"targets: [{target}]\n")
    assert problems(empty) == [f"images/{image}/image.yml:1: its target {target} is named {image}-{target}, which is"
                               " reserved; rename the stage"]


@pytest.mark.parametrize("step", ["COPY --from=inputs /app/../other* /", "COPY --from=inputs [\"/app/..\", \"/\"]",
                                  "RUN --mount=from=inputs,source=/app/../other,target=/x x"])
def test_a_path_that_leads_out_of_its_input_is_refused(empty: Catalog, step: str) -> None:
    """What it leads to is not there, or not in the record; and of a pattern that matches nothing no build complains."""
    empty.image("a", f"FROM scratch\n{step}\n", "inputs:\n  app: {url: 'https://example.org/app'}\n")
    assert any("a/Dockerfile:2: /app/.." in problem and "leads out of the input" in problem
               for problem in problems(empty))


def test_a_target_that_is_no_stage_is_told_beside_a_contract(empty: Catalog) -> None:
    empty.image("a", "FROM scratch AS go\n", "targets: [gone]\ncontract: {health: {http: /x}}\n")
    assert [problem for problem in problems(empty) if "'gone' is not a stage of the Dockerfile" in problem]


@pytest.mark.parametrize("extra", ["contract: {ports: {x: 65536/tcp}}", "contract: {ports: {x: 0/udp}}",
                                   "contract: {user: 4294967295}", "args: {TARGETSTAGE: x}",
                                   "args: {http_proxy: x}", "args: {NO_PROXY: x}", "args: {All_Proxy: x}"])
def test_numbers_and_names_that_no_build_takes_are_refused(empty: Catalog, extra: str) -> None:
    empty.image("a", "FROM scratch\nARG TARGETSTAGE http_proxy NO_PROXY All_Proxy\n", extra + "\n")
    assert problems(empty)[0].startswith("images/a/image.yml:5: ")
