# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""A program whose output is read while it runs, and that can be ended early. This file does I/O."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, cast

INTERVAL = 0.3  # seconds between two looks at it
GRACE = 5  # seconds that it has to end once it is asked to, and then again once it is made to
DRAIN = 2  # seconds that its last words have to arrive once it has ended: what it started may hold the pipe for ever
LONGEST = 16 << 20  # bytes of a line


class Child:
    """A program in a session of its own: what it started there ends with it. What it says on stderr is read."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule is here, and it is read while it runs
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=True, env=environment,
        )
        self._pipe = cast(IO[bytes], self._process.stderr)
        self._asked = 0.0  # when it was asked to end

    def lines(self, stop: Callable[[], bool]) -> Iterator[str]:
        """What it says, line by line, until it has ended; a line of more than LONGEST bytes comes in pieces.

        `stop` is called every INTERVAL. Once it says yes the program is asked to end, and made to after GRACE.
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
        """Ends it where it has not ended, with what it started; its exit code."""
        self._pipe.close()
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            until = time.monotonic() + GRACE
            while not self._ended() and time.monotonic() < until:
                time.sleep(0.02)  # Popen.wait() would free its number, which may be another's then
            self._signal(signal.SIGKILL)
        return self._process.wait(GRACE)

    def _ended(self) -> bool:
        """Whether it has ended; it is not waited for, so its number stays that of its group."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: int) -> None:
        """Asks the program alone to end; makes it, and what it started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                (os.kill if number == signal.SIGTERM else os.killpg)(self._process.pid, number)


def _whole(rest: bytearray, data: bytes) -> Iterator[str]:
    """The lines that are whole with `data`, or where that is the end all that there is; `rest` keeps what is left."""
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
