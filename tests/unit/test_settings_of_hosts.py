"""The settings as Ansible gives them: each host is told all its mistakes at once, by file and line, and nothing of it
is looked at before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
HOSTS = """
nodes:
  hosts:
    pi2: {ansible_host: 127.0.0.2, ansible_port: 1}
    pi4: {ansible_host: 127.0.0.2, ansible_port: 1}
registry:
  hosts:
    pi4:
"""


def told(folder: Path, variables: str) -> tuple[dict[str, list[str]], str]:
    """host -> what it is told; and everything that Ansible printed beside that."""
    (folder / "group_vars").mkdir()
    (folder / "hosts.yml").write_text(HOSTS, encoding="utf-8")
    (folder / "group_vars/all.yml").write_text(variables, encoding="utf-8")
    own = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run([program, "-i", str(folder), "playbooks/provision.yml", "--check"], cwd=PROJECT,
                          env={**os.environ, **own, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    found = {}
    for part in done.stdout.split("fatal: [")[1:]:
        host, _sign, rest = part.partition("]: FAILED! => ")
        found[host] = json.JSONDecoder().raw_decode(rest)[0]["msg"].splitlines()[1:]
    return found, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], str, Path]:
    folder = tmp_path_factory.mktemp("wrong")
    found, text = told(folder, """\
farm_registry: registry.example.org:5000
farm_slots: two
farm_registry_password: "{{ vault_password_of_mine }}"
farm_registry_ca: true
farm_state: "{{ nothing }}/x"
buildkitd_memory: 3GB
buildkit_weight: 5
farm_signing_key: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  61626364
tester_socket: docker.sock
""")
    return found, text, folder


def test_every_host_is_told_all_mistakes_and_none_is_connected_to(
    wrong: tuple[dict[str, list[str]], str, Path]
) -> None:
    found, text, _folder = wrong
    assert set(found) == {"pi2", "pi4"} and found["pi2"] == found["pi4"]
    assert sorted(line.split()[0] for line in found["pi2"]) == [
        "buildkit_weight", "buildkitd_memory", "farm_registry_ca", "farm_registry_password", "farm_signing_key",
        "farm_slots", "farm_state", "tester_socket"]
    assert "UNREACHABLE" not in text and "Traceback" not in text


@pytest.mark.parametrize(("name", "line", "said"), [
    ("farm_slots", 2, "it must be a number from 0 to 999"), ("buildkitd_memory", 6, "such as 900M or 3G"),
    ("farm_registry_password", 3, "cannot be worked out: 'vault_password_of_mine' is undefined"),
    ("farm_state", 5, "cannot be worked out: 'nothing' is undefined"), ("farm_registry_ca", 0, "is True, it must be"),
    ("farm_signing_key", 8, "no vault secrets found"), ("buildkit_weight", 7, "did you mean buildkitd_weight?"),
    ("tester_socket", 11, "'' or an absolute path"),
])
def test_a_mistake_has_its_file_and_line(
    wrong: tuple[dict[str, list[str]], str, Path], name: str, line: int, said: str
) -> None:
    found, _text, folder = wrong
    (text,) = [each for each in found["pi2"] if each.startswith(f"{name} ")]
    assert said in text
    if line:
        # of a number only some versions of Ansible know it
        assert f"({folder}/group_vars/all.yml:{line})" in text


def test_a_group_that_is_nearly_one_is_warned_of(wrong: tuple[dict[str, list[str]], str, Path]) -> None:
    assert "the group registry is not used" in " ".join(wrong[1].split())


def test_a_registry_on_loopback_is_for_one_machine(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_slots: 1\n")
    (text,) = found["pi2"]
    assert text.startswith("farm_registry is '127.0.0.1:5000', which each host takes for itself") and "pi2, pi4" in text


def test_hosts_of_this_machine_may_share_its_registry(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_slots: x\nansible_connection: local\n")
    (text,) = found["pi2"]
    assert text.startswith("farm_slots is 'x'")


def test_the_variables_of_testers_are_looked_at_too(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_registry: r.example.org:5000\ntester_state: /srv/x\ntester_socket: a.sock\n")
    socket, state = sorted(found["pi2"])
    assert socket.startswith("tester_socket is 'a.sock'") and "an absolute path" in socket
    assert state.startswith("tester_state is '/srv/x', and farm_state '/var/lib/desimages'")


def test_an_inventory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "rak"),
                           "playbooks/provision.yml"], cwd=PROJECT, capture_output=True, text=True, check=False,
                          env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "LC_ALL": "C.UTF-8"})
    assert done.returncode != 0 and "rak" in done.stderr


def test_a_password_that_cannot_be_read_is_told_also_for_a_registry_on_loopback(tmp_path: Path) -> None:
    found, _text = told(tmp_path, "farm_registry_password: '{{ vault_password_of_mine }}'\nansible_connection: local\n")
    (text,) = found["pi2"]
    assert text.startswith("farm_registry_password (") and "'vault_password_of_mine' is undefined" in text
