"""The scheduler on one node: batches, failures, what is left."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import (
    GOOD,
    Batch,
    Outcome,
    Scheduler,
    State,
    Worker,
)

from .conftest import Catalog

NODE = Worker("node", (AMD64,), slots=4)


def one(plan: Plan, wanted: list[Key], existing: dict[Key, str], refused: dict[Key, str] | None = None) -> Scheduler:
    """A scheduler with one node."""
    scheduler = Scheduler(plan, wanted, existing, refused)
    scheduler.join(NODE, 0)
    return scheduler


def claim(scheduler: Scheduler, now: float = 0) -> list[Batch]:
    """All that the node may build now; no content is known."""
    scheduler.asked(scheduler.asking())
    return scheduler.claim("node", now, 100)


@pytest.fixture
def scheduler(chain: Catalog) -> Scheduler:
    plan = chain.plan()
    return one(plan, [key for key in plan.units if plan.recipes[key.image].index], {})


def names(batches: list[Batch]) -> list[list[str]]:
    return [[str(key) for key in batch.keys] for batch in batches]


def test_platforms_of_an_image_are_one_batch_and_parents_come_first(scheduler: Scheduler) -> None:
    order = []
    while not scheduler.finished:
        batches = claim(scheduler)
        order += names(batches)
        for key in [key for batch in batches for key in batch.keys]:
            scheduler.done(key, f"sha256:{key}")
    assert order == [
        ["debian linux/amd64", "debian linux/arm64"],
        ["builder-go linux/amd64"],
        ["static linux/amd64", "static linux/arm64"],
        ["app linux/amd64", "app linux/arm64"],
        ["base linux/amd64", "base linux/arm64"],
    ]


def test_a_failure_costs_only_its_descendants(scheduler: Scheduler) -> None:
    for key in (Key("debian", "", AMD64), Key("debian", "", ARM64)):
        scheduler.done(key, "sha256:d")
    lost = scheduler.fail([Key("static", "", ARM64)], "broken")
    assert [str(key) for key in lost] == ["app linux/arm64", "base linux/arm64"]
    assert scheduler.outcomes[Key("app", "", ARM64)].state == State.PARENT_FAILED
    assert names(claim(scheduler)) == [["builder-go linux/amd64"], ["static linux/amd64"]]


def test_an_input_that_cannot_be_had_stops_only_what_needs_it(chain: Catalog) -> None:
    plan = chain.plan()
    scheduler = one(plan, list(plan.units), {}, {Key("app", "", AMD64): "flipped"})
    assert scheduler.outcomes[Key("app", "", AMD64)].state == State.INPUT_FAILED
    assert scheduler.outcomes[Key("app", "", ARM64)].state == State.WAITING


def test_what_exists_needs_no_parents(chain: Catalog) -> None:
    plan = chain.plan()
    scheduler = one(plan, [Key("app", "", AMD64)], {Key("app", "", AMD64): "sha256:a"})
    assert scheduler.finished
    assert list(scheduler.outcomes) == [Key("app", "", AMD64)]


def test_units_that_were_put_back_are_ready_again_and_a_stop_leaves_the_rest(scheduler: Scheduler) -> None:
    (batch,) = claim(scheduler)
    assert claim(scheduler) == []
    scheduler.put_back(batch, 0)
    (again,) = claim(scheduler)
    assert again.keys == batch.keys
    assert (again.attempt, batch.attempt) == (2, 1)
    left = scheduler.leave_rest()
    assert scheduler.finished
    assert len(left) == len(scheduler.outcomes)
    assert not any(outcome.state in GOOD for outcome in scheduler.outcomes.values())


def test_units_that_were_put_back_until_later_are_not_ready_before(scheduler: Scheduler) -> None:
    (batch,) = claim(scheduler)
    scheduler.put_back(batch, 10, until=15)
    assert claim(scheduler, 14) == []
    assert names(claim(scheduler, 15)) == names([batch])


def test_a_batch_that_failed_is_built_again_unit_by_unit(scheduler: Scheduler) -> None:
    (batch,) = claim(scheduler)
    scheduler.split(batch)
    assert names(claim(scheduler)) == [["debian linux/amd64"], ["debian linux/arm64"]]


def test_what_became_of_units_is_told_in_words() -> None:
    """People see them in reports; tools read them in summaries."""
    assert [state.value for state in State] == [
        "waiting", "running", "exists", "built", "same content", "failed", "input failed", "parent failed", "left"]


def test_a_failure_is_told_with_its_error_and_its_descendants_with_their_parent(scheduler: Scheduler) -> None:
    scheduler.fail([Key("debian", "", ARM64)], "broken")
    assert scheduler.outcomes[Key("debian", "", ARM64)] == Outcome(State.FAILED, "", "broken")
    assert scheduler.outcomes[Key("base", "", ARM64)] == Outcome(
        State.PARENT_FAILED, "", "debian linux/arm64 failed")
    assert scheduler.outcomes[Key("app", "", ARM64)].state == State.WAITING, "its parents are made of debian for amd64"


def test_what_was_refused_keeps_its_own_reason(chain: Catalog) -> None:
    plan = chain.plan()
    debian, static, app = (Key(name, "", ARM64) for name in ("debian", "static", "app"))
    refused = {static: "first", app: "second", Key("base", "", AMD64): "not wanted", debian: "there already"}
    scheduler = one(plan, [app], {debian: "sha256:d"}, refused)
    assert scheduler.outcomes[static] == Outcome(State.INPUT_FAILED, "", "first")
    assert scheduler.outcomes[app] == Outcome(State.INPUT_FAILED, "", "second")
    assert debian not in scheduler.outcomes and Key("base", "", AMD64) not in scheduler.outcomes
    whole = one(plan, list(plan.units), {debian: "sha256:d"}, refused)
    assert whole.outcomes[debian] == Outcome(State.EXISTS, "sha256:d"), "what is there needs no input"


def test_a_batch_gets_the_digests_of_its_parents(scheduler: Scheduler) -> None:
    keys = [Key("debian", "", AMD64), Key("debian", "", ARM64), Key("builder", "go", AMD64),
            Key("static", "", AMD64), Key("static", "", ARM64)]
    for key in keys:
        scheduler.done(key, f"sha256:{key}", State.SAME)
    batch = claim(scheduler)[0]
    assert names([batch]) == [["app linux/amd64", "app linux/arm64"]]
    assert scheduler.digests(batch) == {
        "builder-go": {"linux/amd64": "sha256:builder-go linux/amd64"},
        "static": {"linux/amd64": "sha256:static linux/amd64", "linux/arm64": "sha256:static linux/arm64"}}
    assert scheduler.run_time_digests(batch.keys[1]) == {"static": "sha256:static linux/arm64"}
    assert scheduler.outcomes[keys[0]].state == State.SAME
    assert not scheduler.finished
    left = scheduler.leave_rest()
    assert left == [*batch.keys, Key("base", "", AMD64), Key("base", "", ARM64)], "what runs is given up too"
    assert scheduler.outcomes[batch.keys[0]] == Outcome(State.LEFT, "", "the run was stopped")


def test_units_whose_labels_differ_are_batches_of_their_own(chain: Catalog) -> None:
    """The labels of a solve are those of all that it builds."""
    chain.image("many", "FROM scratch AS x-amd64\nCOPY . /\nFROM debian AS x-arm64\nFROM x-$TARGETARCH\n")
    plan = chain.plan()
    keys = [Key("many", "", platform) for platform in (AMD64, ARM64)]
    scheduler = one(plan, keys, {Key("debian", "", ARM64): "sha256:d"})
    assert names(claim(scheduler)) == [["many linux/amd64"], ["many linux/arm64"]]
