# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""A runsv of runit: whether one watches over a folder, how its service is, and what it is told. This file does I/O.

sv(8) is not used: it goes on if the module that started it is killed, until it kills what it waits for. It also takes a
process that was started in the same second for the one that is to come. http://smarden.org/runit/runsv.8
"""

from __future__ import annotations

import errno
import os

from .files import text_of
from .readiness import until

KILLED = 5  # seconds that a process may take to end after SIGKILL
_NOBODY = (errno.ENXIO, errno.ENOENT)  # reads a FIFO
_MOST = 100  # bytes of a file in supervise/


class Runsv:
    """The runsv of a service's folder, if there is one."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @property
    def there(self) -> bool:
        try:  # a FIFO that only a living runsv reads
            os.close(os.open(f"{self.folder}/supervise/ok", os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno in _NOBODY:
                return False
            raise
        return True

    @property
    def pid(self) -> int:
        """The service's process; 0 if there is none, or no runsv."""
        pid = text_of(f"{self.folder}/supervise/pid", _MOST).strip()
        running = text_of(f"{self.folder}/supervise/stat", _MOST).startswith("run")
        return int(pid) if running and pid.isdigit() and self.there else 0

    @property
    def leaving(self) -> bool:
        """Whether it was asked to end. If it is asked to start its service then, it does so without its log, which is
        closed already, and the service ends at once, again and again."""
        return self._leaving("") or self._leaving("log/")

    def restart(self, seconds: float) -> None:
        """Lets a service that runs end, and start again. Its old process is gone afterwards."""
        before = self.pid
        for letters, patience in (("tcu", seconds), ("k", KILLED)):  # TERM, CONT, up; KILL
            self._tell(letters)
            if not until(lambda: "it still runs" if before == self.pid != 0 else "", patience):
                return

    def end(self, seconds: float) -> None:
        """Lets its service end, and then its log and itself. These wait for what the service left and still writes."""
        for letters, patience in (("x", seconds), ("k", KILLED)):
            self._tell(letters)
            if not until(lambda: "it still runs" if self.there and not self._leaving("log/") else "", patience):
                return

    def gone(self, seconds: float) -> str:
        """'' when there is none any more; else what is to be said of it when the time is over."""
        return until(lambda: "it still runs" if self.there else "", seconds)

    def _leaving(self, part: str) -> bool:
        return "want exit" in text_of(f"{self.folder}/{part}supervise/stat", _MOST)

    def _tell(self, letters: str) -> None:
        try:
            control = os.open(f"{self.folder}/supervise/control", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _NOBODY:
                return
            raise
        try:
            os.write(control, letters.encode())
        finally:
            os.close(control)
