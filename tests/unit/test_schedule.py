"""The scheduler: batches, failures, what is left."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.schedule import GOOD, Scheduler, State
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key

from .conftest import Catalog


@pytest.fixture
def scheduler(chain: Catalog) -> Scheduler:
    plan = chain.plan()
    return Scheduler(plan, [key for key in plan.units if plan.recipes[key.image].index], {}, AMD64)


def names(batches: list[list[Key]]) -> list[list[str]]:
    return [[str(key) for key in batch] for batch in batches]


def test_platforms_of_an_image_are_one_batch_and_parents_come_first(scheduler: Scheduler) -> None:
    order = []
    while not scheduler.finished:
        for batch in scheduler.ready():
            order.append([str(key) for key in batch])
            scheduler.start(batch)
            for key in batch:
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
    assert names(scheduler.ready()) == [["builder-go linux/amd64"], ["static linux/amd64"]]


def test_an_input_that_cannot_be_had_stops_only_what_needs_it(chain: Catalog) -> None:
    plan = chain.plan()
    scheduler = Scheduler(plan, list(plan.units), {}, AMD64, {Key("app", "", AMD64): "flipped"})
    assert scheduler.outcomes[Key("app", "", AMD64)].state == State.INPUT_FAILED
    assert scheduler.outcomes[Key("app", "", ARM64)].state == State.WAITING


def test_what_exists_needs_no_parents(chain: Catalog) -> None:
    plan = chain.plan()
    scheduler = Scheduler(plan, [Key("app", "", AMD64)], {Key("app", "", AMD64): "sha256:a"}, AMD64)
    assert scheduler.finished
    assert list(scheduler.outcomes) == [Key("app", "", AMD64)]


def test_units_that_were_put_back_are_ready_again_and_a_stop_leaves_the_rest(scheduler: Scheduler) -> None:
    (batch,) = scheduler.ready()
    scheduler.start(batch)
    assert scheduler.ready() == []
    scheduler.put_back(batch)
    assert scheduler.ready() == [batch]
    left = scheduler.leave()
    assert scheduler.finished
    assert len(left) == len(scheduler.outcomes)
    assert not any(outcome.state in GOOD for outcome in scheduler.outcomes.values())
