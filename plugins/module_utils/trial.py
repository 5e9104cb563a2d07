# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Runs an image as its contract promises, and finds the promises that it breaks. I/O.

It runs on a read-only root, without capabilities, without new privileges, and in a network of its own, where only its
own loopback is. Checks are named as in docs/contract.md.
"""

from __future__ import annotations

import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from . import trial_network
from .proc import Proc
from .trial_container import GONE, ended, health, last, logs_in, output, processes, send, stop_signal, users_of
from .trial_network import Found, NoAnswer
from .trial_run import EMULATED, HEALTHY, PROBE, NotStarted, Runs

RUNS = 60.0  # seconds that a command may take
STOP = 10  # seconds from SIGTERM to the end
KILLED = 5.0  # seconds from SIGKILL to the end of the output
REFUSAL = 30.0  # seconds within which a wrong configuration is refused; a busy machine starts a program late
ANYBODY = "31337"  # a user that no image knows; its group is root's, as OpenShift has it
MEMORY = ("/dev/shm",)  # engines let every container write there
MDNS, USUAL = "5353/udp", {"http": "80", "https": "443", "rtsp": "554"}  # ports that need not be said
CODES = (0, 128 + signal.SIGTERM)
RELAXED = {  # what is allowed -> the finding if it runs then
    "read-only": "it does not run on a read-only root",
    "capabilities": "it does not run without capabilities",
    "privileges": "it does not run without new privileges",
    "user": "it does not run as its user, but as root",
}


class Trial:
    """One run of the contract. `engine` is a client of the docker SDK, which raises `refused` for what it cannot do;
    `promises` is a contract as its recipe has it, with all keys; `shown` names the image in commands for people.
    Filled on the way: `findings` (check, subject, words, by_hand) and `facts`."""

    def __init__(self, engine: Any, image: str, promises: Mapping[str, Any], *, refused: type[Exception], shown: str,
                 emulated: bool) -> None:
        self._engine, self._promises = engine, promises
        self._refused, self._slower = refused, EMULATED if emulated else 1.0
        self._runs = Runs(engine, image, promises, refused=refused, shown=shown, slower=self._slower)
        self.findings: list[dict[str, str]] = []
        self.facts: dict[str, Any] = {}
        self._serves = bool(promises["ports"] or promises["health"])

    def run(self) -> None:
        self._runs.prepare()
        try:
            if self._serves:
                self._service()
            else:
                if self._promises["command"]:
                    self._command()
                self._refuse_all()
        except NotStarted as error:
            self._found(False, "starts", "service" if self._serves else "command",
                        f"it cannot be started: {last(str(error))}")
        finally:
            self._runs.tidy()

    # a command that ends by itself

    def _command(self) -> None:
        with self._runs.started(volumes=self._runs.volumes()) as container:
            code = ended(container, RUNS * self._slower)
            said = output(container)
        self._found(code == 0, "starts", "command", f"it ended with {code}: {last(said)}" if code is not None else
                    f"it did not end within {RUNS * self._slower:.0f} s")
        self._found(bool(said.strip()), "logs", "output", "it wrote nothing to stdout or stderr")
        if code == 0:
            self._as_anybody(self._fails)

    def _fails(self, container: Any) -> str:
        code = ended(container, RUNS * self._slower)
        return "" if code == 0 else f"it ended with {code}"

    def _as_anybody(self, look: Callable[[Any], str]) -> None:
        """Runs it as a user that the image does not know. `look` says what is wrong with a container, '' if nothing
        is."""
        try:
            with self._runs.started(user=ANYBODY, tmpfs=self._promises["volumes"]) as container:
                problem = look(container)
                said = output(container)
        except NotStarted as error:
            problem, said = "it cannot be started", str(error)
        self._found(not problem, "any-user", ANYBODY, f"as user {ANYBODY} {problem}: {last(said)}", user=ANYBODY)

    # a service

    def _service(self) -> None:
        began = time.monotonic()
        with self._runs.started(volumes=self._runs.volumes()) as container:
            problem = self._up(container)
            if problem:
                self._diagnose(problem, output(container))
                return
            self.facts["healthy"] = round(time.monotonic() - began, 1)
            before = len(self.findings)
            self._look(container)
            container.reload()
            now = container.attrs["State"]
            if not now["Running"]:  # whatever else was found comes from that
                del self.findings[before:]
                self.facts.clear()
                self._found(False, "starts", "service", f"it was healthy, and then it ended with {now['ExitCode']}: "
                                                        f"{last(output(container))}")
                return
            with ThreadPoolExecutor() as beside:  # most of the time goes by with waiting
                others = [beside.submit(self._as_anybody, self._up), beside.submit(self._refuse_all)]
                self._unhealthy(container)
                self._restarted(container)
                for other in others:
                    other.result()

    def _up(self, container: Any) -> str:
        """Waits until a service is healthy; '' or what it is instead. Without a health check its ports decide."""
        limit = float(self._promises["health"].get("within", HEALTHY)) * self._slower
        deadline, state = time.monotonic() + limit, "starting"
        while time.monotonic() < deadline:
            container.reload()
            now = container.attrs["State"]
            if not now["Running"]:
                return f"it ended with {now['ExitCode']}"
            state = self._health(container)
            if state == "healthy" or (state == "none" and not self._closed(container)):
                return ""
            time.sleep(0.1)
        return f"it was not healthy within {limit:.0f} s, but {state}"

    def _health(self, container: Any) -> str:
        return health(self._engine, container, podman=self._runs.podman, seconds=PROBE * self._slower)

    def _diagnose(self, problem: str, said: str) -> None:
        """Why it does not come up: tries again with one thing allowed at a time."""
        for check, words in RELAXED.items():
            with suppress(NotStarted), self._runs.started(volumes=self._runs.volumes(), relaxed=check) as container:
                if not self._up(container):
                    self._found(False, check, check, f"{words}: {problem}: {last(said)}")
                    return
        check = "starts" if problem.startswith("it ended") else "healthy"
        self._found(False, check, "service", f"{problem}: {last(said)}")

    def _closed(self, container: Any, why_not: Callable[[str], str] = trial_network.accepts) -> dict[str, str]:
        """The ports that do not accept connections, and why."""
        ports = list(self._promises["ports"].values())
        try:
            found = self._inside(container, lambda: [why_not(port) for port in ports])
        except NoAnswer as error:
            found = [error.message] * len(ports)
        return {port: why for port, why in zip(ports, found) if why}

    @staticmethod
    def _inside(container: Any, call: Callable[[], Found]) -> Found:
        """The result of a call in a container's network. Raises NoAnswer too if the container has ended."""
        try:
            return trial_network.inside(container.attrs["State"]["Pid"], call)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise NoAnswer("it has ended") from error

    def _look(self, container: Any) -> None:
        """What can be seen of a service that is up."""
        own = container.attrs["State"]["Pid"]
        self._processes(own)
        for port, why in {**self._closed(container, trial_network.hidden), **self._closed(container)}.items():
            self._found(False, "ports", port, f"{port} cannot be reached: {why}",
                        self._runs.inside_by_hand("ss -lntu"))
        with suppress(NoAnswer):
            for port in self._inside(container, lambda: trial_network.others(_known(self._promises))):
                self._found(False, "ports", port, f"it listens on {port}, which the contract does not name",
                            self._runs.inside_by_hand("ss -lntu"))
        if self._promises["metrics"]:
            self._metrics(container)
        for request in self._promises["answers"]:
            self._ask(container, request)
        self._processes(own)  # some start one only when they are asked
        self._found(bool(output(container).strip()), "logs", "output", "it logs nothing to stdout or stderr")
        for folder in dict.fromkeys((*self._promises["volumes"], *self._promises["tmpfs"], *MEMORY)):
            for path in logs_in(own, folder):
                self._found(False, "logs", path, f"it logs to {path}")

    def _processes(self, own: int) -> None:
        top = self._runs.of_container_by_hand("docker top {} -eo pid,ruid,euid,suid,args")
        for pid, command in processes(own).items():
            self._found(pid == own, "processes", command, f"it has another process: {command}", top)
            wanted = self._promises["user"]
            others = [user for user in users_of(pid) if wanted is not None and user != wanted]
            self._found(not others, "user", command, f"{command} runs as user {others[0] if others else ''}, not as "
                                                     f"{wanted}", top)

    def _metrics(self, container: Any) -> None:
        url = self._promises["metrics"]
        by_hand = self._runs.asked_by_hand({"http": url})
        try:
            status, text = self._inside(container, lambda: trial_network.request(url))
        except NoAnswer as error:
            self._found(False, "metrics", url, error.message, by_hand)
            return
        self._found(status == 200, "metrics", url, f"{url} answers with {status}", by_hand)
        if status == 200:
            self.facts.update(metrics=text, by_hand=by_hand)

    def _ask(self, container: Any, request: Mapping[str, Any], when: str = "") -> None:
        """`when` is where in the trial, for the words."""
        check, by_hand = "restarts" if when else "answers", self._runs.asked_by_hand(request)
        if request["command"]:
            subject = shlex.join(request["command"])
            try:
                code, text = self._within(container, request["command"])
            except NoAnswer as error:
                self._found(False, check, subject, error.message + when, by_hand)
                return
            good = code == 0
            said = (f"{subject} did not end within {RUNS * self._slower:.0f} s{when}" if code is None else
                    f"{subject} ended with {code}{when}")
        else:
            subject = f"{request['method']} {request['http']}"
            try:
                status, text = self._inside(container, lambda: trial_network.request(
                    request["http"], request["method"], request["body"]))
            except NoAnswer as error:
                self._found(False, check, subject, error.message + when, by_hand)
                return
            good, said = status == request["status"], f"{subject} answers with {status}{when}"
        self._found(good, check, subject, f"{said}: {last(text)}", by_hand)
        if good and request["says"]:
            self._found(bool(re.search(request["says"], text)), check, subject,
                        f"{subject} does not say {request['says']!r}{when}: {last(text)}", by_hand)

    def _within(self, container: Any, command: Sequence[str]) -> tuple[int | None, str]:
        """Runs a command in a container: its exit code, or None if it, or what it started, did not end in time and was
        left; its output. The engine itself would wait for ever. Raises NoAnswer if the container has ended."""
        try:
            return self._executed(container, command)
        except self._refused as error:
            if getattr(error, "status_code", 0) not in GONE:
                raise
            raise NoAnswer("it has ended") from error

    def _executed(self, container: Any, command: Sequence[str]) -> tuple[int | None, str]:
        api = self._engine.api
        run = api.exec_create(container.id, list(command), environment=dict(self._promises["environment"]))["Id"]
        said: list[bytes] = []
        errors: list[BaseException] = []

        def read() -> None:
            try:
                said.extend(api.exec_start(run, stream=True))
            except BaseException as error:  # it belongs to who waits
                errors.append(error)

        reader = threading.Thread(target=read, daemon=True)  # what holds its output goes with the container
        deadline = time.monotonic() + RUNS * self._slower
        reader.start()
        reader.join(RUNS * self._slower)
        if errors:
            raise errors[0]
        now = api.exec_inspect(run)
        while _runs(now) and time.monotonic() < deadline:  # its output ends a moment before it does, or long before
            time.sleep(0.05)
            now = api.exec_inspect(run)
        late = reader.is_alive() or _runs(now)
        if late:
            pid = int(now["Pid"])
            if pid in Proc().same_space(container.attrs["State"]["Pid"]):  # else the number may be another's by now
                send(pid, signal.SIGKILL)
            reader.join(KILLED)
        return None if late else int(now["ExitCode"]), b"".join(said).decode(errors="replace")

    def _unhealthy(self, container: Any) -> None:
        """Whether the health check notices that the service does not answer any more: its processes are stopped."""
        container.reload()
        if self._health(container) == "none":
            self._found(not self._promises["health"], "unhealthy", "HEALTHCHECK",
                        "the engine has no health check for it")
            return
        pids = list(processes(container.attrs["State"]["Pid"]))
        try:
            for pid in pids:
                send(pid, signal.SIGSTOP)
            noticed = self._becomes(container, "unhealthy")
        finally:
            for pid in pids:
                send(pid, signal.SIGCONT)
        self._found(noticed, "unhealthy", "HEALTHCHECK", "its health check succeeds while the service is stopped")
        if noticed:
            self._found(self._becomes(container, "healthy"), "healthy", "again",
                        "it does not become healthy again when the service continues")

    def _becomes(self, container: Any, state: str) -> bool:
        deadline = time.monotonic() + 4 * (PROBE + 1) * self._slower
        while time.monotonic() < deadline:
            container.reload()
            if self._health(container) == state:
                return True
            time.sleep(0.1)
        return False

    def _restarted(self, container: Any) -> None:
        """The signal that asks it to end, SIGTERM unless its STOPSIGNAL says another, and a second start with the same
        volumes."""
        limit = STOP * self._slower
        began = time.monotonic()
        container.stop(timeout=int(limit))
        self.facts["stops"] = round(time.monotonic() - began, 1)
        container.reload()
        code, asked = container.attrs["State"]["ExitCode"], stop_signal(container)
        if code == 128 + signal.SIGKILL:
            self._found(False, "stops", asked, f"its STOPSIGNAL is {asked}, so it can finish nothing"
                        if asked.endswith("KILL") else f"it did not end within {limit:.0f} s of {asked}")
        else:
            self._found(code in CODES, "stops", str(code), f"after {asked} it ended with {code}")
        try:
            self._runs.start(container)
            problem = self._up(container)
            said = output(container)
        except NotStarted as error:
            problem, said = "it cannot be started again", str(error)
        self._found(not problem, "restarts", "service", f"with its data {problem}: {last(said)}")
        for request in self._promises["answers"] if not problem else ():
            if request["again"]:
                self._ask(container, request, " after a restart")

    def _refuse_all(self) -> None:
        for refusal in self._promises["refuses"]:
            self._refuse(refusal)

    def _refuse(self, refusal: Mapping[str, Any]) -> None:
        command = list(refusal["command"] or self._promises["command"])
        environment = {**self._promises["environment"], **refusal["environment"]}
        words = [f"{name}={value}" for name, value in refusal["environment"].items()]
        subject = " ".join([*words, *refusal["command"]])
        by_hand = self._runs.by_hand(command=command, environment=environment)
        try:
            with self._runs.started(tmpfs=self._promises["volumes"], command=command,
                                    environment=environment) as container:
                code = ended(container, REFUSAL * self._slower)
                said = output(container)
        except NotStarted as error:  # it was the engine that refused
            self._found(False, "refuses", subject, f"with {subject} it cannot be started: {last(str(error))}", by_hand)
            return
        self._found(bool(code), "refuses", subject, f"with {subject} it " + (
            "runs" if code is None else f"ended with 0: {last(said)}"), by_hand)
        if code:
            self._found(bool(re.search(refusal["says"], said)), "refuses", subject,
                        f"with {subject} it does not say {refusal['says']!r}: {last(said)}", by_hand)

    def _found(self, holds: bool, check: str, subject: str, words: str, by_hand: str = "", user: str = "") -> None:
        made = {"check": check, "subject": subject, "words": words,
                "by_hand": by_hand or self._runs.by_hand(user=user)}
        if not holds and made not in self.findings:
            self.findings.append(made)


def _runs(command: Mapping[str, Any]) -> bool:
    """Whether a command still runs, from what an engine says of it."""
    return bool(command.get("Running")) or command["ExitCode"] is None


def _known(promises: Mapping[str, Any]) -> set[str]:
    """The ports that a contract names, also those that it only asks. `multicast` means that of mDNS."""
    texts = [promises["metrics"], *map(str, promises["health"].values())]
    for request in promises["answers"]:
        texts += [request["http"], *request["command"]]
    asked = {number for text in texts for number in re.findall(r":([0-9]{1,5})\b", text)}
    asked |= {number for text in texts for scheme, number in USUAL.items()
              if re.match(rf"{scheme}://[^/:]+(/|\Z)", text)}
    return {*promises["ports"].values(), *([MDNS] if promises["multicast"] else []),
            *(f"{number}/{kind}" for number in asked for kind in ("tcp", "udp"))}
