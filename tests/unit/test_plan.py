"""Build ids: what changes them, what does not, and what a plan says of it."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.golden import WITHOUT_INDEX
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, S390X
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import choose
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import LEFT_OUT, Key, Plan, make, reasons
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock, Sources

from .conftest import CHAIN, RECIPE, Catalog
from .entries import deb


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
        ("base/Dockerfile", "FROM static AS unused\n" + CHAIN["base"], {"base"}),  # it has no targets: all of it counts
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
    other = chain.plan().units[Key("base", "", ARM64)]
    assert before.content_id(same) != other.content_id(same), "all else of the record counts"


PER_ARCH = """FROM static AS x
FROM x AS xamd64
COPY . /v1
FROM debian AS xarm64
COPY . /v1
FROM x$TARGETARCH AS go
COPY . /common
"""


@pytest.mark.parametrize(
    ("old", "new", "rebuilt"),
    [
        ("xamd64\nCOPY . /v1", "xamd64\nCOPY . /v2", {"many-go linux/amd64", "user linux/amd64"}),
        ("xarm64\nCOPY . /v1", "xarm64\nCOPY . /v2", {"many-go linux/arm64", "user linux/arm64"}),
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
    text = ("FROM scratch AS t-amd64\nCOPY . /a\nFROM scratch AS t-arm64\nCOPY . /a\nFROM t-$BUILDARCH AS tool\n"
            "FROM scratch AS out\nCOPY --from=tool /a /a\n")
    chain.image("many", text, "targets: [out]\n")
    before = chain.plan()
    for name in ("t-amd64", "t-arm64"):
        chain.image("many", text.replace(f"{name}\nCOPY . /a", f"{name}\nCOPY . /b"), "targets: [out]\n")
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
              "left_out": {"linux/amd64": ["trixie-updates", "trixie-security", "trixie-a", "trixie-b"]},
              "older": {"linux/amd64": {"trixie": "20260912T075541Z"}}}
    lines = [header, *({**line, "platform": f"linux/{name}"} for name in ("amd64", "arm64"))]
    chain.write("other/lock.jsonl", "".join(json.dumps(each) + "\n" for each in lines))
    chain.image("above",
                "FROM --platform=$BUILDPLATFORM other AS made\nRUN true\nFROM scratch\nCOPY --from=made /a /\n")
    behind = {str(key): unit.labels.get("org.desimages.suites-left-out", "")
              for key, unit in chain.plan().units.items()}
    told = "trixie-a trixie-b trixie-security trixie-updates trixie@20260912T075541Z"
    assert {name: text for name, text in behind.items() if text} == {
        f"{image} linux/{name}": told for image in ("other", "above") for name in ("amd64", "arm64")}
    unit = chain.plan().units[Key("above", "", AMD64)]
    assert unit.annotations == {name: text for name, text in unit.labels.items() if name != LEFT_OUT}


def test_a_suite_that_is_missing_for_another_platform_is_not_missed(chain: Catalog) -> None:
    chain.image("own", "FROM scratch\nCOPY . /\n")
    chain.write("own/lock.jsonl", json.dumps({"lock": 2, "left_out": {"linux/amd64": ["trixie-security"]}}) + "\n")
    units = chain.plan().units
    assert [units[Key("own", "", platform)].labels.get(LEFT_OUT) for platform in (AMD64, ARM64)] == [
        "trixie-security", None]


STAGES = {  # of an image that has all that a record can have; `unused` is no part of its target
    "made": "FROM --platform=$BUILDPLATFORM debian AS made\nARG LEVEL\nRUN make\n",
    "go": "FROM static AS go\nCOPY --from=made /a /a\nCOPY --from=inputs /x /x\nCOPY --from=build-inputs /cc /cc\n",
    "unused": "FROM static AS unused\nRUN x\n",
}
X = {"linux/amd64": "a" * 64, "linux/arm64": "b" * 64}  # platform -> sha256


def whole(chain: Catalog) -> Plan:
    """The chain, and `many` with its target go."""
    chain.image("many", "".join(STAGES.values()), "targets: [go]\nargs: {LEVEL: '2'}\ninputs:\n"
                f"  x: {{url: {json.dumps(dict.fromkeys(X, 'https://example.org/x'))}}}\n"
                "  cc: {url: 'https://example.org/cc', for: build}\n")
    made_for = {"x": {"url": dict.fromkeys(X, "https://example.org/x")},
                "cc": {"url": "https://example.org/cc", "for": "build"}}
    lines = [{"lock": 2, "snapshot": "20261123T112238Z", "made_for": made_for},
             {"input": "cc", "kind": "url", "url": "https://example.org/cc", "sha256": "c" * 64, "size": 3},
             *({"input": "x", "kind": "url", "url": "https://example.org/x", "platform": platform, "sha256": sha256,
                "size": 5} for platform, sha256 in X.items())]
    chain.write("many/lock.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    sources = Sources({"b": (0o755, "e" * 64, 1), "a": (0o644, "d" * 64, 1)}, {
        "x": {"main.go": (0o644, "1" * 64, 1)}, "cc": {"go.mod": (0o644, "2" * 64, 1)}, "not-taken": {"y": (0, "", 1)}})
    return make(load_catalog([str(chain.root)]), {"many": sources}, "sha256:e", "ns")


def test_a_record_has_all_that_determines_the_content(chain: Catalog) -> None:
    plan = whole(chain)
    unit, units = plan.units[Key("many", "go", ARM64)], plan.units

    def ids(image: str) -> dict[str, str]:
        return {str(platform): units[Key(image, "", platform)].id for platform in (AMD64, ARM64)}

    def locked(*lines: tuple[str, str, int]) -> str:
        return canonical.sha256(lines)

    assert unit.record == {
        "format": 3, "engine": "sha256:e", "image": "many", "target": "go", "platform": "linux/arm64",
        "epoch": 1795432958,
        "dockerfile": hashlib.sha256((STAGES["made"] + STAGES["go"]).encode()).hexdigest(),
        "files": {"a": "0644 " + "d" * 64, "b": "0755 " + "e" * 64},
        "wrappers": {"x/main.go": "1" * 64, "cc/go.mod": "2" * 64},
        "args": {"LEVEL": "2"},
        "inputs": {"x": locked(("x", X["linux/arm64"], 5))},
        "build_inputs": {"cc": dict.fromkeys(ids("debian"), locked(("cc", "c" * 64, 3)))},
        "parents": {"static": ids("static")["linux/arm64"]},
        "build_parents": {"debian": ids("debian")},
        "labels": unit.labels,
        "output": WITHOUT_INDEX,
    }
    assert "output" not in units[Key("debian", "", ARM64)].record
    wanted = {"version": "trixie-20261123", "created": "2026-11-23T11:22:38Z", "base.name": "ns/static",
              "title": "many"}
    assert {name: unit.labels[f"org.opencontainers.image.{name}"] for name in wanted} == wanted
    assert list(unit.labels) == sorted(unit.labels)
    assert (unit.id, unit.epoch) == (canonical.sha256(unit.record), 1795432958)


def test_a_build_id_stays_the_same(chain: Catalog) -> None:
    """Another one builds everything anew on every farm: that takes a new number of the record's format."""
    unit = whole(chain).units[Key("many", "go", ARM64)]
    assert canonical.sha256({**unit.record, "labels": {}, "parents": {}, "build_parents": {}}) == (
        "8cd5c745b5996f41355dbfdc09af3f244dcb93624c22a17ecfbb4b1c9f13475f")


