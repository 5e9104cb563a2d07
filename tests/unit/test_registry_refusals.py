"""What registries refuse, for a while or for good, as those of others do it: each is told at once, or waited for."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import auth, client, http, oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .faulty import Asked, Faulty, Reply, digest, to
from .test_registry_waits import Clock, talker

DATA = b"what is pushed"
TO = digest(DATA)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(http, "time", found)
    monkeypatch.setattr(client, "time", found)
    return found


def said(status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, headers or {}, json.dumps({"errors": [{"code": code, "message": message}]}).encode())


# --- what passes, and what does not ---


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 522, 527])
def test_what_passes_is_tried_again(faulty: Faulty, clock: Clock, status: int) -> None:
    """A CDN in front of a registry has statuses of its own for a server that it does not reach."""
    faulty.image("a/b", "v1")
    faulty.answers = {"GET": [Reply(status)], "PUT": [Reply(status)]}
    assert Registry(faulty.address).manifest("a/b", "v1")
    assert Registry(faulty.address).put_blob("a/b", DATA, TO)


@pytest.mark.parametrize("status", [501, 505, 507, 511, 530])
def test_what_does_not_pass_is_told_at_once(faulty: Faulty, clock: Clock, status: int) -> None:
    faulty.answers = {method: [Reply(status, body=b"quota exceeded")] * 99 for method in ("GET", "PUT")}
    for act in (lambda: Registry(faulty.address).manifest("a/b", "v1"),
                lambda: Registry(faulty.address).put_blob("a/b", DATA, TO)):
        with pytest.raises(RegistryError, match=f"HTTP {status} quota exceeded") as error:
            act()
        assert "later" not in error.value.hint
    assert clock.slept == [] and faulty.count("PUT") == 1


def test_an_upload_waits_as_long_as_the_registry_asks(faulty: Faulty, clock: Clock) -> None:
    faulty.answers["PUT"] = [Reply(429, {"Retry-After": "60"})] * 3
    assert Registry(faulty.address).put_blob("a/b", DATA, TO)
    assert clock.slept == [60, 60, 60]


def test_an_upload_that_is_never_taken_is_given_up_and_told_once(faulty: Faulty, clock: Clock) -> None:
    faulty.answers["PUT"] = [Reply(503, {"Retry-After": "100"})] * 99
    with pytest.raises(Unreachable) as error:
        Registry(faulty.address).put_blob("a/b", DATA, TO)
    assert clock.slept == [100, 100]
    assert str(error.value).count("what to do") == 1


@pytest.mark.parametrize("words", ["You have reached your pull rate limit as 'me'",
                                   "You have reached your unauthenticated pull rate limit."])
def test_a_limit_that_lasts_for_hours_is_told_at_once(faulty: Faulty, clock: Clock, words: str) -> None:
    faulty.answers["GET"] = [said(429, "TOOMANYREQUESTS", words)] * 99
    with pytest.raises(RegistryError, match=words):
        Registry(faulty.address).manifest("a/b", "v1")
    assert clock.slept == []


def test_a_repository_that_must_be_made_first_is_told_at_once(faulty: Faulty, clock: Clock) -> None:
    faulty.answers["POST"] = [said(404, "NAME_UNKNOWN", "The repository with name 'a/b' does not exist")] * 9
    with pytest.raises(RegistryError, match="'a/b' does not exist") as error:
        Registry(faulty.address).put_blob("a/b", DATA, TO)
    assert "make the repository there first" in error.value.hint
    assert (clock.slept, faulty.count("POST")) == ([], 1)


# --- tags that never move ---


@pytest.mark.parametrize("refusal", [
    said(400, "TAG_INVALID"), said(403, "DENIED"), said(405, "UNSUPPORTED"), said(409, "CONFLICT"),
    said(412, "PRECONDITION"),
])
def test_a_tag_that_never_moves_need_not_be_pushed_again(faulty: Faulty, refusal: Reply) -> None:
    """Some of these registries refuse a tag that they have, even if it would not move."""
    faulty.hold("a/b", "v1", b"{}")
    faulty.answers["PUT"] = [refusal] * 2
    assert to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST) == digest(b"{}")
    with pytest.raises(RegistryError, match=f"HTTP {refusal.status}"):
        to(faulty).put_manifest("a/b", "v1", b'{"other": 1}', oci.MANIFEST)


# --- who is no registry ---


def test_a_page_that_answers_to_everything_is_no_registry(faulty: Faulty) -> None:
    faulty.guard = lambda asked: Reply(200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>Log in</title>")
    acts: list[Callable[[Registry], object]] = [
        lambda registry: registry.digest("a/b", "v1"), lambda registry: registry.manifest("a/b", "v1"),
        lambda registry: registry.tags("a/b"), lambda registry: registry.answers(),
        lambda registry: registry.put_manifest("a/b", "v1", b"{}", oci.MANIFEST),
        lambda registry: registry.delete_manifest("a/b", TO),
    ]
    for act in acts:
        with pytest.raises(RegistryError, match=r"a page answers \(Log in\), and no registry"):
            act(to(faulty))
    with pytest.raises(RegistryError, match="a page answers, and no registry"):
        to(faulty).has_blob("a/b", TO)


def test_what_a_registry_calls_a_page_is_none(faulty: Faulty) -> None:
    kind = {"Content-Type": "text/html; charset=utf-8"}
    faulty.answers = {"GET /v2/$": [Reply(200, kind, b"true")], "GET .*/tags": [Reply(200, kind, b'{"tags": ["v1"]}')],
                      "DELETE": [Reply(200, kind)], "GET .*/blobs/": [Reply(200, kind, DATA)]}
    assert to(faulty).answers()
    assert to(faulty).tags("a/b") == ["v1"]
    assert to(faulty).delete_manifest("a/b", TO)
    assert b"".join(to(faulty).blob("a/b", TO)) == DATA


@pytest.mark.parametrize("late", [0, 0.1])
def test_an_answer_that_only_says_that_one_will_come_is_none(late: float) -> None:
    """The one that comes must not be taken for the answer to the next request."""
    def talk(peer: socket.socket) -> None:
        for number in range(9):
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n")
            time.sleep(late)
            body = json.dumps({"tags": [str(number)]}).encode()
            peer.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    with talker(talk) as address:
        registry = Registry(address, pauses=())
        assert [registry.tags("a/b") for _time in range(3)] == [["0"], ["1"], ["2"]]


# --- logins ---


def test_a_login_that_is_refused_is_not_tried_by_each_thread(
    faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some lock out for an hour who tries a wrong password often."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    word = base64.b64encode(b"me:wrong").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {faulty.address: {"auth": word}}}))

    def guard(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            time.sleep(0.01)
            return Reply(401, body=b'{"details": "incorrect username or password"}')
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{faulty.address}/token"'})

    faulty.guard = guard
    registry = Registry(faulty.address)

    def told(tag: str) -> str:
        with pytest.raises(RegistryError) as error:
            registry.digest("a/b", tag)
        return str(error.value)

    with ThreadPoolExecutor(8) as pool:
        (words,) = set(pool.map(told, map(str, range(16))))
    assert "incorrect username or password" in words
    assert faulty.count("GET /token") == 1
    monkeypatch.setattr(auth, "SPARED", 0.0)
    told("v1")
    assert faulty.count("GET /token") == 2
