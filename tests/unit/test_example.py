"""The example of an inventory is one that can be used as it is, but for names and addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.desimages.farm.plugins.plugin_utils import settings

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = PROJECT / "inventory/example"
PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  roles: [desimages.farm.farm]
"""


def ansible(program: str, *words: str, **environment: str) -> str:
    own = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **environment}
    done = subprocess.run([str(Path(sys.executable).parent / program), "-i", str(EXAMPLE), *words], cwd=PROJECT,
                          env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_it_is_the_rack_with_a_controller_that_is_no_node() -> None:
    found = json.loads(ansible("ansible-inventory", "--list"))
    assert found["nodes"]["hosts"] == ["pi-zero", "pi2", "pi4", "server"]
    assert found["registries"]["hosts"] == ["server"]
    assert found["testers"]["hosts"] == ["pi4", "server"]
    assert set(found["_meta"]["hostvars"]) == {"localhost", "pi-zero", "pi2", "pi4", "server"}


def test_a_host_says_only_what_a_person_must_say() -> None:
    found = json.loads(ansible("ansible-inventory", "--list"))["_meta"]["hostvars"]
    shared = json.loads(ansible("ansible-inventory", "--host", "pi2"))
    for name in ("pi-zero", "pi2", "pi4", "server"):
        own = {key for key, value in found[name].items() if shared.get(key) != value}
        assert own <= {"ansible_host", "ansible_user"}


def test_its_settings_are_good(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    said = ansible("ansible-playbook", str(tmp_path / "play.yml"), HOME=str(tmp_path))
    assert "failed=0" in said
    allowed = settings.emulation({"linux/s390x": "allowed"})
    assert [name for name, word in allowed.items() if word != "never"] == ["linux/s390x"]