def test_a_unit_needs_the_files_of_its_own_platform_and_of_the_machine_that_builds(chain: Catalog) -> None:
    plan = whole(chain)
    found = plan.entries(plan.units[Key("many", "go", ARM64)], AMD64)
    assert [(entry.input, entry.platform, entry.sha256) for entry in found] == [
        ("x", "linux/arm64", X["linux/arm64"]), ("cc", "", "c" * 64)]


def test_a_unit_names_its_inputs_in_order_by_the_folder_that_is_taken(chain: Catalog) -> None:
    """The order of sets is another in each process, and steps compare and hand over what they were told."""
    names = ["a", "b", "c", "d", "e"]
    text = "FROM scratch\n" + "".join(f"COPY --from=inputs /{name}/y/z {name}\n" for name in names)
    text += "".join(f"COPY --from=build-inputs built-{name}/ {name}\n" for name in names)
    text += "".join(f"COPY --from=unpacked-un{name} / /\n" for name in names)
    inputs, header, lines = ["inputs:\n"], {}, []
    for name in names:
        inputs.append(f"  {name}: {{url: 'https://example.org/x'}}\n"
                      f"  built-{name}: {{url: 'https://example.org/x', for: build}}\n"
                      f"  un{name}: {{debian: [xx], for: build}}\n")
        header[name] = {"url": "https://example.org/x"}
        header[f"built-{name}"] = {"url": "https://example.org/x", "for": "build"}
        header[f"un{name}"] = {"packages": ["xx"], "essential": False, "suites": ["trixie"], "for": "build"}
        same = {"sha256": "a" * 64, "size": 1}
        lines += [{"input": each, "kind": "url", "url": "https://example.org/x", **same}
                  for each in (name, f"built-{name}")]
        lines += [{"input": f"un{name}", "kind": "debian", "archive": "debian", "name": "xx", "version": "1",
                   "architecture": "all", "path": "pool/xx_1_all.deb", "platform": platform, **same} for platform in X]
    chain.image("taker", text, "".join(inputs))
    whole_lock = [{"lock": 2, "snapshot": "20261123T112238Z", "made_for": header}, *lines]
    chain.write("taker/lock.jsonl", "".join(json.dumps(line) + "\n" for line in whole_lock))
    unit = chain.plan().units[Key("taker", "", ARM64)]
    assert unit.inputs == tuple(names)
    assert unit.unpacked == tuple(f"un{name}" for name in names)
    assert unit.build_inputs == (*(f"built-{name}" for name in names), *unit.unpacked)


