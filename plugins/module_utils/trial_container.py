# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Looks at a container on this machine, through the kernel and through its engine, a Docker Engine or Podman. I/O."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from . import proc
from .errors import FarmError

LABEL = "org.desimages.trial"  # of containers, with the mark of their trial
PREFIX = "desimages-"  # of volumes: desimages-MARK-...
MARK = re.compile(r"([0-9]+)-([0-9]+)-[0-9a-f]{12}")
_OLD = r"([._-][0-9]+)*(\.(bz2|gz|json|old|txt|xz|zst))?"  # how the names of logs end
LOG = re.compile(rf"/[^/]*\.log{_OLD}\Z|/logs?/[^/]+\Z|/[^/]*(access|app|audit|debug|error|server|slow)[_-]log{_OLD}\Z",
                 re.I)
JOURNAL = re.compile(r"/[0-9]+\.log\Z")  # of databases such as LevelDB, which are data
# with its flag P, Debian's wrappers pass the program's path and then its first word, which is its name for itself
EMULATOR = re.compile(r"\A\S*/(\S+-binfmt-P \S+|qemu-\S+) ")
LINKS = 40  # that are followed on the way to a file, as Linux does
GONE = (404, 409)  # an engine's answers about what is removed, or is being removed
PODMAN = "Podman"  # how its version begins to name itself


def engine_process(socket: str) -> tuple[int, str]:
    """Which process listens on an engine's socket, and when it started. Raises FarmError if it does not see this
    machine's processes: the numbers that it tells of a container's would be those of others here, and are sent signals.
    """
    pid = proc.listener(socket)
    try:
        same = pid > 0 and os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except FileNotFoundError:  # it has ended
        same = False
    if not same:
        raise FarmError(f"the engine at {socket} does not run among the processes of this host",
                        hint="it is down, or it runs in a container, or this host is a container: make the machine on "
                             "which the engine runs the tester")
    return pid, proc.started(pid)


def is_podman(engine: Any) -> bool:
    """Whether a client of the docker SDK speaks to Podman."""
    first = (engine.version().get("Components") or [{}])[0]
    return str(first.get("Name", "")).startswith(PODMAN)


def new_mark() -> str:
    """What a trial marks its containers and volumes with: its process, and when that started."""
    return f"{os.getpid()}-{proc.started(os.getpid())}-{secrets.token_hex(6)}"


def orphan(mark: str) -> bool:
    """Whether it is the mark of a trial whose process has ended."""
    found = MARK.match(mark)
    return found is not None and proc.started(int(found[1])) != found[2]


@contextmanager
def unless_gone() -> Iterator[None]:
    """Removes what somebody else may have removed just before, such as `docker system prune`."""
    try:
        yield
    except Exception as error:  # of the SDK, which only the module imports
        if getattr(error, "status_code", 0) not in GONE:
            raise


def images_of(engine: Any, **filters: str) -> list[dict[str, Any]]:
    """All images of an engine, as it lists them. The SDK's own list asks for each again, and fails if one of them is
    removed meanwhile."""
    found: list[dict[str, Any]] = engine.api.images(all=True, filters=filters)
    return found


def remove_orphans(engine: Any) -> None:
    """Removes what trials left that were killed, or whose engine was."""
    for container in engine.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
        if orphan(container.labels.get(LABEL, "")):
            with unless_gone():
                container.remove(force=True, v=True)
    for volume in engine.volumes.list():
        if volume.name.startswith(PREFIX) and orphan(volume.name[len(PREFIX):]):
            with unless_gone():
                volume.remove(force=True)
    for image in images_of(engine, label=LABEL):
        if orphan((image.get("Labels") or {}).get(LABEL, "")):
            with unless_gone():
                engine.images.remove(image["Id"], force=True)


