"""Archives that are damaged or made to do harm: each gives a message, and none more than that."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import licences, npm_packages, pip_closures

DEEP = "[" * 200_000
INSTALL = json.dumps({"scripts": {"install": "make"}})
PLAIN = json.dumps({"scripts": {"test": "make"}})


def packed(*files: tuple[str, str]) -> bytes:
    """A tar of files, in this order; a name may come twice."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files:
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def zipped(data: bytes) -> bytes:
    """The same at any time: these are names of tests, and every worker must have the same tests."""
    return gzip.compress(data, mtime=0)


def nested() -> bytes:
    """A tar whose one file has more extended headers than Python reads."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 13
    one = header.tobuf(tarfile.USTAR_FORMAT) + b"13 path=long\n".ljust(tarfile.BLOCKSIZE, b"\0")
    return one * 3000 + packed(("package/package.json", PLAIN))


def damaged(*files: tuple[str, str]) -> bytes:
    """A tarball with a block that is no block of DEFLATE, before its last file ends."""
    made = bytearray(gzip.compress(packed(*files, ("package/large", "x" * 200_000)), compresslevel=0, mtime=0))
    for at in range(10, 150_000):  # not compressed, so each block begins with its type and its size, twice
        if made[at:at + 1] == b"\0" and made[at + 1:at + 3] == bytes(255 - sign for sign in made[at + 3:at + 5]):
            made[at] = 0xff
    return bytes(made)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be unpacked"),
        (b"no archive", "cannot be unpacked"),
        (zipped(nested()), "cannot be unpacked"),
        (damaged(("package/package.json", PLAIN)), "cannot be unpacked"),
        (zipped(packed(("package/x", "x")))[:-30], "cannot be unpacked"),
        (zipped(packed(("package/package.json", DEEP))), "has a package.json that cannot be read"),
        (zipped(packed(("package/package.json", "[]"))), "has a package.json that cannot be read"),
        (zipped(packed(("package/package.json", " " * (npm_packages.MOST + 1)))),
         "has a package.json that cannot be read"),
        (zipped(packed(("package/package.json", json.dumps({"scripts": ["x"]})))), ""),
        (zipped(packed(("package/package.json", PLAIN))), ""),
        (zipped(packed(("package/index.js", ""))), ""),
        # npm takes the last of those that unpack to the same path
        (zipped(packed(("a/package.json", PLAIN), ("b/package.json", INSTALL))),
         "wants to run an install script (install: make)"),
        (zipped(packed(("package/package.json", PLAIN), ("package/package.json", INSTALL))),
         "wants to run an install script (install: make)"),
        # what it bundles is installed with it
        (zipped(packed(("package/package.json", PLAIN), ("package/node_modules/@me/x/package.json", INSTALL))),
         "wants to run an install script (node_modules/@me/x/install: make)"),
        (zipped(packed(("package/package.json", PLAIN),
                       ("package/node_modules/x/node_modules/y/binding.gyp", "{}"))),
         "has native code (node_modules/x/node_modules/y/binding.gyp)"),
        # whatever its name is
        (zipped(packed(("package/package.json", PLAIN), ("package/bin/tool", "\x7fELF\2\1\1"))),
         "has native code (bin/tool)"),
        (zipped(packed(("package/package.json", PLAIN), ("package/node_modules/x/package.json", "no JSON"),
                       ("package/test/x/package.json", INSTALL))), ""),
    ],
)
def test_a_tarball_of_npm_says_what_it_needs_whatever_is_in_it(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.tgz"
    path.write_bytes(data)
    found = npm_packages.needs(path)
    assert found.startswith(said) and bool(found) == bool(said)


def wheel(path: Path, metadata: str = "Requires-Dist: a\n", **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x-1.dist-info/METADATA", metadata)
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def changed(path: Path, change: Callable[[bytearray, zipfile.ZipInfo], None], name: str) -> Path:
    """A wheel after a change of one member's headers or bytes."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    data = bytearray(path.read_bytes())
    change(data, info)
    path.write_bytes(bytes(data))
    return path


def _encrypted(data: bytearray, info: zipfile.ZipInfo) -> None:
    data[info.header_offset + 6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1


def _strange(data: bytearray, info: zipfile.ZipInfo) -> None:
    data[info.header_offset + 8] = 99
    data[data.rindex(b"PK\x01\x02") + 10] = 99


def _damaged(data: bytearray, info: zipfile.ZipInfo) -> None:
    start = info.header_offset + 30 + len(info.filename)
    data[start:start + 20] = b"\xff" * 20


CHANGES = [_encrypted, _strange, _damaged]


@pytest.mark.parametrize("change", CHANGES)
def test_a_wheel_that_cannot_be_unpacked_is_told_by_name(tmp_path: Path,
                                                         change: Callable[[bytearray, zipfile.ZipInfo], None]) -> None:
    last = changed(wheel(tmp_path / "x-1-py3-none-any.whl", lib="x" * 1000), change, "lib")
    with pytest.raises(FarmError, match=r"x-1-py3-none-any.whl is not a wheel: "):
        pip_closures.foreign_code(last, AMD64)
    alone = changed(wheel(tmp_path / "y-1-py3-none-any.whl", "Requires-Dist: a\n" * 99), change,
                    "x-1.dist-info/METADATA")
    with pytest.raises(FarmError, match=r"y-1-py3-none-any.whl is not a wheel: ") as error:
        pip_closures.needs(alone)
    assert error.value.hint == "choose another version"
    assert licences.read(licences.wheel, alone).note.startswith("it cannot be read")


def test_a_wheel_without_metadata_or_with_too_much_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/METADATA", "")
    with pytest.raises(FarmError, match="it has no METADATA"):
        pip_closures.needs(path)
    with pytest.raises(FarmError, match="METADATA of more than 4 MiB"):
        pip_closures.needs(wheel(path, " " * (pip_closures.MOST + 1)))
    path.write_bytes(b"PK")
    with pytest.raises(FarmError, match="is not a wheel"):
        pip_closures.needs(path)


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (licences.npm, zipped(packed(("package/package.json", DEEP)))),
        (licences.npm, zipped(packed(("package/package.json", '{"license": {"type": 5}}')))[:40]),
        (licences.crate, zipped(packed(("x-1/Cargo.toml", f"x = {DEEP}")))),
        (licences.crate, damaged(("x-1/x", "x" * 100_000), ("x-1/Cargo.toml", "[package]\n"))),
        (licences.config, DEEP.encode()),
        (licences.config, b'{"config": []}'),
        (licences.deb, b"!<arch>\n" + b"data.tar.xz/    0           0     0     100644  9         `\nno xz data"),
        (licences.tree, zlib.compress(b"x")),
    ],
)
def test_a_licence_that_cannot_be_read_is_not_known_and_no_error(
        tmp_path: Path, reader: Callable[[Path], licences.Licence], data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    found = licences.read(reader, path)
    assert (found.says, bool(found.note)) == ("", True)
