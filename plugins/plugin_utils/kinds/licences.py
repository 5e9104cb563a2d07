# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a locked file says about its own licence. Archives are read, and nothing in them runs. I/O."""

from __future__ import annotations

import email.parser
import io
import json
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import tomllib
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licence_texts import recognised
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import zstandard

FILE = re.compile(r"(licen[sc]e|copying|unlicense)([-._].*)?", re.IGNORECASE)
MOST = 1 << 20  # bytes of a text about a licence
# RuntimeError also stands for what is nested too deeply, encrypted, or packed in a way that Python does not know
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, KeyError,
           TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class Licence:
    """What is said: an SPDX expression, or the words of whoever published it. Empty if it is not known; `note` says
    why, or which file to read."""

    says: str = ""
    note: str = ""


def read(reader: Callable[[Path], Licence], path: Path) -> Licence:
    """What a reader makes of a file; a file that it cannot read is one whose licence is not known."""
    try:
        return reader(path)
    except _BROKEN as error:
        return Licence(note=f"it cannot be read: {error}")


def _texts(texts: Iterable[tuple[str, str]]) -> Licence:
    """Of the licences in an archive's folder: the identifiers if each text is certain, else the files."""
    found = {name: recognised(text) for name, text in texts}
    if found and all(found.values()):
        return Licence(" AND ".join(sorted(set(found.values()))))
    return Licence(note=f"see {', '.join(sorted(found))}" if found else "it has no file with a licence")


def module(path: Path) -> Licence:
    """A Go module's zip: MODULE@VERSION/LICENSE."""
    with zipfile.ZipFile(path) as archive:
        def texts() -> Iterator[tuple[str, str]]:
            for info in archive.infolist():
                _folder, _at, inner = info.filename.rpartition("@")
                parts = inner.split("/")
                if len(parts) == 2 and FILE.fullmatch(parts[1]) and info.file_size <= MOST:
                    yield parts[1], archive.read(info).decode("utf-8", "replace")

        return _texts(texts())


def tree(path: Path) -> Licence:
    """A tar with files at its root."""
    with tarfile.open(path) as archive:
        return _texts((member.name, _content(archive, member)) for member in archive
                      if FILE.fullmatch(member.name) and member.isreg())


def crate(path: Path) -> Licence:
    """A .crate: NAME-VERSION/Cargo.toml."""
    package = tomllib.loads(_one(path, r"[^/]+/Cargo\.toml"))["package"]
    if isinstance(says := package.get("license"), str):
        return Licence(says.replace("/", " OR ") if " " not in says else says)
    file = package.get("license-file")
    return Licence(note=f"see {file}" if file else "its Cargo.toml names none")


def npm(path: Path) -> Licence:
    """A tarball: package/package.json. Old ones have an object, or a list of them."""
    said = json.loads(_one(path, r"[^/]+/package\.json"))
    given = said.get("license") or said.get("licenses")
    each = given if isinstance(given, list) else [given]
    names = [one.get("type") if isinstance(one, dict) else one for one in each]
    says = " OR ".join(name for name in names if isinstance(name, str))
    if says.upper().startswith("SEE LICENSE IN"):
        return Licence(note=f"see {says[15:]}")
    return Licence(says, "" if says else "its package.json names none")


def wheel(path: Path) -> Licence:
    """A wheel's METADATA: the expression, else the classifiers, else the old field if it is one line."""
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)), "")
        with archive.open(name) as file:
            said = email.parser.BytesHeaderParser().parsebytes(file.read(MOST))
    if expression := said.get("License-Expression"):
        return Licence(str(expression).strip())
    classes = [str(one).rpartition("::")[2].strip() for one in said.get_all("Classifier", [])
               if str(one).startswith("License ::")]
    field = str(said.get("License", "")).strip()
    if words := [one for one in classes if one != "OSI Approved"]:
        return Licence(", ".join(words), "by its classifiers")
    if field and "\n" not in field and field.upper() != "UNKNOWN":
        return Licence(field, "by its old field License")
    files = said.get_all("License-File", [])
    return Licence(note=f"see {', '.join(map(str, files))}" if files else "its METADATA names none")


def deb(path: Path) -> Licence:
    """A .deb: the short names in the copyright file of its package, if that is machine-readable.

    Source: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    with _data(path) as archive:
        for member in archive:
            place = re.fullmatch(r"(?:\./)?usr/share/doc/([^/]+)(/copyright)?", member.name)
            if place and member.issym():
                return Licence(note=f"as in {member.linkname.rpartition('../')[2]}")
            if place and place[2] and member.isreg():
                return copyright_file(_content(archive, member))
    return Licence(note="it has no copyright file")


def copyright_file(text: str) -> Licence:
    if not re.match(r"\s*Format(-Specification)?:", text, re.IGNORECASE):
        return Licence(note="its copyright file is not machine-readable")
    names = {name.strip(): None for name in re.findall(r"(?mi)^License:[ \t]*(\S.*)$", text)}
    return Licence("; ".join(sorted(names)), "" if names else "its copyright file names none")


def config(path: Path) -> Licence:
    """An image's config: the label that the OCI has for it."""
    labels = (json.loads(path.read_text("utf-8")).get("config") or {}).get("Labels") or {}
    says = str(labels.get("org.opencontainers.image.licenses", ""))
    return Licence(says, "" if says else "the image has no label for it")


def _one(path: Path, pattern: str) -> str:
    """The text of the first file with such a name in a tar."""
    with tarfile.open(path) as archive:
        for member in archive:
            if re.fullmatch(pattern, member.name.removeprefix("./")):
                return _content(archive, member)
    raise ValueError(f"it has no {pattern.rpartition('/')[2]}")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    return file.read(MOST).decode("utf-8", "replace") if file else ""


def _data(path: Path) -> AbstractContextManager[tarfile.TarFile]:
    """The tar of files in a .deb, which is an ar archive. Source: deb(5)"""
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise ValueError("it is not a .deb")
        while header := file.read(60):
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                return _opened(name, io.BytesIO(file.read(size)))
            file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("it has no files")


@contextmanager
def _opened(name: str, part: IO[bytes]) -> Iterator[tarfile.TarFile]:
    if name.endswith(".zst"):
        with zstandard.ZstdDecompressor().stream_reader(part, read_across_frames=True) as plain, \
                tarfile.open(fileobj=plain, mode="r|") as archive:
            yield archive
    else:
        with tarfile.open(fileobj=part) as archive:  # not as a stream: of several parts that has the first
            yield archive
