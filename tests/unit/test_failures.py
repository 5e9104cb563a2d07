"""Whose fault it is that a batch failed: the builder alone, told by hand what nodes report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, NoSpace
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build import builder, failures
from ansible_collections.desimages.farm.plugins.plugin_utils.build.builder import Builder
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.keeper import Keeper
from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import Seat
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Batch, Scheduler, State

from .conftest import Catalog
from .local_node import PROVEN
from .test_building import Farm, six

ABOUT = {"state": "/x", "socket": "/x/s", "buildctl": "/x/b", "slots": 1, "local": False, "play": 2, "lost": "",
         "busy": "wait", "emulation": {}}
KILLED = {"state": "failed", "fault": "a step was killed", "error": "exit code: 137"}
UNWELL = {"state": "failed", "transport": True, "error": "connection refused"}


@dataclass
class Nodes:
    """A builder with nodes, and what it said."""

    made: Builder
    said: list[str] = field(default_factory=list)

    def sit(self, name: str) -> Seat:
        seat = self.made.sit(name, {**ABOUT, "name": name})
        self.made.prepared(seat, "x86_64", PROVEN, [])
        return seat

    def starts(self, seat: Seat) -> list[str]:
        """The jobs that a node gets."""
        orders = self.made.orders(seat)
        return [spec["id"] for spec in orders["specs"]] if orders else []

    def ends(self, seat: Seat, job: str, **state: Any) -> None:
        self.made.reported(seat, [], [{"id": job, "elapsed": 1.0, "age": 1.0, **state}])

    def states(self) -> set[State]:
        return {outcome.state for outcome in self.made.scheduler.outcomes.values()}


@pytest.fixture
def nodes(empty: Catalog, tmp_path: Path) -> Nodes:
    said: list[str] = []

    def submit(work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        try:
            found = work()
        except NoSpace as error:
            found = error
        then(found)

    return Nodes(six(empty, tmp_path).make(said.append, submit), said)


def test_no_node_gets_work_before_all_have_answered_or_had_some_seconds(nodes: Nodes) -> None:
    nodes.made.gathered = math.inf
    one = nodes.sit("one")
    assert not nodes.starts(one), "the other may be ten times as fast"
    two = nodes.made.sit("two", {**ABOUT, "name": "two"})
    assert not nodes.starts(one)
    nodes.made.missed(two, "no answer")
    assert nodes.starts(one)


def test_the_first_work_waits_until_the_registry_has_said_what_else_may_start(nodes: Nodes) -> None:
    nodes.made.gathered = math.inf
    one, two = nodes.sit("one"), nodes.sit("two")
    asked = next(iter(nodes.made.planned.plan.units))
    nodes.made.looking.add(asked)
    assert not nodes.starts(one), "the longest path may begin with the unit that is being asked for"
    nodes.made.looking.discard(asked)
    assert nodes.starts(one) and nodes.starts(two)


def test_a_node_that_does_not_answer_is_waited_for_for_some_seconds(
        nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.made.gathered = math.inf
    one = nodes.sit("one")
    assert not nodes.starts(one)
    later = time.monotonic() + builder.GATHER
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert nodes.starts(one)


def test_what_a_node_is_the_cause_of_is_tried_once_on_another(nodes: Nodes) -> None:
    one, two = nodes.sit("one"), nodes.sit("two")
    first = nodes.starts(one)[0]
    keys = one.jobs[first].batch.keys
    nodes.ends(one, first, **KILLED)
    assert State.FAILED not in nodes.states()
    assert all(not set(keys) & set(one.jobs[job].batch.keys) for job in nodes.starts(one))
    job = next(job for _round in range(6) for job in nodes.starts(two) if set(keys) & set(two.jobs[job].batch.keys)
               or nodes.ends(two, job, state="lost", error="buildkitd stopped"))
    nodes.ends(two, job, **KILLED)
    assert State.FAILED not in nodes.states(), "side by side its platforms may have needed too much"
    for _platform in keys:
        job = next(job for _round in range(12) for job in nodes.starts(two) if set(keys) & set(two.jobs[job].batch.keys)
                   or nodes.ends(two, job, state="failed", error="exit code: 1"))
        nodes.ends(two, job, **KILLED)
    assert {nodes.made.scheduler.outcomes[key].state for key in keys} == {State.FAILED}
    assert sum("tried on another node" in line for line in nodes.said) == 1


def test_the_only_node_fails_what_it_is_the_cause_of(nodes: Nodes) -> None:
    one = nodes.sit("one")
    first = nodes.starts(one)[0]
    keys = one.jobs[first].batch.keys
    nodes.ends(one, first, **KILLED)
    assert State.FAILED not in nodes.states(), "each platform is built alone first"
    for _round in range(20):
        for job in nodes.starts(one):
            nodes.ends(one, job, **KILLED)
    assert {nodes.made.scheduler.outcomes[key].state for key in keys} == {State.FAILED}
    assert not one.out


def test_a_node_whose_buildkitd_is_dead_does_not_use_up_the_patience_of_units(nodes: Nodes) -> None:
    dead = nodes.sit("dead")
    nodes.sit("good")
    for _count in range(failures.CUT):
        assert dead.joined
        nodes.ends(dead, nodes.starts(dead)[0], state="lost", error="buildkitd stopped during the build")
    assert not dead.joined and not dead.out
    assert State.FAILED not in nodes.states()
    nodes.made.prepared(dead, "x86_64", PROVEN, [])
    assert dead.misses, "the pauses grow until it has built something"


def test_a_unit_that_nobody_wants_any_more_is_let_go(nodes: Nodes) -> None:
    one = nodes.sit("one")
    first = nodes.starts(one)[0]
    nodes.ends(one, first, state="running")
    for key in one.jobs[first].batch.keys:
        del nodes.made.scheduler.outcomes[key]
    orders = nodes.made.orders(one)
    assert orders and first in orders["cancel"]
    nodes.ends(one, first, state="done", digest="sha256:1")


@pytest.mark.parametrize("node", [
    {"native": ["linux/mips"]}, {"native": [7]}, {"cores": "x", "memory": []}, {"speed": [1]}])
def test_a_node_that_says_nonsense_of_itself_is_out_and_the_run_goes_on(nodes: Nodes, node: dict[str, Any]) -> None:
    one = nodes.made.sit("one", {**ABOUT, "name": "one", "slots": 0})
    nodes.made.prepared(one, "x86_64", {**PROVEN, **node}, [])
    assert one.out.startswith("its own description cannot be used") and not one.joined
    two = nodes.made.sit("two", {**ABOUT, "name": "two"})
    nodes.made.prepared(two, "loongarch64", PROVEN, [])
    assert two.out


@pytest.mark.parametrize(("node", "said"), [
    ({}, "its BuildKit has no proven engine id"), ({"engine": "sha256:other"}, "its BuildKit has the engine id")])
def test_a_node_whose_buildkit_is_not_the_proven_one_builds_nothing(
        nodes: Nodes, node: dict[str, Any], said: str) -> None:
    one = nodes.made.sit("one", {**ABOUT, "name": "one"})
    nodes.made.prepared(one, "x86_64", node, [])
    assert one.out.startswith(said) and not one.joined


def test_a_node_for_which_nothing_was_fetched_costs_only_itself(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since the plan it has become one of another platform, or says so."""
    made, begin = nodes.made, nodes.made._begin

    def lacking(seat: Seat, batch: Batch) -> dict[str, Any]:
        if seat.name == "bad" and len(seat.jobs) == 1:
            raise FarmError("were not unpacked")
        return begin(seat, batch)

    monkeypatch.setattr(made, "_begin", lacking)
    bad = nodes.sit("bad")
    assert made.orders(bad) is None and bad.out == "were not unpacked"
    good = nodes.sit("good")
    for _count in range(20):
        for job in nodes.starts(good):
            nodes.ends(good, job, state="failed", error="exit code: 1")
    assert nodes.states() == {State.FAILED}


