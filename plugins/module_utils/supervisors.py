# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Runit and systemd: reads the state of a service on this machine, and changes it. This file does I/O."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import signal
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import supervision
from .errors import FarmError
from .files import KINDS as KINDS_OF_FILES
from .proc import Proc, listener, same_address
from .runsv import KILLED, Runsv
from .service_files import quote, runit_files, systemd_files
from .supervision import MARKER, WRITTEN, Service, Text, parse_port

Run = Callable[[list[str]], "tuple[int, str, str]"]  # programs.call's shape
Files = Mapping[str, Text]


# in service.json
_READ = {"supervisor": str, "state_dir": str, "command": list, "after": list, "needs": list, "environment": dict,
         "files": dict, "claims": dict}


@dataclass(frozen=True)
class Status:
    """What the supervisor says: whether it watches the service, and whether the service runs."""

    supervised: bool
    running: bool
    pid: int = 0


def read(path: str) -> str:
    """The text of a file; '' if there is none, or if it is not a regular file (a pipe might never end)."""
    try:
        with open(path, encoding="utf-8", errors="replace", opener=_at_once) as file:
            return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""
    except FileNotFoundError:
        return ""


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def outdated(files: Files) -> list[str]:
    """The paths whose text, mode or group is wrong."""

    def same(path: str, wanted: Text) -> bool:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return False
        right = found.st_mode & 0o7777 == wanted.mode and wanted.group in (-1, found.st_gid)
        return right and read(path) == wanted.text

    return [path for path, wanted in sorted(files.items()) if not same(path, wanted)]


def program(path: str) -> dict[str, Any]:
    """Identifies a binary on disk cheaply, so that a new one with the same name differs; {} if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return {}
    return {"path": path, "inode": found.st_ino, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def definition_of(state_dir: str, name: str) -> tuple[dict[str, Any], str]:
    """The definition in a service's service.json, and its text; ({}, '') if there is none, or if it is not valid."""
    text = read(f"{state_dir}/services/{name}/service.json")
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}, ""
    right = isinstance(found, dict) and all(isinstance(found.get(key, kind()), kind) for key, kind in _READ.items())
    right = right and found.get("supervisor", "runit") in KINDS
    return (found, text) if right else ({}, "")


class Supervisor:
    """What runit and systemd have in common."""

    name = ""

    def __init__(self, service: Service, run: Run, proc: Proc) -> None:
        self.service = service
        self.run = run
        self.proc = proc

    @property
    def marker(self) -> str:
        return f"{MARKER}={self.service.folder}"

    @property
    def log(self) -> str:
        """Where people find the log."""
        raise NotImplementedError

    def files(self) -> dict[str, Text]:
        raise NotImplementedError

    def status(self) -> Status:
        raise NotImplementedError

    def start(self) -> None:
        """Starts it, or restarts it with the files as they are now."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stops it and its supervision. It is no error if it does not run."""
        raise NotImplementedError

    def retire(self) -> None:
        """Stops it, and removes its description outside the state folder."""
        self.stop()

    def forget(self) -> None:
        """Forgets a service whose files were removed."""

    def last_lines(self, count: int = 20) -> str:
        raise NotImplementedError

    def foreign(self) -> dict[str, str]:
        """Files of its names that something else made: path -> what it is, in words."""
        return {}

    def call(self, *words: str) -> str:
        code, out, err = self.run(list(words))
        if code != 0:
            raise FarmError(
                f"{' '.join(words)} exited with {code}: {(err or out).strip()}",
                hint="see its log",
                service=self.service.name,
                log=self.log,
            )
        return out

    def mine(self) -> list[int]:
        """Every live process of this service, supervised or left over."""
        return self.proc.marked(self.marker)

    def end_leftovers(self) -> None:
        """Ends what a dead supervisor left running, and runs the command for after the service has ended."""
        self._end_processes()
        told = definition_of(self.service.state_dir, self.service.name)[0]
        if told.get("state_dir", self.service.state_dir) != self.service.state_dir:
            told = {}  # this is a copy of another farm
        after = list(self.service.after) or told.get("after")
        if after:
            self.run(after)

    def _end_processes(self) -> None:
        """Sends TERM, and KILL if that does not help."""
        for number, seconds in ((signal.SIGTERM, self.service.stop_timeout), (signal.SIGKILL, 5)):
            deadline = time.monotonic() + seconds
            for pid in self.mine():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            while self.mine():
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            else:
                return

    def strangers(self) -> list[str]:
        """Who else uses what the service claims: one line for each claim and process."""
        proc = self.proc
        found: list[str] = []
        users = {0, os.geteuid()}
        with contextlib.suppress(KeyError):  # it has none of its own, or in check mode not yet
            users.add(pwd.getpwnam(self.service.user).pw_uid)
        ours = {pid for pid in self.mine() if proc.user(pid) in users}  # anybody may set a variable

        def foreign(pids: Sequence[int]) -> list[int]:
            return [pid for pid in pids if not ours.intersection(proc.ancestors(pid)) and pid != os.getpid()]

        def told(claim: str, pids: Sequence[int]) -> None:
            found.extend(f"{claim} is in use by process {pid}: {proc.command(pid)}" for pid in pids)

        listening = proc.listening() if self.service.claims.ports else []
        for text in self.service.claims.ports:
            address, port = parse_port(text)
            for one in listening:
                if one.port == port and same_address(address, one.address):
                    owners = proc.owners(one.inode)
                    told(f"port {text}", foreign(owners))
                    if not owners:
                        found.append(f"port {text} is in use by a process that this user may not see")
        for path in self.service.claims.sockets:
            if pid := listener(path):
                told(f"socket {path}", foreign([pid]))
            found += _in_the_way(path)
        for folder in self.service.claims.data:
            if os.path.isdir(folder):
                told(f"folder {folder}", foreign(proc.users(folder)))
        return sorted(set(found))


