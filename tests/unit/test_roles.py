"""What the roles' own scripts and tasks do on a host: real shells, real mounts, and plays in check mode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BUILDKITD = PROJECT / "roles/buildkitd"


def play(folder: Path, tasks: list[dict[str, Any]], *words: str, files: list[str] | None = None) -> str:
    """What Ansible says of a play on this machine."""
    made = {"hosts": "localhost", "gather_facts": False, "tasks": tasks, "vars_files": files or []}
    (folder / "play.yml").write_text(json.dumps([made]))
    done = subprocess.run([str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local",
                           "-e", f"ansible_python_interpreter={sys.executable}", *words, str(folder / "play.yml")],
                          cwd=PROJECT, check=False, capture_output=True, text=True,
                          env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"})
    return done.stdout + done.stderr


@pytest.mark.parametrize(("words", "missing", "renewed"), [
    (("--check",), ["buildkitd"], True), (("--check",), ["buildctl"], False), (("--check",), None, False),
    ((), ["buildkitd"], False),
])
def test_check_mode_says_that_a_new_buildkit_would_be_started_and_proven(
        tmp_path: Path, words: tuple[str, ...], missing: list[str] | None, renewed: bool) -> None:
    """Its program is not there yet, so the modules find the old one."""
    checked = {"ansible.builtin.assert": {"that": f"__buildkitd_renewed is {str(renewed).lower()}"}, "vars": {
        "__buildkitd_there": {"missing": missing}} if missing is not None else {}}
    said = play(tmp_path, [checked], *words, files=[str(BUILDKITD / "vars/main.yml")])
    assert "ok=1" in said, said
    for name in ("run", "prove"):
        assert (BUILDKITD / f"tasks/{name}.yml").read_text().count("or __buildkitd_renewed") == 1


def test_a_registry_is_started_again_though_its_damaged_data_could_not_be_removed(tmp_path: Path) -> None:
    given = {"farm_state": str(tmp_path / "farm"), "farm_registry": "127.0.0.1:1", "__farm_digests": [],
             "__farm_tags": []}
    tasks = [{"ansible.builtin.include_tasks": str(PROJECT / "playbooks/tasks/damaged.yml"), "vars": given}]
    said = play(tmp_path, tasks, "--check")
    assert f"{tmp_path}/farm/registry is not a folder" in said, said
    assert "TASK [desimages.farm.registry : Run | Run the registry]" in said.partition("is not a folder")[2], said
    assert "failed=1" in said or "failed=2" in said


def test_what_lies_where_a_play_begins_is_not_taken_for_a_library(tmp_path: Path) -> None:
    (tmp_path / "docker.py").write_text(f"open({str(tmp_path / 'planted')!r}, 'w').close()\n")
    tasks = [{"ansible.builtin.include_role": {"name": "desimages.farm.tester", "tasks_from": "install"},
              "vars": {"tester_socket": "/run/docker.sock", "tester_state": str(tmp_path / "farm")}}]
    said = play(tmp_path, tasks, "--check")
    assert "TASK [desimages.farm.tester : Install | Look whether Python has the Docker SDK]" in said, said
    assert not (tmp_path / "planted").exists()
