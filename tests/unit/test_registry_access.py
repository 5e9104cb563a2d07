"""A registry's login and CA from the settings: they win, and they are for that registry alone."""

from __future__ import annotations

import base64
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import http
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


# --- a registry with TLS: 0.0.0.0 is this machine, and not loopback ---------------------------------------------------

NOW = datetime.now(timezone.utc)
MINE, OTHER = certificates.new_authority(NOW, "mine"), certificates.new_authority(NOW, "other")


@contextmanager
def served(folder: Path, signer: certificates.Pair, leads: str = "", host: str = "0.0.0.0", *, own: bool = False,
           now: datetime = NOW, set_up: Callable[[ssl.SSLContext], None] = lambda context: None) -> Iterator[str]:
    """The address of a server with a certificate for `host`, which leads elsewhere or has nothing. With `own`, its
    certificate is the signer's own."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.send_response(307 if leads else 404)
            if leads:
                self.send_header("Location", leads)
            self.end_headers()

    made = signer if own else certificates.new_server(signer, [host], now)
    (folder / "server.pem").write_text(made.pem + made.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(folder / "server.pem"))
    set_up(context)
    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # handshakes fail here
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"0.0.0.0:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def cas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of both CAs; the system trusts the other one."""
    monkeypatch.setenv("no_proxy", "0.0.0.0")
    for name, authority in (("mine", MINE), ("other", OTHER)):
        (tmp_path / f"{name}.pem").write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    return {"mine": str(tmp_path / "mine.pem"), "system": ""}


@pytest.mark.parametrize(("trusted", "signer", "good"), [
    ("mine", MINE, True), ("mine", OTHER, False), ("system", OTHER, True), ("system", MINE, False),
])
def test_exactly_the_ca_of_the_settings_is_trusted(
        tmp_path: Path, cas: dict[str, str], trusted: str, signer: certificates.Pair, good: bool) -> None:
    with served(tmp_path, signer) as address:
        registry = Registry(address, access=Access(cas[trusted]))
        if good:
            assert registry.digest("a/b", "v1") is None
        else:
            with pytest.raises(RegistryError, match="set farm_registry_ca to the CA"):
                registry.digest("a/b", "v1")


@pytest.mark.parametrize(("signer", "good"), [(OTHER, True), (MINE, False)])
def test_where_a_registry_leads_to_the_cas_of_the_system_are_trusted(
        tmp_path: Path, cas: dict[str, str], signer: certificates.Pair, good: bool) -> None:
    with served(tmp_path, signer) as other, served(tmp_path, MINE, f"https://{other}/v2/x") as address:
        registry = Registry(address, access=Access(cas["mine"]))
        if good:
            assert registry.digest("a/b", "v1") is None
        else:
            with pytest.raises(RegistryError, match=f"{other}, where the registry .*{address} leads, cannot be reached"
                                                    "(?s:.*)run update-ca-certificates"):
                registry.digest("a/b", "v1")


