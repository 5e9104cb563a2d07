"""How a trial asks a service from inside its network. Trials of real images are in tests/integration/test_verify.py."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import trial, trial_container, trial_network
from ansible_collections.desimages.farm.plugins.module_utils.trial_network import NoAnswer

PROMISES: dict[str, Any] = {
    "command": ["serve", "it's"], "environment": {"A": "b c"}, "user": 2000, "ports": {}, "health": {}, "metrics": "",
    "volumes": ["/data"], "tmpfs": ["/run"], "answers": [], "refuses": [],
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
def serving() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_any_status_is_an_answer_and_a_redirect_is_not_followed() -> None:
    with serving() as url:
        assert trial_network.request(f"{url}/") == (200, "GET ")
        assert trial_network.request(f"{url}/", "POST", "more") == (200, "POST more")
        assert trial_network.request(f"{url}/gone")[0] == 404
        assert trial_network.request(f"{url}/moved")[0] == 302


def test_a_service_that_does_not_answer_is_said_with_its_address() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(NoAnswer, match=f"GET http://127.0.0.1:{port}/: .*refused"):
            trial_network.request(f"http://127.0.0.1:{port}/")
        silent.listen()
        with pytest.raises(NoAnswer, match="timed out"):
            trial_network.request(f"http://127.0.0.1:{port}/", patience=0.2)


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
                   "--cap-add=SETUID --tmpfs=/run --tmpfs=/data --user=31337 '--env=A=b c' r/a@sha256:2 serve "
                   "'it'\"'\"'s'"}]
