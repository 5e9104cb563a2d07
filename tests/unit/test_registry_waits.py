"""The registry's client never waits for ever, and asks again where that may help."""

from __future__ import annotations

import base64
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import pace
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import http, oci
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
        wire = http.Wire(f"http://{address}", pauses=(), threads=1)
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
        peer.recv(65536)  # all of it: closing with unread bytes resets the connection, and may take the answer along
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    wire = http.Wire("https://127.0.0.1", pauses=http.PAUSES, threads=1)
    began = time.monotonic()
    with (
        talker(talk) as address,
        pytest.raises(RegistryError, match="use an address that does"),
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
    with pytest.raises(RegistryError) as error:
        Registry("registry.example.org", pauses=()).digest("a", "b")
    assert proxy.asked[0].startswith("CONNECT registry.example.org:443")
    assert base64.b64encode(b"me:secret").decode() in proxy.asked[0]
    assert "secret" not in str(error.value)
    assert not Registry("0.0.0.0", pauses=()).answers()
    assert not Registry("127.0.0.1:1", pauses=()).answers()
    assert len(proxy.asked) == 1


def test_where_a_registry_here_leads_is_asked_through_the_proxy(
    proxy: Proxy, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
    monkeypatch.delenv("no_proxy", raising=False)
    faulty.answers["HEAD /v2/a/b/blobs/"] = [Reply(307, {"Location": "https://storage.example.org/x"})]
    with pytest.raises(RegistryError, match="https://storage.example.org, where the registry .* leads, cannot be"):
        Registry(faulty.address, pauses=()).has_blob("a/b", TO)
    assert proxy.asked[0].startswith("CONNECT storage.example.org:443")


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


# --- how long a registry is left alone, by a clock that only sleeping moves ---


@dataclass
class Clock:
    """Stands in for the module `time`."""

    now: float = 0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(http, "time", found)
    return found


def in_seconds(seconds: int) -> str:
    """An HTTP date. Half a second is added, as it has no fractions."""
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds + 0.5), usegmt=True)


