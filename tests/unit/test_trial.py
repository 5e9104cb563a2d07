"""How a trial asks a service from inside its network. Trials of real images are in tests/integration/test_verify.py."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import (
    proc,
    trial,
    trial_container,
    trial_network,
    trial_run,
)
from ansible_collections.desimages.farm.plugins.module_utils.trial_network import NoAnswer

PROMISES: dict[str, Any] = {
    "command": ["serve", "it's"], "environment": {"A": "b c"}, "user": 2000, "ports": {}, "health": {}, "metrics": "",
    "volumes": ["/data"], "tmpfs": ["/run"], "multicast": False, "answers": [], "refuses": [],
    "exceptions": {"capabilities": {"SETUID": "why"}}}


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = {"/moved": 302, "/gone": 404}.get(self.path, 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/gone")
        self.end_headers()
        self.wfile.write(self.command.encode() + b" " + body)

    do_GET = do_POST = answer

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_any_status_is_an_answer_and_a_redirect_is_not_followed() -> None:
    with serving() as url:
        assert trial_network.request(f"{url}/") == (200, "GET ")
        assert trial_network.request(f"{url}/", "POST", "more") == (200, "POST more")
        assert trial_network.request(f"{url}/gone")[0] == 404
        assert trial_network.request(f"{url}/moved")[0] == 302


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes the certificate")
def test_a_service_with_a_certificate_of_its_own_answers(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=service.example.org", "-keyout", both, "-out", tmp_path / "certificate.pem"],
                   check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(both)
    with serving(tls) as url:
        assert trial_network.request(f"{url}/") == (200, "GET ")


def test_a_service_that_does_not_answer_is_said_with_its_address() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(NoAnswer, match=f"GET http://127.0.0.1:{port}/: .*refused"):
            trial_network.request(f"http://127.0.0.1:{port}/")
        silent.listen()
        with pytest.raises(NoAnswer, match="timed out"):
            trial_network.request(f"http://127.0.0.1:{port}/", patience=0.2)


@pytest.mark.parametrize("said", [b"+OK ready\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ncut"])
def test_what_is_not_http_or_is_cut_off_is_no_answer(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            with server.accept()[0] as asked:
                asked.recv(1000)
                asked.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NoAnswer, match="GET http://.*: (BadStatusLine|IncompleteRead)"):
            trial_network.request(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root enters a network")
def test_what_is_answered_a_little_at_a_time_ends_too() -> None:
    done = threading.Event()
    with pytest.raises(NoAnswer, match="it was not answered in 0 s"):
        trial_network.inside(os.getpid(), done.wait, 0.2)
    done.set()


def test_a_port_is_open_if_something_listens() -> None:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        for one in (tcp, udp):
            one.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        assert "refused" in trial_network.accepts(f"{port}/tcp")
        tcp.listen()
        assert trial_network.accepts(f"{port}/tcp") == ""
        assert trial_network.accepts(f"{udp.getsockname()[1]}/udp") == ""
        number = udp.getsockname()[1]
    assert trial_network.accepts(f"{number}/udp") == "nothing listens there"


@pytest.mark.skipif(os.getuid() != 0, reason="only root enters a network")
def test_what_is_raised_inside_a_network_is_raised_outside() -> None:
    assert trial_network.inside(os.getpid(), lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        trial_network.inside(os.getpid(), lambda: 1 // 0)
    with pytest.raises(FileNotFoundError):
        trial_network.inside(1 << 30, lambda: 3)


@pytest.mark.parametrize(
    ("path", "log"),
    [("/data/access.log", True), ("/data/access.log.1", True), ("/data/log/access", True), ("/data/logs/a.txt", True),
     ("/data/access.log-20260101", True), ("/data/access.log.2.gz", True), ("/data/access.logic", False),
     ("/data/log.db", False), ("/data/catalog", False), ("/data/blog/post.txt", False)],
)
def test_what_looks_like_a_log_is_known_by_its_name(path: str, log: bool) -> None:
    assert bool(trial_container.LOG.search(path)) == log


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


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes and enters a PID namespace")
def test_what_an_image_started_is_its_own_and_what_the_engine_started_beside_it_is_not() -> None:
    service = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "sleep 611 & exec sleep 612"]
    with subprocess.Popen(service) as outer:
        try:
            _until(lambda: "sleep 611" in _commands(outer.pid))
            own = next(pid for pid, command in _below(outer.pid).items() if command == "sleep 612")
            with subprocess.Popen(["nsenter", f"--pid=/proc/{own}/ns/pid", "sleep", "613"]) as check:
                _until(lambda: "sleep 613" in _commands(check.pid))
                assert sorted(trial_container.processes(own).values()) == ["sleep 611", "sleep 612"]
                assert trial_container.processes(own)[own] == "sleep 612"
                check.kill()
        finally:
            outer.kill()
    assert trial_container.processes(1 << 30) == {}


def _below(pid: int) -> dict[int, str]:
    machine = proc.Proc()
    return {each: machine.command(each) for each in machine.pids() if pid in machine.ancestors(each)}


def _commands(pid: int) -> set[str]:
    return set(_below(pid).values())


def _until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Api:
    """What Podman's own interface answers; `error` is raised instead."""

    base_url = "http+docker://localhost"

    def __init__(self, status: int = 200, said: str = "", error: OSError | None = None) -> None:
        self.status_code, self.said, self.error, self.asked = status, said, error, ""

    def get(self, url: str, timeout: float) -> Any:
        self.asked = url
        if self.error:
            raise self.error
        return self

    def json(self) -> dict[str, str]:
        return {"Status": self.said}


