"""What goes wrong on real hosts in the middle of a run: each time it ends with the digests of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc

from .conftest import PROJECT, Farm
from .docker_host import run, until
from .fleet_hosts import PROCESSES, Host
from .rack import Rack, digests
from .small import Small

pytestmark = pytest.mark.faults
full = pytest.mark.full
BUILDKITD, REGISTRY = "desimages-buildkitd", "desimages-registry"
MUCH = random.Random(1).randbytes(4_000_000)  # which cannot be compressed


@contextmanager
def undone(host: Host, *does: str) -> Iterator[None]:
    """Does something to a host, and afterwards `heal`s it."""
    getattr(host, does[0])(*does[1:])
    try:
        yield
    finally:
        {"cut": host.heal, "disconnect": host.connect, "pause": host.unpause, "kill": host.start}[does[0]]()


def test_a_node_whose_power_is_cut_costs_only_time(rack: Rack, small: Small) -> None:
    with rack.while_one_builds(rack.slow(small, "power")) as (going, victim):
        with undone(victim, "kill"):
            rack.same(going.result())
        assert f"{victim.name}: " in rack.said


@full
def test_a_node_that_is_cut_off_and_comes_back_costs_only_time(rack: Rack, small: Small) -> None:
    """The controller no longer reaches it, while it goes on building and reaches the registry."""
    with rack.while_one_builds(rack.slow(small, "cut")) as (going, victim):
        with undone(victim, "cut", rack.fleet.controller):
            rack.until_said(f"{victim.name}: no answer", going)
        rack.same(going.result())


@full
@pytest.mark.parametrize("way", ["controller", "registry", "cable"])
def test_a_node_that_stays_cut_off_costs_only_time(rack: Rack, small: Small, way: str) -> None:
    cut = {"controller": ("cut", rack.fleet.controller), "registry": ("cut", rack["registry"].address),
           "cable": ("disconnect",)}
    with rack.while_one_builds(rack.slow(small, f"stays-{way}")) as (going, victim):
        broken = undone(victim, *cut[way])
        with broken:
            rack.same(going.result())


@full
@pytest.mark.parametrize("way", ["registry", "cable"])
def test_a_node_that_comes_back_works_on(rack: Rack, small: Small, way: str) -> None:
    """It is not given up for good."""
    cut = {"registry": ("cut", rack["registry"].address), "cable": ("disconnect",)}
    with rack.while_one_builds(rack.slow(small, f"back-{way}", seconds=40)) as (going, victim):
        with undone(victim, *cut[way]):
            rack.until_said({"registry": "tried again", "cable": f"{victim.name}: "}[way], going)
        found = rack.same(going.result())
    assert found["nodes"][victim.name].get("out", "") == ""


@full
def test_buildkitd_is_killed_in_a_step(rack: Rack, small: Small) -> None:
    with rack.while_one_builds(rack.slow(small, "killed-step")) as (going, victim):
        victim.run("systemctl", "kill", "--signal=KILL", BUILDKITD)
        rack.same(going.result())
    assert "buildkitd stopped during the build; tried again" in rack.said


@full
def test_buildkitd_is_killed_in_a_push(rack: Rack, small: Small) -> None:
    (small.root / "other/other.txt").write_bytes(MUCH)
    own = rack.farm.on(small.root, farm_namespace="killed-push", farm_images=["other"])
    with (
        rack["one"].bad_network(rate=300_000), rack["two"].bad_network(rate=300_000),
        rack.during(own, "a node pushes", rack.pushing) as (going, victim),
    ):
        victim.run("systemctl", "kill", "--signal=KILL", BUILDKITD)
        found = rack.summary(going.result())
    assert "tried again" in rack.said
    assert digests(found) == rack.undisturbed(own)


@full
@pytest.mark.parametrize(("name", "how"), [
    ("lost", {"loss": 0.5}), ("delay", {"delay": 0.1}), ("slow-wire", {"rate": 125_000})])
def test_a_bad_network_costs_only_time(rack: Rack, small: Small, name: str, how: dict[str, float]) -> None:
    with rack.while_one_builds(rack.slow(small, name)) as (going, victim):
        network = victim.bad_network(**how)
        with network:
            rack.same(going.result())


@full
@pytest.mark.parametrize(("name", "how"), [("all-delay", {"delay": 0.1}), ("all-slow", {"rate": 125_000})])
def test_a_network_that_is_bad_everywhere_costs_only_time(
        rack: Rack, small: Small, name: str, how: dict[str, float]) -> None:
    with rack["one"].bad_network(**how), rack["two"].bad_network(**how), rack["registry"].bad_network(**how):
        rack.same(rack.slow(small, name, seconds=1).run())


@contextmanager
def little_room(host: Host, service: str, folder: str, size: str) -> Iterator[None]:
    """The data of a service lie, empty, on a disk of their own."""
    owner = host.run("stat", "-c", "%u:%g", folder).strip()
    host.run("systemctl", "stop", service)
    host.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder)
    try:
        host.run("chown", owner, folder)
        host.run("systemctl", "start", service)
        yield
    finally:
        host.run("systemctl", "stop", service)
        host.run("umount", folder)
        host.run("systemctl", "start", service)


@full
def test_the_disk_of_a_node_is_full(rack: Rack, small: Small) -> None:
    own = rack.slow(small, "full-node", seconds=1)
    small.edit("box/Dockerfile", "sleep 1;", "sleep 1; /usr/bin/busybox head -c 90000000 /dev/zero > /much && "
               "/usr/bin/busybox rm /much &&")
    with little_room(rack["one"], BUILDKITD, "/var/lib/desimages/buildkit", "60m"):
        rack.same(own.run())


@full
def test_the_disk_of_the_registry_is_full(rack: Rack, small: Small) -> None:
    own = rack.slow(small, "full-registry", seconds=1)
    with little_room(rack["registry"], REGISTRY, "/var/lib/desimages/registry", "1m"):
        failed = own.run()
    assert failed.rc == 2
    assert "no space left on the registry's disk" in failed.text
    rack.same(own.run())


@full
def test_the_registry_is_killed(rack: Rack, small: Small) -> None:
    with rack.while_one_builds(rack.slow(small, "registry-killed")) as (going, _host):
        rack["registry"].run("systemctl", "kill", "--signal=KILL", REGISTRY)
        rack.same(going.result())


@full
def test_the_registry_is_away_for_a_minute(rack: Rack, small: Small) -> None:
    with rack.while_one_builds(rack.slow(small, "registry-away")) as (going, _host):
        with undone(rack["registry"], "kill"):
            rack.until_said("tried again", going)
        rack.same(going.result())


@full
def test_a_node_that_stands_still_finishes_a_unit_that_another_has_now(rack: Rack, small: Small) -> None:
    with rack.while_one_builds(rack.slow(small, "paused", seconds=30)) as (going, victim):
        with undone(victim, "pause"):
            rack.until_said(f"building on {rack.other(victim).name}", going)
        rack.same(going.result())
    assert rack.said.count(": built in") == len({line.split(": built in")[0] for line in rack.said.splitlines()
                                                 if ": built in" in line})


@contextmanager
def started(own: Farm, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose processes can be found, by its mark."""
    mark = {"DESIMAGES_TEST_RUN": str(os.getpid())}
    with subprocess.Popen(own.words("build.yml"), cwd=PROJECT, env={**os.environ, **mark}, **options) as process:
        yield process


