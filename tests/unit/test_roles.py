"""What the roles' own scripts and tasks do on a host: real shells, real mounts, and plays in check mode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

PROJECT = Path(__file__).resolve().parents[2]
BUILDKITD = PROJECT / "roles/buildkitd"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


def play(folder: Path, tasks: list[dict[str, Any]], *words: str, files: list[str] | None = None) -> str:
    """What Ansible says of a play on this machine."""
    made = {"hosts": "localhost", "gather_facts": False, "tasks": tasks, "vars_files": files or []}
    (folder / "play.yml").write_text(json.dumps([made]))
    done = subprocess.run([str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local",
                           "-e", f"ansible_python_interpreter={sys.executable}", *words, str(folder / "play.yml")],
                          cwd=PROJECT, check=False, capture_output=True, text=True,
                          env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"})
    return done.stdout + done.stderr


# a step that outlived its buildkitd, another program whose root is elsewhere, and a mount that was left
LEFT = """
set -e
mount -t tmpfs none "$1"
cd "$1"
for root in "$2" other; do
    mkdir -p "$root/upper" "$root/work" "$root/merged"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/$root/upper,workdir=$1/$root/work" "$root/merged"
done
mkdir -p "$2/runc-overlayfs/executor/a b" "other/runc-overlayfs/executor/a"
mount -t tmpfs none "$2/runc-overlayfs/executor/a b"
mount -t tmpfs none "other/runc-overlayfs/executor/a"
chroot "$2/merged" sleep 600 & ours=$!
chroot other/merged sleep 600 & theirs=$!
# in a container with a farm at the same place
unshare --pid --fork --kill-child sh -c 'chroot "$0" sleep 500 & wait' "$2/merged" & container=$!
inner() { pgrep -P "$(pgrep -P $container)" -x sleep; }
until inner >/dev/null 2>&1; do :; done
until [ "$(cat /proc/$ours/comm /proc/$theirs/comm | sort -u)" = sleep ]; do :; done
sh "$3"
kill $ours 2>/dev/null && echo "ours runs"
wait $ours || echo "ours $?"
kill $theirs && echo "theirs runs"
inner >/dev/null && echo "the container's runs"
kill -9 $container
awk -v here="$1/" 'index($5, here) == 1 && $5 ~ /executor/ { print $5 }' /proc/self/mountinfo
"""


@needs_root
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["root", "USB disk", "a.b(c)[d]{e}+f?$g^h|i*", "m\u00fcll's"])
def test_what_outlives_a_buildkitd_is_ended_whatever_the_name_of_its_disk_is(tmp_path: Path, name: str) -> None:
    """farm_state may be a link to a folder on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    text = trust_as_template((BUILDKITD / "templates/after.sh.j2").read_text())
    variables = {"__buildkitd_root": f"{disk}/{name}"}
    (tmp_path / "after.sh").write_text(Templar(loader=DataLoader(), variables=variables).template(text))
    done = subprocess.run(["unshare", "--mount", "sh", "-c", LEFT, "sh", str(disk), name, str(tmp_path / "after.sh")],
                          capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["ours 137", "theirs runs", "the container's runs",
                                        f"{disk}/other/runc-overlayfs/executor/a"], done


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


def test_buildkit_and_an_old_docker_make_nothing_outside_the_state_folder(tmp_path: Path) -> None:
    """Else a trace socket in /run/buildkit, which the host's own BuildKit may have, and a key in /etc/docker."""
    toml = (BUILDKITD / "templates/buildkitd.toml.j2").read_text()
    assert "[otel]\n  socketPath = {{ __buildkitd_traces | to_json }}\n" in toml
    versions = {"Docker version 20.10.24+dfsg1, build 5d6db84": True, "Docker version 26.1.5, build a72d7cd": False,
                "": False}
    tasks = [{"ansible.builtin.assert": {"that": [
        "__buildkitd_traces == '/farm/otel.sock'",
        f"(__tester_settings['deprecated-key-path'] | default('') == '/farm/tester/key.json') is {str(old).lower()}"]},
        "vars": {"__tester_version": {"stdout": said}, "tester_state": "/farm", "buildkitd_state": "/farm"}}
        for said, old in versions.items()]
    said = play(tmp_path, tasks, files=[str(BUILDKITD / "vars/main.yml"), str(PROJECT / "roles/tester/vars/main.yml")])
    assert "ok=3" in said, said


def test_locks_that_were_made_again_move_to_where_others_are(tmp_path: Path) -> None:
    """The folder for them is always there by then: it was taken for a copy of all of them."""
    plays = yaml.safe_load((PROJECT / "playbooks/move.yml").read_text())
    (task,) = [task for part in plays for task in part["tasks"] if task["name"].startswith("Copy the locks")]
    for place, image in (("old", "app"), ("old", "both"), ("new", "both")):
        (tmp_path / place / "relocked" / image).mkdir(parents=True)
        (tmp_path / place / "relocked" / image / "lock.jsonl").write_text(place)
    task = {**task, "vars": {**task["vars"], "__farm_old": str(tmp_path / "old"),
                             "farm_controller_state": str(tmp_path / "new")}}
    moved = tmp_path / "new/relocked/app/lock.jsonl"
    assert "changed=1" in play(tmp_path, [task], "--check") and not moved.exists()
    assert "changed=1" in play(tmp_path, [task])
    assert moved.read_text() == "old" and (tmp_path / "new/relocked/both/lock.jsonl").read_text() == "new"
    assert "changed=0" in play(tmp_path, [task])
