"""Whether there is anybody to print to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.output import can_print


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
    with (ours, theirs, open(writer, "wb") as pipe, (tmp_path / "log").open("wb") as log,
          open("/dev/null", "wb") as null):
        for output in (pipe, theirs, log, null, terminal):
            with printing(output) as pid:
                assert can_print(1, pid), output
    os.write(leader, b"")
    for each in (reader, leader, terminal):
        os.close(each)
    assert can_print(1, 1 << 30), "nothing is known of it"


def test_nothing_is_printed_to_a_pipe_without_a_reader() -> None:
    """As of `ansible-playbook build.yml | head`: ansible-playbook would never end."""
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe, printing(pipe) as pid:
        assert can_print(1, pid)
        os.close(reader)
        assert not can_print(1, pid)


def test_nothing_is_printed_to_a_device_that_takes_nothing() -> None:
    with open("/dev/full", "wb") as full, printing(full) as pid:
        assert not can_print(1, pid)
    leader, terminal = os.openpty()
    with printing(terminal) as pid:
        os.close(leader)
        assert not can_print(1, pid)
    os.close(terminal)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_nothing_is_printed_to_a_log_on_a_full_disk(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        with (tmp_path / "log").open("wb") as log, printing(log) as pid:
            assert can_print(1, pid)
            (tmp_path / "rest").write_bytes(b"x" * (os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize))
            assert not can_print(1, pid)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_worker_asks_for_its_ansible_playbook() -> None:
    """A worker's own output is /dev/null."""
    reader, writer = os.pipe()
    code = f"""
import multiprocessing, os
from {can_print.__module__} import can_print
def asked(answers):
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    answers.put(can_print(1))
context = multiprocessing.get_context("fork")
answers = context.SimpleQueue()
def ask():
    worker = context.Process(target=asked, args=(answers,))
    worker.start()
    worker.join()
    return [can_print(1), answers.get()]
before = ask()
os.close(int(input()))
assert [before, ask()] == [[True, True], [False, False]], before
"""
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with (open(writer, "wb") as pipe,
          subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=pipe, stderr=subprocess.PIPE,
                           text=True, pass_fds=[reader], env=environment) as process):
        os.close(reader)  # so that the program closes the last one
        errors = process.communicate(f"{reader}\n")[1]
    assert process.returncode == 0, errors
