"""What the store lacks comes from the archive, or from its origin where the archive has no whole one."""

from __future__ import annotations

import socket
from pathlib import Path

from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .entries import address
from .test_registry_waits import talker


def test_a_blob_without_an_end_does_not_fill_the_disk(tmp_path: Path) -> None:
    def talk(peer: socket.socket) -> None:
        head = peer.recv(65536).startswith(b"HEAD")
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not head:
            peer.send(b"x" * 65536)

    entry = address("http://a/b", size=1000)
    with talker(talk) as registry:
        archive = Archive(Registry(registry, pauses=()), "ns", Store(tmp_path))
        assert archive.recall([entry]) == [entry]
    assert not list((tmp_path / "partial").iterdir())
