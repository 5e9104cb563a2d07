"""The registry's client never waits for ever, and asks again where that may help."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import pace
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import http
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .faulty import Faulty, Reply, digest

TO = digest(b"what is pushed")


@contextmanager
def talker(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listens, and lets `talk` answer each connection."""

    def one(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            talk(peer)

    def serve() -> None:
        while True:
            try:
                peer, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(peer,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _drip(peer: socket.socket, text: bytes) -> None:
    peer.recv(65536)
    for letter in text:
        peer.send(bytes([letter]))
        time.sleep(0.05)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    "talk",
    [
        lambda peer: _drip(peer, HEAD * 100),
        lambda peer: (peer.send(HEAD), _drip(peer, b"x" * 1000)),
        lambda peer: _drip(peer, b"X: y\r\n" * 999),
        lambda peer: (peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), _drip(peer, b"0" * 1000)),
        lambda peer: time.sleep(30),
    ],
)
def test_a_registry_that_hardly_answers_is_given_up(
    talk: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "GRACE", 0.5)
    monkeypatch.setattr(http, "ANSWERS", http.urllib3.Timeout(connect=0.3, read=0.3))
    with talker(talk) as address:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            Registry(address, pauses=()).manifest("a/b", "v1")
        assert time.monotonic() - began < 3


def test_an_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.send(b"x" * 65536)

    monkeypatch.setattr(http, "LARGEST", 1 << 20)
    with talker(talk) as address, pytest.raises(RegistryError, match="the answer has more than 1 MiB"):
        Registry(address).manifest("a/b", "v1")


def test_a_registry_that_takes_nothing_in_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def talk(peer: socket.socket) -> None:
        asked = peer.recv(65536)
        if asked.startswith(b"PUT"):
            time.sleep(20)
        code = b"404 No" if asked.startswith(b"HEAD") else b"202 Go\r\nLocation: /v2/a/b/blobs/uploads/1"
        peer.send(b"HTTP/1.1 " + code + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    monkeypatch.setattr(http, "TAKES_IN", http.urllib3.Timeout(connect=0.3, read=0.3))
    (tmp_path / "large").write_bytes(b"x" * (32 << 20))
    with talker(talk) as address:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="a blob of .* cannot be pushed"):
            Registry(address, pauses=()).put_blob("a/b", tmp_path / "large", TO)
        assert time.monotonic() - began < 5


def test_a_registry_that_takes_little_in_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each piece goes within the timeout of its own, and all of them would take minutes."""

    def talk(peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        while peer.recv(1 << 12):
            time.sleep(0.01)

    monkeypatch.setattr(http, "TAKES_IN", http.urllib3.Timeout(connect=1, read=1))
    monkeypatch.setattr(http, "SLOWEST", 10**9)
    (tmp_path / "large").write_bytes(b"x" * (64 << 20))
    with talker(talk) as address:
        wire = http.Wire(f"http://{address}", direct=True, pauses=(), threads=1)
        began = time.monotonic()
        with pytest.raises(Unreachable, match="slower than"):
            wire.ask("PUT", f"http://{address}/v2/", {}, tmp_path / "large")
        assert time.monotonic() - began < 10


def test_a_registry_that_fails_for_a_while_is_asked_again_and_not_for_ever(faulty: Faulty) -> None:
    faulty.image("a/b", "v1")
    faulty.answers["GET"] = [Reply(503), Reply(429, {"Retry-After": "0"}), Reply(500)]
    assert Registry(faulty.address, pauses=(0, 0, 0)).manifest("a/b", "v1")
    faulty.answers["GET"] = [Reply(500)] * 9
    with pytest.raises(Unreachable, match="HTTP 500"):
        Registry(faulty.address, pauses=(0, 0, 0)).manifest("a/b", "v1")
    assert faulty.count("GET") == 8


def test_a_registry_that_wants_to_be_left_alone_for_hours_is_told_at_once(faulty: Faulty) -> None:
    faulty.answers["GET"] = [Reply(429, {"Retry-After": "21600"})] * 9
    with pytest.raises(RegistryError, match="HTTP 429; Retry-After: 21600"):
        Registry(faulty.address).manifest("a/b", "v1")
    assert faulty.count("GET") == 1


def test_a_registry_in_the_clear_where_tls_is_spoken_is_told_at_once() -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(100)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    wire = http.Wire("https://127.0.0.1", direct=True, pauses=http.PAUSES, threads=1)
    began = time.monotonic()
    with (
        talker(talk) as address,
        pytest.raises(RegistryError, match="the farm uses plain HTTP on loopback, and TLS elsewhere"),
    ):
        wire.ask("GET", f"https://{address}/v2/", {})
    assert time.monotonic() - began < 5


@dataclass
class Proxy:
    """Takes the first request of each connection, and lets nobody through."""

    address: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    found = Proxy()

    def talk(peer: socket.socket) -> None:
        found.asked.append(peer.recv(4096).decode())
        peer.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with talker(talk) as found.address:
        yield found


def test_a_registry_elsewhere_is_asked_through_the_proxy_and_one_here_is_not(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.address}")
    monkeypatch.setenv("no_proxy", "0.0.0.0")
    with pytest.raises(Unreachable) as error:
        Registry("registry.example.org", pauses=()).digest("a", "b")
    assert proxy.asked[0].startswith("CONNECT registry.example.org:443")
    assert base64.b64encode(b"me:secret").decode() in proxy.asked[0]
    assert "secret" not in str(error.value)
    assert not Registry("0.0.0.0", pauses=()).answers()
    assert not Registry("127.0.0.1:1", pauses=()).answers()
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "head",
    [
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxx",
        "429 Wait\r\nContent-Length: 0\r\nRetry-After: Mon, 01 Jan 99999999999999999999 00:00:00 GMT\r\n\r\n",
        "429 Wait\r\nContent-Length: 0\r\nRetry-After: " + "9" * 5000 + "\r\n\r\n",
    ],
)
def test_a_number_that_cannot_be_is_an_error_in_words(head: str) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.send(f"HTTP/1.1 {head}".encode())

    with talker(talk) as address, pytest.raises((Unreachable, RegistryError)):
        Registry(address, pauses=()).manifest("a/b", "v1")


def test_a_registry_that_says_to_go_on_for_ever_is_given_up() -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        while True:
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    with talker(talk) as address, pytest.raises(Unreachable):
        Registry(address, pauses=()).manifest("a/b", "v1")


def test_a_list_that_goes_on_with_the_same_names_is_given_up() -> None:
    pages = iter(range(10**6))

    def talk(peer: socket.socket) -> None:
        while peer.recv(65536):
            body = b'{"tags": ["v1"]}'
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nLink: <?last={next(pages)}>; rel=next\r\n\r\n"
            peer.send(head.encode() + body)

    with talker(talk) as address, pytest.raises(RegistryError, match="does not end"):
        Registry(address, pauses=()).tags("a/b")
    assert next(pages) < 100
