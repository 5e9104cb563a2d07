"""However a playbook is started: in a locale that nobody generated, for some hosts, with any Python that is there."""

from __future__ import annotations

import json
import os
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


@pytest.mark.parametrize("playbook", ["build.yml", *(f"playbooks/{name}.yml"
                                                     for name in ("build", "lock", "context", "check", "remove"))])
def test_a_limit_that_leaves_out_the_controller_is_refused_with_the_one_that_works(playbook: str, tmp_path: Path,
                                                                                   inventory: Path) -> None:
    settings = {"farm_state": str(tmp_path / "state"), "farm_registry": "127.0.0.1:1"}
    refused = Farm(tmp_path, settings, inventory).run(playbook, "--limit other", image="box", to=str(tmp_path / "to"))
    assert refused.rc != 0
    assert "--limit other leaves out localhost" in refused.text
    assert "use --limit other,localhost" in refused.text
    assert {event["event_data"]["task"] for event in refused.events if event["event"] == "runner_on_start"} == {
        "Limit | Refuse a limit that leaves out the controller"}
    assert not (tmp_path / "state").exists()


def test_a_limit_that_excludes_the_controller_is_refused(tmp_path: Path, inventory: Path) -> None:
    farm = Farm(tmp_path, {"farm_state": str(tmp_path / "state")}, inventory)
    refused = farm.run("build.yml", "--limit 'all:!localhost'")
    assert refused.rc != 0
    assert "remove !localhost from it" in refused.text


def test_a_limit_that_has_the_controller_is_none(own: Farm, inventory: Path, tmp_path: Path) -> None:
    found = replace(own, inventory=inventory)
    for limit in ("localhost,other", "nodes"):
        plan = tmp_path / "plan.json"
        check = found.run("build.yml", "--check", f"--limit {limit}", farm_plan_json=str(plan))
        assert check.rc == 0, check.text[-3000:]
        assert {unit["unit"] for unit in json.loads(plan.read_text())["units"]} == check.planned
        assert check.planned == units("box", "child", "grand", "other")
        plan.unlink()
    assert own.run(farm_images=["other"]).rc == 0
    for playbook, more in (("context", {"image": "other", "to": str(tmp_path / "to")}), ("check", {}),
                           ("remove", {"image": "other"})):
        done = found.run(f"playbooks/{playbook}.yml", "--limit other,localhost", **more)
        assert done.rc == 0, done.text[-3000:]
    assert own.tags("other") == []


@pytest.mark.parametrize("variable", ["LC_ALL", "LANG"])
def test_make_works_in_a_locale_that_nobody_generated(own: Farm, variable: str, tmp_path: Path) -> None:
    extra = tmp_path / "extra.json"
    extra.write_text(json.dumps({"farm_state": str(STATE), "farm_registry": REGISTRY, **own.defaults}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "ANSIBLE_"))}
    done = subprocess.run(["make", "check", f"ARGS=-e @{extra}"], cwd=PROJECT, env={**kept, variable: "xx_YY.UTF-8"},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "box" in done.stdout and "new" in done.stdout
