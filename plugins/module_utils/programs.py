# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""One way to run another program: with a deadline, without input unless given, and its process group ends with it. This
file does I/O."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from .errors import FarmError, redacted

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
PATIENCE = 600.0  # seconds for what should be quick, but may wait for a service, a lock or a disk


class Overdue(FarmError):
    """A program did not end in time. It was killed, with everything that it had started."""


@dataclass(frozen=True)
class Done:
    """How a program ended: its exit code (negative: the signal that ended it), and what it wrote."""

    code: int
    out: str
    err: str


def run(words: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None,
        folder: str | None = None, stdin: str = "", lasting: bool = False) -> Done:
    """Runs a program to its end, in `folder`. `environment` is its whole environment (this process's own unless given).
    A `lasting` program writes to memory instead of pipes: if this process is killed, it continues to its end, and no
    broken pipe ends it.

    Raises Overdue after `seconds`, FarmError if the program cannot be run.
    """
    kept = [os.memfd_create(name) for name in ("output", "errors")] if lasting else []
    try:
        with started(words, environment=environment, folder=folder, stdin=subprocess.PIPE, into=kept) as process:
            try:
                said = process.communicate(stdin.encode(), timeout=seconds)
            except subprocess.TimeoutExpired:
                end(process)
                raise Overdue(f"{words[0]} did not end within {seconds:.0f} s, and was killed",
                              command=_shown(words)) from None
        out, err = [os.pread(file, os.fstat(file).st_size, 0) for file in kept] or said
    finally:
        for file in kept:
            os.close(file)
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def call(words: Sequence[str], *, seconds: float = 0.0, environment: Mapping[str, str] | None = None,
         lasting: bool = False) -> tuple[int, str, str]:
    """Like AnsibleModule.run_command, with a deadline (`PATIENCE` unless given): exit code, output, errors.

    The code is 124, as with timeout(1), if it did not end in time; 127, as with a shell, if it cannot be run.
    """
    try:
        done = run(words, seconds=seconds or PATIENCE, environment=environment, lasting=lasting)
    except Overdue as error:
        return 124, "", error.message
    except FarmError as error:
        return 127, "", error.message
    return done.code, done.out, done.err


@contextlib.contextmanager
def started(words: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: str | None = None,
            stdin: int | IO[bytes] = subprocess.DEVNULL,
            into: Sequence[int] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs during the block. It is ended afterwards, however the block is left. It writes to pipes, or
    `into` two open files."""
    out, err = into or (subprocess.PIPE, subprocess.PIPE)
    given = dict(os.environ if environment is None else environment)
    if not os.path.isdir(given.get("TMPDIR", "/")):  # Python ignores it, other programs fail
        del given["TMPDIR"]
    try:
        # pylint: disable-next=ansible-bad-function  # the controller and the runner have no AnsibleModule
        process = subprocess.Popen(list(words), stdin=stdin, stdout=out, stderr=err, cwd=folder,
                                   env=given, start_new_session=True)
    except OSError as error:
        raise FarmError(f"{words[0]} cannot be run: {error.strerror}", command=_shown(words)) from error
    try:
        yield process
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def _shown(words: Sequence[str]) -> str:
    """A command for a message: without what is between `//` and `@` in an address, and not all of a long one."""
    return redacted("\n".join(words)).replace("\n", " ")[:300]


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program that was not waited for, and its process group: SIGTERM, and SIGKILL after GRACE.

    The program itself may have ended while what it started still has its pipes open. Its pid stays reserved until it is
    waited for.
    """
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):  # SIGKILL also for what the program left behind
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter if only root's processes are left
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
