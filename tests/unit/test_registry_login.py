"""Who we are is told where it is asked for, and nowhere else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.challenges import challenges
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import client, http
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.auth import Keys, Scope

from .faulty import Asked, Faulty, Reply, digest, to, wants

DATA = b"what is pushed"
TO = digest(DATA)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SOON", (0.01,))


def wants_token(registry: Faulty, realm: str = "", *, life: int = 1 << 30) -> Callable[[Asked], Reply | None]:
    """Lets a token of its own in for so many requests."""
    left = {"": 0}

    def guard(asked: Asked) -> Reply | None:
        if asked.path.startswith("/token"):
            left["token"] = life
            return Reply(200, body=json.dumps({"token": f"t{registry.count('GET /token')}"}).encode())
        if asked.authorization == f"Bearer t{registry.count('GET /token')}" and left["token"] > 0:
            left["token"] -= 1
            return None
        at = realm or f"http://{registry.address}/token"
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{at}",service="s",scope="repository:a/b:pull,push"'})

    return guard


def test_a_login_goes_to_its_own_registry_alone(faulty: Faulty, other: Faulty, log_in: Callable[..., str]) -> None:
    word = log_in(faulty)
    faulty.guard = wants(word)
    faulty.answers["POST"] = [Reply(202, {"Location": f"http://{other.address}/v2/a/b/blobs/uploads/1"})]
    with pytest.raises(RegistryError, match="does not have it"):  # `other` took it, and is another registry
        to(faulty).put_blob("a/b", DATA, TO)
    assert other.blobs == {TO: DATA}
    assert {asked.authorization for asked in other.asked} == {""}
    faulty.answers["GET"] = [Reply(307, {"Location": f"http://{other.address}/v2/a/b/blobs/{TO}"})]
    assert b"".join(to(faulty).blob("a/b", TO)) == DATA
    assert {asked.authorization for asked in other.asked} == {""}


@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="http://{}/token",service="s"'])
def test_another_host_that_asks_who_we_are_gets_no_login_of_the_registry(
    faulty: Faulty, other: Faulty, log_in: Callable[..., str], challenge: str
) -> None:
    faulty.guard = wants(log_in(faulty))
    faulty.answers["GET"] = [Reply(307, {"Location": f"http://{other.address}/v2/a/b/blobs/{TO}"})]
    other.guard = wants("nobody", challenge.format(other.address))
    with pytest.raises(RegistryError, match="HTTP 401"):
        list(to(faulty).blob("a/b", TO))
    assert {asked.authorization for asked in other.asked} == {""}
    assert other.count("GET /token") == 0


def test_another_host_gets_the_login_that_the_person_has_there(
    faulty: Faulty, other: Faulty, log_in: Callable[..., str]
) -> None:
    other.guard = wants(log_in(other))
    other.blobs[TO] = DATA
    faulty.answers["GET"] = [Reply(307, {"Location": f"http://{other.address}/v2/a/b/blobs/{TO}"})]
    assert b"".join(to(faulty).blob("a/b", TO)) == DATA
    assert {asked.authorization for asked in faulty.asked} == {""}


@pytest.mark.parametrize(
    "realm",
    [
        "http://registry.example.org/token",
        "http://198.51.100.1/token",
        "ftp://127.0.0.1/token",
        "/token",
        "http://me@127.0.0.1/token",
        "http://[",
    ],
)
def test_a_password_is_sent_to_no_token_service_outside_of_tls(
    faulty: Faulty, log_in: Callable[..., str], realm: str
) -> None:
    log_in(faulty)
    faulty.guard = wants("nobody", f'Bearer realm="{realm}",service="s"')
    with pytest.raises(RegistryError, match="which does not use TLS: nothing is sent there"):
        to(faulty).manifest("a/b", "v1")
    assert {asked.authorization for asked in faulty.asked} == {""}


def test_a_token_service_on_loopback_is_no_place_for_the_password_of_a_registry_elsewhere() -> None:
    def ask(method: str, url: str, headers: dict[str, str], body: bytes | None) -> http.Answer:
        raise AssertionError(f"asked {url}")

    with pytest.raises(RegistryError, match="nothing is sent there"):
        Keys("registry.example.org", ask, own=True).answer(
            Scope("a/b", False), 'Bearer realm="http://127.0.0.1:1/token"', ""
        )


def test_a_token_is_got_once_and_again_when_it_is_refused(faulty: Faulty, log_in: Callable[..., str]) -> None:
    word = log_in(faulty)
    faulty.image("a/b", "v1")
    faulty.guard = wants_token(faulty, life=3)
    registry = to(faulty)
    for _time in range(4):
        assert registry.manifest("a/b", "v1")
    tokens = [asked for asked in faulty.asked if asked.path.startswith("/token")]
    assert len(tokens) == 2
    assert {asked.authorization for asked in tokens} == {word}
    assert "scope=repository%3Aa%2Fb%3Apull%2Cpush" in tokens[0].path and "service=s" in tokens[0].path
    assert registry.put_blob("a/b", DATA, TO), "one that dies in the middle of an upload"


def test_several_threads_get_one_token(faulty: Faulty, log_in: Callable[..., str]) -> None:
    log_in(faulty)
    faulty.image("a/b", "v1")
    faulty.guard = wants_token(faulty)
    registry = to(faulty)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: registry.manifest("a/b", "v1"), range(8)))
    assert faulty.count("GET /token") == 1


def test_a_token_that_is_never_good_enough_ends_in_words(faulty: Faulty, log_in: Callable[..., str]) -> None:
    faulty.guard = wants_token(faulty, life=0)
    with pytest.raises(RegistryError, match=f"HTTP 401\n.*docker login {faulty.address}` first"):
        to(faulty).manifest("a/b", "v1")
    log_in(faulty)
    with pytest.raises(RegistryError, match="HTTP 401\n.*as a user who may do this"):
        to(faulty).manifest("a/b", "v1")
    assert faulty.count("GET /token") == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(403),
        Reply(200, body=b"<html>"),
        Reply(200, body=b"[]"),
        Reply(200, body=b"[" * 100_000),
        Reply(200, body=b"{}"),
        Reply(200, body=b'{"token": 7}'),
        Reply(302),
        Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}),
        Reply(404, body=b"<html><title>Not here</title>"),
        Reply(200, body=b'{"token": null, "access_token": null, "expires_in": 300}'),
        Reply(200, body=b'{"token": "a\\nb"}'),
        Reply(200, body=b'{"token": ""}'),
        Reply(200, body=b'{"token": "\\u00e4"}'),
    ],
)
def test_a_token_service_that_gives_none_is_an_error_in_words(
    faulty: Faulty, log_in: Callable[..., str], reply: Reply
) -> None:
    faulty.guard = wants("nobody", f'Bearer realm="http://{faulty.address}/token?x=1"')
    faulty.answers["GET /token"] = [reply]
    with pytest.raises(RegistryError, match="its token service"):
        to(faulty).manifest("a/b", "v1")
    assert [asked.path for asked in faulty.asked][1:] == ["/token?x=1&scope=repository%3Aa%2Fb%3Apull"]


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="http://{0}/token",service="s"',
        'Basic realm="x", Bearer realm="http://{0}/token"',
        'Negotiate, bearer realm="http://{0}/token"',
        'Bearer realm="http://{0}/token", Basic realm="x"',
        "Bearer realm=http://{0}/token,service=s",
        'BEARER Realm="http://{0}/token",SERVICE="s",Scope="repository:a/b:pull"',
        'Basic realm="a, Bearer realm=\\"http://127.0.0.1:1/\\", b=c",Bearer realm="http://{0}/token",error="x"',
        'Bearer realm="http://{0}/token", Bearer realm="http://127.0.0.1:1/token"',
        'Negotiate YII=, NTLM, Bearer service="s", realm="http://{0}/token"',
        'Bearer realm = "http://{0}/token" , x="a\\"b"',
    ],
)
def test_a_challenge_is_understood_however_it_is_written(
    faulty: Faulty, log_in: Callable[..., str], challenge: str
) -> None:
    faulty.image("a/b", "v1")
    faulty.answers["GET /token"] = [Reply(200, body=b'{"access_token": "t"}')]
    faulty.guard = wants("Bearer t", challenge.format(faulty.address))
    assert to(faulty).manifest("a/b", "v1")


@pytest.mark.parametrize("order", [1, -1])
def test_challenges_may_be_in_headers_of_their_own(faulty: Faulty, log_in: Callable[..., str], order: int) -> None:
    faulty.image("a/b", "v1")
    several = [("WWW-Authenticate", 'Basic realm="x"'), ("www-authenticate", "Negotiate"),
               ("WWW-Authenticate", f'Bearer realm="http://{faulty.address}/token"')][::order]
    faulty.answers["GET /token"] = [Reply(200, body=b'{"token": "t"}')]
    faulty.guard = lambda asked: None if asked.authorization == "Bearer t" else Reply(401, more=several)
    assert to(faulty).manifest("a/b", "v1")


def test_who_wants_a_token_and_does_not_say_whose_gets_a_password_if_that_will_do(
    faulty: Faulty, log_in: Callable[..., str]
) -> None:
    faulty.image("a/b", "v1")
    faulty.guard = wants(log_in(faulty), 'Bearer service="s", Basic realm="x"')
    assert to(faulty).manifest("a/b", "v1")
    for challenge in ("Bearer", 'Bearer service="s"', 'Bearer realm=""'):
        faulty.guard = wants("nobody", challenge)
        with pytest.raises(RegistryError, match=f"{faulty.address} wants a token, and does not say whose"):
            to(faulty).manifest("a/b", "v1")


@pytest.mark.parametrize("challenge", ["", "Negotiate", "Digest realm=x, nonce=y", "=,=", '"'])
def test_a_refusal_with_no_challenge_that_can_be_met_is_told(faulty: Faulty, log_in: Callable[..., str],
                                                             challenge: str) -> None:
    log_in(faulty)
    faulty.guard = lambda asked: Reply(401, {"WWW-Authenticate": challenge} if challenge else {})
    with pytest.raises(RegistryError, match="HTTP 401\n.*docker login"):
        to(faulty).manifest("a/b", "v1")
    assert len(faulty.asked) == 1


@pytest.mark.parametrize(("answer", "token"), [
    ({"token": "a"}, "a"), ({"access_token": "b"}, "b"), ({"token": "a", "access_token": "b"}, "a"),
    ({"token": "", "access_token": "b"}, "b"), ({"token": "a", "expires_in": 0, "issued_at": "never"}, "a"),
    ({"token": "a", "expires_in": -1}, "a"), ({"access_token": "b", "expires_in": "soon", "refresh_token": "c"}, "b"),
])
def test_a_token_is_used_until_it_is_refused_whatever_is_said_of_its_life(
    faulty: Faulty, log_in: Callable[..., str], answer: dict[str, object], token: str
) -> None:
    faulty.image("a/b", "v1")
    faulty.answers["GET /token"] = [Reply(200, body=json.dumps(answer).encode())]
    faulty.guard = wants(f"Bearer {token}", f'Bearer realm="http://{faulty.address}/token"')
    registry = to(faulty)
    for _time in range(3):
        assert registry.manifest("a/b", "v1")
    assert faulty.count("GET /token") == 1


@pytest.mark.parametrize(("reply", "said", "hint"), [
    (Reply(401, body=b'{"details": "incorrect username or password"}'), "HTTP 401 incorrect username or password",
     "as a user who may do this"),
    (Reply(403, body=b'{"errors": [{"code": "DENIED", "message": "blocked"}]}'), "HTTP 403 blocked", "docker login"),
    (Reply(500, body=b"<html><title>Sorry</title>"), "HTTP 500 Sorry", "try later"),
    (Reply(429, {"Retry-After": "9999"}), "HTTP 429", "try later"),
])
def test_a_token_service_that_refuses_is_told_in_its_words(faulty: Faulty, log_in: Callable[..., str], reply: Reply,
                                                           said: str, hint: str) -> None:
    word = log_in(faulty)
    faulty.guard = wants("nobody", f'Bearer realm="http://{faulty.address}/token"')
    faulty.answers["GET /token"] = [reply]
    with pytest.raises(RegistryError, match=said) as error:
        to(faulty).put_blob("a/b", DATA, TO)
    assert hint in error.value.hint
    assert "secret" not in str(error.value) and word.split()[1] not in str(error.value)


def test_what_a_push_may_is_asked_for_even_if_the_challenge_names_less(
    faulty: Faulty, log_in: Callable[..., str]
) -> None:
    """As for deleting, whose token would not do for the next push."""
    log_in(faulty)
    faulty.answers["GET /token"] = [Reply(200, body=b'{"token": "t"}')]
    faulty.guard = wants("Bearer t", f'Bearer realm="http://{faulty.address}/token",scope="repository:a/b:delete"')
    registry = to(faulty)
    assert not registry.delete_manifest("a/b", TO)
    assert registry.put_manifest("a/b", "v1", b"{}", "x/y")
    (asked,) = [asked.path for asked in faulty.asked if asked.path.startswith("/token")]
    assert asked == "/token?scope=repository%3Aa%2Fb%3Adelete&scope=repository%3Aa%2Fb%3Apull%2Cpush"


def test_a_challenge_of_nothing_but_space_takes_no_time() -> None:
    began = time.monotonic()
    assert "bearer" in challenges("Bearer" + " " * 60_000 + '"x')
    assert time.monotonic() - began < 1  # it took minutes


def test_a_token_that_stands_for_a_login_is_exchanged(faulty: Faulty, log_in: Callable[..., str]) -> None:
    log_in(faulty, identitytoken="i")
    faulty.image("a/b", "v1")
    faulty.answers["POST /token"] = [Reply(200, body=b'{"access_token": "t"}')]
    faulty.guard = wants("Bearer t", f'Bearer realm="http://{faulty.address}/token",service="s"')
    assert to(faulty).manifest("a/b", "v1")
    (posted,) = [asked for asked in faulty.asked if asked.method == "POST"]
    assert b"grant_type=refresh_token" in posted.body and b"refresh_token=i" in posted.body
    assert posted.authorization == ""
    assert to(faulty).for_job("") == {}


def test_a_token_that_stands_for_a_login_asks_for_all_that_a_push_needs(
    faulty: Faulty, log_in: Callable[..., str]
) -> None:
    log_in(faulty, identitytoken="i")
    faulty.answers["POST /token"] = [Reply(200, body=b'{"access_token": "t"}')]
    faulty.guard = wants("Bearer t", f'Bearer realm="http://{faulty.address}/token",scope="repository:a/b:delete"')
    assert not to(faulty).delete_manifest("a/b", TO)
    (posted,) = [asked for asked in faulty.asked if asked.method == "POST"]
    assert b"&scope=repository%3Aa%2Fb%3Adelete+repository%3Aa%2Fb%3Apull%2Cpush" in posted.body


@pytest.mark.parametrize("reply", [Reply(200, body=b'{"refresh_token": "r"}'), Reply(401), Reply(405), Reply(500)])
def test_a_token_that_stands_for_a_login_and_is_not_exchanged_ends_in_words(
    faulty: Faulty, log_in: Callable[..., str], reply: Reply
) -> None:
    log_in(faulty, identitytoken="i5ecret")
    faulty.answers["POST /token"] = [reply]
    faulty.guard = wants("nobody", f'Bearer realm="http://{faulty.address}/token"')
    with pytest.raises(RegistryError, match="its token service") as error:
        to(faulty).manifest("a/b", "v1")
    assert "i5ecret" not in str(error.value)
