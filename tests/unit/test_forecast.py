"""What a plan says before anything is built: what there is, what will be built, why, and whether surely."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import last_built, planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.forecast import Forecast, table
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import damaged
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

from .conftest import Catalog
from .faulty import Faulty, to
from .trusting import trust

DEBIAN, STATIC, BASE, APP = (Key(name, "", AMD64) for name in ("debian", "static", "base", "app"))


def build(plan: Plan, held: Faulty, own: Trust, key: Key, name: str = "") -> str:
    """Has a signed unit in the registry; returns its digest."""
    place = f"desimages/{key.image}", name or f"b-{plan.units[key].id}"
    digest = held.image(*place, key.platform.architecture)
    own.sign(*place, digest)
    return digest


def test_the_registry_is_asked_what_it_has_and_what_is_built_again_counts_as_not_there(
    chain: Catalog, faulty: Faulty, tmp_path: Path
) -> None:
    plan, own = chain.plan(), trust(faulty, tmp_path)
    digests = {key: build(plan, faulty, own, key) for key in (DEBIAN, STATIC, BASE)}
    found = planning.ask(to(faulty), plan, [APP, BASE], [AMD64], "desimages", trust=own)
    assert {key: found.existing.get(key) for key in digests} == digests
    assert APP in found.todo and not set(digests) & set(found.todo)
    assert {*found.existing, *found.todo} <= set(plan.closure([APP, BASE], AMD64))
    assert set(found.sizes) == set(digests.values())
    again = planning.ask(to(faulty), plan, [BASE], [AMD64], "desimages", again=[BASE], trust=own)
    assert again.todo == [BASE]
    assert planning.ask(None, plan, [BASE], [AMD64], "desimages", trust=own).existing == {}


def test_a_registry_that_is_down_is_waited_for_once_however_many_units_there_are(
    chain: Catalog, faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question waits three minutes before it fails."""
    plan, down, asked = chain.plan(), to(faulty), []

    def digest(repository: str, tag: str) -> None:
        asked.append((repository, tag))
        raise Unreachable("the registry cannot be reached")

    monkeypatch.setattr(down, "digest", digest)
    with pytest.raises(Unreachable):
        planning.ask(down, plan, list(plan.units), [AMD64], "desimages", trust=trust(faulty, tmp_path))
    assert len(plan.units) > 4 and len(asked) == 1


def test_a_unit_is_built_surely_unless_one_of_the_same_content_is_there(
    chain: Catalog, faulty: Faulty, tmp_path: Path
) -> None:
    before, own = chain.plan(), trust(faulty, tmp_path)
    place = last_built.Place(str(tmp_path), faulty.address, "desimages")
    last_built.keep(place, before, [DEBIAN, BASE], AMD64)
    digest = build(before, faulty, own, DEBIAN)
    chain.write("debian/etc/motd", "changed\n")
    plan = chain.plan()
    existing = {STATIC: build(plan, faulty, own, STATIC)}
    forecast = Forecast(plan, existing, own, place)
    assert [(unit["unit"], unit["sure"]) for unit in forecast.units([DEBIAN, BASE])] == [
        ("debian linux/amd64", True), ("base linux/amd64", True)]
    build(plan, faulty, own, BASE, f"c-{plan.units[BASE].content_id({'debian': digest, 'static': existing[STATIC]})}")
    found = {unit["unit"]: unit for unit in forecast.units([DEBIAN, BASE])}
    assert [unit["sure"] for unit in found.values()] == [True, False], "debian may come out as it was"
    assert "etc/motd" in found["debian linux/amd64"]["reasons"][0]
    lines = table(list(found.values()), []).splitlines()
    assert lines[1].startswith("  debian  build  amd64: ") and lines[2].startswith("  base    maybe  amd64: ")

    (told,) = Forecast(plan, existing, own, place, {BASE: "asked for"}).units([BASE])
    assert (told["sure"], told["reasons"]) == (True, ["asked for"])
    (told,) = Forecast(plan, existing, None, place).units([BASE])
    assert told["sure"], "no registry, nothing that spares it"


def test_a_build_time_parent_for_a_second_build_platform_is_built_if_needed(
    chain: Catalog, faulty: Faulty, tmp_path: Path
) -> None:
    """It is wanted only if a batch goes to a node of that platform; nothing else differs from one build platform."""
    plan, place = chain.plan(), last_built.Place(str(tmp_path), faulty.address, "desimages")
    own = trust(faulty, tmp_path)
    app = [Key("app", "", platform) for platform in (AMD64, ARM64)]
    one = planning.ask(to(faulty), plan, app, [AMD64], "desimages", trust=own)
    both = planning.ask(to(faulty), plan, app, [AMD64, ARM64], "desimages", trust=own)
    assert (one.optional, both.todo) == ([], one.todo)
    assert Key("builder", "go", AMD64) in one.todo and Key("builder", "go", ARM64) in both.optional
    assert not {key for key in both.optional if key.image == "app"}
    forecast = Forecast(plan, {}, own, place)
    lines = table(forecast.units(both.todo), forecast.units(both.optional)).splitlines()
    assert "; if needed: only if a node of that platform builds what needs it):" in lines[0]
    assert [line.split(": ")[0].split() for line in lines if "builder-go" in line] == [
        ["builder-go", "build", "amd64"], ["builder-go", "if", "needed", "arm64"]]
    assert "if needed" not in "".join(table(forecast.units(one.todo), []))
    build(plan, faulty, own, Key("builder", "go", ARM64))
    again = planning.ask(to(faulty), plan, app, [AMD64, ARM64], "desimages", trust=own)
    assert Key("builder", "go", ARM64) not in again.optional, "what exists is not built"


def test_the_last_state_is_that_of_the_plan_and_a_difference_is_shown_against_it(
    chain: Catalog, tmp_path: Path
) -> None:
    plan, place = chain.plan(), last_built.Place(str(tmp_path), "127.0.0.1:1", "desimages")
    assert last_built.difference(place, plan.units[DEBIAN], [])["before"] == {}
    last_built.keep(place, plan, [DEBIAN], AMD64)
    (path,) = last_built.of(place, ["debian"])
    kept = path.stat().st_mtime_ns, path.stat().st_ino
    last_built.keep(place, plan, [DEBIAN], AMD64)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == kept, "what is so already is not written"
    shown = last_built.difference(place, plan.units[DEBIAN], plan.entries(plan.units[DEBIAN], AMD64))
    assert shown["before"]["record"] == shown["after"]["record"]
    assert shown["before_header"] == "debian linux/amd64 as built"


def test_damaged_units_are_chosen_by_their_names_and_every_wrong_one_is_told(chain: Catalog) -> None:
    plan = chain.plan()
    assert damaged(plan, []) == {}
    assert damaged(plan, [str(BASE)]) == {BASE: "damaged in the registry"}
    with pytest.raises(BadInput) as error:
        damaged(plan, ["base", str(BASE), "base linux/vax"])
    assert error.value.problems == ["damaged: 'base' is not a unit of the catalog",
                                    "damaged: 'base linux/vax' is not a unit of the catalog"]
