"""What a step leaves for the next, and whose run that is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import KEPT, Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Fetched, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.overlays import Overlay
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, make
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import File
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Outcome, State

KEY = Key("app", "", ARM64)
GO = Key("builder", "go", AMD64)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.begin(str(tmp_path), os.getpid())


def test_only_the_newest_runs_stay_and_nothing_else_is_removed(tmp_path: Path) -> None:
    runs, names = tmp_path / "runs", [f"20990101T{number:06}-1" for number in range(KEPT + 5)]  # the clock was wrong
    for name in (*names, "of a person"):
        (runs / name / "logs").mkdir(parents=True)
    (runs / "20250101T000000-1").symlink_to("of a person")
    made = Run.begin(str(tmp_path), os.getpid())
    assert {path.name for path in runs.iterdir()} == {
        made.name, "latest", "of a person", "20250101T000000-1", *names[6:]}
    assert (runs / "of a person/logs").is_dir()


def planned() -> Planned:
    """What the plan step makes of our own catalog, with some of it to build."""
    recipes = load_catalog(["desimages.farm"])
    sources = {name: read_sources(recipe) for name, recipe in recipes.items()}
    plan = make(recipes, sources, "sha256:e", "desimages")
    units = [key for key in plan.units if key.image in ("static", "builder")]
    overlay = Overlay(recipes["static"].lock, ("libc6 1 amd64",), ("libc6 1 -> 2",))
    return Planned(plan, sources, units, {units[0]: "sha256:d"}, [AMD64], units[1:], True, {"static": overlay},
                   {"sha256:d": (7, "application/json")}, 1.5)


@pytest.mark.parametrize(
    "value",
    [
        Fetched({KEY: "gone"}, {"debian": {"linux/amd64": {"seed": "x@sha256:1"}}},
                {GO: {"context/a": File("0" * 64, 3, 0o755, 9)}}, 2.5),
        Built({KEY: Outcome(State.BUILT, "sha256:1"), GO: Outcome(State.FAILED, error="why\n")},
              {"sha256:1": (3, "x/y")}, [{"batch": "app arm64", "seconds": 1.5, "steps": None}], "stopped"),
        planned(),
        planned().lean(),
    ],
    ids=["fetched", "built", "planned", "lean"],
)
def test_a_step_gets_what_the_step_before_it_left(run: Run, tmp_path: Path, value: object) -> None:
    run.save(value)
    assert Run.of(str(tmp_path), os.getpid()).load(type(value)) == value
    assert Run.latest(str(tmp_path)).folder == run.folder


def test_what_no_later_step_reads_is_left_out(run: Run) -> None:
    whole, lean = planned(), planned().lean()
    assert set(lean.plan.units) == set(whole.plan.closure(whole.wanted, AMD64))
    assert lean.plan.recipes["static"].lock == whole.plan.recipes["static"].lock
    assert lean.plan.recipes["debian"].lock.entries == ()
    assert [lean.plan.entries(lean.plan.units[key], AMD64)
            for key in lean.todo] == [whole.plan.entries(whole.plan.units[key], AMD64) for key in lean.todo]


def test_a_link_that_a_killed_run_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container that is started again the same numbers come back."""
    (tmp_path / "runs").mkdir()
    (tmp_path / f"runs/.latest.{os.getpid()}").symlink_to("nowhere")
    run = Run.begin(str(tmp_path), os.getpid())
    assert Run.latest(str(tmp_path)).folder == run.folder


def test_a_step_finds_the_run_of_its_own_process_alone(tmp_path: Path) -> None:
    mine, other = Run.begin(str(tmp_path), os.getpid()), Run.begin(str(tmp_path), 1)
    assert Run.of(str(tmp_path), os.getpid()).name == mine.name
    assert Run.latest(str(tmp_path)).name == other.name
    # who had this number before
    (mine.folder / "run.json").write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    with pytest.raises(FarmError, match="has not made a plan"):
        Run.of(str(tmp_path), os.getpid())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is damaged"),
        ("[]", "is from another version"),
        ('{"format": 0, "value": {}}', "is from another version"),
        ('{"format": 1, "value": {"refused": 7}}', "is damaged"),
        ('{"format": 1, "value": {"refused": {"a b": "c"}}}', "is damaged"),
        ("\x80\x04.", "is damaged"),
    ],
)
def test_a_handover_that_is_none_is_refused(run: Run, text: str, said: str) -> None:
    (run.folder / "handover/fetched.json").write_text(text)
    with pytest.raises(FarmError, match=said):
        run.load(Fetched)


def test_a_step_that_left_nothing_is_named(run: Run) -> None:
    assert not run.has(Built)
    with pytest.raises(FarmError, match="has no handover/built.json"):
        run.load(Built)
