"""Build ids: what changes them, what does not, and what a plan says of it."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import choose
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import LEFT_OUT, Key, Plan, reasons
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select

from .conftest import CHAIN, Catalog


def ids(plan: Plan) -> dict[str, str]:
    return {str(key): unit.id for key, unit in plan.units.items()}


def changed(before: Plan, after: Plan) -> set[str]:
    old = ids(before)
    return {name.partition(" ")[0] for name, value in ids(after).items() if old.get(name) != value}


@pytest.mark.parametrize(
    ("path", "text", "rebuilt"),
    [
        ("app/README.md", "other\n", set()),
        ("app/Dockerfile", CHAIN["app"] + "ENV A=1\n", {"app"}),
        ("static/passwd", "root\n", {"static", "base", "app"}),
        ("debian/etc/motd", "bye\n", {"debian", "static", "base", "builder-go", "builder-c", "app"}),
        ("builder/Dockerfile", CHAIN["builder"] + "RUN more\n", {"builder-c"}),
    ],
)
def test_only_descendants_of_a_change_are_rebuilt(chain: Catalog, path: str, text: str, rebuilt: set[str]) -> None:
    before = chain.plan()
    chain.write(path, text)
    assert changed(before, chain.plan()) == rebuilt


def test_neither_place_nor_time_nor_umask_of_a_checkout_changes_an_id(chain: Catalog) -> None:
    before = chain.plan()
    path = chain.root / "debian/etc/motd"
    os.utime(path, (1, 1))
    path.chmod(0o600)
    moved = chain.root.rename(chain.root.parent / "elsewhere")
    chain.root = moved
    assert ids(chain.plan()) == ids(before)


def test_the_mode_of_a_program_changes_an_id(chain: Catalog) -> None:
    before = chain.plan()
    (chain.root / "debian/etc/motd").chmod(0o755)
    assert "debian" in changed(before, chain.plan())


def test_another_engine_is_another_id_for_every_unit(chain: Catalog) -> None:
    assert not set(ids(chain.plan()).values()) & set(ids(chain.plan("sha256:f")).values())


def test_what_runs_native_code_is_told_from_what_is_crossed(chain: Catalog) -> None:
    plan = chain.plan()
    assert plan.units[Key("builder", "go", ARM64)].runs == (ARM64,)
    assert plan.units[Key("app", "", ARM64)].runs == (AMD64, ARM64)


def test_a_unit_needs_its_parents_for_the_right_platforms(chain: Catalog) -> None:
    plan = chain.plan()
    assert plan.parents(plan.units[Key("app", "", ARM64)], AMD64) == [Key("builder", "go", AMD64),
                                                                      Key("static", "", ARM64)]
    closure = plan.closure([Key("app", "", ARM64)], AMD64)
    assert [str(key) for key in closure] == ["debian linux/amd64", "builder-go linux/amd64", "static linux/arm64",
                                             "app linux/arm64"]


def test_reasons_say_what_changed(chain: Catalog) -> None:
    before = chain.plan()
    chain.write("debian/etc/motd", "bye\n")
    chain.write("debian/etc/issue", "x\n")
    after = chain.plan()

    def why(key: Key) -> list[str]:
        return reasons(after.units[key].record, before.units[key].record)

    assert why(Key("debian", "", AMD64)) == ["file etc/issue is new", "file etc/motd changed"]
    assert why(Key("base", "", AMD64)) == ["parent debian changed", "parent static changed"]
    assert why(Key("static", "", AMD64)) == ["build-time parent debian changed"]
    assert reasons(after.units[Key("app", "", AMD64)].record, None) == ["new"]


def test_the_content_id_looks_at_digests_of_run_time_parents_only(chain: Catalog) -> None:
    before = chain.plan().units[Key("base", "", AMD64)]
    chain.write("debian/etc/motd", "bye\n")
    after = chain.plan().units[Key("base", "", AMD64)]
    same = {"debian": "sha256:1", "static": "sha256:2"}
    assert before.id != after.id
    assert before.content_id(same) == after.content_id(same)
    assert before.content_id(same) != before.content_id({**same, "debian": "sha256:3"})


PER_ARCH = """FROM static AS x
FROM x AS xamd64
COPY a /v1
FROM debian AS xarm64
COPY a /v1
FROM x$TARGETARCH AS go
COPY a /common
"""


@pytest.mark.parametrize(
    ("old", "new", "rebuilt"),
    [
        ("xamd64\nCOPY a /v1", "xamd64\nCOPY a /v2", {"many-go linux/amd64", "user linux/amd64"}),
        ("xarm64\nCOPY a /v1", "xarm64\nCOPY a /v2", {"many-go linux/arm64", "user linux/arm64"}),
        ("/common", "/other", {"many-go linux/amd64", "many-go linux/arm64", "user linux/amd64", "user linux/arm64"}),
        ("FROM debian AS xarm64", "FROM x AS xarm64", {"many-go linux/arm64", "user linux/arm64"}),
    ],
)
def test_a_stage_of_one_platform_counts_for_that_one(chain: Catalog, old: str, new: str, rebuilt: set[str]) -> None:
    chain.image("many", PER_ARCH, "targets: [go]\n")
    chain.image("user", "FROM many-go\n")
    before = ids(chain.plan())
    assert old in PER_ARCH
    chain.image("many", PER_ARCH.replace(old, new), "targets: [go]\n")
    after = ids(chain.plan())
    assert {name for name, value in after.items() if before[name] != value} == rebuilt


def test_each_platform_has_its_own_parents(chain: Catalog) -> None:
    chain.image("many", PER_ARCH + "RUN x\n", "targets: [go]\n")
    plan = chain.plan()
    found = {platform: plan.units[Key("many", "go", platform)] for platform in (AMD64, ARM64)}
    assert {str(p): [parent.name for parent in unit.parents] for p, unit in found.items()} == {
        "linux/amd64": ["static"], "linux/arm64": ["debian"]}
    assert plan.parents(found[ARM64], AMD64) == [Key("debian", "", ARM64)]
    bases = {str(p): unit.labels["org.opencontainers.image.base.name"] for p, unit in found.items()}
    assert bases == {"linux/amd64": "desimages/static", "linux/arm64": "desimages/debian"}


def test_stages_of_the_machine_that_builds_count_whichever_builds(chain: Catalog) -> None:
    """Two stages that are alike but for the machine: a change in either is another id, since either node may build."""
    text = ("FROM scratch AS t-amd64\nCOPY a /a\nFROM scratch AS t-arm64\nCOPY a /a\nFROM t-$BUILDARCH AS tool\n"
            "FROM scratch AS out\nCOPY --from=tool /a /a\n")
    chain.image("many", text, "targets: [out]\n")
    before = chain.plan()
    for name in ("t-amd64", "t-arm64"):
        chain.image("many", text.replace(f"{name}\nCOPY a /a", f"{name}\nCOPY a /b"), "targets: [out]\n")
        assert changed(before, chain.plan()) == {"many-out"}
    chain.image("many", "FROM scratch AS other\n" + text, "targets: [out]\n")
    assert changed(before, chain.plan()) == set()


def test_a_stage_that_runs_commands_on_one_platform_is_foreign_there_alone(chain: Catalog) -> None:
    chain.image("many", "FROM debian AS x-arm64\nRUN x\nFROM debian AS x-amd64\nFROM x-$TARGETARCH\n")
    units = chain.plan().units
    assert [units[Key("many", "", platform)].runs for platform in (AMD64, ARM64)] == [(AMD64, ARM64), (ARM64,)]


def test_what_a_unit_takes_from_a_build_platform_that_is_behind_is_labelled(chain: Catalog) -> None:
    inputs = "inputs:\n  cc: {debian: [gcc], for: build}\n"
    chain.image("other",
                "FROM --platform=$BUILDPLATFORM debian AS made\nCOPY --from=build-inputs /cc /cc\nFROM scratch\nCOPY "
                "--from=made /a /\n", inputs)
    line = {"input": "cc", "kind": "debian", "archive": "debian", "name": "gcc", "version": "1",
            "architecture": "all", "path": "pool/gcc_1_all.deb",
            "sha256": "0" * 64, "size": 1}
    made_for = {"cc": {"packages": ["gcc"], "essential": False, "suites": ["trixie"], "for": "build"}}
    header = {"lock": 2, "snapshot": "20261123T112238Z", "made_for": made_for,
              "left_out": {"linux/amd64": ["trixie-security"]},
              "older": {"linux/amd64": {"trixie": "20260912T075541Z"}}}
    lines = [header, *({**line, "platform": f"linux/{name}"} for name in ("amd64", "arm64"))]
    chain.write("other/lock.jsonl", "".join(json.dumps(each) + "\n" for each in lines))
    chain.image("above",
                "FROM --platform=$BUILDPLATFORM other AS made\nRUN true\nFROM scratch\nCOPY --from=made /a /\n")
    behind = {str(key): unit.labels.get(LEFT_OUT, "") for key, unit in chain.plan().units.items()}
    told = "trixie-security trixie@20260912T075541Z"
    assert {name: text for name, text in behind.items() if text} == {
        f"{image} linux/{name}": told for image in ("other", "above") for name in ("amd64", "arm64")}


@pytest.mark.parametrize("expression", ["length(@)", "[].image", "ceil(to_number('inf'))", "floor(to_number('nan'))",
                                        "[?", "[*].{unit: platform}", "\ud800", 3000 * "(" + "@" + 3000 * ")"])
def test_an_expression_that_chooses_no_units_is_told(chain: Catalog, expression: str) -> None:
    plan = chain.plan()
    for choose_ in (lambda: select(plan, [AMD64], [], [], expression), lambda: choose(plan.recipes, [], expression)):
        with pytest.raises(BadInput) as error:
            choose_()
        (found,) = error.value.problems
        assert found.startswith(("farm_select: ", "select: ", "farm_images, "))
        assert found.isprintable()
        assert len(found) <= 1500


def test_a_chain_of_images_may_be_of_any_length(empty: Catalog) -> None:
    for number in range(1200):
        empty.image(f"i{number:04}", f"FROM i{number + 1:04}\n" if number < 1199 else "FROM scratch\n")
    names = [key.image for key in empty.plan().units]
    assert names[:2] == ["i1199", "i1199"]
    assert names[-1] == "i0000"
