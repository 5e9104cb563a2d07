"""The registry's client, as far as it needs no registry; the rest is tried on a real one."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import urllib3
from ansible_collections.desimages.farm.plugins.module_utils.errors import Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry


@dataclass
class Proxy:
    """Takes the first request of each connection, and lets nobody through."""

    address: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    found = Proxy()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found.address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    found.asked.append(peer.recv(4096).decode())
                    peer.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)


def test_a_registry_elsewhere_is_asked_through_the_proxy_and_one_here_is_not(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.address}")
    monkeypatch.setenv("no_proxy", "0.0.0.0")
    once = urllib3.Retry(0)
    with pytest.raises(Unreachable) as error:
        Registry("registry.example.org", retry=once).digest("a", "b")
    assert proxy.asked[0].startswith("CONNECT registry.example.org:443")
    assert base64.b64encode(b"me:secret").decode() in proxy.asked[0]
    assert "secret" not in str(error.value)
    assert not Registry("0.0.0.0", retry=once).answers()
    assert not Registry("127.0.0.1:1", retry=once).answers()
    assert len(proxy.asked) == 1
