"""What locked files say about their licences."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, kind_of
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licence_texts import recognised
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import zstandard
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.licences import counted, licences
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe

PROJECT = Path(__file__).resolve().parents[2]
APACHE = (PROJECT / "LICENSES/Apache-2.0.txt").read_text(encoding="utf-8")
MIT = """The MIT License (MIT)

Copyright (c) 2026 Ann Example

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+ or Artistic

Files: debian/*
License: MIT
 the text

License: GPL-2+ or Artistic
 more
"""


@pytest.mark.parametrize(("text", "identifier"), [
    (APACHE, "Apache-2.0"),
    (MIT, "MIT"),
    (MIT.replace("\n", "\r\n").replace("Ann Example", "X\nCopyright 2020 Y, all rights reserved"), "MIT"),
    ("\n".join(f"// {line}" for line in MIT.splitlines()), "MIT"),
    (MIT.replace("free of charge", "for one euro"), ""),
    (MIT + "\nThe folder vendor is under another licence.\n", ""),
    (APACHE + "\n" + MIT, ""),
    ("Do what you like.", ""),
    ("", ""),
])
def test_a_licence_is_recognised_only_if_the_text_is_that_and_nothing_else(text, identifier):
    assert recognised(text) == identifier


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def tarred(files: dict[str, str], mode: str = "w", links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def deb(data: bytes, suffix: str = ".xz") -> bytes:
    pack = {".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress, "": bytes}[suffix]
    packed = pack(data[:512]) + pack(data[512:])  # in parts, as compressors with several threads do
    parts = {"debian-binary": b"2.0\n", "control.tar": b"odd", f"data.tar{suffix}": packed}
    out = b"!<arch>\n"
    for name, content in parts.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out


def cargo(**package: str) -> bytes:
    lines = "".join(f'{key.replace("_", "-")} = "{text}"\n' for key, text in package.items())
    return tarred({"x-1.0.0/Cargo.toml": f'[package]\nname = "x"\n{lines}'}, "w:gz")


def npm(**package: object) -> bytes:
    return tarred({"package/index.js": "", "package/package.json": json.dumps({"name": "x", **package})}, "w:gz")


def wheel(*lines: str) -> bytes:
    text = "\n".join(["Metadata-Version: 2.4", "Name: x", *lines, "", "License: in the description"])
    return zipped(**{"x/__init__.py": "", "x-1.dist-info/METADATA": text})


DOC = "./usr/share/doc/x/copyright"
GO = "example.com/a/v2@v2.0.0"


@pytest.mark.parametrize(("kind", "content", "says", "note"), [
    ("go", zipped(**{f"{GO}/LICENSE": MIT, f"{GO}/vendor/LICENSE": "other"}), "MIT", ""),
    ("go", zipped(**{f"{GO}/LICENSE.txt": APACHE, f"{GO}/COPYING": MIT}), "Apache-2.0 AND MIT", ""),
    ("go", zipped(**{f"{GO}/LICENSE": MIT, f"{GO}/LICENSE.extra": "own words"}), "", "see LICENSE, LICENSE.extra"),
    ("go", zipped(**{f"{GO}/a.go": "package a"}), "", "it has no file with a licence"),
    ("go", b"no zip", "", "it cannot be read"),
    ("cargo", cargo(license="MIT OR Apache-2.0"), "MIT OR Apache-2.0", ""),
    ("cargo", cargo(license="MIT/Apache-2.0"), "MIT OR Apache-2.0", ""),
    ("cargo", cargo(license_file="LEGAL"), "", "see LEGAL"),
    ("cargo", cargo(), "", "its Cargo.toml names none"),
    ("cargo", tarred({"x-1/readme": ""}), "", "it cannot be read"),
    ("npm", npm(license="ISC"), "ISC", ""),
    ("npm", npm(license={"type": "MIT", "url": "x"}), "MIT", ""),
    ("npm", npm(licenses=[{"type": "MIT"}, {"type": "BSD"}]), "MIT OR BSD", ""),
    ("npm", npm(license="SEE LICENSE IN TERMS"), "", "see TERMS"),
    ("npm", npm(), "", "its package.json names none"),
    ("pypi", wheel("License-Expression: MIT", "License: x"), "MIT", ""),
    ("pypi", wheel("Classifier: License :: OSI Approved :: MIT License", "License: x"), "MIT License",
     "by its classifiers"),
    ("pypi", wheel("License: BSD"), "BSD", "by its old field License"),
    ("pypi", wheel("License-File: LICENSE"), "", "see LICENSE"),
    ("pypi", wheel(), "", "its METADATA names none"),
    ("debian", deb(tarred({DOC: COPYRIGHT})), "GPL-2+ or Artistic; MIT", ""),
    ("debian", deb(tarred({DOC: COPYRIGHT}), ".zst"), "GPL-2+ or Artistic; MIT", ""),
    ("debian", deb(tarred({DOC: "It is free."}), ""), "", "its copyright file is not machine-readable"),
    ("debian", deb(tarred({}, links={"./usr/share/doc/x": "y"})), "", "as in y"),
    ("debian", deb(tarred({"./usr/bin/x": ""})), "", "it has no copyright file"),
    ("debian", b"!<arch>\nbad", "", "it cannot be read"),
    ("git", tarred({"LICENSE": MIT, "src/LICENSE": "x"}), "MIT", ""),
    ("image", json.dumps({"config": {"Labels": {"org.opencontainers.image.licenses": "MIT"}}}).encode(), "MIT", ""),
    ("image", json.dumps({"config": {}}).encode(), "", "the image has no label for it"),
    ("url", b"x", "", "an address does not tell it"),
    ("maven", b"x", "", "its file does not say it reliably"),
])
def test_each_kind_says_what_its_files_say_and_guesses_nothing(tmp_path, kind, content, says, note):
    path = tmp_path / "file"
    path.write_bytes(content)
    found = KINDS[kind].licence({}, path)
    assert (found.says, found.note[:len(note) or None]) == (says, note)


def test_one_file_of_each_version_is_read_and_what_is_missing_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    desk = Desk(Origins({"debian": [f"file://{tmp_path}/none"]}, here=Machine(), snapshots=False), tmp_path, store,
                Client(Machine(), patience=0))
    given = {"debian": ["x", "gone"]}
    kind = kind_of(given)
    content = deb(tarred({DOC: COPYRIGHT}))
    entries = [_entry(kind, "gone", "linux/amd64", b"gone"), _entry(kind, "x", "linux/arm64", b"nobody has it"),
               _entry(kind, "x", "linux/amd64", content)]
    partial = store.partial("x")
    partial.write_bytes(content)
    store.put(partial, entries[2].sha256)
    recipe = Recipe("web", "/", dockerfile.parse("FROM scratch\n"), inputs=(kind.input("app", given),),
                    lock=Lock(tuple(entries), "20261101T000000Z"))
    rows = list(licences([recipe], desk))
    assert [(row["name"], row["licence"], row["known"]) for row in rows] == [
        ("gone", "", False), ("x", "GPL-2+ or Artistic; MIT", True)]
    assert "could not be fetched" in rows[0]["note"]
    assert counted(rows) == [
        {"image": "web", "input": "app", "licence": "not known", "files": 1},
        {"image": "web", "input": "app", "licence": "GPL-2+ or Artistic; MIT", "files": 1}]


def _entry(kind: object, name: str, platform: str, content: bytes) -> Entry:
    import hashlib

    return kind.entry("app", hashlib.sha256(content).hexdigest(), len(content), platform, {
        "archive": "debian", "platform": platform, "name": name, "version": "1.0", "architecture": "all",
        "path": f"pool/{name}_1.0_{platform.rpartition('/')[2]}.deb"})
