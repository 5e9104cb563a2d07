"""What a run waits for, and when it gives up: the builder alone, on a clock of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import Seat
from ansible_collections.desimages.farm.plugins.plugin_utils.build.waiting import SILENCE
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import State

from .conftest import Catalog
from .local_node import PROVEN
from .test_building import six
from .test_failures import ABOUT, Nodes

RUN = range(2 * SILENCE)


@pytest.fixture
def nodes(empty: Catalog, tmp_path: Path) -> Nodes:
    said: list[str] = []
    return Nodes(six(empty, tmp_path).make(said.append, lambda work, then: None), said)


@pytest.fixture
def passes(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a second pass, in which the run may find that it is stuck."""
    times = [float(int(time.monotonic()))]  # a whole number: adding to it is exact
    monkeypatch.setattr(time, "monotonic", lambda: times[0])
    nodes.made.waiting.heard = times[0]

    def passing() -> str:
        times[0] += 1
        return nodes.made.waiting.stuck(times[0])

    return passing


def sit(nodes: Nodes, name: str, **about: Any) -> Seat:
    return nodes.made.sit(name, {**ABOUT, "name": name, "play": 1, **about})


def test_what_will_be_emulated_for_lack_of_a_native_node_is_waited_for_and_told(nodes: Nodes, passes: Any) -> None:
    pi = sit(nodes, "pi", emulation={"linux/amd64": "missing"})
    nodes.made.prepared(pi, "armv7l", {**PROVEN, "emulated": ["linux/amd64"]}, [])
    for _second in range(SILENCE - 2):
        assert passes() == "" and nodes.states() == {State.WAITING} and not nodes.starts(pi)
    assert [line.partition(": no ")[2] for line in nodes.said] == [
        "available node runs linux/amd64 or linux/arm64 natively; pi emulates linux/amd64 if none comes in 299 s"]
    passes(), passes()
    assert nodes.starts(pi)


def test_a_node_of_another_controller_is_waited_for_however_long_that_works(nodes: Nodes, passes: Any) -> None:
    pi = sit(nodes, "pi")
    for _second in RUN:
        if pi.again <= time.monotonic():
            nodes.made.missed(pi, "works for another controller, x", alive=True)
        assert passes() == "" and nodes.states() == {State.WAITING}
    assert nodes.said == ["pi: works for another controller, x; waiting for it"]
    nodes.made.prepared(pi, "x86_64", PROVEN, [])
    assert nodes.starts(pi)


def test_what_a_busy_node_may_be_able_to_build_is_not_given_up_for_it(nodes: Nodes, passes: Any) -> None:
    nodes.made.prepared(sit(nodes, "arm", play=2), "armv7l", PROVEN, [])
    server = sit(nodes, "server", play=2)
    for _second in RUN:
        if server.again <= time.monotonic():
            nodes.made.missed(server, "works for another controller, x", alive=True)
        assert passes() == "" and nodes.states() == {State.WAITING}
    nodes.made.missed(server, "no route to host")
    for _second in range(SILENCE + 2):
        passes()
    assert nodes.states() == {State.FAILED}
