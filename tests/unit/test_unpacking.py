"""Packages are unpacked whole, or not at all."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.unpacking import merge

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("Package: a\nVersion: 1\nArchitecture: all\nMaintainer: nobody "
                                         "<nobody@example.org>\nDescription: a\n")
    (tree / "usr/share").mkdir(parents=True)
    for name in ("one", "two"):
        (tree / "usr/share" / name).write_text(name * 1000)
    (tree / "usr/share/link").symlink_to("one")
    os.chmod(tree / "DEBIAN", 0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(tmp_path / "a.deb")], check=True,
                   stdout=subprocess.DEVNULL)
    return tmp_path / "a.deb"


def test_folders_that_several_have_come_once(package: Path) -> None:
    out = io.BytesIO()
    merge((package.open("rb") for _copy in range(2)), out, 5)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as found:
        assert found.getnames().count("usr/share") == 1
        assert {member.mtime for member in found} == {5}
        assert sorted(found.getnames())[-3:] == ["usr/share/one", "usr/share/two", "usr/share/two"]


def test_a_damaged_package_is_named(package: Path) -> None:
    package.write_bytes(package.read_bytes()[:-300])
    with pytest.raises(FarmError, match=r"dpkg-deb cannot read .*a\.deb: "):
        merge([package.open("rb")], io.BytesIO(), 0)


@pytest.mark.parametrize("cut", ["head -c 1024", "head -c 3000", "head -c 5120", "cat >/dev/null"])
def test_what_breaks_off_with_exit_code_0_is_no_layer(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      cut: str) -> None:
    """As of a dpkg-deb whose decompressor was killed: between two members, in the middle of one, before the first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "dpkg-deb").write_text(f'#!/bin/sh\n{shutil.which("dpkg-deb")} "$@" | {cut}\nexit 0\n')
    (folder / "dpkg-deb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with pytest.raises(FarmError, match=r"the output of dpkg-deb for .*a\.deb ends early"):
        merge([package.open("rb")], io.BytesIO(), 0)
