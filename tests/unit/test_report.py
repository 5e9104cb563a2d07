"""The end of a run in words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build import report
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Fetched, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Outcome, State

from .conftest import Catalog


def test_the_time_of_an_image_reaches_from_its_first_batch_to_its_last(tmp_path: Path) -> None:
    run = Run.begin(str(tmp_path), os.getpid())
    assert report.times(run, 200.0) == []
    run.save(Planned(Plan({}, {}), {}, [], {}, [ARM64], [], False, {}, {}, 30.4))
    run.save(Fetched(seconds=61.0))
    run.save(Built(timings=[{"image": "debian", "began": 10.0, "ended": 70.5},
                            {"image": "base", "began": 70.6, "ended": 72.0},
                            {"image": "debian", "began": 10.0, "ended": 90.0}]))
    assert report.times(run,
                        175.0) == ["Time: 2:55: until the plan 0:30, fetch 1:01, build 1:20, of that debian 1:20, base "
                                   "0:01"]


def test_a_step_is_told_without_its_mounts() -> None:
    running = ("[build 1/2] RUN --mount=type=bind,source=health,target=/src     --mount=type=cache,target=/c     "
               "go build --x")
    assert report.step({"done": 7, "steps": 21, "elapsed": 37.2,
                        "running": running}) == "step 7 of 21, 0:37, [build 1/2] RUN go build --x"


def test_a_solve_whose_steps_all_wait_names_none() -> None:
    assert report.step({"done": 1, "steps": 1, "elapsed": 65.0, "running": ""}) == "step 1 of 1, 1:05"


def test_units_that_are_there_and_lack_suites_are_told_in_words_and_in_json(chain: Catalog) -> None:
    platform = str(ARM64)
    header = {"lock": 2, "snapshot": "20261123T112238Z", "left_out": {platform: ["trixie-security"]},
              "older": {platform: {"trixie": "20260912T075541Z"}}}
    chain.write("debian/lock.jsonl", json.dumps(header) + "\n")
    plan = chain.plan()
    outcomes = {key: Outcome(State.EXISTS if key.image == "debian" else State.BUILT, "sha256:d") for key in plan.units
                if key.image in ("debian", "builder")}
    outcomes[Key("static", "", ARM64)] = Outcome(State.FAILED, error="lost")
    there = [f"{name} {platform}" for name in ("debian", "builder-go", "builder-c")]
    lacks = ["trixie-security", "trixie@20260912T075541Z"]

    (told,) = report.left_out(plan, outcomes)
    assert told == (f"NOT UP TO DATE, security updates may be missing: {', '.join(there)}: "
                    f"when the lock was made, the mirror could not serve completely: {' '.join(lacks)}")
    found = report.summary(plan, outcomes, ["desimages/debian:latest"], [],
                           {Key("builder", "go", ARM64): "pi"})
    assert found["left_out"] == dict.fromkeys(there, lacks)
    assert found["units"][f"static {platform}"] == {"state": "failed", "digest": "", "error": "lost", "node": ""}
    assert found["units"][f"builder-go {platform}"]["node"] == "pi"
    assert (found["moved"], found["published"]) == (["desimages/debian:latest"], [])


def test_units_that_ran_code_of_their_own_platform_are_counted_and_named_with_the_reason(empty: Catalog) -> None:
    empty.image("shell", "FROM scratch\nCOPY . /x\n")
    empty.write("shell/x", "x")
    empty.image("box", "FROM --platform=$BUILDPLATFORM shell AS made\nRUN x\n\nFROM shell\nRUN y\n"
                       "COPY --from=made /x /y\n")
    plan = empty.plan()
    assert report.own_platform(plan, {key: Outcome(State.EXISTS, "sha256:d") for key in plan.units}) == []
    shells = {key: Outcome(State.BUILT, "sha256:d") for key in plan.units if key.image == "shell"}
    assert report.own_platform(plan, shells) == ["Not cross-built: none of 2 built units"]
    everything = {key: Outcome(State.BUILT, "sha256:d") for key in plan.units}
    assert report.own_platform(plan, everything) == [
        "Not cross-built: 2 of 4 built units",
        f"  box linux/amd64, box linux/arm64: a stage with RUN is not FROM --platform=$BUILDPLATFORM "
        f"({empty.root}/box/Dockerfile:4)"]


REF = "failed to calculate checksum of ref 8vct3hxr::ch8h5dm6: "


@pytest.mark.parametrize(("error", "tail", "first", "hint"), [
    (REF + '"/a": not found', ["   2 | >>> COPY a /x", f'error: failed to solve: failed to compute: {REF}"/a"'],
     '"/a": not found', "the image's folder without what an ignore file names"),
    ("exit code: 100", ["W: Failed to fetch http://a/InRelease  Temporary failure resolving 'a'", "E: no package x"],
     "exit code: 100", "build steps have no network"),
    ("exit code: 6", ["curl: (6) Could not resolve host: example.org"], "exit code: 6", "build steps have no network"),
    ("exit code: 1", ["make: *** [x] Error 1"], "exit code: 1", ""),
])
def test_a_failed_step_has_advice_where_its_cause_is_known(error: str, tail: list[str], first: str, hint: str) -> None:
    state = {"error": error, "tail": tail}
    said = report.failure(error, report.advice(state), state, Path("/log"))
    assert said.splitlines()[0] == first and "failed to solve" not in said and f"  | {tail[0]}" in said
    assert hint in said and ("what to do" in said) is bool(hint)
