"""A farm's state folder: what lies in it, and whose that is. This file does I/O."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import Busy, FarmError
from .proc import Proc, started
from .supervisors import write

MARK = ".desimages"  # the file that makes a folder a farm's state folder
# What the playbooks' own process makes there: plan, fetch, index, context and lock run in it, as the user who started it.
CONTROLLER = ("cache", "holder.json", "known", "lock", "relocked", "runs", "store")
# What modules and the runner make there, as root.
HOST = ("bin", "buildkit", "buildkitd.sock", "engine.json", "etc", "jobs", "jobs.lock", "log", "provisioned.json", "registry", "services")
OWN = frozenset((*CONTROLLER, *HOST, MARK, "lost+found"))
_FILES = ("holder.json",)


def refuse_foreign(path: str) -> None:
    """Refuses a folder that holds anything but a farm: `clean` removes it whole."""
    if not os.path.isdir(path) or os.path.exists(f"{path}/{MARK}"):
        return
    foreign = sorted(set(os.listdir(path)) - OWN)
    if foreign:
        raise FarmError(
            f"{path} is not empty and not a farm's state folder: it holds {', '.join(foreign[:5])}",
            hint=f"choose another farm_state, or make the file {path}/{MARK} if all that is in it may be removed with the farm",
        )


def open_umask() -> None:
    """What a module makes has the mode that it asks for, whatever the umask of the caller: services run as users of their own."""
    os.umask(0o022)


def claim(path: str) -> None:
    """Makes the farm's state folder and marks it as one."""
    refuse_foreign(path)
    os.makedirs(path, mode=0o755, exist_ok=True)
    if not os.path.exists(f"{path}/{MARK}"):
        write(f"{path}/{MARK}", "The state folder of a desimages farm: removed with all that is in it by clean.yml.\n", 0o644)


def not_of(path: str, user: int) -> dict[str, int]:
    """The controller's parts that a user cannot write to, and whose they are: -1 where they are not there."""
    found = {}
    for name in CONTROLLER:
        try:
            owner = os.lstat(f"{path}/{name}").st_uid
        except OSError:
            owner = -1
        if owner != user:
            found[name] = owner
    return found


def hand_over(path: str, user: int, group: int) -> None:
    """Makes the controller's parts a user's, with all that is in them. Raises Busy where another user's run is at work in them."""
    parts = not_of(path, user)
    if any(owner != -1 for owner in parts.values()) and (holder := at_work(path)):
        raise Busy(f"the farm in {path} is held by {holder}, of another user", hint="wait for it to end")
    for name, owner in parts.items():
        whole = f"{path}/{name}"
        if owner == -1 and name in _FILES:
            os.close(os.open(whole, os.O_CREAT | os.O_WRONLY, 0o644))
        elif owner == -1:
            os.mkdir(whole, 0o755)
        for inner in _all(whole):
            os.lchown(inner, user, group)


def _all(path: str) -> Iterator[str]:
    """A path and all below it; links are not followed. The path itself comes last: what stops half-way is repeated."""
    for folder, folders, files in os.walk(path):
        yield from (os.path.join(folder, name) for name in (*folders, *files))
    yield path


def at_work(path: str) -> str:
    """Which process works in the controller's parts, in words; '' where none does but the run that started this one.

    plugin_utils/run.py and action/lock.py write what is read here.
    """
    try:
        holder = json.loads(Path(path, "holder.json").read_text(encoding="utf-8"))
        if started(holder["pid"]) == holder["started"] and holder["pid"] not in Proc().ancestors(os.getpid()):
            return f"process {holder['pid']}"
    except (OSError, ValueError, KeyError):
        pass
    try:
        with open(f"{path}/lock/in-use", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "a lock step"
    except OSError:
        pass
    return ""
