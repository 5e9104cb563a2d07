"""Who we are is told where it is asked for, and nowhere else."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.challenges import challenges
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, RegistryError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import client, http
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import login as login_file
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.auth import Keys, Scope
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.login import Login, login

from .faulty import Asked, Faulty, Reply, digest, to
from .test_programs import members

DATA = b"what is pushed"
TO = digest(DATA)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SOON", (0.01,))


@pytest.fixture
def log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Logs the person in at registries, as the Docker client does; returns what goes there."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(*registries: Faulty, **more: object) -> str:
        word = base64.b64encode(b"me:secret").decode()
        auths = {registry.address: {"auth": word, **more} for registry in registries}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        return f"Basic {word}"

    write()
    return write


def wants(authorization: str, challenge: str = 'Basic realm="x"') -> Callable[[Asked], Reply | None]:
    return lambda asked: None if asked.authorization == authorization else Reply(401, {"WWW-Authenticate": challenge})


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


@pytest.mark.parametrize(
    "text",
    [
        '{"auths": {"%s": {"auth": "!!!notbase64"}}}',
        '{"auths": {"%s": {"auth": 7}}}',
        '{"auths": ["x"]}',
        '{"credHelpers": ["x"]}',
        '[7]',
        '{"auths": ',
        '{"auths": {"%s": {"auth": "bWU="}}}',
        '{"auths": {"%s": {"auth": "//86"}}}',
        '{"auths": {"%s": 7}}',
        "[" * 100_000,
        '{"credsStore": "no-such-helper"}',
    ],
)
def test_a_login_that_cannot_be_read_is_an_error_in_words(
    faulty: Faulty, tmp_path: Path, log_in: Callable[..., str], text: str
) -> None:
    (tmp_path / "config.json").write_text(text.replace("%s", faulty.address))
    faulty.guard = wants("nobody")
    with pytest.raises(FarmError, match="no usable login"):
        to(faulty).manifest("a/b", "v1")


@pytest.mark.parametrize(("text", "found"), [
    ("", None),
    ("{}", None),
    ('{"auths": null, "credHelpers": null, "credsStore": ""}', None),
    ('{"auths": {"h.example": {}}}', None),
    ('{"auths": {"h.example": null}}', None),
    ('{"auths": {"h.example": {"username": "me", "password": "secret"}}}', Login("me", "secret")),
    ('{"auths": {"h.example": {"auth": "bWU6c2VjcmV0"}, "x": {"auth": "!"}, "y": 7}}', Login("me", "secret")),
    ('{"auths": {"h.example": {"auth": "bWU6c2U6Y3JldAA="}}}', Login("me", "se:cret")),
    ('{"auths": {"https://h.example/v2/": {"auth": "bWU6c2VjcmV0"}}}', Login("me", "secret")),
    ('{"auths": {"http://h.example": {"auth": "eDp5"}, "h.example": {"auth": "bWU6c2VjcmV0"}}}', Login("me", "secret")),
    ('{"auths": {"h.example:5000": {"auth": "eDp5"}, "ah.example": {"auth": "eDp5"}}}', None),
    ('{"auths": {"h.example": {"auth": "MDA6", "identitytoken": "i"}}}', Login(identity="i")),
    ('{"auths": {"h.example": {"auth": "bWU6c2VjcmV0", "identitytoken": ""}}}', Login("me", "secret")),
])
def test_the_login_of_a_host_is_found_whatever_others_look_like(
    tmp_path: Path, log_in: Callable[..., str], text: str, found: Login | None
) -> None:
    (tmp_path / "config.json").write_text(text)
    assert login("h.example") == found


def test_without_a_configuration_there_is_no_login_and_one_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path / "nowhere", tmp_path / "file/x"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("DOCKER_CONFIG", str(place))
        assert login("h.example") is None
    (tmp_path / "folder/config.json").mkdir(parents=True)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "folder"))
    with pytest.raises(FarmError, match="no usable login for h.example: .*Is a directory"):
        login("h.example")


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_in: Callable[..., str]) -> Callable[..., None]:
    """Puts a credential helper on the path, a shell script, and names it in the Docker client's configuration."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(script: str, **configuration: object) -> None:
        program = tmp_path / "docker-credential-test"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        (tmp_path / "config.json").write_text(json.dumps(configuration or {"credsStore": "test"}))

    return write


SECRET = r"""printf '{"ServerURL":"x","Username":"me","Secret":"secret"}'"""
NOTHING = "echo 'credentials not found in native keychain'; exit 1"