class Runit(Supervisor):
    """`setsid -f runsv FOLDER`, which outlives the process that started it. http://smarden.org/runit/"""

    name = "runit"

    @property
    def log(self) -> str:
        return f"{self.service.log_folder}/current"

    def files(self) -> dict[str, Text]:
        return runit_files(self.service)

    @property
    def _runsv(self) -> Runsv:
        return Runsv(self.service.folder)

    def status(self) -> Status:
        supervised, pid = self._runsv.there, self._runsv.pid
        return Status(supervised=supervised, running=bool(pid), pid=pid)

    def start(self) -> None:
        folder, runsv = self.service.folder, self._runsv
        if runsv.pid and not runsv.leaving:
            runsv.restart(self.service.stop_timeout)
            return
        self.stop()  # a run that was killed may have begun to
        # its own session, and none of our descriptors: nothing waits for it, and no hang-up reaches it
        self.call("sh", "-c",
                  f"cd / && exec setsid -f runsv {quote(folder)} </dev/null >>{quote(folder)}/runsv.log 2>&1")
        deadline = time.monotonic() + 5
        while not runsv.there:
            if time.monotonic() > deadline:
                raise FarmError(f"runsv did not start: {read(f'{folder}/runsv.log').strip()}",
                                service=self.service.name)
            time.sleep(0.02)

    def stop(self) -> None:
        self._runsv.end(self.service.stop_timeout)
        self.end_leftovers()
        self._runsv.gone(KILLED)  # what was left over may have had its log open

    def last_lines(self, count: int = 20) -> str:
        return "\n".join((read(f"{self.service.folder}/runsv.log") + read(self.log)).splitlines()[-count:])