@pytest.mark.parametrize(
    ("podman", "test", "api", "status"),
    [
        (False, ["CMD", "x"], Api(said="unhealthy"), "starting"),  # Docker checks by itself
        (True, ["CMD", "x"], Api(said="healthy"), "healthy"),
        (True, ["CMD", "x"], Api(409), "starting"),
        (True, ["CMD", "x"], Api(error=OSError("read timed out")), "unhealthy"),
        (True, None, Api(said="healthy"), "starting"),
    ],
)
def test_podman_is_told_to_check_now(podman: bool, test: list[str] | None, api: Api, status: str) -> None:
    container = SimpleNamespace(id="c1", attrs={"State": {"Health": {"Status": "starting"}},
                                                "Config": {"Healthcheck": {"Test": test} if test else None}})
    found = trial_container.health(SimpleNamespace(api=api), container, podman=podman, seconds=1)
    assert found == status
    assert api.asked == ("http+docker://localhost/v4.0.0/libpod/containers/c1/healthcheck" if podman and test else "")


def test_an_engine_that_is_gone_is_no_unhealthy_service() -> None:
    container = SimpleNamespace(id="c1", attrs={"State": {}, "Config": {"Healthcheck": {"Test": ["CMD", "x"]}}})
    with pytest.raises(ConnectionRefusedError):
        trial_container.health(SimpleNamespace(api=Api(error=ConnectionRefusedError())), container, podman=True,
                               seconds=1)


@pytest.mark.parametrize(("said", "podman"), [
    ({"Components": [{"Name": "Podman Engine"}]}, True), ({"Components": [{"Name": "Engine"}]}, False), ({}, False),
])
def test_podman_is_known_by_its_name(said: dict[str, Any], podman: bool) -> None:
    assert trial_container.is_podman(SimpleNamespace(version=lambda: said)) is podman


@pytest.mark.parametrize(("config", "signal"), [
    ({}, "SIGTERM"), ({"StopSignal": None}, "SIGTERM"), ({"StopSignal": "SIGQUIT"}, "SIGQUIT"),
    ({"StopSignal": 2}, "SIGINT"), ({"StopSignal": "15"}, "SIGTERM"),
])
def test_the_signal_that_asks_a_container_to_end_has_a_name(config: dict[str, Any], signal: str) -> None:
    assert trial_container.stop_signal(SimpleNamespace(attrs={"Config": config})) == signal


