"""What every action of the farm does with its arguments."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, heard

CONNECTION = SimpleNamespace(_shell=SimpleNamespace(tmpdir="x"))


class Lays(FarmAction):
    """An action with a path that it needs, and one that it does not need."""

    DOCUMENTATION = "options: {to: {type: path, required: true}, secrets: {type: path, default: ''}}"

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return arguments


def run(**given: str) -> dict[str, Any]:
    task = SimpleNamespace(args=given, async_val=0, check_mode=False, diff=False, environment=None, delegate_to=None)
    return Lays(task, CONNECTION, SimpleNamespace(check_mode=False), None, None, None).run(task_vars={})


@pytest.mark.parametrize("path", ["", " "])
def test_a_path_that_is_needed_must_not_be_empty(path: str) -> None:
    with pytest.raises(AnsibleActionFail, match="^to is empty: give a path$"):
        run(to=path)


def test_a_path_that_is_not_needed_may_be_empty() -> None:
    assert run(to="/there")["secrets"] == ""


@contextmanager
def printing(output: Any) -> Iterator[int]:
    """The id of a process that would write there."""
    with subprocess.Popen(["sleep", "600"], stdout=output) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_what_has_a_reader_or_room_is_printed_to(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    ours, theirs = socket.socketpair()
    leader, terminal = os.openpty()
    with (open(writer, "wb") as pipe, ours, theirs, (tmp_path / "log").open("wb") as log,
          open("/dev/null", "wb") as null):
        for output in (pipe, theirs, log, null, terminal):
            with printing(output) as pid:
                assert heard(1, pid), output
    os.write(leader, b"")
    for each in (reader, leader, terminal):
        os.close(each)
    assert heard(1, 1 << 30), "nothing is known of it"


def test_nothing_is_printed_to_a_pipe_without_a_reader() -> None:
    """As of `ansible-playbook build.yml | head`: ansible-playbook would never end."""
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe, printing(pipe) as pid:
        assert heard(1, pid)
        os.close(reader)
        assert not heard(1, pid)


def test_nothing_is_printed_to_a_device_that_takes_nothing() -> None:
    with open("/dev/full", "wb") as full, printing(full) as pid:
        assert not heard(1, pid)
    leader, terminal = os.openpty()
    with printing(terminal) as pid:
        os.close(leader)
        assert not heard(1, pid)
    os.close(terminal)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_nothing_is_printed_to_a_log_on_a_full_disk(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        with (tmp_path / "log").open("wb") as log, printing(log) as pid:
            assert heard(1, pid)
            (tmp_path / "rest").write_bytes(b"x" * (os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize))
            assert not heard(1, pid)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
