# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs out of a release archive that is pinned by its sha256. Nothing is unpacked before that is right, and nothing
of the archive but the content of the files `bin/NAME`."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.desimages.farm.plugins.module_utils import elf
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError, HashMismatch
from ansible_collections.desimages.farm.plugins.module_utils.files import Unfit, sha256_of
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import pages
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import redact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client

LARGEST = 512 << 20  # bytes of one program; BuildKit's have 60 MB
HINT = "give BuildKit's own archive for that platform, buildkit-VERSION.linux-ARCHITECTURE.tar.gz"


class Release:
    """The archive at `source`, a URL or an absolute path. What was taken out is kept in
    `cache/release/SHA256-PLATFORM`."""

    def __init__(self, source: str, sha256: str, platform: str, names: Sequence[str], cache: str) -> None:
        """Raises BadInput with all mistakes."""
        wrong = []
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            wrong.append(f"buildkitd_archives: sha256: {sha256!r} is not 64 hexadecimal digits in lower case")
        if not re.match("(https?|file)://|/", source):
            wrong.append(f"buildkitd_archives: source: {source!r} is neither a URL nor an absolute path")
        if wrong:
            raise BadInput(wrong, what=f"the archive for {platform}")
        self.url = f"file://{quote(source)}" if source.startswith("/") else source
        self.sha256, self.platform, self.names = sha256, Platform.parse(platform), names
        self.folder = Path(cache) / "release" / f"{sha256}-{self.platform.slug}"

    def kept(self) -> dict[str, dict[str, Any]]:
        """The programs, if they are in the cache and were not changed there; else {}."""
        try:
            found = json.loads((self.folder / "manifest.json").read_text())
            made = {name: {"path": str(self.folder / name), **found[name]} for name in self.names}
            right = all(sha256_of(one["path"]) == one["sha256"] for one in made.values())
        except (OSError, Unfit, ValueError, RecursionError, KeyError, TypeError):
            return {}
        return made if right else {}

    def fetch(self, client: Client) -> dict[str, dict[str, Any]]:
        """Fetches the archive, checks it, and takes the programs out. Raises HashMismatch, Missing, Unreachable, or
        FarmError if it is not an archive with these programs for that platform."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.folder.parent) as folder:
            archive, inside = Path(folder) / "archive", Path(folder) / "programs"
            client.patiently(self.url, archive, None)
            if (got := sha256_of(str(archive))) != self.sha256:
                page, hint = pages.told(pages.head_of(archive), "nothing was unpacked. If the download was cut off, "
                                        "run again; else compare the sha256 with a second source before you change it")
                raise HashMismatch(f"{redact(self.url)} is {got}, {archive.stat().st_size} bytes; the inventory says "
                                   f"{self.sha256}{page}", hint=hint)
            inside.mkdir()
            manifest = self._taken(archive, inside)
            (inside / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
            inside.chmod(0o755)
            shutil.rmtree(self.folder, ignore_errors=True)
            os.rename(inside, self.folder)
        return self.kept()

    def _taken(self, archive: Path, folder: Path) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        try:
            with tarfile.open(archive, "r:gz") as tar:
                for member in tar:
                    name = member.name.removeprefix("./").removeprefix("bin/")
                    if name not in self.names or member.name.removeprefix("./") != f"bin/{name}":
                        continue
                    if not member.isreg() or name in found or member.size > LARGEST:
                        why = ("is not a file" if not member.isreg() else "is there twice" if name in found
                               else f"has {member.size} bytes")
                        raise self._bad(f"{member.name} {why}")
                    content: Any = tar.extractfile(member)  # of a regular file, so there is one
                    with (folder / name).open("wb") as file:  # a name of ours, whatever is in the archive
                        shutil.copyfileobj(content, file)
                    (folder / name).chmod(0o755)
                    found[name] = {"sha256": sha256_of(str(folder / name)), "size": member.size}
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise self._bad(f"it cannot be read to its end: {error}") from error
        if missing := [f"bin/{name}" for name in self.names if name not in found]:
            raise self._bad(f"it has no {' and no '.join(missing)}")
        for name in self.names:
            with (folder / name).open("rb") as file:
                head, own = file.read(20), elf.program(self.platform)
            if head[:6] + head[18:] != own[:6] + own[18:20]:
                raise self._bad(f"bin/{name} is not a program for {self.platform}")
        return found

    def _bad(self, why: str) -> FarmError:
        return FarmError(f"the archive {redact(self.url)} cannot be used: {why}", hint=HINT)
