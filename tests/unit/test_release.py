"""Programs out of a release archive: nothing before its sha256 is right, and nothing but the content of two files."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.desimages.farm.plugins.action.release import ActionModule
from ansible_collections.desimages.farm.plugins.module_utils import elf
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError, HashMismatch, Missing
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.release import Release

PLATFORM = "linux/arm64"
PROGRAM = elf.program(Platform.parse(PLATFORM))
NAMES = ("buildctl", "buildkitd")


def regular(name: str, data: bytes = PROGRAM) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def special(name: str, kind: bytes, to: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info, b""


GOOD = [regular("bin/buildctl"), regular("bin/buildkitd")]


def pack(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    """Writes an archive; returns its sha256."""
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def take(source: str, sha256: str, cache: Path, platform: str = PLATFORM) -> dict[str, dict[str, object]]:
    release = Release(source, sha256, platform, NAMES, str(cache))
    return release.kept() or release.fetch(Client(apt=False, patience=0.1))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *words: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lambda name: f"http://127.0.0.1:{server.server_port}/{name}"
        server.shutdown()


def test_nobody_else_may_write_where_the_programs_are_whatever_the_umask(tmp_path: Path) -> None:
    sha256, cache = pack(tmp_path / "a.tar.gz", GOOD), tmp_path / "cache"
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="x"))
    given = {"source": str(tmp_path / "a.tar.gz"), "sha256": sha256, "platform": PLATFORM, "names": list(NAMES),
             "cache": str(cache)}
    task = SimpleNamespace(args=given, async_val=0, check_mode=False, diff=False, environment=None, delegate_to=None)
    before = os.umask(0)
    try:
        for _time in range(2):  # the second time, it was refused
            ActionModule(task, connection, SimpleNamespace(check_mode=False), None, None, None).run(task_vars={})
    finally:
        os.umask(before)
    found = [cache, *cache.rglob("*")]
    assert len(found) == 6 and not [path for path in found if path.stat().st_mode & 0o022]


@pytest.mark.parametrize("way", ["path", "file", "http"])
def test_two_programs_are_taken_once(tmp_path: Path, served: Callable[[str], str], way: str) -> None:
    archive = tmp_path / "a b.tar.gz"
    sha256 = pack(archive, [*GOOD, regular("./bin/buildkit-runc"), regular("../../etc/passwd"),
                            special("bin/x", tarfile.SYMTYPE, "/etc"), special("dev", tarfile.CHRTYPE)])
    source = {"path": str(archive), "file": archive.as_uri(), "http": served("a%20b.tar.gz")}[way]
    found = take(source, sha256, tmp_path / "cache")
    folder = tmp_path / "cache/release" / f"{sha256}-arm64"
    assert sorted(path.name for path in folder.iterdir()) == ["buildctl", "buildkitd", "manifest.json"]
    assert found["buildkitd"] == {"path": str(folder / "buildkitd"), "size": len(PROGRAM),
                                  "sha256": hashlib.sha256(PROGRAM).hexdigest()}
    assert os.access(folder / "buildkitd", os.X_OK)
    assert list((tmp_path / "cache/release").iterdir()) == [folder]
    archive.unlink()
    assert take(source, sha256, tmp_path / "cache") == found, "kept"
    (folder / "buildctl").write_bytes(PROGRAM[::-1])
    with pytest.raises((Missing, FarmError)):  # what was changed in the cache is not used
        take(source, sha256, tmp_path / "cache")


@pytest.mark.parametrize(("members", "said"), [
    (GOOD[:1], "it has no bin/buildkitd"),
    ([], "it has no bin/buildctl and no bin/buildkitd"),
    ([regular("buildctl"), regular("usr/bin/buildkitd")], "it has no bin/buildctl and no bin/buildkitd"),
    ([regular("/bin/buildctl"), regular("x/../bin/buildkitd")], "it has no bin/buildctl and no bin/buildkitd"),
    ([GOOD[0], special("bin/buildkitd", tarfile.SYMTYPE, "/bin/sh")], "bin/buildkitd is not a file"),
    ([GOOD[0], special("bin/buildkitd", tarfile.LNKTYPE, "bin/buildctl")], "bin/buildkitd is not a file"),
    ([GOOD[0], special("bin/buildkitd", tarfile.BLKTYPE)], "bin/buildkitd is not a file"),
    ([*GOOD, GOOD[0]], "bin/buildctl is there twice"),
    ([GOOD[0], regular("bin/buildkitd", elf.program(Platform.parse("linux/amd64")))], "not a program for linux/arm64"),
    ([GOOD[0], regular("bin/buildkitd", b"#!/bin/sh\n")], "bin/buildkitd is not a program for linux/arm64"),
])
def test_what_is_not_such_an_archive_is_refused(
        tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], said: str) -> None:
    archive = tmp_path / "a.tar.gz"
    sha256 = pack(archive, members)
    with pytest.raises(FarmError, match=said):
        take(str(archive), sha256, tmp_path / "cache")
    assert list((tmp_path / "cache/release").iterdir()) == []


@pytest.mark.parametrize("cut", [20, 1])
def test_an_archive_that_was_cut_off_is_refused_even_if_its_sha256_is_right(tmp_path: Path, cut: int) -> None:
    archive = tmp_path / "a.tar.gz"
    pack(archive, [*GOOD, regular("bin/other", os.urandom(50_000))])
    archive.write_bytes(archive.read_bytes()[:-archive.stat().st_size // 2 - cut])
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(FarmError, match="it cannot be read to its end"):
        take(str(archive), sha256, tmp_path / "cache")


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x1f\x8b" + bytes(30)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(data)
    with pytest.raises(FarmError, match="it cannot be read to its end|it has no bin/buildctl"):
        take(str(tmp_path / "a.tar.gz"), hashlib.sha256(data).hexdigest(), tmp_path / "cache")


def test_an_archive_with_another_sha256_is_not_unpacked(tmp_path: Path, served: Callable[[str], str]) -> None:
    pack(tmp_path / "a.tar.gz", GOOD)
    for source in (str(tmp_path / "a.tar.gz"), served("a.tar.gz")):
        with pytest.raises(HashMismatch, match="the inventory says 0000") as error:
            take(source, "0" * 64, tmp_path / "cache")
        assert "compare the sha256 with a second source" in error.value.hint
    assert list((tmp_path / "cache/release").iterdir()) == []
    with pytest.raises(Missing):
        take(served("none.tar.gz"), "0" * 64, tmp_path / "cache")


def test_all_mistakes_in_the_inventory_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        take("a.tar.gz", "ABC", tmp_path)
    assert len(error.value.problems) == 2