def test_units_come_in_the_order_of_their_names_where_none_needs_the_other(empty: Catalog) -> None:
    targets = ["e", "d", "c", "b", "a"]
    stages = "".join(f"FROM scratch AS {name}\nCOPY . /\n" for name in ["f", *targets])
    empty.image("tool", stages, f"targets: [f, {', '.join(targets)}]\n")
    empty.image("early", "FROM scratch\n" + "".join(f"COPY --from=tool-{name} / /{name}\n" for name in targets[1:]))
    empty.image("late", "FROM scratch\nCOPY . /\n")
    units = empty.plan().units
    parents = units[Key("early", "", AMD64)].parents
    assert [parent.name for parent in parents] == ["tool-a", "tool-b", "tool-c", "tool-d"]
    assert [key.name for key in units if key.platform == AMD64] == [
        "tool-a", "tool-b", "tool-c", "tool-d", "early", "late", "tool-e", "tool-f"]


def test_a_unit_for_a_platform_on_which_nothing_is_built_needs_parents_of_that(empty: Catalog) -> None:
    """`build_platforms` are amd64 and arm64; what comes from the other one is another unit."""
    for name in ("base", "leaf"):
        recipe = RECIPE.format(name=name).replace("linux/amd64, linux/arm64", "linux/s390x")
        empty.write(f"{name}/image.yml", recipe)
    empty.write("base/Dockerfile", "FROM scratch\nCOPY . /\n")
    empty.write("leaf/Dockerfile", "FROM base\nRUN x\n")
    plan = empty.plan()
    unit = plan.units[Key("leaf", "", S390X)]
    assert plan.parents(unit, AMD64) == [Key("base", "", S390X)]
    assert unit.record["parents"] == {"base": plan.units[Key("base", "", S390X)].id}


def test_machines_of_the_units_own_platform_count_where_its_own_code_runs(empty: Catalog) -> None:
    """They build it too, with the parents that they have, though nothing else is built on them."""
    everywhere = "platforms: [linux/amd64, linux/s390x]\n"
    empty.write("leaf/Dockerfile", "FROM --platform=$BUILDPLATFORM tool AS t\nRUN x\n"
                "FROM scratch\nCOPY --from=t / /\nRUN x\n")
    empty.write("tool/Dockerfile", "FROM scratch AS x-amd64\nCOPY a /\nFROM scratch AS x-s390x\nCOPY . /\n"
                "FROM x-$TARGETARCH\n")
    for name in ("tool", "leaf"):
        empty.write(f"{name}/image.yml", RECIPE.format(name=name).replace("arm64", "s390x"))
        empty.write(f"{name}/a", "")
    empty.write("defaults.yml", everywhere + "build_platforms: [linux/amd64]\nsuites: [trixie]\n")
    plan = empty.plan()
    own = {str(platform): plan.units[Key("tool", "", platform)].id for platform in (AMD64, S390X)}
    records = {platform: plan.units[Key("leaf", "", platform)].record for platform in (AMD64, S390X)}
    assert records[S390X]["build_parents"] == {"tool": own}
    assert records[AMD64]["build_parents"] == {"tool": {"linux/amd64": own["linux/amd64"]}}
    assert plan.parents(plan.units[Key("leaf", "", S390X)], S390X) == [Key("tool", "", S390X)]


