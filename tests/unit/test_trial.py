"""One run of a contract. Trials of real images are in tests/integration/test_verify.py."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import trial, trial_run

PROMISES: dict[str, Any] = {
    "command": ["serve", "it's"], "environment": {"A": "b c"}, "user": 2000, "ports": {}, "health": {}, "metrics": "",
    "volumes": ["/data"], "tmpfs": ["/run"], "multicast": False, "answers": [], "refuses": [],
    "exceptions": {"capabilities": {"SETUID": "why"}}}


def test_a_finding_has_the_command_that_shows_it() -> None:
    made = trial.Trial(None, "sha256:1", PROMISES, refused=Exception, shown="r/a@sha256:2", emulated=False)
    made._found(True, "stops", "137", "fine")
    made._found(False, "any-user", "31337", "it ends", user="31337")
    assert made.findings == [{
        "check": "any-user", "subject": "31337", "words": "it ends",
        "by_hand": "docker run --rm --read-only --cap-drop=ALL --security-opt=no-new-privileges --network=none "
                   "--cap-add=SETUID --tmpfs=/run:mode=1777,uid=31337 --tmpfs=/data:mode=1777,uid=31337 --user=31337 "
                   "'--env=A=b c' r/a@sha256:2 serve "
                   "'it'\"'\"'s'"}]


@pytest.mark.parametrize(("excepted", "relaxed", "options"), [
    ({}, "", ["no-new-privileges"]),
    ({}, "privileges", []),
    ({"seccomp": "why"}, "", ["no-new-privileges", "seccomp=unconfined"]),
    ({"no-new-privileges": "why", "seccomp": "why", "apparmor": "why"}, "", ["apparmor=unconfined",
                                                                             "seccomp=unconfined"]),
])
def test_an_image_has_the_privileges_that_its_contract_excepts(excepted: dict[str, str], relaxed: str,
                                                               options: list[str]) -> None:
    promises = {**PROMISES, "exceptions": {"privileges": excepted}}
    made = trial_run.Runs(None, "i", promises, refused=OSError, shown="image", slower=1)
    assert made.security(relaxed) == options


class Engine:
    """An engine with one command, a real process, which runs until it is killed. What it started may have
    `held` its output."""

    def __init__(self, *, held: bool = False) -> None:
        self.api, self.process = self, subprocess.Popen(["sleep", "600"])
        self.held = held

    def exec_create(self, container: str, command: list[str], environment: dict[str, str]) -> dict[str, str]:
        return {"Id": "1"}

    def exec_start(self, run: str, stream: bool) -> Iterator[bytes]:
        yield b"it "
        yield b"began\n"
        self.process.wait(20)
        if self.held:
            threading.Event().wait()

    def exec_inspect(self, run: str) -> dict[str, int]:
        return {"Pid": self.process.pid, "ExitCode": 137}


@pytest.mark.parametrize("held", [False, True])
def test_a_command_that_does_not_end_in_an_image_is_killed_and_told(monkeypatch: pytest.MonkeyPatch,
                                                                    held: bool) -> None:
    monkeypatch.setattr(trial, "RUNS", 0.2)
    monkeypatch.setattr(trial, "KILLED", 0.2)
    engine = Engine(held=held)
    made = trial.Trial(engine, "sha256:1", PROMISES, refused=Exception, shown="r/a@sha256:2", emulated=False)
    container = SimpleNamespace(id="c1", attrs={"State": {"Pid": os.getpid()}})
    made._ask(container, {"command": ["ask", "it"], "says": ""})
    assert [(one["check"], one["subject"], one["words"]) for one in made.findings] == [
        ("answers", "ask it", "ask it did not end within 0 s: it began")]
    assert engine.process.wait(20) == -signal.SIGKILL


def test_a_process_that_is_not_the_containers_is_not_killed_for_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has ended, what it started holds its output, and its number is another process's by now."""
    monkeypatch.setattr(trial, "RUNS", 0.2)
    monkeypatch.setattr(trial, "KILLED", 0.2)
    engine = Engine()
    made = trial.Trial(engine, "sha256:1", PROMISES, refused=Exception, shown="r/a@sha256:2", emulated=False)
    made._ask(SimpleNamespace(id="c1", attrs={"State": {"Pid": 1 << 30}}), {"command": ["ask", "it"], "says": ""})
    assert [one["check"] for one in made.findings] == ["answers"]
    assert engine.process.poll() is None
    engine.process.kill()
    engine.process.wait()


@pytest.mark.parametrize(("answers", "words"), [
    ([(True, None), (True, None), (False, 0)], []),
    ([(True, 0), (True, 0), (False, 3)], ["ask it ended with 3: it began"]),  # Podman has a code before the end
    ([(False, None), (False, 4)], ["ask it ended with 4: it began"]),
])
def test_a_command_that_closes_its_output_is_waited_for(answers: list[tuple[bool, int | None]],
                                                        words: list[str]) -> None:
    said = iter(answers)

    def inspect(run: str) -> dict[str, Any]:
        running, code = next(said)
        return {"Pid": 1 << 30, "Running": running, "ExitCode": code}

    api = SimpleNamespace(exec_create=lambda *_words, **_how: {"Id": "1"}, exec_inspect=inspect,
                          exec_start=lambda run, stream: iter([b"it began\n"]))
    made = trial.Trial(SimpleNamespace(api=api), "i", PROMISES, refused=OSError, shown="image", emulated=False)
    made._ask(SimpleNamespace(id="c1", attrs={"State": {"Pid": 1 << 30}}), {"command": ["ask", "it"], "says": ""})
    assert [one["words"] for one in made.findings] == words


