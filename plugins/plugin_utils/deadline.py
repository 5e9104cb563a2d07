# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deadline for what may wait for ever: Ansible's connections have one only until a command has started."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc


class Late(BaseException):
    """The deadline has passed. No ordinary exception: those are caught, and tried again, on the way."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises Late in the block after so many seconds; 0 means never. Only for the main thread, and not nested."""
    def late(number: int, frame: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def end_children() -> None:
    """Ends the programs that this process has started, such as an ssh that waits."""
    proc, me = Proc(), os.getpid()
    for pid in proc.pids():
        if proc.parent(pid) == me:
            with contextlib.suppress(OSError):  # ended meanwhile, or another user's
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
