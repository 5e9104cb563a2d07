# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what is in an image: the files of its layers, and what is in programs and small files. This file does I/O."""

from __future__ import annotations

import gzip
import hashlib
import io
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, cast

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import zstandard
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import Descriptor
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import secret

MAGIC = b"\x7fELF"
SMALL = 64 << 10  # bytes of a file whose content is kept; a larger one is searched for secrets as it is read
PIECE, OVERLAP = 1 << 20, 4 << 10  # bytes of it at a time, and those of the last time that are searched again
GZIP = b"\x1f\x8b"
PACKED = (b"PK\x03\x04", GZIP, b"\x28\xb5\x2f\xfd", b"\xfd7zXZ")  # how compressed files begin
LISTS = "var/lib/dpkg/info/"  # *.list: the files of each package, *.md5sums: what is in them, see dpkg(1)
LINKS = 40  # that are followed on the way to a file, as Linux does
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
ENDS = 100  # reads at the end of a layer
PAX = "SCHILY.xattr."
CAPABILITIES = "security.capability"


@dataclass(frozen=True)
class File:
    """A file, folder or link of an image. `path` begins with a slash; `mode` is as in stat(2), `target` is where a link
    leads; `content` is that of programs (ELF) and of small files, else empty, and `secret` then says what is secret in
    it; `md5` is that of a program. A `hard` link is another name of the file at `target`, and has nothing of its own.
    """

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    target: str = ""
    capable: bool = False  # whether it has file capabilities
    content: bytes = field(default=b"", repr=False)
    hard: bool = False
    md5: str = ""
    secret: str = ""

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def runs(self) -> bool:
        return self.regular and bool(self.mode & 0o111)

    @property
    def elf(self) -> bool:
        return self.content.startswith(MAGIC)


@dataclass(frozen=True)
class Hidden:
    """A file of a layer that a later one removes or replaces. Whoever has the image has it."""

    file: File
    layer: Descriptor


class Root:
    """The files of an image, layer by layer, as engines apply them. `files` has path -> file, `hidden` what is in a
    layer and not in `files`.

    Source: https://github.com/opencontainers/image-spec/blob/main/layer.md
    """

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.hidden: list[Hidden] = []
        self._layers: dict[str, Descriptor] = {}  # of each file
        self._own: set[str] = set()  # the files of the layer that is being applied
        self._emptied: set[str] = set()  # and the folders that it removes: their files go at its end, all at once

    def apply(self, layer: Descriptor, members: Iterable[tuple[str, File | None]]) -> None:
        """(path, file) of the next layer; a path with None is removed from the layers below, and from these alone."""
        for name, file in members:
            path = self._real(name)
            if file is None:
                if path in self.files and path not in self._own and not path.endswith("/"):
                    self._hide(path)
                self._emptied.add(path.rstrip("/"))
                continue
            if file.hard:
                other = self._there(self._real(posixpath.normpath("/" + file.target)))
                if other and not stat.S_ISDIR(other.mode):  # engines give it the mode and attributes of both
                    file = replace(other, mode=other.mode | file.mode & 0o7777, capable=other.capable or file.capable)
            before = self.files.get(path)
            if before and not (stat.S_ISDIR(before.mode) and stat.S_ISDIR(file.mode)):
                self._hide(path)
                self._emptied.add(path)
            self.files[path] = file if file.path == path else replace(file, path=path)
            self._layers[path] = layer
            self._own.add(path)
        for path in [each for each in self.files if not self._there(each)]:
            self._hide(path)
        self._own, self._emptied = set(), set()

    def _there(self, path: str) -> File | None:
        """The file at a path, unless it goes with its folder."""
        goes = self._emptied and path not in self._own and _inside(path, self._emptied)
        return None if goes else self.files.get(path)

    def at(self, path: str) -> File | None:
        """The file at a path, or the one to which links there lead."""
        return self.files.get(self._real(f"{path}/")[:-1])

    def _real(self, path: str) -> str:
        """Where a path of an archive is, if folders on its way are links. The slash at its end stays, and then the last
        one counts too."""
        done, steps = "", 0
        left = [part for part in path.split("/")[:-1] if part]
        while left:
            here = f"{done}/{left.pop(0)}"
            found = self.files.get(here)
            if found and stat.S_ISLNK(found.mode) and steps < LINKS and self._there(here):
                steps += 1
                target = posixpath.normpath(posixpath.join(done or "/", found.target))
                left, done = [part for part in target.split("/") if part] + left, ""
            else:
                done = here
        return f"{done}/{path.rpartition('/')[2]}"

    def _hide(self, path: str) -> None:
        self.hidden.append(Hidden(self.files.pop(path), self._layers.pop(path)))


def _inside(path: str, folders: Collection[str]) -> bool:
    """Whether a path is below one of the folders, of which '' is the root."""
    while path not in ("", "/"):
        path = path.rpartition("/")[0]
        if path in folders:
            return True
    return False


