"""A farm of several hosts: two nodes and a registry with TLS and a password, which are reached over ssh; the controller
is none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .conftest import COMPILED, STATE, Farm, Result
from .docker_host import until
from .fleet_hosts import Fleet
from .small import PLATFORMS, Small, units

PROCESSES = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
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
    first = made.run("playbooks/provision.yml")
    assert first.rc == 0, first.text[-4000:]
    yield made


def summary(of: Result, rack: Farm) -> dict[str, Any]:
    assert of.rc == 0, of.text[-4000:]
    return dict(json.loads((Path(rack.place["farm_controller_state"]) / "runs/latest/summary.json").read_text()))


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


def test_a_node_whose_power_is_cut_costs_only_time(rack: Farm, fleet: Fleet, small: Small) -> None:
    small.write("box/Dockerfile", SLOW)
    own = rack.on(small.root, farm_namespace="power")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(own.run)
        victim = fleet["one"]
        try:
            until("one builds", 180, lambda: run.done() or "busybox sleep" in victim.run(*PROCESSES))
            assert not run.done(), run.result().text[-4000:]
            victim.kill()
            found = summary(run.result(), rack)
        finally:
            victim.start()
    assert {unit for unit, state in found["units"].items() if state["state"] == "built"} == units(
        "box", "child", "grand", "other", platforms=PLATFORMS)
