"""Answers that no server should give, and addresses that are none: each ends in words, soon, and costs one file."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, Missing, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import addresses, pace
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import download as downloads
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine, apt_logins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client, download, first_contact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store

from .test_registry_waits import talker

BODY = b"x" * 1000
SHA = hashlib.sha256(BODY).hexdigest()
MOVED = "302 Found\r\nContent-Length: 0\r\nLocation: "
BUSY = "503 Busy\r\nContent-Length: 0\r\nRetry-After: "


def quick() -> Client:
    """A client that waits for nothing, and tries little."""
    return Client(Machine(), apt=False, patience=2, sleep=lambda seconds: None)


@pytest.mark.parametrize("answer", [
    f"{MOVED}file:///etc/hostname",
    f"{MOVED}ftp://127.0.0.1/f",
    f"{MOVED}http://[::1",
    f"{MOVED}http://127.0.0.1:99999/f",
    f"{MOVED}http:///f",
    f"{BUSY}\xb2",
    f"{BUSY}Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    f"{BUSY}Mon, 01 Jan 2020 00:00:00 +99999999999999999999",
    "206 Part\r\nContent-Length: 1000",
    "416 Range\r\nContent-Length: 0",
    "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxx",
])
def test_an_answer_that_cannot_be_is_an_error_in_words(tmp_path: Path, answer: str) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.send(f"HTTP/1.1 {answer}\r\n\r\n".encode("latin-1"))

    with talker(talk) as address:
        client = Client(Machine(), apt=False, patience=0, sleep=lambda seconds: None)
        for fetch in (lambda url: download(client, [url], SHA, len(BODY), Store(tmp_path)),
                      lambda url: first_contact(client, url, tmp_path / "first")):
            with pytest.raises(Unreachable):
                fetch(f"http://{address}/f")


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-5"])
def test_a_length_that_is_no_number_is_passed_over(tmp_path: Path, length: str) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode("latin-1") + BODY)

    with talker(talk) as address:
        assert download(quick(), [f"http://{address}/f"], SHA, len(BODY), Store(tmp_path)).read_bytes() == BODY


def test_a_redirect_out_of_tls_is_not_followed() -> None:
    with pytest.raises(Unreachable, match="which is not TLS"):
        addresses.led("https://upstream.example/f", "http://elsewhere.example/f")
    assert addresses.led("https://upstream.example/f", "/g") == "https://upstream.example/g"
    assert addresses.led("http://mirror.example/f", "http://other.example/f") == "http://other.example/f"


def test_a_circle_of_redirects_is_told_at_once(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: /f\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with talker(lambda peer: peer.recv(65536) and peer.send(answer)) as address:
        client = Client(Machine(), apt=False, sleep=lambda seconds: pytest.fail("it is tried again"))
        for fetch in (client.gone, lambda url: first_contact(client, url, tmp_path / "first")):
            with pytest.raises(Unreachable, match="redirects more than 5 times") as error:
                fetch(f"http://me:s3cret@{address}/f")
            assert "s3cret" not in str(error.value) and "login" in error.value.hint


@pytest.mark.parametrize(("name", "encoding", "good"), [
    ("f", "gzip", False), ("f.bin", "br", False), ("f.tar.gz", "x-gzip", True), ("f", "identity", True)])
def test_what_is_compressed_on_the_way_is_not_taken_for_the_file(
        tmp_path: Path, name: str, encoding: str, good: bool) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with talker(lambda peer: peer.recv(65536) and peer.sendall(answer)) as address:
        if good:
            assert first_contact(quick(), f"http://{address}/{name}", tmp_path / "first")[1] == SHA
            return
        with pytest.raises(Unreachable, match=f"arrives compressed .{encoding}."):
            first_contact(quick(), f"http://{address}/{name}", tmp_path / "first")
        for size in (len(BODY), None):  # its hash says whether it is right
            assert download(quick(), [f"http://{address}/{name}"], SHA, size, Store(tmp_path / str(size)))


@pytest.mark.parametrize("url", ["http://[::1/f", "ftp://127.0.0.1/f", "http:///f", "f", "http://127.0.0.1:99999/f"])
def test_an_address_that_is_none_is_refused_at_once(tmp_path: Path, url: str) -> None:
    client = Client(Machine(), apt=False, sleep=lambda seconds: pytest.fail("it is tried again"))
    for fetch in (client.gone, lambda url: download(client, [url], SHA, len(BODY), Store(tmp_path))):
        with pytest.raises(Unreachable, match="nothing can be fetched from"):
            fetch(url)


def test_what_is_no_file_on_a_disk_is_told_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "loop", "folder", "device", "n" * 300, "a%00b"):
        url = f"file://{tmp_path}/{name}"
        for fetch in (quick().gone, lambda url: first_contact(quick(), url, tmp_path / "first")):
            with pytest.raises(Unreachable):
                fetch(url)
    (tmp_path / "file").write_bytes(BODY)
    (tmp_path / "link").symlink_to("file")
    assert first_contact(quick(), f"file://{tmp_path}/link", tmp_path / "first")[1] == SHA
    with pytest.raises(Missing):
        first_contact(quick(), f"file://{tmp_path}/none", tmp_path / "first")


def test_a_server_that_gives_a_byte_now_and_then_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _each in range(1000):
            peer.send(b"x")
            time.sleep(0.05)

    monkeypatch.setattr(pace, "GRACE", 0.3)
    monkeypatch.setattr(downloads, "TIMEOUT", downloads.urllib3.Timeout(connect=0.3, read=0.3))
    with talker(talk) as address:
        began = time.monotonic()
        client = Client(Machine(), apt=False, patience=1, sleep=time.sleep)
        with pytest.raises(Unreachable):
            download(client, [f"http://{address}/f"], SHA, len(BODY), Store(tmp_path))
        assert time.monotonic() - began < 10


def test_a_server_that_gives_a_byte_a_connection_is_given_up(tmp_path: Path) -> None:
    asked = []

    def talk(peer: socket.socket) -> None:
        request = peer.recv(65536)
        at = int(request.split(b"bytes=")[1].split(b"-")[0]) if b"bytes=" in request else 0
        asked.append(at)
        head = f"HTTP/1.1 {'206 Part' if at else '200 OK'}\r\nContent-Range: bytes {at}-999/1000\r\n"
        peer.send(f"{head}Content-Length: {1000 - at}\r\n\r\nx".encode())

    now = [0.0]
    client = Client(Machine(), apt=False, patience=20, sleep=lambda seconds: now.append(now.pop() + seconds),
                    clock=lambda: now[0])
    with talker(talk) as address, pytest.raises(FarmError, match="the connection ended|Connection broken"):
        download(client, [f"http://{address}/f"], SHA, len(BODY), Store(tmp_path))
    assert len(asked) < 50


def test_logins_of_apt_may_have_lines_that_nobody_can_read(tmp_path: Path) -> None:
    text = b"# \xff\nmachine http://[::1 login x password y\nmachine mirror.example login a password b\n"
    (tmp_path / "auth.conf").write_bytes(text)
    assert [entry.host for entry in apt_logins(str(tmp_path))] == ["mirror.example"]


PAGE = b"\n<!-- x -->\n<!DOCTYPE html><html><head><title>Log\n in</title></head>"


def page(length: bool) -> bytes:
    said = f"Content-Length: {len(PAGE)}\r\n" if length else ""
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n{said}\r\n".encode() + PAGE


@pytest.mark.parametrize("size", [len(BODY), len(PAGE), None])
@pytest.mark.parametrize("length", [True, False])
def test_a_page_in_place_of_a_file_is_told_as_that(tmp_path: Path, length: bool, size: int | None) -> None:
    """It is no sign that somebody changed the file."""
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(page(length))

    with talker(talk) as address, pytest.raises(HashMismatch, match="it is a page, 'Log in'") as error:
        download(quick(), [f"http://{address}/f"], SHA, size, Store(tmp_path))
    assert "a login, a proxy" in error.value.hint


@pytest.mark.parametrize(("name", "locked"), [("f.tar.gz", False), ("f.jar", False), ("f.txt", True), ("f", True)])
def test_nothing_is_not_locked_as_an_archive(tmp_path: Path, name: str, locked: bool) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with talker(talk) as address:
        if locked:
            assert first_contact(quick(), f"http://{address}/{name}", tmp_path)[2] == 0
            return
        with pytest.raises(Unreachable, match="not what its name says: it is empty"):
            first_contact(quick(), f"http://{address}/{name}", tmp_path)


@pytest.mark.parametrize(("name", "locked"), [
    ("f.tar.gz", False), ("f.PEM", False), ("sha256sums", True), ("f.sha256sums", False), ("index.html", True),
    ("page.html.j2", True), ("f", True),
])
def test_a_page_is_not_locked_as_a_file_that_is_none(tmp_path: Path, name: str, locked: bool) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(page(length=True))

    with talker(talk) as address:
        if locked:
            assert first_contact(quick(), f"http://{address}/{name}?x", tmp_path)[2] == len(PAGE)
            return
        with pytest.raises(Unreachable, match="not what its name says: it is a page, 'Log in'"):
            first_contact(quick(), f"http://{address}/{name}?x", tmp_path)
    assert list(tmp_path.iterdir()) == []