def test_a_credential_helper_is_asked_for_its_registry(helper: Callable[..., None], tmp_path: Path) -> None:
    helper(f"echo $1 > {tmp_path}/asked; cat >> {tmp_path}/asked; {SECRET}",
           credHelpers={"registry.example.org:5000": "test"},
           auths={"other.example.org": {"auth": base64.b64encode(b"you:word").decode()}})
    assert login("registry.example.org:5000") == Login("me", "secret")
    assert (tmp_path / "asked").read_text() == "get\nregistry.example.org:5000"
    assert login("other.example.org") == Login("you", "word")
    assert login("third.example.org") is None


def test_a_credential_helper_knows_the_hub_by_the_name_that_the_docker_client_uses(
    helper: Callable[..., None], tmp_path: Path
) -> None:
    store = {"credsStore": "test"}
    for key in ("https://index.docker.io/v1/", "docker.io", "index.docker.io", ""):
        helper(f"cat > {tmp_path}/asked; {SECRET}", **({"credHelpers": {key: "test"}} if key else store))
        for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
            assert login(name) == Login("me", "secret")
            assert (tmp_path / "asked").read_text() == "https://index.docker.io/v1/"


def test_the_password_of_a_credential_helper_opens_the_registry(faulty: Faulty, helper: Callable[..., None]) -> None:
    helper(SECRET)
    faulty.image("a/b", "v1")
    faulty.guard = wants("Basic " + base64.b64encode(b"me:secret").decode())
    assert to(faulty).manifest("a/b", "v1")


def test_a_credential_helper_may_give_an_identity_token(helper: Callable[..., None]) -> None:
    helper("""printf '{"Username":"<token>","Secret":"i"}'""")
    assert login("registry.example.org") == Login(identity="i")


@pytest.mark.parametrize("script", [NOTHING, """printf '{"Username":"","Secret":""}'"""])
def test_what_a_credential_helper_does_not_have_is_looked_for_in_the_configuration(
    helper: Callable[..., None], script: str
) -> None:
    auths = {"registry.example.org": {"auth": base64.b64encode(b"me:secret").decode()}, "other.example.org": {}}
    helper(script, credsStore="test", auths=auths)
    assert login("registry.example.org") == Login("me", "secret")
    assert login("other.example.org") is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'the keychain is locked'; exit 1", "exited with 1 and said 'the keychain is locked'"),
        ("echo 'no service' >&2; exit 3", "exited with 3 and said 'no service'"),
        ("kill -9 $$", "exited with -9"),
        ("printf 'hunter2 \\377'", "not a JSON object"),
        ("echo '[\"hunter2\"]'", "not a JSON object"),
        ("""echo '{"Username": "hunter2"}'""", "not a JSON object"),
        ("true", "not a JSON object"),
        ("rm $0; exec $0", "exited with 127"),
    ],
)
def test_a_credential_helper_that_cannot_be_used_is_named_with_the_registry(
    helper: Callable[..., None], script: str, why: str
) -> None:
    helper(script)
    with pytest.raises(FarmError) as raised:
        login("registry.example.org")
    said = str(raised.value)
    assert "the credential helper docker-credential-test has no usable login for registry.example.org" in said
    assert why in said and "credsStore" in said and "hunter2" not in said


def test_a_credential_helper_that_is_missing_is_named(tmp_path: Path, log_in: Callable[..., str]) -> None:
    (tmp_path / "config.json").write_text('{"credHelpers": {"registry.example.org": "missing"}}')
    with pytest.raises(FarmError, match="docker-credential-missing cannot be run: No such file"):
        login("registry.example.org")
    assert login("other.example.org") is None


def test_a_credential_helper_that_hangs_is_ended_and_asked_once(
    faulty: Faulty, helper: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_file, "SECONDS", 0.5)
    helper(f"echo $$ >> {tmp_path}/asked; sleep 600 & sleep 600")
    faulty.guard = wants("nobody")
    registry = to(faulty)
    with ThreadPoolExecutor(8) as pool:
        tried = [pool.submit(registry.manifest, "a/b", "v1") for _thread in range(8)]
    for one in tried:
        with pytest.raises(FarmError, match=f"docker-credential-test has no usable login for {faulty.address}: .*did "
                                            "not end within 0 s"):
            one.result()
    (group,) = map(int, (tmp_path / "asked").read_text().split())
    deadline = time.monotonic() + 5
    while left := members(group):
        assert time.monotonic() < deadline, left
