"""The person's logins: the Docker client's configuration, and the credential helpers that it names."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import login as login_file
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.login import Login, login

from .faulty import Faulty, to, wants
from .test_programs import members


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
