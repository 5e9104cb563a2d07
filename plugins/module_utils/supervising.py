# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Brings a service into the wanted state: compares once, acts once. This file does I/O."""

from __future__ import annotations

import os
import pwd
import shutil
import time
from collections.abc import Mapping
from typing import Any

from . import files, programs, readiness, state, supervisors
from .errors import FarmError
from .proc import Proc
from .supervision import Service, Text, definition, differences, digest, encode, own_files

KEY = "PRIVATE KEY-----"  # of PEM, RFC 7468
STARTS = 5  # seconds in which a supervisor must say that it runs


def give_empty(folder: str, account: pwd.struct_passwd) -> None:
    """Gives a service's user a folder that is this user's and has nothing in it: it was just made, by this run or by
    one that was killed, or a new disk is mounted there. A link is followed only if nobody else can have made it."""
    safe = not (state.others(os.path.dirname(folder)) or state.open_above(folder))
    opened = files.open_folder(os.path.realpath(folder) if safe else folder)
    try:
        if os.fstat(opened).st_uid == os.geteuid() and not {*os.listdir(opened)} - {"lost+found"}:
            os.fchown(opened, account.pw_uid, account.pw_gid)
    finally:
        os.close(opened)


class Supervised:
    """One service: compare once, act once."""

    def __init__(self, params: Mapping[str, Any], check: bool) -> None:
        """`params` are the module's; with `check` nothing is changed."""
        self.check = check
        self.service = Service.from_params(params)
        kind = params["supervisor"]
        kind = supervisors.supervisor_of_this_machine() if kind == "auto" else kind
        self.supervisor = supervisors.KINDS[kind](self.service, programs.call, Proc())
        self.old, self.old_text = supervisors.definition_of(self.service.state_dir, self.service.name)
        self.status = self.supervisor.status()
        # of a folder that was moved: systemd would try for ever to start it
        self.earlier = [each for each in supervisors.of_folder(self.service.state_dir, self.service.name, programs.call,
                                                               Proc())
                        if each.service.state_dir != self.service.state_dir]

    @property
    def path(self) -> str:
        return f"{self.service.folder}/service.json"

    def account(self) -> pwd.struct_passwd | None:
        """The service's account; None if it is the module's own, or if it does not exist yet in check mode."""
        try:
            return pwd.getpwnam(self.service.user) if self.service.user else None
        except KeyError:
            if self.check:
                return None
            raise FarmError(f"the user {self.service.user!r} does not exist", service=self.service.name) from None

    def started(self) -> dict[str, Any]:
        """Makes it run as described, and answer."""
        service, supervisor, account = self.service, self.supervisor, self.account()
        new = definition(service, supervisors.program(service.command[0]), supervisor.name)
        own = own_files(service, account.pw_gid if account else -1)
        wanted = {**supervisor.files(), **own, self.path: Text(encode(new), 0o600)}
        before = {path: supervisors.read(path) for path in wanted}
        stale = supervisors.outdated(wanted)
        reasons = differences(self.old, new) if self.path in stale else []
        reasons += [f"{path} differs" for path in stale if path != self.path and not reasons]
        if os.path.lexists(service.unfinished) and not reasons:
            reasons.append("its last change was not completed")  # it may still run as described before
        if not self.status.running:
            reasons.append("it is not running")
        elif not self.status.supervised:
            reasons.append("it does not start at boot")
        self.refuse_foreign_unit()
        if reasons:
            state.refuse_foreign(service.state_dir)  # in check mode too, when nothing is made
            self.refuse_strangers()
        if reasons and not self.check:
            self.make_folders(account)
            files.write(service.unfinished, "", 0o600)
            for path in stale:
                files.write(path, *wanted[path])
            for earlier in self.earlier:
                earlier.retire()
            supervisor.start()
            os.unlink(service.unfinished)
        if not (reasons and self.check):
            self.wait(fresh=bool(reasons))
        diff = [self.file_diff(path, before[path], wanted[path].text) for path in stale if path != self.path]
        diff.append(self.run_diff("running" if self.status.running else "stopped", "running"))
        return self.result(reasons, diff, digest(encode(new)))

    def file_diff(self, path: str, before: str, after: str) -> dict[str, str]:
        """How a file differs, without secrets."""
        if path == self.service.environment_file:
            before, after = self.variables()
        elif path in dict(self.service.secret_files) or KEY in before + after:
            before, after = "(not shown)\n" if before else "", "(not shown, changed)\n"
        return {"before_header": path, "after_header": path, "before": before, "after": after}

    def variables(self) -> tuple[str, str]:
        """The names of the variables before and after, and whose values changed."""
        old, new = self.old.get("environment") or {}, definition(self.service, {}, "")["environment"]
        other = {name: " (changed)" for name in old if name in new and old[name] != new[name]}
        after = "".join(f"{name}{other.get(name, '')}\n" for name in sorted(new))
        return "".join(f"{name}\n" for name in sorted(old)), after

    def refuse_strangers(self) -> None:
        """Raises FarmError, which names the processes, if others use the service's port, socket or data folder, or if
        another user could listen in its place: whoever speaks to it, and gives it a password, would not notice."""
        for path in self.service.claims.sockets:
            inside = path.startswith(f"{self.service.state_dir}/")  # state.claim sees to that folder
            if not inside and (said := state.open_to_others(path)):
                raise FarmError(f"{self.service.name} cannot listen on {path}: {said}",
                                hint="choose a path in a folder that only root can write to",
                                service=self.service.name)
        strangers = self.supervisor.strangers()
        if strangers:
            raise FarmError(
                f"{self.service.name} cannot start: " + "; ".join(strangers),
                hint="end that process, or give this farm another port, socket or state folder",
                service=self.service.name,
            )

    def refuse_foreign_unit(self) -> None:
        """Raises FarmError if somebody else made a unit of that name, or masked ours."""
        if foreign := self.supervisor.foreign():
            raise FarmError(
                f"{self.service.name} cannot be a unit of systemd: {'; '.join(foreign.values())}",
                hint=f"see `systemctl cat {self.service.unit}`; unmask it, or remove it if nobody needs it",
                service=self.service.name,
            )

    def make_folders(self, account: pwd.struct_passwd | None) -> None:
        """Makes the folders for the service's files, logs and data."""
        service = self.service
        state.claim(service.state_dir)
        for folder in (f"{service.folder}/log", service.log_folder):
            os.makedirs(folder, mode=0o755, exist_ok=True)
        for folder in service.claims.data:
            if not os.path.isdir(folder):
                os.makedirs(folder, mode=0o700)
            if account:
                give_empty(folder, account)

    def not_running(self) -> str:
        """'' if its supervisor says that it runs. (A service without a readiness check may only just have started.)"""
        return "" if self.supervisor.status().running else "it is not running"

    def wait(self, fresh: bool) -> None:
        """Waits until it answers. Raises FarmError with the last lines of its log if it does not; if `fresh`, it is
        stopped first."""
        began = time.monotonic()
        problem = (readiness.wait(self.service.ready, programs.call, lambda: self.supervisor.status().pid)
                   or readiness.until(self.not_running, STARTS))
        if not problem:
            return
        strangers = self.supervisor.strangers()
        lines = self.supervisor.last_lines()
        if fresh:  # otherwise it might crash and restart forever
            self.supervisor.stop()
        raise FarmError(
            f"{self.service.name} is not ready after {time.monotonic() - began:.0f} s: {problem}\n"
            + "".join(f"{line}\n" for line in strangers)
            + f"the last lines of its log:\n{lines}",
            hint="see its log" + ("; the service was stopped again" if fresh else ""),
            service=self.service.name,
            log=self.supervisor.log,
        )

    def stopped(self) -> dict[str, Any]:
        """Makes it stop, now and after a boot."""
        left = self.supervisor.mine()
        reasons = ["it is running"] if self.status.running or self.status.supervised or left else []
        if reasons and not self.check:
            self.supervisor.stop()
        return self.result(reasons, [self.run_diff("running" if reasons else "stopped", "stopped")],
                           digest(self.old_text))

    def absent(self) -> dict[str, Any]:
        """Stops it and removes its files."""
        result = self.stopped()
        foreign = self.supervisor.foreign()
        described = {} if self.is_copy() else self.old.get("files") or {}
        owned = [*self.supervisor.files(), *described, *own_files(self.service, -1)]
        folders = [self.service.folder, self.service.log_folder]
        there = [path for path in (*owned, *folders) if os.path.lexists(path) and path not in foreign]
        if there and not self.check:
            for path in there:
                if os.path.isdir(path):
                    shutil.rmtree(path)
                elif os.path.lexists(path):
                    os.unlink(path)
            self.supervisor.forget()
        result["reasons"] += [f"{path} exists" for path in there]
        result["changed"] = bool(result["reasons"])
        result["diff"].append({"before": "".join(f"{path}\n" for path in there), "after": ""})
        return result

    def is_copy(self) -> bool:
        """Whether the folder is a copy of another farm's: then the files that are described in it are that farm's."""
        here, named = self.service.state_dir, self.old.get("state_dir", "")
        return os.path.isdir(here) and os.path.isdir(named) and not os.path.samefile(here, named)

    def run_diff(self, before: str, after: str) -> dict[str, str]:
        header = f"service {self.service.name}"
        return {"before_header": header, "after_header": header, "before": before + "\n", "after": after + "\n"}

    def result(self, reasons: list[str], diff: list[dict[str, str]], name: str) -> dict[str, Any]:
        status = self.status if self.check else self.supervisor.status()
        return {
            "changed": bool(reasons),
            "reasons": reasons,
            "diff": diff,
            "service": {
                "name": self.service.name,
                "supervisor": self.supervisor.name,
                "running": status.running,
                "pid": status.pid,
                "log": self.supervisor.log,
                "definition": name,
            },
        }