@pytest.mark.parametrize("asks", ["100", " 100 ", "a date"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_registry_is_left_alone_as_long_as_it_asks(faulty: Faulty, clock: Clock, status: int, asks: str) -> None:
    faulty.image("a/b", "v1")
    asks = in_seconds(100) if asks == "a date" else asks
    faulty.answers["GET"] = [Reply(status, {"Retry-After": asks})]
    registry, told = Registry(faulty.address), list[str]()
    registry.on_trouble(told.append)
    assert registry.manifest("a/b", "v1")
    assert len(clock.slept) == 1 and 98 <= clock.slept[0] <= 101
    assert told == [f"the registry http://{faulty.address} fails: HTTP {status}; trying again for up to 180 s"]


@pytest.mark.parametrize("asks", [None, "0", "-5", "soon", "1.5", "", "NaN", "1e3", "1, 2", "a date in the past"])
def test_a_registry_that_does_not_say_how_long_is_asked_again_as_usual(faulty: Faulty, clock: Clock,
                                                                       asks: str | None) -> None:
    faulty.image("a/b", "v1")
    asks = in_seconds(-1000) if asks == "a date in the past" else asks
    faulty.answers["GET"] = [Reply(429, {} if asks is None else {"Retry-After": asks})] * 4
    assert Registry(faulty.address).manifest("a/b", "v1")
    assert clock.slept == [0, 1, 2, 4]


@pytest.mark.parametrize(("asks", "slept"), [(None, 180), ("0", 180), ("7", 201), ("100", 200), ("240", 240)])
def test_a_registry_that_wants_to_be_left_alone_without_end_is_given_up(
    faulty: Faulty, clock: Clock, asks: str | None, slept: float
) -> None:
    faulty.answers["GET"] = [Reply(429, {"Retry-After": asks} if asks else {})] * 99
    registry, told = Registry(faulty.address), list[str]()
    registry.on_trouble(told.append)
    with pytest.raises(Unreachable, match=f"HTTP 429; Retry-After: {asks or 'not given'}\n.*try later"):
        registry.manifest("a/b", "v1")
    assert sum(clock.slept) == slept <= http.LONGEST
    assert len(told) == 1


@pytest.mark.parametrize("asks", ["21600", "9" * 30, "1795432958", "a date"])
@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_hours_is_told_at_once(faulty: Faulty, clock: Clock, status: int, asks: str) -> None:
    asks = in_seconds(21600) if asks == "a date" else asks
    faulty.answers["POST"] = [Reply(status, {"Retry-After": asks})] * 9
    with pytest.raises(RegistryError, match=f"HTTP {status}; Retry-After: {asks}"):
        Registry(faulty.address).put_blob("a/b", b"what is pushed", TO)
    assert (clock.slept, faulty.count("POST")) == ([], 1)


# --- answers of another length than they say ---


def talks(*answers: bytes) -> Callable[[socket.socket], None]:
    """Gives each request of a connection the next of some answers, and then closes it."""

    def talk(peer: socket.socket) -> None:
        for answer in answers:
            peer.recv(65536)
            peer.sendall(answer)

    return talk


def answer(body: bytes, length: int | None = None, head: str = "") -> bytes:
    said = "" if length is None else f"Content-Length: {length}\r\n"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {oci.MANIFEST}\r\n{said}{head}\r\n".encode() + body


BODY = b'{"tags": ["v1"]}'


@pytest.mark.parametrize("talk", [
    talks(answer(BODY, len(BODY) + 1)),
    talks(answer(BODY[:0], len(BODY))),
    talks(answer(b"20\r\n" + BODY, head="Transfer-Encoding: chunked\r\n")),
    talks(answer(b"10\r\n" + BODY + b"\r\n", head="Transfer-Encoding: chunked\r\n")),
    talks(answer(b"zz\r\n" + BODY, head="Transfer-Encoding: chunked\r\n")),
    talks(b""),
    talks(b"HTTP/1.1 20"),
    talks(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
])
def test_an_answer_that_is_cut_short_is_no_answer(talk: Callable[[socket.socket], None]) -> None:
    with talker(talk) as address:
        registry = Registry(address, pauses=())
        for act in (lambda: registry.manifest("a/b", TO), lambda: list(registry.blob("a/b", TO)),
                    lambda: registry.tags("a/b")):
            with pytest.raises(Unreachable) as error:
                act()
            assert not re.search(r"\('|\(\"|Incomplete|Disconnected|BadStatus|\n\n", str(error.value))


def test_what_broke_off_is_asked_for_again() -> None:
    answers = iter([answer(BODY, 99), answer(BODY, len(BODY))])

    def one(peer: socket.socket) -> None:
        talks(next(answers))(peer)

    with talker(one) as address:
        assert Registry(address, pauses=(0,)).tags("a/b") == ["v1"]


@pytest.mark.parametrize("told", [
    answer(BODY),  # to the end of the connection
    answer(b"7\r\n" + BODY[:7] + b"\r\n9;x=y\r\n" + BODY[7:] + b"\r\n0\r\nX: y\r\n\r\n",
           head="Transfer-Encoding: chunked\r\n"),
    b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
])
def test_an_answer_of_no_given_length_is_read_to_its_end(told: bytes) -> None:
    with talker(talks(told)) as address:
        assert Registry(address, pauses=()).tags("a/b") == ["v1"]


def test_what_comes_after_an_answer_is_not_taken_for_the_next(faulty: Faulty) -> None:
    """A registry that sends more than it says, or a body where there is none."""
    forged = answer(BODY.replace(b"v1", b"v9"), len(BODY))
    with talker(talks(answer(BODY, len(BODY)) + forged, answer(BODY, len(BODY)))) as address:
        registry = Registry(address, pauses=())
        assert [registry.tags("a/b"), registry.tags("a/b")] == [["v1"], ["v1"]]


def test_a_token_that_ends_in_the_middle_of_an_upload_is_replaced(tmp_path: Path) -> None:
    """The registry closes the connection without reading the rest, so the answer may be lost: the upload begins anew.
    """
    tokens, kept = iter(range(1, 99)), list[bytes]()
    valid = [1]

    def talk(peer: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (piece := peer.recv(4096)):
            head += piece
        asked, _empty, body = head.partition(b"\r\n\r\n")
        here = "{}:{}".format(*peer.getsockname())

        def say(status: str, more: str = "", body: bytes = b"") -> None:
            peer.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n".encode()
                         + body)

        if asked.startswith(b"GET /token"):
            number = next(tokens)
            valid[0] = max(valid[0], number)  # before the answer: the client may use it at once
            say("200 OK", body=b'{"token": "t%d"}' % number)
        elif b"Bearer t%d" % valid[0] not in asked:
            say("401 No", f'WWW-Authenticate: Bearer realm="http://{here}/token"\r\n')
        elif asked.startswith(b"PUT") and valid[0] < 3:
            valid[0] = 3  # it has just expired
            say("401 No", f'WWW-Authenticate: Bearer realm="http://{here}/token"\r\n')
        elif asked.startswith(b"PUT"):
            length = int(re.search(rb"Content-Length: ([0-9]+)", asked)[1])  # type: ignore[index]
            while len(body) < length:
                body += peer.recv(1 << 20)
            kept.append(body)
            say("201 Created", f"Docker-Content-Digest: {digest(body)}\r\n")
        else:
            say("404 No" if asked.startswith(b"HEAD") else "202 Go", "Location: /v2/a/b/blobs/uploads/1\r\n")

    (tmp_path / "large").write_bytes(b"x" * (32 << 20))
    with talker(talk) as address:
        assert Registry(address, pauses=(0, 0)).put_blob("a/b", tmp_path / "large", digest(b"x" * (32 << 20)))
    assert [len(body) for body in kept] == [32 << 20]
