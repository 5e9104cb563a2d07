"""Who holds the farm: one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK


def hold(state: str, *, wait: bool, tell: Callable[[str], None], pid: int, create: bool = True) -> None:
    """Takes the farm for the process `pid` (ansible-playbook's own: its workers come and go). Ends with that process.

    Without `create` a state folder that is not there is left so, and of a farm whose holder this user may not write it is only awaited that
    nobody has it. Raises Busy, naming the holder, where another one has it and `wait` is false.
    """
    path = Path(state) / "holder.json"
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    marked = (path.parent / MARK).exists()  # nothing is written into a folder that may be somebody else's
    take = create or (marked and os.access(path if path.exists() else path.parent, os.W_OK))
    told = False
    while take or path.exists():
        with open(path, "a+" if take else "r") as file:
            fcntl.flock(file, fcntl.LOCK_EX if take else fcntl.LOCK_SH)
            file.seek(0)
            holder = _holder(file.read())
            if not holder or holder["pid"] == pid or started(holder["pid"]) != holder["started"]:
                if take:
                    os.fchmod(file.fileno(), 0o644)  # whoever comes next is to see who has it
                    file.seek(0)
                    file.truncate()
                    since = datetime.now().isoformat(" ", "seconds")
                    json.dump({"pid": pid, "started": started(pid), "since": since, "user": os.environ.get("USER", "")}, file)
                return
        words = f"the farm in {state} is held by process {holder['pid']}{' of ' + holder['user'] if holder['user'] else ''} since {holder['since']}"
        if not wait:
            raise Busy(words, hint="wait for it to end, or say farm_busy=wait")
        if not told:
            tell(f"{words}; waiting for it to end")
            told = True
        time.sleep(1)  # another program's end gives no event to await


def _holder(text: str) -> dict[str, Any]:
    """What holder.json says; nothing where it is empty, or was cut off with the machine's power: then its process is gone as well."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"pid", "started", "user", "since"} <= found.keys() else {}


def release(state: str, pid: int) -> None:
    """Gives the farm back, where `pid` has it."""
    path = Path(state) / "holder.json"
    if path.exists():
        with open(path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if _holder(file.read()).get("pid") == pid:
                file.truncate(0)
