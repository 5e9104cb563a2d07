# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the farm for one run at a time."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import locked, may
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK, Holder, holder

HOLDER, GUARD = "holder.json", "holder.lock"
PATIENCE = 60  # seconds that another process of this user may take to check who holds the farm
SIZE = 512  # bytes of holder.json


def hold(state: str, *, wait: bool, tell: Callable[[str], None], pid: int, create: bool = True) -> None:
    """Takes the farm for the process `pid` (that of ansible-playbook, as its workers come and go). It is free again
    when that process ends.

    Without `create`, a missing state folder is not made; and if this user may not write to holder.json, it only waits
    until no process has the farm. Raises Busy, which names the holder, if another process has the farm and `wait` is
    false; FarmError if that process removed the farm.
    """
    root = Path(state)
    if create:
        root.mkdir(parents=True, exist_ok=True)
    marked = (root / MARK).exists()  # write nothing into a folder that may be someone else's
    files = (root / HOLDER, root / GUARD)
    take = create or (marked and all(may(file if file.exists() else root, os.W_OK) for file in files))
    told = False
    while True:
        try:
            found = _take(state, pid, take=take, create=create, tell=tell)
        except FileNotFoundError:
            if not told:
                raise
            if create:
                raise FarmError(f"the farm in {state} was removed while this run waited for it",
                                hint="run again: it is made again") from None
            return  # nothing is left to take
        if found is None:
            return
        words = f"the farm in {state} is held by {found}"
        if not wait:
            raise Busy(words, hint="wait for it to end, or set farm_busy=wait")
        if not told:
            tell(f"{words}; waiting for it to end")
            told = True
        time.sleep(1)  # the end of another program gives no event to wait for


def _take(state: str, pid: int, *, take: bool, create: bool, tell: Callable[[str], None]) -> Holder | None:
    """Takes the farm, if `take` says so, unless another process has it, which is returned."""
    with _guard(state) if take else nullcontext():
        found = holder(state)
        if found and found.pid != pid and found.alive:
            return found
        if take:
            since, user = datetime.now().isoformat(" ", "seconds"), os.environ.get("USER", "")
            try:
                _write(state, {"pid": pid, "started": started(pid), "since": since, "user": user})
            except OSError as error:
                # a full disk must not prevent stop and clean; no other run can take the farm either
                if create or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                tell(f"no space left for {state}/{HOLDER}: this run does not hold the farm")
    return None


def release(state: str, pid: int) -> None:
    """Gives the farm back, if `pid` has it."""
    if not (Path(state) / HOLDER).exists():
        return
    with _guard(state):
        found = holder(state)
        if found and found.pid == pid:
            _write(state, {})


@contextmanager
def _guard(state: str) -> Iterator[None]:
    """A lock: only one process at a time checks who holds the farm, and takes it.

    It is not on holder.json, which everyone may read, and therefore lock.
    """
    try:
        with locked(f"{state}/{GUARD}", PATIENCE):
            yield
    except TimeoutError as error:
        words = f"another process of this user has been trying to take the farm in {state} for {PATIENCE} seconds"
        raise Busy(words, hint="check with `ps` whether it is stopped, and end it") from error


def _write(state: str, value: dict[str, Any]) -> None:
    """Writes in place, as the folder is root's; padded and at once, so that a reader sees the old or the new text."""
    text = json.dumps(value) if value else ""
    file = os.open(f"{state}/{HOLDER}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(file, 0o644)  # everyone may see who holds it
        os.pwrite(file, text.ljust(SIZE if text else 0).encode(), 0)
        os.ftruncate(file, max(SIZE, len(text)) if text else 0)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{state}/{HOLDER}") from error
    finally:
        os.close(file)
