"""However a playbook is started: in a locale that nobody generated, for some hosts, with any Python that is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import PROJECT, REGISTRY, STATE, Farm
from .small import units

INVENTORY = """\
nodes:
  hosts: {localhost: {}}
registries:
  hosts: {localhost: {}}
all:
  hosts:
    localhost:
      ansible_connection: local
      ansible_python_interpreter: auto_silent
      ansible_become: "{{ lookup('ansible.builtin.pipe', 'id -u') != '0' }}"
    other:
      ansible_host: 198.51.100.1 # nobody (RFC 5737)
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """This machine, whose Python Ansible has to find, and a host that is no part of the farm."""
    path = tmp_path / "inventory.yml"
    path.write_text(INVENTORY)
    return path


def test_an_image_is_built_with_the_python_that_ansible_finds(own: Farm, inventory: Path) -> None:
    found = replace(own, inventory=inventory)
    first = found.run()
    assert first.rc == 0, first.text[-3000:]
    assert first.built == units("box", "child", "grand", "other")
    second = found.run()
    assert (second.rc, second.changed, second.states()) == (0, 0, {})


def test_under_a_limit_without_a_node_a_run_builds_nothing_and_says_so_unless_all_is_there(
        own: Farm, inventory: Path, tmp_path: Path) -> None:
    """The controller's steps run all the same; nobody connects to the host that takes them."""
    found = replace(own, inventory=inventory)
    for limit in ("other", "'all:!localhost'"):
        nothing = found.run("build.yml", f"--limit {limit}", farm_images=["other"])
        assert nothing.rc == 2, nothing.text[-3000:]
        assert "no host of this run is a node, so nothing could be built: change --limit" in nothing.text
        assert nothing.states() == dict.fromkeys(units("other"), "left")
    assert own.run(farm_images=["other"]).rc == 0
    (tmp_path / "names").write_text("other\n")
    there = found.run("build.yml", f"--limit @{tmp_path}/names", farm_images=["other"])
    assert (there.rc, there.changed) == (0, 0), there.text[-3000:]
    nobody = found.run("build.yml", "--limit nobody")
    assert nobody.rc == 1 and "no hosts to target" in nobody.text, "Ansible says so itself"


@pytest.mark.parametrize("playbook", ["provision", "stop", "clean"])
def test_a_playbook_for_the_hosts_of_the_farm_says_so_if_there_is_none(
        own: Farm, inventory: Path, tmp_path: Path, playbook: str) -> None:
    empty = tmp_path / "empty.yml"
    empty.write_text("all: {hosts: {other: {ansible_host: 198.51.100.1}}}\n")
    for farm, limit in ((replace(own, inventory=inventory), ["--limit other"]), (replace(own, inventory=empty), [])):
        done = farm.run(f"playbooks/{playbook}.yml", *limit)
        assert done.rc == 2 and "no host of this run is a node or has the registry" in done.text, done.text[-3000:]


def test_a_tester_is_not_provisioned_beforehand_which_is_said(own: Farm, inventory: Path) -> None:
    inventory.write_text("testers: {hosts: {other: {}}}\n" + INVENTORY)
    done = replace(own, inventory=inventory).run("playbooks/provision.yml", "--limit other")
    assert done.rc == 2 and "no host of this run is a node or has the registry" in done.text, done.text[-3000:]


def test_every_playbook_of_the_controller_works_under_any_limit(own: Farm, inventory: Path, tmp_path: Path) -> None:
    found = replace(own, inventory=inventory)
    plan = tmp_path / "plan.json"
    check = found.run("build.yml", "--check", "--limit other", farm_plan_json=str(plan))
    assert check.rc == 0, check.text[-3000:]
    assert {unit["unit"] for unit in json.loads(plan.read_text())["units"]} == check.planned
    assert check.planned == units("box", "child", "grand", "other")
    assert own.run(farm_images=["other"]).rc == 0
    for playbook, more in (("context", {"image": "other", "to": str(tmp_path / "to")}), ("check", {}),
                           ("lock", {"farm_images": ["other"]}), ("remove", {"image": "other"})):
        done = found.run(f"playbooks/{playbook}.yml", "--limit other", **more)
        assert done.rc == 0, done.text[-3000:]
        assert set(done.stats["processed"]) == {"other"}, "one host takes the steps"
    assert own.tags("other") == []


def test_a_run_whose_every_node_is_lost_ends_well_if_all_is_there(own: Farm, inventory: Path) -> None:
    """The only node does not answer. The registry is one that exists, for this inventory."""
    _groups, sign, hosts = INVENTORY.partition("all:\n")
    inventory.write_text("nodes:\n  hosts: {other: {}}\n" + sign
                         + hosts.replace("198.51.100.1 # nobody (RFC 5737)", "127.0.0.1\n      ansible_port: 1"))
    found = replace(own, inventory=inventory)
    nothing = found.run(farm_images=["other"])
    assert nothing.rc == 2 and "no node could build: other: " in nothing.text, nothing.text[-3000:]
    assert nothing.states() == dict.fromkeys(units("other"), "left")
    assert own.run(farm_images=["other"]).rc == 0
    there = found.run(farm_images=["other"])
    assert (there.rc, there.changed) == (0, 0), there.text[-3000:]
    assert re.search(r"^other +0 +0:00 +0 +0 +0 +lost: ", there.text, re.M), there.text[-3000:]


def test_for_mistakes_of_the_catalog_no_host_is_blamed(own: Farm, tmp_path: Path) -> None:
    """The host is new, so its roles would be run first."""
    (tmp_path / "images/x").mkdir(parents=True)
    (tmp_path / "images/x/image.yml").write_text("description: x\n")
    done = own.run("build.yml", "--check", farm_state=str(tmp_path / "farm"), farm_catalog=[str(tmp_path / "images")])
    assert done.rc == 2 and "images/x/image.yml:1: the file has no 'license'" in done.text, done.text[-3000:]
    assert "nothing was provisioned or built, because of the mistakes that are said above" in done.text
    assert "cannot do without" not in done.text and not done.task("Plan")


def test_only_a_build_needs_a_worker_for_each_node(own: Farm, inventory: Path) -> None:
    """A large fleet is provisioned some hosts at a time."""
    groups, sign, hosts = INVENTORY.partition("all:\n")
    inventory.write_text(groups.replace("{localhost: {}}", "{localhost: {}, other: {}}", 1) + sign
                         + hosts.replace("ansible_host: 198.51.100.1 # nobody (RFC 5737)", "ansible_connection: local"))
    found = replace(own, inventory=inventory)
    build = found.run("build.yml", "--check", "--forks 1")
    assert build.rc == 2 and "forks is 1, but the group nodes has 2 hosts" in build.text, build.text[-3000:]
    provision = found.run("playbooks/provision.yml", "--limit localhost", "--forks 1")
    assert (provision.rc, provision.changed) == (0, 0), provision.text[-3000:]


@pytest.mark.parametrize("variable", ["LC_ALL", pytest.param("LANG", marks=pytest.mark.full)])
def test_make_works_in_a_locale_that_nobody_generated(own: Farm, variable: str, tmp_path: Path) -> None:
    extra = tmp_path / "extra.json"
    extra.write_text(json.dumps({"farm_state": str(STATE), "farm_registry": REGISTRY, **own.defaults}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "ANSIBLE_"))}
    done = subprocess.run(["make", "check", f"ARGS=-e @{extra}"], cwd=PROJECT, env={**kept, variable: "xx_YY.UTF-8"},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "box" in done.stdout and "new" in done.stdout