def marked() -> list[int]:
    return sorted(Proc().marked(f"DESIMAGES_TEST_RUN={os.getpid()}"))


def until_idle(rack: Rack) -> None:
    until("the nodes are done", 120,
          lambda: not any("buildctl" in host.run(*PROCESSES) for host in rack.nodes))


@full
def test_what_nodes_finished_after_the_controller_was_killed_is_not_built_again(rack: Rack, small: Small) -> None:
    own = rack.slow(small, "controller-killed")
    with started(own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        until("a node builds", 300, lambda: bool(rack.building()))
        while pids := marked():  # all at once, as if the controller's power was cut: none can cancel anything
            run("sh", "-c", f"kill -KILL {' '.join(map(str, pids))} || true")  # some end with others
    until_idle(rack)
    again = own.run()
    rack.same(again)
    assert "before the last run ended" in again.text
    ended = [batch for batch in json.loads(rack.latest("timings.json")) if batch["state"] == "done"]
    assert not [batch for batch in ended if batch["image"] == "box"]  # a node that answered sooner may have begun it


@full
def test_a_fork_is_killed(rack: Rack, small: Small) -> None:
    """Ansible ends its run then; nothing goes on without it, and the next run completes it."""
    own = rack.slow(small, "fork-killed")
    with started(own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until("a node builds", 300, lambda: bool(rack.building()))
        forks = [pid for pid in marked() if Proc().parent(pid) == process.pid]
        run("kill", "-KILL", str(forks[0]))
        said = process.communicate(timeout=120)[0].decode()
    assert process.returncode not in (0, None), said[-3000:]
    until("the broker has ended", 60, lambda: not marked())
    until_idle(rack)
    rack.same(own.run())


@full
def test_ctrl_c(rack: Rack, small: Small) -> None:
    own = rack.slow(small, "ctrl-c", seconds=100)
    with started(own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as process:
        until("a node builds", 300, lambda: bool(rack.building()))
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=120)[0].decode()
    assert process.returncode not in (0, None)
    assert "not built, the next run continues" in said
    until("no step runs", 30, lambda: not rack.building())
    rack.same(rack.slow(small, "ctrl-c", seconds=1).run())


@full
def test_a_run_whose_nodes_are_all_lost_says_what_is_left(rack: Rack, small: Small) -> None:
    own = rack.slow(small, "all-lost")
    with (
        rack.while_one_builds(own) as (going, _host),
        undone(rack["one"], "disconnect"), undone(rack["two"], "disconnect"),
    ):
        lost = going.result()
    assert lost.rc == 2
    assert "no node has answered for 5 minutes" in lost.text
    rack.same(own.run())
