"""A farm of several hosts: two nodes and a registry with TLS and a password, which are reached over ssh; the controller
is none of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc

from .conftest import COMPILED, PROJECT, STATE, Farm, Result
from .docker_host import run, until
from .fleet_hosts import Fleet, Host
from .small import Small, units

SLOW = r"""FROM --platform=$BUILDPLATFORM unpacked-busybox AS sh
ARG TARGETPLATFORM
RUN ["/usr/bin/busybox", "sh", "-c", "/usr/bin/busybox sleep 20 && echo $TARGETPLATFORM > /slow"]
FROM scratch
COPY --from=sh /slow /
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet.start(tmp_path_factory.mktemp("fleet"), ["one", "two", "registry"],
                       groups={"nodes": ["one", "two"], "registries": ["registry"]})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def rack(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """The fleet, provisioned."""
    place = {"farm_controller_state": f"{STATE}-rack", "farm_registry": f"{fleet['registry'].address}:5000",
             "buildkitd_cache": COMPILED}
    made = Farm(tmp_path_factory.mktemp("rack"), {}, fleet.inventory, place)
    run("rm", "-rf", place["farm_controller_state"])
    first = made.run("playbooks/provision.yml")
    assert first.rc == 0, first.text[-4000:]
    yield made
    run("rm", "-rf", place["farm_controller_state"])


def latest(rack: Farm, name: str) -> str:
    """A file of the last run; '' while it has none."""
    file = Path(rack.place["farm_controller_state"]) / "runs/latest" / name
    return file.read_text() if file.exists() else ""


def summary(of: Result, rack: Farm) -> dict[str, Any]:
    assert of.rc == 0, of.text[-4000:]
    return dict(json.loads(latest(rack, "summary.json")))


def built(found: dict[str, Any]) -> set[str]:
    return {unit for unit, state in found["units"].items() if state["state"] == "built"}


def test_two_nodes_build_what_one_machine_builds(rack: Farm, farm: Farm, small: Small) -> None:
    fleet_run = rack.on(small.root, farm_namespace="same").run()
    found = summary(fleet_run, rack)
    assert fleet_run.built == units("box", "child", "grand", "other")
    assert set(found["nodes"]) == {"one", "two"}
    here = farm.on(small.root, farm_namespace="same").run()
    assert here.rc == 0, here.text[-4000:]
    digests = {unit["unit"]: unit["digest"] for unit in here.task("Index")["units"]}
    assert {unit: state["digest"] for unit, state in found["units"].items()} == digests
    again = rack.on(small.root, farm_namespace="same").run()
    assert (again.rc, again.changed) == (0, 0), again.text[-4000:]


@contextmanager
def while_one_builds(own: Farm, fleet: Fleet) -> Iterator[tuple[Future[Result], Host]]:
    """A run, from the moment in which a step runs on a node, and that node."""
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(own.run)
        until("a node builds", 300, lambda: going.done() or bool(fleet.running("busybox sleep")))
        assert not going.done(), going.result().text[-4000:]
        yield going, fleet.running("busybox sleep")[0]


def test_a_node_whose_power_is_cut_costs_only_time(rack: Farm, fleet: Fleet, small: Small) -> None:
    small.write("box/Dockerfile", SLOW)
    with while_one_builds(rack.on(small.root, farm_namespace="power"), fleet) as (going, victim):
        victim.kill()
        try:
            found = summary(going.result(), rack)
        finally:
            victim.start()
    assert built(found) == units("box", "child", "grand", "other")
    assert f"{victim.name}: " in latest(rack, "progress.log")


def test_a_node_that_is_cut_off_and_comes_back_costs_only_time(rack: Farm, fleet: Fleet, small: Small) -> None:
    """The controller no longer reaches it, while it goes on building and reaches the registry."""
    small.write("box/Dockerfile", SLOW.replace("/slow", "/cut"))
    with while_one_builds(rack.on(small.root, farm_namespace="cut"), fleet) as (going, victim):
        victim.cut(fleet.controller)
        try:
            until("the loss is noticed", 120,
                  lambda: going.done() or f"{victim.name}: no answer" in latest(rack, "progress.log"))
        finally:
            victim.heal()
        found = summary(going.result(), rack)
    assert built(found) == units("box", "child", "grand", "other")


@pytest.mark.full
def test_what_nodes_finished_after_the_controller_was_killed_is_not_built_again(rack: Farm, fleet: Fleet,
                                                                                small: Small) -> None:
    small.write("box/Dockerfile", SLOW.replace("/slow", "/killed"))
    own = rack.on(small.root, farm_namespace="killed")
    mark = f"DESIMAGES_TEST_RUN={os.getpid()}"
    with subprocess.Popen(own.words("build.yml"), cwd=PROJECT, env=dict([*os.environ.items(), mark.split("=")]),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        until("a node builds", 300, lambda: bool(fleet.running("busybox sleep")))
        for pid in Proc().marked(mark):  # all at once, as if the controller's power was cut: none can cancel anything
            run("kill", "-KILL", str(pid))
    until("the nodes are done", 120, lambda: not fleet.running("buildctl"))
    again = own.run()
    assert again.rc == 0, again.text[-4000:]
    assert "before the last run ended" in again.text
    assert not [batch for batch in json.loads(latest(rack, "timings.json")) if batch["image"] == "box"]


@pytest.mark.full
def test_a_second_controller_waits_for_the_nodes_and_cancels_nothing(rack: Farm, fleet: Fleet, small: Small,
                                                                     tmp_path: Path) -> None:
    small.write("box/Dockerfile", SLOW.replace("/slow", "/two"))
    place = rack.place["farm_controller_state"]
    second = rack.on(small.root, farm_namespace="second", farm_secrets=f"{place}/secrets",
                     farm_controller_state=str(tmp_path / "second"))
    with while_one_builds(rack.on(small.root, farm_namespace="first"), fleet) as (going, _host):
        other = second.run()
        found = summary(going.result(), rack)
    assert built(found) == units("box", "child", "grand", "other")
    assert other.rc == 0, other.text[-4000:]
    assert other.built == units("box", "child", "grand", "other")
    assert "works for another controller" in other.text