class Layers:
    """Reads layers of a registry's images. One that several images share is read once, if they come in a row."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._read: dict[str, list[tuple[str, File | None]]] = {}

    def root(self, repository: str, layers: tuple[Descriptor, ...]) -> Root:
        """What is in an image, from its layers in their order. Raises FarmError."""
        digests = {layer.digest for layer in layers}
        self._read = {digest: files for digest, files in self._read.items() if digest in digests}
        found = Root()
        for layer in layers:
            if layer.digest not in self._read:
                self._read[layer.digest] = self._registry.whole(partial(self._listed, repository, layer))
            found.apply(layer, self._read[layer.digest])
        return found

    def _listed(self, repository: str, layer: Descriptor) -> list[tuple[str, File | None]]:
        return list(self._members(repository, layer))

    def _members(self, repository: str, layer: Descriptor) -> Iterator[tuple[str, File | None]]:
        """(path, file) of a layer; a path with None is removed from the layers below."""
        pieces = _Pieces(self._registry.blob(repository, layer.digest, layer.size))
        raw = io.BufferedReader(cast(io.RawIOBase, pieces))
        where = f"{repository}@{layer.digest}"
        try:
            if layer.media_type.endswith("+zstd"):
                unpacked = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
                archive = tarfile.open(fileobj=_ending(unpacked), mode="r|")  # noqa: SIM115
            elif raw.peek(len(GZIP)).startswith(GZIP):  # of several parts, as eStargz has them, tarfile reads the first
                parts = cast(IO[bytes], gzip.GzipFile(fileobj=raw))
                archive = tarfile.open(fileobj=_ending(parts), mode="r|")  # noqa: SIM115
            else:
                archive = tarfile.open(fileobj=_ending(raw), mode="r|*")  # noqa: SIM115
            with archive:
                for member in archive:
                    yield _member(archive, member)
        except (tarfile.TarError, zstandard.ZstdError, gzip.BadGzipFile, zlib.error, EOFError, ValueError,
                OverflowError) as error:
            raise FarmError(f"{where} is not a readable layer: {error}") from error
        for _rest in iter(lambda: raw.read(1 << 20), b""):  # to its end, where the digest is checked
            pass


class _Ending:
    """A file of which nobody may read the end again and again: tarfile would, until it has as much as a header says,
    which may be more than anybody has."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, ENDS

    def read(self, size: int) -> bytes:
        found = self._file.read(size)
        self._left -= not found
        if self._left < 0:
            raise EOFError("it ends within a file")
        return found


def _ending(file: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], _Ending(file))


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
        return folder.rstrip("/") + "/", None
    if name.startswith(WHITEOUT):
        return posixpath.join(folder, name[len(WHITEOUT):]), None
    content, said = b"", ""
    if member.isreg() and member.size:
        with archive.extractfile(member) as file:  # type: ignore[union-attr]
            content = file.read(SMALL + 1)
            if len(content) <= SMALL or content.startswith(MAGIC) or path.startswith("/" + LISTS):
                content += file.read()
            else:
                content, said = b"", _searched(content, file)
    kinds = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.CHRTYPE: stat.S_IFCHR,
             tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if content.startswith(MAGIC) else ""
    return path, File(path, kinds.get(member.type, stat.S_IFREG) | member.mode & 0o7777, member.uid, member.gid,
                      member.linkname, PAX + CAPABILITIES in member.pax_headers, content, member.islnk(), md5, said)


def _searched(piece: bytes, file: IO[bytes]) -> str:
    """What is secret in a large file that begins with `piece`. It is never in memory whole."""
    found = secret.of_any(piece)
    while piece and not found and not piece.startswith(PACKED):
        more = file.read(PIECE)
        piece = piece[-OVERLAP:] + more if more else b""
        found = secret.of_text(piece)
    return found


def packaged(files: dict[str, File]) -> frozenset[str]:
    """The files that Debian packages brought, as dpkg's records say. With merged /usr, as it names them there too. A
    program that is not what its package brought is not among them."""
    found: set[str] = set()
    brought: dict[str, set[str]] = {}  # several packages may have brought a file, one after the other
    for path, file in files.items():
        if path.startswith("/" + LISTS) and path.endswith(".list"):
            found.update(name for line in _lines(file) for name in _names(line))
        elif path.startswith("/" + LISTS) and path.endswith(".md5sums"):
            for md5, _space, name in (line.partition("  ") for line in _lines(file)):
                for each in _names("/" + name):
                    brought.setdefault(each, set()).add(md5)
    own = {name for name, sums in brought.items() if name in files and files[name].md5 not in ("", *sums)}
    return frozenset(found - own)


def _lines(file: File) -> list[str]:
    return file.content.decode(errors="replace").split("\n")


def _names(path: str) -> tuple[str, ...]:
    """A path of a package, and the same with merged /usr."""
    return (path, "/usr" + path) if path.startswith(("/bin/", "/sbin/", "/lib")) else (path,)
