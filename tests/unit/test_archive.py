"""What the store lacks comes from the archive, or from its origin where the archive has no whole one."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .entries import address
from .faulty import Faulty, Reply
from .test_registry_waits import talker
from .trusting import trust


def test_a_blob_without_an_end_does_not_fill_the_disk(tmp_path: Path) -> None:
    def talk(peer: socket.socket) -> None:
        head = peer.recv(65536).startswith(b"HEAD")
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not head:
            peer.send(b"x" * 65536)

    entry = address("http://a/b", size=1000)
    with talker(talk) as registry:
        kept = Archive(Registry(registry, pauses=()), "ns", Store(tmp_path))
        assert kept.recall([entry]) == [entry]
    assert not list((tmp_path / "partial").iterdir())


@pytest.mark.parametrize("status", [404, 403])
def test_what_a_registry_only_remembers_is_missing(tmp_path: Path, faulty: Faulty, status: int) -> None:
    """It may keep in its memory which blobs it had."""
    entry = address("http://a/b")
    faulty.answers = {"HEAD": [Reply(200)], "GET": [Reply(status)]}
    kept = Archive(Registry(faulty.address, pauses=()), "ns", Store(tmp_path))
    if status == 404:
        assert kept.recall([entry]) == [entry]
    else:
        with pytest.raises(RegistryError, match="HTTP 403"):
            kept.recall([entry])
    assert not list((tmp_path / "partial").iterdir())


def test_two_runs_that_unpack_the_same_at_once_do_not_write_into_each_others_file(
        tmp_path: Path, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    runs = [Archive(Registry(faulty.address, pauses=()), "ns", store) for _run in range(2)]
    entries, made = [address("http://a/b")], []
    trusted = trust(faulty, tmp_path / "state", "ns")

    def merge(packages: Iterable[BinaryIO], out: BinaryIO, epoch: int) -> None:
        out.write(b"the first half, ")
        out.flush()
        if len(made) == 0:
            made.append("")
            made[0] = runs[1].unpacked("box seed", entries, AMD64, 1, trusted)
        out.write(b"the second half")

    monkeypatch.setattr(archive, "merge", merge)
    made.append(runs[0].unpacked("box seed", entries, AMD64, 1, trusted))
    assert made[0] == made[1]
    assert b"the first half, the second half" in faulty.blobs.values()
    assert not list((tmp_path / "partial").iterdir())
