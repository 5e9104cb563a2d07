# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and runs the pip of the Python that runs Ansible, with the machine's own settings: indexes, logins, proxies and
CAs. It downloads wheels only: an sdist would run its code to be looked at."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import wheels
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.batches import in_batches, into_store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.pip_failures import failure
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

LONGEST = 3600.0  # seconds that a command may take; it downloads what it needs
OLDEST = 22  # what Python 3.11 comes with
OURS = ("--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off")


@dataclass(frozen=True)
class Pip:
    """A pip command. `folder` has its cache and scratch folders; an `origin` that the inventory names is asked alone:
    an index, or a folder of wheels."""

    command: tuple[str, ...]
    folder: Path
    origin: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """pip's variables win over its files, and replace lists in them."""
        if not self.origin:
            return dict(os.environ)
        nothing = self.folder / "nothing"
        nothing.mkdir(parents=True, exist_ok=True)
        if self.origin.startswith("file:"):
            own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.origin}
        else:
            own = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": self.origin, "PIP_EXTRA_INDEX_URL": self.origin,
                   "PIP_FIND_LINKS": str(nothing)}
        return {**os.environ, **own}

    def download(self, lines: Sequence[str], options: Sequence[str], into: Path) -> FarmError | None:
        """Downloads what the lines of a requirements file ask for into an empty folder; or says why not."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        file, log = into.with_suffix(".requirements"), into.with_suffix(".log")
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        log.unlink(missing_ok=True)
        done = programs.run([*self.command, "download", *OURS, *options, f"--dest={into}", f"--log={log}",
                             f"--cache-dir={self.folder / 'cache'}", f"--requirement={file}"],
                            seconds=LONGEST, environment=self.environment, folder=str(into))
        if not done.code:
            return None
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return failure("pip download", done.err or done.out, said, exit_code=done.code)

    def report(self, wanted: Sequence[str], options: Sequence[str], work: Path) -> tuple[list[dict[str, Any]], str]:
        """What pip would install, as its report has it, and what it warns of. Nothing is installed. Raises what a
        failure means."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        file = work / "report.json"
        done = programs.run([*self.command, "install", *OURS, *options, "--dry-run", "--ignore-installed", "--no-deps",
                             "--quiet", f"--target={work / 'target'}", f"--report={file}",
                             f"--cache-dir={self.folder / 'cache'}", *wanted],
                            seconds=LONGEST, environment=self.environment, folder=str(work))
        if done.code:
            raise failure("pip install --dry-run", done.err or done.out, "", exit_code=done.code)
        return json.loads(file.read_text(encoding="utf-8"))["install"], done.err


def find_pip(python: str = sys.executable) -> tuple[str, ...]:
    """The command of a pip that is new enough."""
    command = (python, "-m", "pip")
    done = programs.run([*command, "--version"], seconds=60, environment=os.environ, folder="/")
    version = re.match(r"pip (\d+)\.", done.out)
    if version and int(version[1]) >= OLDEST:
        return command
    said = f": it is {done.out.partition(' from ')[0]}" if version else ""
    raise FarmError(f"the Python that runs Ansible here, {python}, has no pip {OLDEST} or later{said}",
                    hint=f"{python} -m ensurepip --upgrade (or apt-get install python3-pip); only images with pypi "
                         "inputs need it")


def fetch(entries: Sequence[Entry], store: Store, scratch: Path, *,
          origin: str = "") -> Iterator[tuple[Entry, FarmError | None]]:
    """Fetches locked wheels into the store with pip, and checks each by size and sha256. `scratch` is removed
    afterwards."""
    try:
        pip = Pip(find_pip(), scratch, origin)
    except FarmError as error:
        yield from ((entry, error) for entry in entries)
        return
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(wheels.target_of(entry.fact["file"]), []).append(entry)
    into = scratch / "wheels"
    try:
        for options, some in groups.items():
            yield from _fetch(pip, ("--no-deps", "--require-hashes", *options), some, into, store)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch(pip: Pip, options: Sequence[str], entries: Sequence[Entry], into: Path,
           store: Store) -> Iterator[tuple[Entry, FarmError | None]]:
    yield from in_batches(entries, lambda batch: pip.download([pinned(entry) for entry in batch], options, into),
                          lambda entry: entered(entry, into, store))


def pinned(entry: Entry) -> str:
    return f"{entry.fact['name']}=={entry.fact['version']} --hash=sha256:{entry.sha256}"


def entered(entry: Entry, into: Path, store: Store) -> FarmError | None:
    path = into / entry.fact["file"]
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in into.iterdir())) or "nothing"
        return HashMismatch(f"{entry.label}: the index has no file of that name, but {there}",
                            hint="the lock was altered (see its `git log`), or the index renamed it: lock again")
    return into_store(entry, path, store)