@pytest.mark.parametrize("when", ["exec_create", "exec_start", "exec_inspect"])
@pytest.mark.parametrize("status", [404, 409, 500])
def test_a_service_that_ends_before_a_command_in_it_is_a_finding_and_a_fault_of_the_engine_is_none(
        when: str, status: int) -> None:
    class Refused(Exception):
        status_code = status

    def refuse(*_words: Any, **_how: Any) -> None:
        raise Refused

    api = SimpleNamespace(exec_create=lambda *_words, **_how: {"Id": "1"}, exec_start=lambda run, stream: iter([]))
    setattr(api, when, refuse)
    made = trial.Trial(SimpleNamespace(api=api), "i", PROMISES, refused=Refused, shown="image", emulated=False)
    asked = SimpleNamespace(id="c1", attrs={"State": {"Pid": 1 << 30}}), {"command": ["ask", "it"], "says": ""}
    if status == 500:
        with pytest.raises(Refused):
            made._ask(*asked)
    else:
        made._ask(*asked, when=" after a restart")
        assert [(one["check"], one["words"]) for one in made.findings] == [
            ("restarts", "it has ended after a restart")]


def test_a_service_that_the_engine_does_not_start_again_is_a_finding() -> None:
    def refuse() -> None:
        raise BrokenPipeError("no such file or directory")

    made = trial.Trial(None, "sha256:1", PROMISES, refused=OSError, shown="r/a@sha256:2", emulated=False)
    made._restarted(SimpleNamespace(attrs={"State": {"ExitCode": 0}, "Config": {}}, stop=lambda timeout: None,
                                    reload=lambda: None, start=refuse))
    assert [(one["check"], one["words"]) for one in made.findings] == [
        ("restarts", "with its data it cannot be started again: no such file or directory")]


@pytest.mark.parametrize("podman", [False, True])
def test_a_container_may_not_take_the_machine_with_it(podman: bool) -> None:
    asked: dict[str, Any] = {}
    container = SimpleNamespace(start=lambda: None, reload=lambda: None, remove=lambda **_options: None)
    engine = SimpleNamespace(containers=SimpleNamespace(create=lambda *_words, **how: asked.update(how) or container))
    runs = trial_run.Runs(engine, "i", PROMISES, refused=OSError, shown="image", slower=1)
    runs.podman = podman
    with runs.started():
        pass
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = {"pids_limit": 4096, "mem_limit": machine // 2,
              "log_config": {"type": "json-file", "config": {"max-size": "32m"}}}
    assert {name: asked[name] for name in limits if name in asked} == ({} if podman else limits)


def test_a_process_that_a_service_starts_when_it_is_asked_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    promises = {**PROMISES, "user": 2000, "answers": [{"command": ["ask"], "http": ""}]}
    made = trial.Trial(None, "sha256:1", promises, refused=Exception, shown="r/a@sha256:2", emulated=False)
    running = {41: "service", 42: "worker"}
    monkeypatch.setattr(trial, "processes", lambda own: dict(running))
    monkeypatch.setattr(trial, "users_of", lambda pid: [2000])
    monkeypatch.setattr(trial, "output", lambda container: "hello")
    monkeypatch.setattr(trial, "logs_in", lambda own, folder: [])
    monkeypatch.setattr(trial.Trial, "_ask", lambda self, container, request: running.update({43: "child"}))
    made._look(SimpleNamespace(attrs={"State": {"Pid": 41}}))
    assert [one["words"] for one in made.findings if one["check"] == "processes"] == [
        "it has another process: worker", "it has another process: child"]


@pytest.mark.parametrize("pid", [0, 1 << 30])
def test_a_service_that_ends_while_it_is_asked_is_a_finding_and_no_error(pid: int) -> None:
    promises = {**PROMISES, "ports": {"web": "80/tcp"}, "metrics": "http://127.0.0.1:80/metrics"}
    made = trial.Trial(None, "sha256:1", promises, refused=Exception, shown="r/a@sha256:2", emulated=False)
    container = SimpleNamespace(attrs={"State": {"Pid": pid}})
    assert made._closed(container) == {"80/tcp": "it has ended"}
    made._metrics(container)
    made._ask(container, {"command": [], "http": "http://127.0.0.1:80/", "method": "GET", "body": "", "says": ""})
    assert [(one["check"], one["words"]) for one in made.findings] == [
        ("metrics", "it has ended"), ("answers", "it has ended")]


def test_a_process_that_ends_before_it_is_stopped_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trial.Trial(None, "sha256:1", PROMISES, refused=Exception, shown="r/a@sha256:2", emulated=False)
    said, sent = iter(["healthy", "unhealthy", "healthy"]), list[tuple[int, int]]()

    def kill(pid: int, number: int) -> None:
        if pid == 1 << 30:
            raise ProcessLookupError
        sent.append((pid, number))

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(trial, "processes", lambda own: {1 << 30: "worker", own: "service"})
    monkeypatch.setattr(trial.Trial, "_health", lambda self, container: next(said))
    made._unhealthy(SimpleNamespace(attrs={"State": {"Pid": 41}}, reload=lambda: None))
    assert sent == [(41, signal.SIGSTOP), (41, signal.SIGCONT)] and made.findings == []
