# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what is in an image: the files of its layers, and what is in programs and small files. This file does I/O."""

from __future__ import annotations

import io
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, cast

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import zstandard
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import Descriptor

MAGIC = b"\x7fELF"
SMALL = 64 << 10  # bytes of a file that is read for secrets
LISTS = "var/lib/dpkg/info/"  # *.list: the files of each package, see dpkg(1)
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
PAX = "SCHILY.xattr."
CAPABILITIES = "security.capability"


@dataclass(frozen=True)
class File:
    """A file, folder or link of an image. `path` begins with a slash; `mode` is as in stat(2), `target` is where a link
    leads; `content` is that of programs (ELF) and of small files, else empty."""

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    target: str = ""
    capable: bool = False  # whether it has file capabilities
    content: bytes = field(default=b"", repr=False)

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def runs(self) -> bool:
        return self.regular and bool(self.mode & 0o111)

    @property
    def elf(self) -> bool:
        return self.content.startswith(MAGIC)


class Layers:
    """Reads layers of a registry's images. One that several images share is read once, if they come in a row."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._read: dict[str, list[tuple[str, File | None]]] = {}

    def files(self, repository: str, layers: tuple[Descriptor, ...]) -> dict[str, File]:
        """path -> file of an image, from its layers in their order. Raises FarmError."""
        digests = {layer.digest for layer in layers}
        self._read = {digest: files for digest, files in self._read.items() if digest in digests}
        found: dict[str, File] = {}
        for layer in layers:
            if layer.digest not in self._read:
                self._read[layer.digest] = list(self._members(repository, layer))
            for path, file in self._read[layer.digest]:
                if file is None:
                    _remove(found, path)
                else:
                    before = found.get(path)
                    if before and stat.S_ISDIR(before.mode) and not stat.S_ISDIR(file.mode):
                        _remove(found, path)
                    found[path] = file
        return found

    def _members(self, repository: str, layer: Descriptor) -> Iterator[tuple[str, File | None]]:
        """(path, file) of a layer; a path with None is removed from the layers below."""
        raw = _Pieces(self._registry.blob(repository, layer.digest, layer.size))
        where = f"{repository}@{layer.digest}"
        try:
            if layer.media_type.endswith("+zstd"):
                unpacked = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], raw), read_across_frames=True)
                archive = tarfile.open(fileobj=unpacked, mode="r|")  # noqa: SIM115
            else:
                archive = tarfile.open(fileobj=raw, mode="r|*")  # noqa: SIM115
            with archive:
                for member in archive:
                    yield _member(archive, member)
        except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
            raise FarmError(f"{where} is not a layer that can be read: {error}") from error
        for _rest in iter(lambda: raw.read(1 << 20), b""):  # to its end, where the digest is checked
            pass


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, File | None]:
    path = posixpath.normpath("/" + member.name)
    folder, name = posixpath.split(path)
    if name == OPAQUE:
        return folder + "/", None
    if name.startswith(WHITEOUT):
        return posixpath.join(folder, name[len(WHITEOUT):]), None
    content = b""
    if member.isreg() and member.size:
        with archive.extractfile(member) as file:  # type: ignore[union-attr]
            content = file.read(SMALL + 1)
            small = len(content) <= SMALL or path.startswith("/" + LISTS)
            content = content + file.read() if content.startswith(MAGIC) or small else b""
    kinds = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.CHRTYPE: stat.S_IFCHR,
             tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
    return path, File(path, kinds.get(member.type, stat.S_IFREG) | member.mode, member.uid, member.gid,
                      member.linkname, PAX + CAPABILITIES in member.pax_headers, content)


def _remove(found: dict[str, File], path: str) -> None:
    """Removes a file, or a folder with all that is in it; with a slash at its end, only what is in it."""
    inside = path if path.endswith("/") else path + "/"
    for name in [name for name in found if name == path or name.startswith(inside)]:
        del found[name]


def packaged(files: dict[str, File]) -> frozenset[str]:
    """The files that Debian packages brought, as dpkg's records say. With merged /usr, as it names them there too."""
    found: set[str] = set()
    for path, file in files.items():
        if path.startswith("/" + LISTS) and path.endswith(".list"):
            for name in file.content.decode(errors="replace").split("\n"):
                found.add(name)
                if name.startswith(("/bin/", "/sbin/", "/lib")):
                    found.add("/usr" + name)
    return frozenset(found)
