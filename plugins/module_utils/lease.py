# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""A node takes work from one controller at a time: which one is in a file beside the folder of its jobs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from . import files

SILENCE = 15 * 60  # seconds without a call after which a controller counts as dead
BOOT = Path("/proc/sys/kernel/random/boot_id")


def take(jobs: str, who: dict[str, str], *, anew: bool = True) -> str | None:
    """Takes the node for a controller, `{"id": ..., "name": ...}`, or renews that. Returns None, or the name of another
    controller that has it and asked recently; '' if no controller has it and `anew` does not allow taking it."""
    if other := held(jobs, who["id"]):
        return other
    found = _read(jobs)
    if not anew and (found is None or found["id"] != who["id"]):
        return ""
    os.makedirs(os.path.dirname(jobs), exist_ok=True)
    try:
        files.write(_path(jobs), json.dumps({**who, **_now()}), sync=False)
    except OSError as error:
        if not (files.is_full(error) and found and found["id"] == who["id"]):
            raise  # else the controller has it already, and must learn what the full disk did
    return None


def held(jobs: str, controller: str) -> str:
    """The name of a controller with another id that has the node and was heard of lately; '' if there is none."""
    found, now = _read(jobs), _now()
    alive = found and found["boot"] == now["boot"] and now["time"] - found["time"] < SILENCE
    return str(found["name"]) if found and alive and found["id"] != controller else ""


def had(jobs: str, controller: str) -> bool:
    """Whether the controller with this id was the last that had the node, and did not give it back."""
    found = _read(jobs)
    return found is not None and found["id"] == controller


def _now() -> dict[str, Any]:
    return {"boot": _boot(), "time": time.clock_gettime(time.CLOCK_BOOTTIME)}  # a clock that nobody sets


def give_back(jobs: str, who: dict[str, str]) -> None:
    """The controller has nothing more to do here."""
    found = _read(jobs)
    if found and found["id"] == who["id"]:
        os.unlink(_path(jobs))


def _path(jobs: str) -> str:
    return f"{jobs}.lease"


def _boot() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def _read(jobs: str) -> dict[str, Any] | None:
    """What the file says; None if no controller has the node."""
    try:
        found = json.loads(Path(_path(jobs)).read_text())
        right = isinstance(found["time"], (int, float)) and all(isinstance(found[name], str)
                                                                for name in ("id", "name", "boot"))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if right else None