def health(engine: Any, container: Any, *, podman: bool, seconds: float) -> str:
    """What the engine says of a running container: `healthy`, `unhealthy`, `starting`; `none` without a health check.

    Podman checks by systemd's timers, and not at all without systemd, so it is told to check now. It sets no time limit
    for such a check, so it gets `seconds` here.
    """
    found = (container.attrs["State"].get("Health") or {}).get("Status") or "none"
    if not podman or not (container.attrs["Config"].get("Healthcheck") or {}).get("Test"):
        return str(found)
    try:
        answer = engine.api.get(f"{engine.api.base_url}/v4.0.0/libpod/containers/{container.id}/healthcheck",
                                timeout=seconds)
    except OSError as error:
        if "timed out" in str(error):
            return "unhealthy"
        raise
    return str(answer.json().get("Status", found)) if answer.status_code == 200 else str(found)


def ended(container: Any, seconds: float) -> int | None:
    """The exit code; None if it does not end in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        container.reload()
        if not container.attrs["State"]["Running"]:
            return int(container.attrs["State"]["ExitCode"])
        time.sleep(0.05)
    return None


def output(container: Any) -> str:
    return str(container.logs(tail=200).decode(errors="replace"))


def last(text: str) -> str:
    """The end of what was said, for a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-600:] or "(nothing)"


def processes(own: int) -> dict[int, str]:
    """The first process of a container and all that it started: pid on this machine -> command. What the engine itself
    started there, such as a health check that runs at this moment, is not the image's."""
    machine = proc.Proc()
    inside = set(machine.same_space(own))
    found = {pid: machine.command(pid) for pid in sorted(inside)
             if own in itertools.takewhile(inside.__contains__, machine.ancestors(pid))}
    return {pid: _emulated(command, found.get(machine.parent(pid))) for pid, command in found.items()}


def _emulated(command: str, parents: str | None) -> str:
    """A command without the emulator of its platform, which the kernel starts with the program's path and its words.

    A program that gives itself a title, as nginx's workers do, is seen with its own words under an emulator. So one
    that has the words of its parent gets its name before them, as titles have: `nginx: nginx -c /etc/nginx.conf`.
    """
    without = EMULATOR.sub("", command)
    if without == command:
        return command
    name = without.partition(" ")[0].rpartition("/")[2]
    return f"{name}: {without}" if command == parents else without


def users_of(pid: int) -> list[int]:
    """The users of a process: the real, effective and saved one, and that of its files, see proc(5). It may become each
    of them without any right. Empty if it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            found = re.search(r"^Uid:([\t \d]+)$", file.read(), re.M)
    except OSError:
        return []
    return list(map(int, found[1].split())) if found else []


def stop_signal(container: Any) -> str:
    """The signal that asks a container to end: an engine says its name or number."""
    said = str(container.attrs["Config"].get("StopSignal") or "SIGTERM")
    return next((one.name for one in signal.Signals if said == str(one.value)), said)  # most real-time ones have none


def logs_in(pid: int, folder: str) -> list[str]:
    """Files in a folder of a process's root that look like logs and have something in them."""
    root = f"/proc/{pid}/root"
    found = []
    for place, _folders, names in os.walk(root + within(root, folder)):
        for name in names:
            path = os.path.join(place, name)
            shown = path[len(root):]
            with suppress(OSError):  # it was removed meanwhile
                logs = LOG.search(shown) and not JOURNAL.search(shown)
                if logs and not os.path.islink(path) and os.path.getsize(path):
                    found.append(shown)
    return sorted(found)


def within(root: str, path: str) -> str:
    """Where links lead in another root: for the kernel, a link to /run leads to this machine's."""
    done, steps = "", 0
    left = [part for part in path.split("/") if part not in ("", ".")]
    while left:
        part = left.pop(0)
        here = f"{done}/{part}" if part != ".." else os.path.dirname(done).rstrip("/")
        try:
            target = os.readlink(root + here) if part != ".." and steps < LINKS else ""
        except OSError:  # it is no link
            target = ""
        steps += bool(target)
        done = here if not target else "" if target.startswith("/") else done
        left = [each for each in target.split("/") if each not in ("", ".")] + left
    return done


def send(pid: int, number: int = signal.SIGKILL) -> None:
    """Sends a signal, unless the process has ended. An engine has the number 0 for one that has not begun, which would
    be this process and all beside it."""
    with suppress(ProcessLookupError):
        if pid > 0:
            os.kill(pid, number)