def test_a_node_that_fails_again_and_again_gets_no_more_work(nodes: Nodes) -> None:
    one = nodes.sit("one")
    nodes.sit("two")
    for _count in range(failures.ILL):
        assert not one.out
        nodes.ends(one, nodes.starts(one)[0], state="failed", full=True)
    assert one.out.startswith("3 builds in a row failed because of it; the last one: no space left on one")
    assert not one.joined
    assert State.FAILED not in nodes.states()


def test_a_node_that_is_cut_off_from_the_registry_gets_no_work_until_it_reaches_it(
        nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "answers", lambda self: True)
    one = nodes.sit("one")
    nodes.sit("two")
    for _count in range(failures.CUT):
        assert one.joined
        nodes.ends(one, nodes.starts(one)[0], **UNWELL)
    assert not one.joined and not one.out
    nodes.made.prepared(one, "x86_64", PROVEN, [], apart="no route to host")
    assert not one.joined and one.again > time.monotonic() + 1
    nodes.made.prepared(one, "x86_64", PROVEN, [])
    assert one.joined
    assert State.FAILED not in nodes.states()


def test_if_nobody_reaches_the_registry_all_wait_for_it(nodes: Nodes) -> None:
    one = nodes.sit("one")
    nodes.sit("two")
    for _count in range(4):
        nodes.ends(one, nodes.starts(one)[0], **UNWELL)
    assert one.joined
    assert State.FAILED not in nodes.states()