def test_the_times_of_what_is_unpacked_count_where_the_unit_has_a_later_one(chain: Catalog) -> None:
    whole(chain)
    entries = tuple(deb("apt", given="seed", platform=platform) for platform in X)
    made_for = {"seed": {"packages": ["apt"], "essential": False, "for": "build", "suites": ["trixie"]}}

    def unpacked(snapshot: str, base: str) -> object:
        chain.image("own", "FROM --platform=$BUILDPLATFORM unpacked-seed AS made\n"
                    f"FROM {base}\nCOPY --from=made / /\n", "inputs:\n  seed: {debian: [apt], for: build}\n")
        chain.write("own/lock.jsonl", lockfile.dump(Lock(entries, snapshot, made_for=made_for)))
        return chain.plan().units[Key("own", "", AMD64)].record.get("unpacked")

    assert unpacked("20200101T000000Z", "many-go") == 1577836800
    assert unpacked("20261123T112238Z", "many-go") is None
    assert unpacked("20200101T000000Z", "scratch") is None


def test_a_unit_is_no_older_than_what_it_is_made_of(chain: Catalog) -> None:
    """`many` alone has a snapshot of its own."""
    whole(chain)
    chain.image("above", "FROM many-go\n")
    chain.image("beside", "FROM --platform=$BUILDPLATFORM many-go AS made\nRUN x\nFROM debian\nCOPY --from=made /a /\n")
    units = chain.plan().units
    assert {image: units[Key(image, "", AMD64)].epoch for image in ("debian", "above", "beside")} == {
        "debian": 0, "above": 1795432958, "beside": 1795432958}


def test_what_exists_needs_no_parents_but_those_that_others_need(chain: Catalog) -> None:
    plan = chain.plan()
    app, base = Key("app", "", ARM64), Key("base", "", ARM64)
    assert plan.closure([app], AMD64, {app}) == [app]
    assert [str(key) for key in plan.closure([app, base], AMD64, {app})] == [
        "debian linux/amd64", "debian linux/arm64", "static linux/arm64", "app linux/arm64", "base linux/arm64"]
    assert [str(key) for key in plan.parents(plan.units[app])] == [
        "builder-go linux/amd64", "builder-go linux/arm64", "static linux/arm64"], "on whichever machine it is built"


@pytest.mark.parametrize(("change", "why"), [
    ({}, ["the registry does not have it any more"]),
    ({"engine": "sha256:f"}, ["BuildKit (engine id) changed"]),
    ({"format": 1}, ["the farm's format changed"]),
    ({"dockerfile": "0"}, ["file Dockerfile changed"]),
    ({"epoch": 0}, ["snapshot time changed"]),
    ({"files": {"a": "0644 " + "d" * 64, "c": "x"}}, ["file b is new", "file c is gone"]),
    ({"args": {"LEVEL": "1"}}, ["argument LEVEL changed"]),
    ({"wrappers": {"cc/go.mod": "2" * 64}}, ["wrapper file x/main.go is new"]),
    ({"inputs": {"x": "0"}, "build_inputs": {}}, ["input x changed", "input cc is new"]),
    ({"parents": {"static": "0"}, "build_parents": {}, "labels": {}, "epoch": 0},
     ["snapshot time changed", "build-time parent debian is new", "parent static changed"]),
])
def test_each_part_of_a_record_is_a_reason_in_words(chain: Catalog, change: dict[str, object], why: list[str]) -> None:
    record = whole(chain).units[Key("many", "go", ARM64)].record
    found = [text for text in reasons(record, {**record, **change}) if not text.startswith("label org.")]
    assert found == why


def test_a_record_of_another_farm_version_may_lack_parts(chain: Catalog) -> None:
    record = chain.plan().units[Key("app", "", AMD64)].record
    assert reasons(record, {"format": 3})[:3] == ["BuildKit (engine id) changed", "file Dockerfile changed",
                                                  "snapshot time changed"]


@pytest.mark.parametrize("expression", ["length(@)", "[].image", "ceil(to_number('inf'))", "floor(to_number('nan'))",
                                        "[?", "[*].{unit: platform}", "\ud800", 3000 * "(" + "@" + 3000 * ")"])
def test_an_expression_that_chooses_no_units_is_told(chain: Catalog, expression: str) -> None:
    plan = chain.plan()
    for choose_ in (lambda: select(plan, [AMD64], [], [], expression), lambda: choose(plan.recipes, [], expression)):
        with pytest.raises(BadInput) as error:
            choose_()
        (found,) = error.value.problems
        assert found.startswith(("farm_select: ", "farm_lock_select: ", "farm_images, "))
        assert found.isprintable()
        assert len(found) <= 1500


def test_a_chain_of_images_may_be_of_any_length(empty: Catalog) -> None:
    for number in range(1200):
        empty.image(f"i{number:04}", f"FROM i{number + 1:04}\n" if number < 1199 else "FROM scratch\n")
    names = [key.image for key in empty.plan().units]
    assert names[:2] == ["i1199", "i1199"]
    assert names[-1] == "i0000"
