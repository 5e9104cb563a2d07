"""How a trial asks a service from inside its network."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import (
    trial_network,
)
from ansible_collections.desimages.farm.plugins.module_utils.trial_network import NoAnswer


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
    with pytest.raises(NoAnswer, match="it was not answered within 0 s"):
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


@contextmanager
def bound(address: str, kind: str, port: int = 0, *, both: bool = False) -> Iterator[int]:
    """A socket that waits for others at a port, with `both` for IPv4 and IPv6."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                       socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as one:
        if ":" in address:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        one.bind((address, port))
        if kind == "tcp":
            one.listen()
        yield one.getsockname()[1]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_port_that_is_open_for_ipv6_alone_is_not_reached_by_most(kind: str) -> None:
    with bound("::", kind, both=True) as port:
        assert trial_network.hidden(f"{port}/{kind}") == ""
    with bound("::", kind) as port:
        assert trial_network.accepts(f"{port}/{kind}") == ""
        assert "IPv6 only" in trial_network.hidden(f"{port}/{kind}")


def test_ports_that_are_open_to_others_are_known_or_told() -> None:
    for address in ("0.0.0.0", "::"):
        with bound(address, "tcp") as port:
            assert f"{port}/tcp" in trial_network.others([])
            assert f"{port}/tcp" not in trial_network.others([f"{port}/tcp"])
    for address in ("127.0.0.1", "::1"):
        with bound(address, "tcp") as port:
            assert f"{port}/tcp" not in trial_network.others([])
    with bound("0.0.0.0", "udp") as port:  # the kernel chose it
        assert f"{port}/udp" not in trial_network.others([])
    for port in range(20000, 20100):
        with suppress(OSError), bound("0.0.0.0", "udp", port):
            assert f"{port}/udp" in trial_network.others([])
            break
    else:
        pytest.fail("no port is free")


@pytest.mark.parametrize(("addresses", "said"), [
    (["127.0.0.1"], "127.0.0.1"), (["127.0.0.1", "::1"], "127.0.0.1 and ::1"), (["::ffff:127.0.0.1"], "127.0.0.1"),
    (["0.0.0.0"], ""), (["::1", "0.0.0.0"], ""), (["::", "0.0.0.0"], ""),
])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_port_on_loopback_alone_is_for_nobody_else(addresses: list[str], said: str, kind: str) -> None:
    with ExitStack() as stack:
        port = 0
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            one = stack.enter_context(socket.socket(
                family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM))
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, "ffff" not in address)
            one.bind((address, port))
            port = one.getsockname()[1]
            if kind == "tcp":
                one.listen()
        assert trial_network.hidden(f"{port}/{kind}") == (
            f"it listens on {said} only, where nothing outside the container can reach it" if said else "")


@pytest.mark.skipif(os.getuid() != 0, reason="only root enters a network")
def test_what_is_raised_inside_a_network_is_raised_outside() -> None:
    assert trial_network.inside(os.getpid(), lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        trial_network.inside(os.getpid(), lambda: 1 // 0)
    with pytest.raises(FileNotFoundError):
        trial_network.inside(1 << 30, lambda: 3)
