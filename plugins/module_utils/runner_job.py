# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""A job on a node: lays the contexts out, runs buildctl, keeps its progress. It runs in a process of its own, which
runner.py starts."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

from . import files
from .child import Child
from .errors import FarmError, Unreachable
from .progress import Progress
from .renewal import renew, wait_for
from .staging import Contents, lay_out

STATE = "state.json"
CANCELLED = "cancelled"  # a file with this meaning, as a signal may come before there is a process to send it to
FORGOTTEN = 15 * 60  # seconds without a poll after which a job is cancelled (D2)
DOCKER = "docker"  # the folder of buildctl's login: it passes that on to BuildKit for this solve alone
LOG = 64 << 20  # characters of a log


class Cancelled(Exception):
    """Someone cancelled the job, or nothing has polled it for too long."""


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the state atomically. It is not synced: that happens several times a second. Raises FileNotFoundError if
    the job's folder was removed: it is not made again, and the farm with it."""
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    files.write(str(folder / STATE), json.dumps(state), sync=False)


def run(folder: Path, spec: dict[str, Any]) -> None:
    """Runs a job to its end. Whatever happens, the state file says it."""
    job = _Job(folder, spec)
    signal.signal(signal.SIGTERM, job.on_signal)
    try:
        if (folder / CANCELLED).exists():
            raise Cancelled("cancelled before it began")
        job.write("running", phase="contexts")
        contents = Contents(own=spec["own"], shared=spec["store"], archive=spec["archive"],
                            access=spec.get("registry"))
        job.notes = contents.notes
        for name, tree in spec["solve"]["contexts"].items():
            lay_out(folder / "contexts" / name, tree, contents)
        ended = job.build()
    except Cancelled as error:
        ended = {"state": "cancelled", "error": str(error)}
    except Unreachable as error:  # the archive
        ended = {"state": "failed", "error": str(error), "transport": True}
    except FarmError as error:
        ended = {"state": "failed", "error": str(error)}
    except OSError as error:
        ended = of_node(error)
    except MemoryError:
        ended = {"state": "failed", "error": "out of memory", "fault": "out of memory"}
    except Exception as error:  # the state must say how a job ended, whatever happened
        ended = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for name in ("contexts", DOCKER):  # first, as copies may have filled the disk
        shutil.rmtree(folder / name, ignore_errors=True)
    job.end(ended)


def engine_identity(path: str) -> str:
    """Which buildkitd answers on a socket: its pid and start time; '' if none answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            pid, _uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return f"{pid}:{Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[19]}"
        except OSError:
            return ""


class _Job:
    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder, self.spec = folder, spec
        self.started = time.time()
        self.progress = Progress()
        self.notes: list[str] = []
        self.why = ""  # why it must end
        self.building = False
        # the time of the last poll, and when it was seen, by a clock that nobody sets
        self.heard: tuple[int, float] = (0, 0.0)

    def on_signal(self, number: int, frame: object) -> None:
        self.why = self.why or "cancelled"
        if not self.building:
            raise Cancelled(self.why)

    def write(self, state: str, **more: Any) -> None:
        write_state(self.folder, {"state": state, "started": self.started, **self.progress.as_dict(), **more})

    def end(self, ended: dict[str, Any]) -> None:
        """Writes how the job ended. If there is no room for a new file, it writes a short state into the old one."""
        ended = {**ended, "ended": time.time()}
        try:
            self.write(**ended, notes=self.notes)
        except OSError:
            with (self.folder / STATE).open("r+") as file:
                file.write(json.dumps({"started": self.started, **ended}))
                file.truncate()

    def build(self) -> dict[str, Any]:
        """Runs buildctl; returns how it ended. Even if this raises, buildctl has ended."""
        policy, metadata = self.folder / "policy.json", self.folder / "metadata.json"
        policy.write_text(json.dumps(self.spec["solve"]["policy"]))
        engine = engine_identity(self.spec["socket"])
        buildctl = [self.spec["buildctl"], f"--addr=unix://{self.spec['socket']}"]
        command = [*buildctl, *self.spec["words"]]
        wait_for(self.spec["newest"])
        if not renew(self.spec["own"], self.spec["newest"], buildctl):
            command.append("--no-cache")
        (self.folder / "command.json").write_text(json.dumps(command))
        with (self.folder / "log").open("w", encoding="utf-8", errors="replace") as log:
            log.writelines(f"{note}\n" for note in self.notes)
            self.building = True
            program = Child(command, {**os.environ, "HOME": str(self.folder), **self._login()})
            try:
                room = LOG
                for line in program.lines(self._look):
                    said = "".join(f"{text}\n" for text in self.progress.feed(line))
                    if room > 0:
                        room -= len(said)
                        log.write(said if room > 0 else f"the log is cut off here, at {LOG >> 20} MB\n")
                        log.flush()
            finally:
                code = program.finish()
        if self.why:
            raise Cancelled(self.why)
        if code == 0:
            try:
                return {"state": "done", "digest": str(json.loads(metadata.read_text())["containerimage.digest"])}
            except (OSError, ValueError, KeyError, TypeError) as error:
                why = f"{type(error).__name__}: {error}"
                raise FarmError(f"buildctl succeeded, but gave no digest: {why}", hint="see its log") from error
        if engine != engine_identity(self.spec["socket"]) or not engine:
            return {"state": "lost", "error": "buildkitd stopped during the build"}
        if code < 0:  # by the kernel, if memory ran out
            return {"state": "failed", "fault": f"buildctl was killed by signal {-code}"}
        return {"state": "failed", "full": self.progress.full or _full(self.spec["root"])}

    def _login(self) -> dict[str, str]:
        """The variable that tells buildctl where its login at the registry is; nothing if the job came without one."""
        registry = self.spec.get("registry") or {}
        if not registry.get("password"):
            return {}
        secret = base64.b64encode(f"{registry['user']}:{registry['password']}".encode()).decode()
        value = {"auths": {registry["url"].partition("//")[2]: {"auth": secret}}}
        (self.folder / DOCKER).mkdir(mode=0o700)
        files.write(str(self.folder / DOCKER / "config.json"), json.dumps(value), 0o600, sync=False)
        return {"DOCKER_CONFIG": str(self.folder / DOCKER)}

    def _look(self) -> bool:
        """Writes the state while buildctl runs; returns whether it must end."""
        if (self.folder / CANCELLED).exists():
            self.why = self.why or "cancelled"
        beat, now = (self.folder / "beat").stat().st_mtime_ns, time.monotonic()
        if beat != self.heard[0]:
            self.heard = beat, now
        if now - self.heard[1] > FORGOTTEN:
            self.why = self.why or f"no controller asked about this job for {FORGOTTEN // 60} minutes"
        if not self.why:
            self.write("running", phase="build")
        return bool(self.why)


def _full(folder: str) -> bool:
    """Whether less than 64 MiB are left: then a failure there is due to the full disk."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize < 64 << 20


def of_node(error: OSError) -> dict[str, Any]:
    """How a job ended of which this node's system is the cause."""
    full, where = files.is_full(error), f": {error.filename}" if error.filename else ""
    said = f"{error.strerror}{where}" if error.strerror else f"{type(error).__name__}: {error}"
    return {"state": "failed", "error": said, "full": full, "fault": "" if full else said}
