"""The scheduler over several nodes: who gets what, what is wanted where, what a lost node costs."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, ARMV7, S390X
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Parent, Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import (
    GOOD,
    Batch,
    Outcome,
    Scheduler,
    State,
    Worker,
)

from .conftest import Catalog
from .simulated import Simulation

FAST, SLOW = Worker("fast", (AMD64,)), Worker("slow", (AMD64,), speed=0.1)
BOARD = Worker("board", (ARM64, ARMV7))


def names(batches: list[Batch]) -> list[str]:
    return [" + ".join(str(key) for key in batch.keys) + f" on {batch.build.slug}" for batch in batches]


def units(*each: tuple[str, tuple[Parent, ...], tuple[str, ...]], runs: object = (AMD64, ARM64)) -> Plan:
    """A plan of images (name, parents, platforms by architecture) whose units run on the build platforms, or with
    `runs` None on their own."""
    found = {}
    for name, parents, platforms in each:
        for text in platforms:
            key = Key(name, "", {"amd64": AMD64, "arm64": ARM64, "v7": ARMV7, "s390x": S390X}[text])
            found[key] = Unit(key, str(key), 0, {}, {}, parents,
                              runs=(key.platform,) if runs is None else runs)  # type: ignore[arg-type]
    return Plan(found, {})


def parent(name: str, build: bool = False) -> Parent:
    return Parent(name, name, "", build)


def fleet(plan: Plan, *workers: Worker, **options: object) -> Scheduler:
    scheduler = Scheduler(plan, list(plan.units), {}, **options)  # type: ignore[arg-type]
    for worker in workers:
        scheduler.join(worker, 0)
    return scheduler


def build(scheduler: Scheduler, batches: list[Batch]) -> None:
    for key in [key for batch in batches for key in batch.keys]:
        scheduler.done(key, f"sha256:{key}")
    scheduler.asked(scheduler.asking())


BOTH = ("amd64", "arm64")


# ------ where a unit may be built


def test_a_unit_that_runs_its_own_code_goes_to_a_node_of_its_platform_and_is_built_as_that() -> None:
    scheduler = fleet(units(("own", (), ("v7",)), runs=None), FAST, BOARD)
    assert scheduler.claim("fast", 0, 9) == []
    (batch,) = scheduler.claim("board", 0, 9)
    assert (batch.build, batch.emulated) == (ARMV7, False)


@pytest.mark.parametrize(("workers", "takes", "why"), [
    ([FAST], False, "no available node runs linux/s390x, and none may emulate it"),
    ([Worker("fast", (AMD64,), emulated=(S390X,))], True, ""),
    ([Worker("fast", (AMD64,), emulated=(S390X,)), Worker("ibm", (S390X,))], False, ""),
    ([Worker("fast", (AMD64,), missing=(S390X,))], False, ""),
])
def test_nothing_is_emulated_that_a_node_runs_natively_or_the_inventory_does_not_allow(
        workers: list[Worker], takes: bool, why: str) -> None:
    scheduler = fleet(units(("own", (), ("s390x",)), runs=None), *workers)
    assert scheduler.unable(0) == ({Key("own", "", S390X): why} if why else {})
    assert [(batch.build, batch.emulated) for batch in scheduler.claim("fast", 0, 9)] == [(S390X, True)] * takes


def test_a_platform_is_missing_when_no_native_node_was_there_for_five_minutes() -> None:
    scheduler = fleet(units(("own", (), ("s390x",)), runs=None), Worker("fast", (AMD64,), missing=(S390X,)),
                      Worker("ibm", (S390X,)))
    assert scheduler.delayed(100) == {}
    scheduler.leave("ibm", 100)
    assert scheduler.claim("fast", 399, 9) == []
    assert scheduler.delayed(399) == {Key("own", "", S390X): (
        "no available node runs linux/s390x natively; fast emulates linux/s390x if none comes in 1 s")}
    assert scheduler.claim("fast", 400, 9)[0].emulated
    assert scheduler.unable(400) == scheduler.delayed(400) == {}


def test_a_native_node_that_comes_back_ends_the_emulation() -> None:
    scheduler = fleet(units(("own", (), ("s390x",)), runs=None), Worker("fast", (AMD64,), missing=(S390X,)))
    scheduler.join(Worker("ibm", (S390X,)), 400)
    assert scheduler.claim("fast", 401, 9) == []
    assert len(scheduler.claim("ibm", 401, 9)) == 1


# ------ build-time parents


def test_a_build_time_parent_is_built_only_for_nodes_that_gain_by_it() -> None:
    """Two short units are not worth another compiler, nor are sixteen that would end some seconds sooner; two hundred
    are."""
    def wanted(size: int) -> set[str]:
        plan = units(("go", (), BOTH), *((f"x{n}", (parent("go", build=True),), BOTH) for n in range(size)))
        scheduler = Scheduler(plan, [key for key in plan.units if key.image != "go"], {},
                              durations={"go": 60.0, **{f"x{n}": 10.0 for n in range(size)}})
        scheduler.join(FAST, 0)
        scheduler.join(BOARD, 0)
        return {str(key) for key in scheduler.outcomes if key.image == "go"}

    assert wanted(1) == {"go linux/amd64"}
    assert wanted(8) == {"go linux/amd64"}
    assert wanted(100) == {"go linux/amd64", "go linux/arm64"}


def test_the_first_build_platform_is_the_one_where_all_ends_soonest(chain: Catalog) -> None:
    """Whoever joined first: nothing had begun."""
    plan = chain.plan()
    scheduler = Scheduler(plan, [Key("app", "", AMD64)], {})
    scheduler.join(Worker("board", (ARM64,), speed=0.1), 0)
    assert Key("builder", "go", ARM64) in scheduler.outcomes
    scheduler.join(FAST, 0)
    assert [str(key) for key in scheduler.outcomes if key.image == "builder"] == ["builder-go linux/amd64"]
    assert list(scheduler.outcomes) == [key for key in plan.units if key in scheduler.outcomes], "in plan order"


def test_what_only_a_lost_node_needed_is_not_waited_for() -> None:
    plan = units(("go", (), BOTH), ("x", (parent("go", build=True),), ("amd64",)))
    plan.units.update(units(("go", (), BOTH), runs=None).units)
    scheduler = Scheduler(plan, [Key("x", "", AMD64)], {})
    scheduler.join(BOARD, 0)
    (batch,) = scheduler.claim("board", 0, 1)
    assert names([batch]) == ["go linux/arm64 on arm64"]
    scheduler.leave("board", 10)
    scheduler.join(FAST, 20)
    assert [str(key) for key in scheduler.outcomes] == ["go linux/amd64", "x linux/amd64"]
    scheduler.done(Key("go", "", ARM64), "sha256:late")  # the lost node had finished it
    build(scheduler, scheduler.claim("fast", 20, 9))
    build(scheduler, scheduler.claim("fast", 20, 9))
    assert scheduler.finished


def test_a_build_time_parent_that_fails_on_one_platform_is_built_on_another() -> None:
    plan = units(("go", (), BOTH), ("x", (parent("go", build=True),), ("amd64",)))
    scheduler = Scheduler(plan, [Key("x", "", AMD64)], {}, durations={"go": 60.0})
    scheduler.join(FAST, 0)
    scheduler.join(BOARD, 0)
    (key,) = [key for key in scheduler.outcomes if key.image == "go"]
    assert scheduler.fail([key], "broken") == []
    (other,) = [other for other in scheduler.outcomes if other.image == "go" and other != key]
    assert scheduler.fail([other], "broken too") == [Key("x", "", AMD64)]
    assert scheduler.outcomes[Key("x", "", AMD64)].error == f"{other} failed"


# ------ who gets what


def test_the_longest_chain_of_units_is_begun_first() -> None:
    plan = units(("a", (), ("amd64",)), ("b", (), ("amd64",)), ("c", (parent("b"),), ("amd64",)))
    scheduler = fleet(plan, FAST, durations={"a": 100.0, "b": 10.0, "c": 120.0})
    assert names(scheduler.claim("fast", 0, 1)) == ["b linux/amd64 on amd64"]


def test_a_slow_node_gets_nothing_that_a_fast_one_ends_sooner() -> None:
    scheduler = fleet(units(("a", (), ("amd64",)), ("b", (), ("amd64",))), FAST, SLOW,
                      durations={"a": 30.0, "b": 20.0})
    assert scheduler.claim("slow", 0, 9) == []
    assert names(scheduler.claim("fast", 0, 1)) == ["a linux/amd64 on amd64"]
    assert scheduler.claim("slow", 0, 9) == [], "in 30 + 20 s the fast one has built it, this one in 200"


def test_a_slow_node_helps_where_there_is_enough_to_do() -> None:
    plan = units(*((f"x{n}", (), ("amd64",)) for n in range(100)))
    scheduler = fleet(plan, FAST, SLOW, durations={f"x{n}": 20.0 for n in range(100)})
    assert len(scheduler.claim("slow", 0, 1)) == 1


def test_an_image_is_split_over_two_nodes_that_have_nothing_else_to_do() -> None:
    scheduler = fleet(units(("x", (), BOTH)), FAST, Worker("twin", (AMD64,)), durations={"x": 60.0})
    assert [len(batch.keys) for name in ("fast", "twin") for batch in scheduler.claim(name, 0, 1)] == [1, 1]


def test_an_image_is_split_where_others_would_wait_for_its_children_with_nothing_to_do() -> None:
    plan = units(("x", (), BOTH), *((f"y{n}", (parent("x"),), BOTH) for n in range(20)))
    scheduler = fleet(plan, FAST, Worker("twin", (AMD64,)), durations={"x": 60.0} | {f"y{n}": 60.0 for n in range(20)})
    assert [len(batch.keys) for name in ("fast", "twin") for batch in scheduler.claim(name, 0, 1)] == [1, 1]


def test_an_image_is_not_split_to_save_a_moment() -> None:
    scheduler = fleet(units(("x", (), BOTH)), FAST, Worker("twin", (AMD64,)), durations={"x": 2.0})
    assert [len(batch.keys) for name in ("fast", "twin") for batch in scheduler.claim(name, 0, 1)] == [2]


def test_where_there_is_enough_to_do_the_platforms_of_an_image_stay_together() -> None:
    plan = units(*((f"x{n}", (), BOTH) for n in range(50)))
    scheduler = fleet(plan, FAST, Worker("twin", (AMD64,)), durations={f"x{n}": 20.0 for n in range(50)})
    assert [len(batch.keys) for name in ("fast", "twin") for batch in scheduler.claim(name, 0, 1)] == [2, 2]


def test_a_node_takes_nothing_ahead_that_would_wait_there_for_long() -> None:
    plan = units(*((f"x{n}", (), ("amd64",)) for n in range(50)))
    long, short = ({f"x{n}": seconds for n in range(50)} for seconds in (100.0, 5.0))
    twin = Worker("twin", (AMD64,))
    assert len(fleet(plan, FAST, twin, durations=long).claim("fast", 0, 2)) == 1
    assert len(fleet(plan, FAST, twin, durations=short).claim("fast", 0, 2)) == 2


def test_speeds_are_learnt_from_what_batches_took() -> None:
    plan = units(*((f"x{n}", (), ("amd64",)) for n in range(60)), ("last", (), ("amd64",)))
    scheduler = fleet(plan, FAST, Worker("other", (AMD64,)), durations={f"x{n}": 20.0 for n in range(60)})
    now = 0.0
    for _turn in range(20):
        for name, seconds in (("fast", 20.0), ("other", 200.0)):
            for batch in scheduler.claim(name, now, 1):
                now += seconds
                scheduler.claim(name, now, 0)
                scheduler.ran(batch, seconds)
                build(scheduler, [batch])
    speeds = {name: node.speed for name, node in scheduler._fleet.nodes.items()}
    assert 5 < speeds["fast"] / speeds["other"] < 20


# ------ what goes wrong


def test_what_a_lost_node_had_goes_to_another_at_once() -> None:
    scheduler = fleet(units(("x", (), BOTH)), FAST)
    (batch,) = scheduler.claim("fast", 0, 1)
    scheduler.join(Worker("twin", (AMD64,)), 1)
    assert scheduler.leave("fast", 10) == [batch]
    (again,) = scheduler.claim("twin", 10, 1)
    assert again.keys == batch.keys
    assert (again.node, again.attempt) == ("twin", 2)
    assert again.number != batch.number


def test_one_of_two_results_counts_and_late_words_about_a_lost_batch_change_nothing() -> None:
    scheduler = fleet(units(("x", (), BOTH)), FAST, SLOW, durations={"x": 1})
    (batch,) = scheduler.claim("fast", 0, 1)
    scheduler.leave("fast", 10)
    (again,) = scheduler.claim("slow", 10, 1)
    scheduler.split(batch)
    scheduler.put_back(batch, 20)
    assert scheduler.fail(batch, "late") == []
    assert all(scheduler.outcomes[key].state == State.RUNNING for key in again.keys)
    scheduler.done(batch.keys[0], "sha256:late")
    scheduler.done(batch.keys[0], "sha256:second")
    assert scheduler.outcomes[batch.keys[0]] == Outcome(State.BUILT, "sha256:late")
    scheduler.put_back(again, 30)
    assert scheduler.outcomes[batch.keys[1]].state == State.WAITING


def test_what_failed_with_a_unit_waits_again_when_a_lost_node_has_built_it_after_all() -> None:
    scheduler = fleet(units(("a", (), ("amd64",)), ("b", (parent("a"),), ("amd64",)), ("c", (parent("b"),), ("amd64",)),
                            ("tool", (), ("amd64",)), ("d", (parent("c"), parent("tool", build=True)), ("amd64",))),
                      FAST, durations={"a": 60.0, "tool": 50.0})
    first, tool = scheduler.claim("fast", 0, 2)
    scheduler.leave("fast", 10)
    scheduler.join(Worker("twin", (AMD64,)), 10)
    again, other = scheduler.claim("twin", 10, 2)
    assert len(scheduler.fail(again, "broken")) == 3
    assert scheduler.fail(other, "broken") == []
    assert scheduler.finished
    scheduler.done(first.keys[0], "sha256:late")
    scheduler.asked(scheduler.asking())
    (batch,) = scheduler.claim("twin", 20, 2)
    build(scheduler, [batch])
    build(scheduler, scheduler.claim("twin", 30, 2))
    states = {key.name: outcome.state.value for key, outcome in scheduler.outcomes.items()}
    assert states == {"a": "built", "b": "built", "c": "built", "tool": "failed", "d": "parent failed"}
    scheduler.done(tool.keys[0], "sha256:late")
    scheduler.asked(scheduler.asking())
    build(scheduler, scheduler.claim("twin", 40, 2))
    assert scheduler.finished
    assert {outcome.state for outcome in scheduler.outcomes.values()} == {State.BUILT}


def test_a_batch_whose_node_has_ended_it_is_not_lost_with_the_node() -> None:
    scheduler = fleet(units(("x", (), BOTH)), FAST)
    (batch,) = scheduler.claim("fast", 0, 1)
    scheduler.ran(batch, 5.0)
    assert scheduler.leave("fast", 10) == []
    build(scheduler, [batch])
    assert scheduler.finished


def test_a_node_at_fault_does_not_get_a_unit_again_and_nobody_waits_for_it_to() -> None:
    scheduler = fleet(units(("x", (), ("amd64",))), FAST, SLOW, durations={"x": 60.0})
    (batch,) = scheduler.claim("fast", 0, 1)
    scheduler.put_back(batch, 10, fault="fast")
    assert scheduler.claim("fast", 10, 1) == []
    assert len(scheduler.claim("slow", 10, 1)) == 1, "though the fast one would be sooner"


def test_a_unit_that_failed_on_every_node_is_told() -> None:
    scheduler = fleet(units(("x", (), ("amd64",))), FAST)
    (batch,) = scheduler.claim("fast", 0, 1)
    scheduler.put_back(batch, 10, fault="fast")
    assert scheduler.unable(10) == {Key("x", "", AMD64): "it failed on fast, and no other node may build it"}


def test_a_node_that_takes_nothing_is_not_waited_for() -> None:
    scheduler = fleet(units(("x", (), ("amd64",))), FAST, SLOW, durations={"x": 60.0})
    assert scheduler.claim("slow", 10, 1) == []
    assert len(scheduler.claim("slow", 30, 1)) == 1


def test_units_apart_share_no_batch_with_others() -> None:
    plan = units(("x", (), BOTH))
    scheduler = Scheduler(plan, list(plan.units), {}, apart={Key("x", "", ARM64)})
    scheduler.join(FAST, 0)
    assert names(scheduler.claim("fast", 0, 9)) == ["x linux/amd64 on amd64", "x linux/arm64 on amd64"]


def test_a_unit_is_not_handed_out_before_its_content_was_asked_for() -> None:
    scheduler = fleet(units(("a", (), ("amd64",)), ("b", (parent("a"),), ("amd64",))), FAST)
    assert scheduler.asking() == []
    for key in scheduler.claim("fast", 0, 1)[0].keys:
        scheduler.done(key, "sha256:a")
    assert scheduler.claim("fast", 0, 1) == []
    assert scheduler.asking() == [Key("b", "", AMD64)]
    scheduler.done(Key("b", "", AMD64), "sha256:b", State.SAME)
    assert scheduler.finished and scheduler.asking() == []
    assert all(outcome.state in GOOD for outcome in scheduler.outcomes.values())


@pytest.mark.parametrize("seed", range(12))
def test_every_unit_is_built_once_whatever_fails(seed: int) -> None:
    """Nodes are lost and come back with results, batches fail, nodes and the registry are at fault."""
    run = Simulation(nodes=6 + seed, units=150 + 20 * seed, seed=seed, faults=4.0).run()
    assert run.problems() == []


def test_the_whole_takes_little_longer_than_the_work() -> None:
    run = Simulation(nodes=12, units=1000, seed=1, faults=0.0).run()
    assert run.problems() == []
    assert run.ideal() / run.now > 0.85
