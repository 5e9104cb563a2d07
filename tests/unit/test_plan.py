"""Build ids: what changes them, what does not, and what a plan says of it."""

from __future__ import annotations

import os

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.plan import Key, Plan, reasons
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64

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
    assert plan.parents(plan.units[Key("app", "", ARM64)], AMD64) == [Key("builder", "go", AMD64), Key("static", "", ARM64)]
    closure = plan.closure([Key("app", "", ARM64)], AMD64)
    assert [str(key) for key in closure] == ["debian linux/amd64", "builder-go linux/amd64", "static linux/arm64", "app linux/arm64"]


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