def test_what_trying_again_does_not_change_is_told_at_once(tmp_path: Path, cas: dict[str, str]) -> None:
    began = time.monotonic()
    with served(tmp_path, MINE, now=NOW - timedelta(days=400)) as address:
        with pytest.raises(RegistryError, match="renew the certificate"):
            Registry(address, access=Access(cas["mine"])).digest("a/b", "v1")
        with pytest.raises(Unreachable, match="check farm_registry_ca"):
            Registry(address, access=Access(str(tmp_path / "none.pem"))).digest("a/b", "v1")
        (tmp_path / "none.pem").write_text("nothing")
        with pytest.raises(RegistryError, match="must be a file of certificates in PEM"):
            Registry(address, access=Access(str(tmp_path / "none.pem"))).digest("a/b", "v1")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("how", "of_farm", "elsewhere"), [
    ({"own": True}, "set farm_registry_ca to the CA", "run update-ca-certificates"),
    ({"signer": OTHER}, "set farm_registry_ca to the CA", "run update-ca-certificates"),
    ({"host": "registry.example.org"}, "farm_registry must be one of the names", "use one of the names or addresses"),
    ({"now": NOW - timedelta(days=400)}, "playbooks/provision.yml renews", "have the certificate there renewed"),
    ({"now": NOW + timedelta(days=40)}, "check the clock", "check the clock"),
])
def test_a_certificate_that_is_not_good_is_told_at_once_with_what_to_do(
        tmp_path: Path, cas: dict[str, str], monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], of_farm: str,
        elsewhere: str) -> None:
    """What helps is another thing at the farm's registry than at one where images are published."""
    monkeypatch.setattr(http.time, "sleep", lambda seconds: pytest.fail("it is tried again"))
    monkeypatch.setenv("SSL_CERT_FILE", cas["mine"])
    with served(tmp_path, how.pop("signer", MINE), **how) as address:
        for access, hint in ((Access(cas["mine"]), of_farm), (Access(), of_farm), (None, elsewhere)):
            with pytest.raises(RegistryError, match=f"the registry https://{address} cannot be reached: ") as error:
                Registry(address, access=access).digest("a/b", "v1")
            assert hint in error.value.hint
            assert ("farm" in error.value.hint) is (hint == of_farm and of_farm != elsewhere)


def test_a_certificate_of_a_token_service_that_is_not_good_is_told_at_once(
        tmp_path: Path, cas: dict[str, str], faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.time, "sleep", lambda seconds: pytest.fail("it is tried again"))
    with served(tmp_path, MINE) as service:
        faulty.guard = lambda asked: Reply(401, {"WWW-Authenticate": f'Bearer realm="https://{service}/token"'})
        with pytest.raises(RegistryError, match=f"https://{service}, where the registry http://{faulty.address} leads, "
                                                "cannot be reached(?s:.*)update-ca-certificates"):
            Registry(faulty.address, access=Access()).digest("a/b", "v1")


def asks_for_a_certificate(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 it is asked for only after the handshake
    context.verify_mode = ssl.CERT_REQUIRED


def is_old(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1


@pytest.mark.parametrize("set_up", [asks_for_a_certificate, is_old])
def test_a_server_that_wants_another_tls_is_told_at_once(
        tmp_path: Path, cas: dict[str, str], monkeypatch: pytest.MonkeyPatch,
        set_up: Callable[[ssl.SSLContext], None]) -> None:
    monkeypatch.setattr(http.time, "sleep", lambda seconds: pytest.fail("it is tried again"))
    with (
        served(tmp_path, MINE, set_up=set_up) as address,
        pytest.raises(RegistryError, match="must speak TLS 1.2 or later, under that name"),
    ):
        Registry(address, access=Access(cas["mine"])).digest("a/b", "v1")


@pytest.mark.parametrize(("address", "access", "said"), [
    ("127.0.0.1:5000", Access(), {}),
    ("127.0.0.1:5000", Access("", "farm", "x"), {"url": "http://127.0.0.1:5000", "ca": "", "user": "farm",
                                                 "password": "x"}),
    ("192.0.2.5:5000", Access("/ca.pem"), {"url": "https://192.0.2.5:5000", "ca": "/node/ca.pem"}),
    ("192.0.2.5:5000", Access("", "farm", "x"), {"url": "https://192.0.2.5:5000", "ca": "", "user": "farm",
                                                 "password": "x"}),
])
def test_a_job_gets_what_its_node_needs(docker: Path, address: str, access: Access, said: dict[str, str]) -> None:
    assert Registry(address, access=access).for_job("/node/ca.pem") == said


def test_a_job_gets_the_docker_clients_login_where_the_settings_have_none(docker: Path) -> None:
    docker.write_text(f'{{"auths": {{"192.0.2.5:5000": {{"auth": "{base64.b64encode(b"me:mine").decode()}"}}}}}}')
    found = Registry("192.0.2.5:5000").for_job("/node/ca.pem")
    assert (found["user"], found["password"], found["ca"]) == ("me", "mine", "")
