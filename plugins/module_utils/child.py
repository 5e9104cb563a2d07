# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a program, reads its output while it runs, and ends it on request. This file does I/O."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, cast

INTERVAL = 0.3  # seconds between checks
GRACE = 5  # seconds that it may take to end after SIGTERM, and then after SIGKILL
DRAIN = 2  # seconds for its last output to arrive after it ended: what it started may keep the pipe open forever
LONGEST = 16 << 20  # bytes of a line


class Child:
    """A program in a session of its own, so that what it starts there ends with it. Its stderr is read."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule is here, and it is read while it runs
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=True, env=environment,
        )
        self._pipe = cast(IO[bytes], self._process.stderr)
        self._asked = 0.0  # when it got SIGTERM

    def lines(self, stop: Callable[[], bool]) -> Iterator[str]:
        """Its output line by line, until it has ended; a line of more than LONGEST bytes comes in pieces.

        `stop` is called every INTERVAL. Once it returns true, the program gets SIGTERM, and SIGKILL after GRACE.
        """
        pipe = self._pipe
        rest, speaks, looked, ended = bytearray(), True, time.monotonic(), 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                if not speaks:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(INTERVAL)
                        return
                elif selector.select(INTERVAL):
                    data = os.read(pipe.fileno(), 1 << 16)
                    speaks = bool(data)
                    yield from _whole(rest, data)
                now = time.monotonic()
                if now < looked + INTERVAL:
                    continue
                looked = now
                if stop():
                    self._asked = self._asked or now
                    self._signal(signal.SIGTERM if now < self._asked + GRACE else signal.SIGKILL)
                if speaks and self._ended():
                    ended = ended or now
                    if now > ended + DRAIN:
                        yield from _whole(rest, b"")
                        return

    def finish(self) -> int:
        """Ends it, with what it started, if it still runs; returns its exit code."""
        self._pipe.close()
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            until = time.monotonic() + GRACE
            while not self._ended() and time.monotonic() < until:
                time.sleep(0.02)  # Popen.wait() would free its pid for another process
            self._signal(signal.SIGKILL)
        return self._process.wait(GRACE)

    def _ended(self) -> bool:
        """Whether it has ended. It is not reaped, so its pid stays that of its group."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: int) -> None:
        """SIGTERM goes to the program alone, SIGKILL also to what it started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                (os.kill if number == signal.SIGTERM else os.killpg)(self._process.pid, number)


def _whole(rest: bytearray, data: bytes) -> Iterator[str]:
    """The lines that `data` completes; if `data` is empty (the end), all that is left. `rest` keeps what remains."""
    rest += data
    if data and b"\n" not in data and len(rest) <= LONGEST:
        return
    lines = rest.split(b"\n")
    rest.clear()
    last = lines.pop()
    if data and len(last) <= LONGEST:
        rest += last
    elif last:
        lines.append(last)
    for line in lines:
        yield line.decode(errors="replace")