def test_a_process_that_has_ended_is_sent_nothing_whatever_the_engine_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _number: sent.append(pid))
    for pid in (0, -1, 7):
        trial_container.send(pid)
    assert sent == [7]


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes others")
def test_a_process_has_each_user_that_it_may_become() -> None:
    program = "import os, time; os.setresuid(2000, 2000, 0); print('x', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline()
            assert trial_container.users_of(process.pid) == [2000, 2000, 0, 2000]
        finally:
            process.kill()
    assert trial_container.users_of(1 << 30) == []


def test_a_log_that_goes_away_while_folders_are_looked_through_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                                                       ) -> None:
    for name in ("gone.log", "there.log"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(os.path, "islink", lambda path: path.endswith("gone.log") and os.unlink(path))
    assert trial_container.logs_in(os.getpid(), str(tmp_path)) == [f"{tmp_path}/there.log"]


class Engine:
    """An engine whose command runs until it is killed."""

    def __init__(self) -> None:
        self.api, self.process = self, subprocess.Popen(["sleep", "600"])

    def exec_create(self, container: str, command: list[str], environment: dict[str, str]) -> dict[str, str]:
        return {"Id": "1"}

    def exec_start(self, run: str) -> bytes:
        self.process.wait(20)
        return b"it began\n"

    def exec_inspect(self, run: str) -> dict[str, int]:
        return {"Pid": self.process.pid, "ExitCode": 137}


def test_a_command_that_does_not_end_in_an_image_is_killed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "RUNS", 0.2)
    made = trial.Trial(Engine(), "sha256:1", PROMISES, refused=Exception, shown="r/a@sha256:2", emulated=False)
    made._ask(SimpleNamespace(id="c1"), {"command": ["ask", "it"], "says": ""})
    assert [(one["check"], one["subject"], one["words"]) for one in made.findings] == [
        ("answers", "ask it", "ask it did not end within 0 s: it began")]


def test_what_a_killed_trial_left_is_removed_and_nothing_else() -> None:
    removed: list[str] = []

    def thing(name: str, **more: Any) -> Any:
        return SimpleNamespace(name=name, remove=lambda **_options: removed.append(name), **more)

    mine, other = trial_container.new_mark(), "1-1-0123456789ab"  # the number is another process's by now
    gone = f"{1 << 30}-5-0123456789ab"
    containers = [thing(mark, labels={trial_container.LABEL: mark}) for mark in (mine, other, gone, "somebody's")]
    volumes = [thing(f"desimages-{mark}-ab12") for mark in (mine, other, gone)]
    volumes += [thing(gone), thing("desimages-data")]
    images = [SimpleNamespace(id=f"image of {mark}", labels={trial_container.LABEL: mark}) for mark in (mine, gone)]
    listed: list[dict[str, str]] = []
    engine = SimpleNamespace(
        containers=SimpleNamespace(list=lambda all, filters: listed.append(filters) or containers),
        volumes=SimpleNamespace(list=lambda: volumes),
        images=SimpleNamespace(list=lambda all, filters: listed.append(filters) or images,
                               remove=lambda name, force: removed.append(name)))
    trial_container.remove_orphans(engine)
    assert removed == [other, gone, f"desimages-{other}-ab12", f"desimages-{gone}-ab12", f"image of {gone}"]
    assert listed == 2 * [{"label": trial_container.LABEL}]


def test_a_process_that_never_began_is_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine has the number 0 for it, and a signal to 0 would reach everything beside this process."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(pid))
    for pid in (0, -1, 41):
        trial_container.send(pid)
    assert sent == [41]


def test_a_log_that_is_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gone.log", "there.log"):
        (tmp_path / name).write_text("x")

    def size(path: str) -> int:
        if "gone" in path:
            raise FileNotFoundError(path)
        return 1

    monkeypatch.setattr(os.path, "getsize", size)
    assert trial_container.logs_in(os.getpid(), str(tmp_path)) == [f"{tmp_path}/there.log"]


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