def test_work_that_was_taken_from_a_node_in_its_turn_is_not_put_back_twice(nodes: Nodes) -> None:
    one = nodes.sit("one")
    nodes.sit("two")
    sent = nodes.starts(one)
    nodes.made.missed(one, "does not reach the registry")
    nodes.made.reported(one, sent, [])
    assert one.lost == {}


def test_a_job_whose_units_another_node_has_built_is_cancelled(nodes: Nodes) -> None:
    one = nodes.sit("one")
    nodes.sit("two")
    first = nodes.starts(one)[0]
    nodes.ends(one, first, state="running", steps=1, done=0, running="RUN make")
    for key in one.jobs[first].batch.keys:
        nodes.made.scheduler.done(key, "sha256:1")
    orders = nodes.made.orders(one)
    assert orders and first in orders["cancel"]
    nodes.ends(one, first, state="cancelled")
    assert State.FAILED not in nodes.states()


def test_a_node_whose_job_stands_still_is_asked_whether_it_reaches_the_registry(
        nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "answers", lambda self: True)
    one, judge = nodes.sit("one"), nodes.made.failures
    first = nodes.starts(one)[0]
    running = {"state": "running", "steps": 3, "done": 2, "running": "pushing layers"}
    nodes.ends(one, first, **running)
    assert judge.doubts(one) is None
    one.jobs[first].moved -= 40
    nodes.ends(one, first, **running)
    assert judge.doubts(one) == {"url": "http://127.0.0.1:9", "ca": ""}
    assert judge.doubts(one) is None, "asked again at once"
    judge.apart(one, "")
    assert one.joined
    judge.apart(one, "timed out")
    assert not one.joined and not one.out
    assert any("one: does not reach the registry, which answers the controller: timed out" in line
               for line in nodes.said)


def test_units_that_were_tried_elsewhere_do_not_cost_others_of_their_batch_that_chance(nodes: Nodes) -> None:
    one = nodes.sit("one")
    nodes.sit("two")
    first = nodes.starts(one)[0]
    tried, other = one.jobs[first].batch.keys
    nodes.made.failures.elsewhere.add(tried)
    nodes.ends(one, first, state="failed", full=True)
    assert State.FAILED not in nodes.states()
    while one.joined and (jobs := nodes.starts(one)):
        for job in jobs:
            mine = set(one.jobs[job].batch.keys) & {tried, other} if job in one.jobs else set()
            nodes.ends(one, job, state="failed", full=bool(mine), error="exit code: 1")
    outcomes = nodes.made.scheduler.outcomes
    assert (outcomes[tried].state, outcomes[other].state) == (State.FAILED, State.WAITING)


def test_what_a_lost_node_still_builds_keeps_its_slots_and_nothing_waits_for_them(nodes: Nodes) -> None:
    one = nodes.sit("one")
    nodes.sit("two")
    first = nodes.starts(one)[0]
    nodes.ends(one, first, state="running")
    nodes.made.missed(one, "no answer")
    nodes.made.prepared(one, "x86_64", PROVEN, [])
    orders = nodes.made.orders(one)
    assert orders and (orders["ids"], orders["specs"]) == ([first], [])
    nodes.ends(one, first, state="cancelled")
    assert nodes.starts(one)


