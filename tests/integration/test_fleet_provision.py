"""Real hosts over ssh become nodes: side by side, each for itself, from a controller that is none of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .conftest import COMPILED, Farm, Result
from .fleet_hosts import Fleet

PORT = 5931
STATE = "/var/lib/desimages"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, and a small one, with something that listens where the registry should be."""
    made = Fleet.start(tmp_path_factory.mktemp("fleet"), ["node1", "node2", "small"], cpus={"small": 0.5},
                       memory={"small": "512m"})
    try:
        with listening(made):
            yield made
    finally:
        made.stop()


@contextmanager
def listening(fleet: Fleet) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-m", "http.server", "--bind", fleet.controller, str(PORT)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.kill()


@pytest.fixture(scope="module")
def nodes(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Farm:
    """The controller, whose own files are in a folder of the test. Check mode sees fresh hosts, and changes none."""
    folder = tmp_path_factory.mktemp("controller")
    place = {"farm_controller_state": f"{folder}/farm", "farm_registry": f"controller:{PORT}",
             "buildkitd_cache": COMPILED}
    return Farm(folder, {}, fleet.inventory.parent, place)


@pytest.fixture(scope="module")
def provisioned(nodes: Farm) -> Result:
    checked = nodes.run("playbooks/provision.yml", "--check")
    assert checked.rc == 0, checked.text[-4000:]
    done = nodes.run("playbooks/provision.yml")
    assert done.rc == 0, done.text[-4000:]
    return done


def node(fleet: Fleet, name: str) -> dict[str, Any]:
    return dict(json.loads(fleet[name].run("cat", f"{STATE}/etc/node.json")))


def told(done: Result, host: str) -> str:
    """What a host's failure says."""
    (found,) = [event["event_data"]["res"] for event in done.events
                if event["event"] == "runner_on_failed" and event["event_data"]["host"] == host]
    return str(found["msg"])


def connections(done: Result, host: str) -> int:
    """How many tasks of a run went to a host."""
    here = {"assert", "debug", "set_fact", "group_by", "include_tasks", "include_role", "validate_argument_spec",
            "begin"}
    return len([event for event in done.events if event["event"] == "runner_on_ok"
                and event["event_data"]["host"] == host
                and event["event_data"]["task_action"].rpartition(".")[2] not in here
                and not event["event_data"]["res"].get("_ansible_delegated_vars")])


def test_a_second_run_changes_nothing_and_opens_few_connections(nodes: Farm, provisioned: Result) -> None:
    again = nodes.run("playbooks/provision.yml")
    assert again.rc == 0, again.text[-4000:]
    assert again.changed == 0, again.text[-4000:]
    assert connections(again, "node2") <= 12


def test_each_node_is_a_machine_of_its_own_that_runs_what_was_tried(fleet: Fleet, provisioned: Result) -> None:
    found = {host.name: node(fleet, host.name) for host in fleet}
    assert len({one["id"] for one in found.values()}) == 3
    assert len({one["engine"] for one in found.values()}) == 1
    for one in found.values():
        assert one["native"] == ["linux/amd64", "linux/386"]
    assert found["small"]["cores"] == 0.5 < found["node1"]["cores"]
    assert found["small"]["memory"] == 512 << 20 < found["node1"]["memory"]
    assert "max-parallelism = 1\n" in fleet["small"].run("cat", f"{STATE}/etc/buildkitd.toml")


def test_hosts_that_cannot_be_nodes_are_told_all_reasons_and_the_others_go_on(nodes: Farm, fleet: Fleet,
                                                                             provisioned: Result) -> None:
    """The first has a registry that it cannot reach, the second is off, the third has too little of everything."""
    node1, node2, small = fleet
    node1.netns("iptables", "-w", "-A", "OUTPUT", "-p", "tcp", "-d", fleet.controller, "--dport", str(PORT), "-j",
                "REJECT")
    node2.kill()
    try:
        done = nodes.run("playbooks/provision.yml")
        assert done.rc != 0
        assert f"the registry controller:{PORT} cannot be reached from here" in told(done, "node1")
        assert done.stats["dark"] == {"node2": 1}
        assert "small" not in done.stats["failures"]
    finally:
        node1.heal()
        node2.start()
    assert nodes.run("playbooks/provision.yml").rc == 0
