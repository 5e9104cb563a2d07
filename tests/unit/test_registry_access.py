"""A registry's login and CA from the settings: they win, and they are for that registry alone."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .faulty import Asked, Faulty, Reply

BASIC = "Basic " + base64.b64encode(b"farm:right").decode()


def guarded(asked: Asked) -> Reply | None:
    """A registry with htpasswd."""
    if asked.authorization == BASIC:
        return None
    return Reply(401, {"WWW-Authenticate": 'Basic realm="farm"'}, b'{"errors": [{"code": "UNAUTHORIZED"}]}')


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Docker client's configuration."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def test_an_access_does_not_show_its_password() -> None:
    assert "right" not in repr(Access("", "farm", "right"))
    assert Access.of({"registry": "x", "user": "farm", "password": None}) == Access("", "farm", "")


def test_the_login_of_the_settings_wins(faulty: Faulty, docker: Path) -> None:
    docker.write_text(f'{{"auths": {{"{faulty.address}": {{"auth": "{base64.b64encode(b"me:mine").decode()}"}}}}}}')
    faulty.guard = guarded
    faulty.image("a/b", "v1")
    assert Registry(faulty.address, access=Access("", "farm", "right"), pauses=()).digest("a/b", "v1")
    assert {asked.authorization for asked in faulty.asked} == {"", BASIC}


def test_a_refused_login_of_the_settings_is_told_at_once(faulty: Faulty, docker: Path) -> None:
    faulty.guard = guarded
    with pytest.raises(RegistryError) as error:
        Registry(faulty.address, access=Access("", "farm", "wrong")).digest("a/b", "v1")
    assert "farm_registry_user (farm) and farm_registry_password" in str(error.value)
    assert "wrong" not in str(error.value)
    assert len(faulty.asked) == 2


def test_the_login_goes_to_no_other_host(faulty: Faulty, docker: Path) -> None:
    """A registry may lead elsewhere for its data."""
    elsewhere = f"http://localhost:{faulty.address.rpartition(':')[2]}/v2/a/b/manifests/v1"
    faulty.answers = {"GET /v2/a/b/manifests/v1": [Reply(307, {"Location": elsewhere})]}
    faulty.guard = guarded
    with pytest.raises(RegistryError):
        Registry(faulty.address, access=Access("", "farm", "right"), pauses=()).manifest("a/b", "v1")
    assert [asked.authorization for asked in faulty.asked] == ["", ""]
