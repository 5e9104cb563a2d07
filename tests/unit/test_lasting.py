"""What trying again does not mend is told at once, by the registry's client and by downloads; all else is tried again.
"""

from __future__ import annotations

import hashlib
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client, download
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.lasting import remedy
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import http
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .test_registry_access import served
from .test_registry_waits import answer, talker, talks

BODY = b"x" * 1000
SHA = hashlib.sha256(BODY).hexdigest()
GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
LATER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class Names:
    """A resolver that knows 127.0.0.1 and says `error` of every other name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: socket.gaierror) -> None:
        self.asked, self.error, self._usual = 0, error, socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, *given: Any, **named: Any) -> Any:
        if host == "127.0.0.1":
            return self._usual(host, *given, **named)
        self.asked += 1
        raise self.error


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)


def client() -> Client:
    return Client(Machine(), apt=False, patience=2, sleep=lambda seconds: None)


def test_a_registry_whose_name_does_not_exist_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, GONE)
    with pytest.raises(RegistryError, match="check the address, or how this machine resolves names"):
        Registry("registry.example").tags("a/b")
    assert names.asked == 1
    assert remedy(GONE, "https://registry.example", farms=True, met=False).startswith("check farm_registry, or ")


@pytest.mark.parametrize(("address", "error"), [("registry.example", LATER), ("pi.local", GONE)])
def test_a_name_that_may_come_back_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, address: str,
                                                      error: socket.gaierror) -> None:
    """A resolver that fails for now; and multicast DNS, which knows no machine that is only starting."""
    names = Names(monkeypatch, error)
    with pytest.raises(Unreachable):
        Registry(address, pauses=(0, 0)).tags("a/b")
    assert names.asked == 3


def test_the_name_of_a_registry_that_has_answered_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remedy(GONE, "https://registry.example", farms=True, met=True) == ""
    body = b'{"tags": ["v1"]}'
    with talker(talks(answer(body, len(body), "Connection: close\r\n"))) as address:  # each attempt connects anew
        registry = Registry(address, pauses=(0, 0))
        assert registry.tags("a/b") == ["v1"]
        asked = []

        def gone(*given: Any, **named: Any) -> Any:
            asked.append(given)
            raise GONE

        monkeypatch.setattr(socket, "getaddrinfo", gone)
        with pytest.raises(Unreachable):
            registry.tags("a/b")
    assert len(asked) == 3


def test_an_origin_whose_name_does_not_exist_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, asks = Names(monkeypatch, GONE), client()
    with pytest.raises(Unreachable, match="(?i)resolve") as first:
        download(asks, ["https://upstream.example/f"], SHA, len(BODY), Store(tmp_path))
    assert "check the address, or how this machine resolves names" in str(first.value)
    with pytest.raises(Unreachable, match="its host is not asked any more") as second:
        download(asks, ["https://upstream.example/g"], SHA, len(BODY), Store(tmp_path))
    assert "check the address" in str(second.value)
    assert names.asked == 1
    with talker(talks(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + BODY)) as other:
        urls = ["https://upstream.example/f", f"http://{other}/f"]
        assert download(asks, urls, SHA, len(BODY), Store(tmp_path)).read_bytes() == BODY


def test_an_origin_whose_certificate_is_not_accepted_is_asked_once(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "0.0.0.0")
    waited: list[float] = []
    asks = Client(Machine(), apt=False, patience=60, sleep=waited.append)
    signer = certificates.new_authority(datetime.now(timezone.utc), "theirs")
    with (served(tmp_path, signer) as address,
          pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED(?s:.*)run update-ca-certificates")):
        download(asks, [f"https://{address}/f"], SHA, len(BODY), Store(tmp_path / "store"))
    assert waited == []


@pytest.mark.parametrize(("status", "waits"), [("403 Forbidden", False), ("407 Login", False), ("429 Wait", True),
                                               ("503 Unavailable", True)])
def test_a_proxy_that_refuses_is_told_at_once_and_one_that_fails_is_asked_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, waits: bool) -> None:
    waited: list[float] = []
    with talker(talks(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy}")
        monkeypatch.setattr(http.time, "sleep", waited.append)
        with pytest.raises((RegistryError, Unreachable), match=f"proxy: Tunnel connection failed: {status}") as told:
            Registry("registry.example.org", pauses=(1,)).tags("a/b")
        assert "check http_proxy and https_proxy" in told.value.hint and bool(waited) is waits
        waited.clear()
        asks = Client(Machine(environment={"https_proxy": f"http://{proxy}"}), apt=False, patience=1,
                      sleep=waited.append)
        with pytest.raises(Unreachable, match=f"proxy: Tunnel connection failed: {status}") as told:
            download(asks, ["https://upstream.example/f"], SHA, len(BODY), Store(tmp_path))
        assert ("check http_proxy and https_proxy" in str(told.value)) is not waits


def test_a_proxy_whose_name_does_not_exist_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, GONE)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    with pytest.raises(RegistryError, match="Unable to connect to proxy: Failed to resolve 'proxy.example'") as told:
        Registry("registry.example.org").tags("a/b")
    assert "check http_proxy and https_proxy" in told.value.hint


def test_an_origin_that_speaks_no_tls_is_asked_once(tmp_path: Path) -> None:
    waited: list[float] = []
    asks = Client(Machine(), apt=False, patience=60, sleep=waited.append)
    with (talker(talks(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as address,
          pytest.raises(Unreachable, match="use an address that does")):
        download(asks, [f"https://{address}/f"], SHA, len(BODY), Store(tmp_path))
    assert waited == []