def test_a_unit_that_ends_each_node_that_builds_it_fails_in_the_end_and_costs_no_other(nodes: Nodes) -> None:
    seats = [nodes.sit("one"), nodes.sit("two")]
    bad = nodes.made.planned.todo[0]
    for turn in range(100):
        seat, other = seats[turn % 2], seats[1 - turn % 2]
        for job in nodes.starts(seat):
            if bad not in seat.jobs[job].batch.keys:
                nodes.ends(seat, job, state="failed", error="exit code: 1")
                continue
            nodes.ends(seat, job, state="running")
            nodes.made.missed(seat, "no answer")  # its machine starts again
            assert other.joined
            nodes.made.prepared(seat, "x86_64", PROVEN, [])
            nodes.ends(seat, job, state="lost", started=1.0, error="the job's process does not exist any more")
    outcomes = nodes.made.scheduler.outcomes
    assert f"the unit was lost {failures.LOST} times" in outcomes[bad].error
    assert [key for key, outcome in outcomes.items() if "the unit was lost" in outcome.error] == [bad]
    assert not any(seat.out for seat in seats) and nodes.states() == {State.FAILED}


def test_a_node_that_answers_only_while_it_has_no_work_gets_none_in_the_end(nodes: Nodes) -> None:
    """Such as one whose network carries no large packet."""
    one = nodes.sit("one")
    for _time in range(builder.FRUITLESS):
        assert one.joined
        (first, *_others) = nodes.starts(one)
        nodes.made.missed(one, "no answer within 40 s")
        assert not any(line.endswith("building on one") for line in nodes.said)
        if one.out:
            break
        nodes.made.prepared(one, "x86_64", PROVEN, [])
        for job in list(one.lost):
            nodes.ends(one, job, state="lost", error="the node does not know this job")
    assert one.out == "no answer within 40 s; this happened 6 times in a row, as soon as it had work"


def test_a_bad_network_puts_no_node_out_that_works(nodes: Nodes) -> None:
    one = nodes.sit("one")
    (first, *_others) = nodes.starts(one)
    for _time in range(3 * builder.FRUITLESS):
        nodes.ends(one, first, state="running")
        nodes.made.missed(one, "no answer within 40 s")
        nodes.made.prepared(one, "x86_64", PROVEN, [])
    assert one.joined and not one.out


def test_what_is_wanted_only_since_something_else_failed_is_built(
        chain: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool whose push failed for too long, which is known after the node has reported: now the other node's is
    wanted. No node has work that it would report of, so nothing else asks whether such content exists."""
    plan = chain.plan()
    keys = [key for key in plan.units if key.image in ("debian", "builder", "app")]
    sources = {name: chain.sources(name) for name in plan.recipes}
    farm = Farm(tmp_path, Planned(plan, sources, keys, {}, [AMD64, ARM64], keys, False, {}, {}, 0.0))
    pending: list[Callable[[], None]] = []
    monkeypatch.setattr(Keeper, "look", lambda _keeper, _key, _content: None)
    made = farm.make(print, lambda work, then: pending.append(lambda: then(None)))
    wanted = Key("app", "", AMD64)
    made.scheduler = made.failures.scheduler = Scheduler(plan, [wanted], {
        key: "sha256:1" for key in plan.units if key.image in ("debian", "static")})
    monkeypatch.setattr(made.failures, "patience", SimpleNamespace(until=lambda *_arguments: None))
    nodes = Nodes(made)
    seats = {key.platform: made.sit(str(key.platform), {**ABOUT, "name": str(key.platform)}) for key in keys}
    for platform, machine in ((AMD64, "x86_64"), (ARM64, "aarch64")):
        made.prepared(seats[platform], machine, PROVEN, [])
    while pending:
        pending.pop()()
    (tool,) = (key for key in made.scheduler.outcomes if key.image == "builder")
    (job,) = nodes.starts(seats[tool.platform])
    nodes.ends(seats[tool.platform], job, **UNWELL)
    while pending:
        pending.pop()()
    assert made.scheduler.outcomes[tool].state == State.FAILED
    (other,) = (seat for platform, seat in seats.items() if platform != tool.platform)
    assert not nodes.starts(other)
    while pending:
        pending.pop()()
    assert nodes.starts(other)
