# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and runs this machine's npm, with the machine's own settings: its registries (those of scopes too), logins,
proxies and CAs.

npm keeps each tarball that it downloads in its cache, under the hex of the sha512 that the registry and the lock file
call its integrity. From there they are taken, byte by byte as they came.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import CHANGED, FarmError, HashMismatch
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.batches import in_batches, into_store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_failures import failure
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

LONGEST = 3600.0  # seconds that a command may take; it downloads what it needs
OLDEST = 9  # npm 8.10 is the first that leaves the registry's address out of a lock file; Debian 12 has 9.2
OURS = ("--json", "--ignore-scripts", "--logs-max=0", "--loglevel=error", "--no-update-notifier", "--no-audit",
        "--no-fund", "--no-global", "--no-dry-run",
        # No git, with or without these words: npm may look into a repository, whose .npmrc can name programs to run.
        "--allow-git=none", "--git=/bin/false")


@dataclass(frozen=True)
class Npm:
    """An npm command with a cache of its own. A `registry` that the inventory names is asked for everything, those of
    scopes included."""

    binary: str
    cache: Path
    registry: str = ""

    def run(self, *arguments: str, folder: Path) -> programs.Done:
        folder.mkdir(parents=True, exist_ok=True)
        return programs.run([self.binary, *arguments, *OURS, f"--cache={self.cache}", *self._registries],
                            seconds=LONGEST, environment=os.environ, folder=str(folder))

    def must(self, what: str, *arguments: str, folder: Path) -> None:
        """Raises the error that the output means if the command fails."""
        done = self.run(*arguments, folder=folder)
        if done.code:
            raise failure(what, done.out, done.err, exit_code=done.code)

    @cached_property
    def _registries(self) -> tuple[str, ...]:
        if not self.registry:
            return ()
        done = programs.run([self.binary, "config", "list", "--json"], seconds=60, environment=os.environ, folder="/")
        try:
            scopes = [name for name in json.loads(done.out) if re.fullmatch("@.+:registry", name)]
        except ValueError as error:
            raise failure("npm config list", done.out, done.err, exit_code=done.code) from error
        return (f"--registry={self.registry}", *(f"--{name}={self.registry}" for name in scopes))

    def tarball(self, integrity: str) -> Path:
        """Where the cache has a tarball."""
        digest = base64.b64decode(integrity.removeprefix("sha512-")).hex()
        return self.cache / "_cacache" / "content-v2" / "sha512" / digest[:2] / digest[2:4] / digest[4:]

    def download(self, specs: Sequence[str], folder: Path) -> FarmError | None:
        """Brings tarballs (`NAME@VERSION`) into the cache."""
        done = self.run("cache", "add", *specs, folder=folder)
        return failure("npm cache add", done.out, done.err, exit_code=done.code) if done.code else None


def find_npm() -> str:
    """The path of an npm that is new enough."""
    found = shutil.which("npm") or ""
    said = ""
    if found:
        done = programs.run([found, "--version"], seconds=60, environment=os.environ, folder="/")
        version = re.match(r"(\d+)\.", done.out.strip())
        if version and int(version[1]) >= OLDEST:
            return found
        said = f": {found} is {done.out.strip() or 'broken'}"
    raise FarmError(f"this machine has no npm {OLDEST} or later{said}",
                    hint="install one (apt-get install npm); only images with npm inputs need it")


def fetch(entries: Sequence[Entry], store: Store, scratch: Path, *,
          registry: str = "") -> Iterator[tuple[Entry, FarmError | None]]:
    """Fetches locked tarballs into the store with npm, and checks each by integrity, size and sha256. `scratch` is
    removed afterwards."""
    try:
        npm = Npm(find_npm(), scratch / "cache", registry)
    except FarmError as error:
        yield from ((entry, error) for entry in entries)
        return
    try:
        yield from in_batches(entries, lambda some: npm.download([spec(entry) for entry in some], scratch / "empty"),
                              lambda entry: entered(entry, npm, store))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def spec(entry: Entry) -> str:
    return f"{entry.fact['name']}@{entry.fact['version']}"


def entered(entry: Entry, npm: Npm, store: Store) -> FarmError | None:
    path = npm.tarball(entry.fact["integrity"])
    if not path.is_file():
        return HashMismatch(f"{entry.label}: the registry has another integrity than the lock, which has "
                            f"{entry.fact['integrity']}", hint=CHANGED)
    return into_store(entry, path, store)