class Systemd(Supervisor):
    """A unit of the system manager."""

    name = "systemd"

    @property
    def log(self) -> str:
        return f"journalctl -u {self.service.unit}"

    def files(self) -> dict[str, Text]:
        return systemd_files(self.service)

    def status(self) -> Status:
        _code, out, _err = self.run(["systemctl", "show", "-p", "ActiveState,MainPID,UnitFileState", self.service.unit])
        found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        running = found.get("ActiveState") == "active"
        return Status(
            supervised=found.get("UnitFileState") == "enabled",
            running=running,
            pid=int(found.get("MainPID") or 0) if running else 0,
        )

    def start(self) -> None:
        if not self.service.share:
            self.remove_slice()
        self.call("systemctl", "daemon-reload")
        self.call("systemctl", "enable", self.service.unit)
        self.call("systemctl", "restart", self.service.unit)

    def stop(self) -> None:
        if not os.path.lexists(self._path):
            self._forget_removed()
        elif not _foreign(self._path):
            self.call("systemctl", "disable", "--now", self.service.unit)
            # buildkitd ends with 1 when it is asked to; else it counts as failed, even when its unit is gone
            self.run(["systemctl", "reset-failed", self.service.unit])
        self.end_leftovers()

    def _forget_removed(self) -> None:
        """Somebody removed the unit's file. systemd may run the unit all the same, and start it whenever it ends."""
        out = self.run(["systemctl", "show", "-p", "FragmentPath", self.service.unit])[1]
        if out.strip().partition("=")[2] in ("", self._path):  # else it has a file elsewhere, which is not ours
            self.run(["systemctl", "stop", self.service.unit])
        wanted = f"{supervision.UNITS}/multi-user.target.wants/{self.service.unit}"
        if os.path.islink(wanted) and not os.path.exists(wanted):
            os.unlink(wanted)
        self.run(["systemctl", "daemon-reload"])

    def retire(self) -> None:
        self.stop()
        for path in (self._path, self._slice):
            for left in glob.glob(f"{os.path.dirname(path)}/.{os.path.basename(path)}.*"):  # from a killed write
                os.unlink(left)
        mine = os.path.lexists(self._path) and not _foreign(self._path)
        if mine:
            os.unlink(self._path)
        if mine or self.has_slice():
            self.forget()

    def forget(self) -> None:
        self.remove_slice()
        self.call("systemctl", "daemon-reload")

    def remove_slice(self) -> None:
        """Removes the slice that has the service's share, if this farm made it."""
        if self.has_slice():
            self.run(["systemctl", "stop", self.service.slice])  # else it stays, with its cgroup, until the next boot
            os.unlink(self._slice)

    def has_slice(self) -> bool:
        return read(self._slice).startswith(f"{WRITTEN}{self.service.state_dir}:")

    def foreign(self) -> dict[str, str]:
        own = (self._path, self._slice) if self.service.share else (self._path,)
        return {path: said for path in own if (said := _foreign(path))}

    @property
    def _path(self) -> str:
        return f"{supervision.UNITS}/{self.service.unit}"

    @property
    def _slice(self) -> str:
        return f"{supervision.UNITS}/{self.service.slice}"

    def last_lines(self, count: int = 20) -> str:
        return self.run(["journalctl", "--no-pager", "-o", "cat", "-n", str(count), "-u", self.service.unit])[1]


def _in_the_way(path: str) -> list[str]:
    """What is under the name of a socket and is none: a service that listens there would remove it."""
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
    except OSError:
        return []
    return [] if kind == stat.S_IFSOCK else [f"socket {path} is {KINDS_OF_FILES.get(kind, 'a file')}"]


def _foreign(path: str) -> str:
    """What a file of systemd's is, if no farm made it; else ''. An empty one masks the unit, systemd.unit(5)."""
    if os.path.islink(path):
        return f"{path} is a link to {os.readlink(path)}, as of `systemctl mask`"
    known = not os.path.exists(path) or read(path).startswith(WRITTEN)
    return "" if known else f"{path} exists, and this farm did not make it"


KINDS: dict[str, type[Supervisor]] = {"runit": Runit, "systemd": Systemd}


def of_folder(path: str, name: str, run: Run, proc: Proc) -> list[Supervisor]:
    """What may run a service that is described in a state folder, in the order in which to stop them.

    Units and processes have the name that the folder had when the service was described: that may be a link, or the
    folder was moved since. If another folder has that name now, this one is a copy, and the service is the other's.
    """
    found, _text = definition_of(path, name)
    kind = KINDS.get(found.get("supervisor", ""), KINDS[supervisor_of_this_machine()])
    named = found.get("state_dir", path)
    copy = os.path.isdir(f"{named}/services/{name}") and not os.path.samefile(named, path)
    return [kind(Service(name=name, state_dir=each), run, proc)
            for each in dict.fromkeys([path] if copy else [path, named])]


def left_over(path: str, run: Run, proc: Proc) -> list[Supervisor]:
    """The units that a farm in this folder made, even if the folder does not say so any more."""
    found: list[Supervisor] = []
    before, after = Service(name="*", state_dir=path).unit.split("*")
    for unit in sorted(glob.glob(f"{supervision.UNITS}/{before}*{after}")):
        if not os.path.islink(unit) and read(unit).startswith(f"{WRITTEN}{path}:"):
            name = os.path.basename(unit)[len(before) : -len(after)]
            found.append(Systemd(Service(name=name, state_dir=path), run, proc))
    return found


def supervisor_of_this_machine() -> str:
    """`systemd` if it is PID 1, else `runit`. sd_booted(3)"""
    return "systemd" if os.path.isdir("/run/systemd/system") else "runit"
