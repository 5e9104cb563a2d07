# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacks packages without configuring them: one tar of the file trees of .deb files. This file runs dpkg-deb."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from typing import IO, BinaryIO, cast

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

END = bytes(1024)  # every tar ends with this, and maybe more padding


def merge(packages: Iterable[BinaryIO], out: IO[bytes], epoch: int) -> None:
    """Writes one tar of the file trees of open .deb files, and closes these. A folder that several have comes once.

    Times later than `epoch` become `epoch`. `dpkg-deb` reads the packages, as it knows every compression that Debian
    used. Raises FarmError if one is damaged, or its tar breaks off.
    """
    seen: set[str] = set()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as target:
        for package in packages:
            with package, programs.started(["dpkg-deb", "--fsys-tarfile", "-"], stdin=package) as process:
                stdout, stderr = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
                problem = _take(stdout, target, seen, epoch)
                said = stderr.read().decode(errors="replace").strip()
                if process.wait() != 0:
                    raise FarmError(f"dpkg-deb cannot read {package.name}: {said}")
                if problem:
                    raise FarmError(f"the output of dpkg-deb for {package.name} ends early: {problem}",
                                    hint="run again; if it happens again, check the disk")


class _Watched:
    """A stream for reading that remembers its last bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.tail = stream, b""

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.tail = (self.tail + data[-len(END):])[-len(END):]
        return data


def _take(stream: IO[bytes], target: tarfile.TarFile, seen: set[str], epoch: int) -> str:
    """Copies the members of one tar, and reads it to its end; returns what is wrong with it, or ''."""
    watched = _Watched(stream)
    problem = ""
    try:
        with tarfile.open(fileobj=watched, mode="r|") as source:  # type: ignore[call-overload]
            _copy(source, target, seen, epoch)
    except tarfile.ReadError as error:
        problem = str(error)
    while watched.read(1 << 16):
        pass
    return problem or ("" if watched.tail == END else "it has no end")


def _copy(source: tarfile.TarFile, target: tarfile.TarFile, seen: set[str], epoch: int) -> None:
    for member in source:
        name = member.name.removeprefix(".").strip("/")
        if not name or (member.isdir() and name in seen):
            continue
        seen.add(name)
        member.name, member.mtime = name, min(int(member.mtime), epoch)
        member.uname = member.gname = ""
        member.pax_headers = {}
        if member.islnk():
            member.linkname = member.linkname.removeprefix("./")
        target.addfile(member, source.extractfile(member) if member.isreg() else None)
