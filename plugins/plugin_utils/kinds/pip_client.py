# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and runs the pip of the Python that runs Ansible, with the machine's own settings: indexes, logins, proxies and
CAs. It downloads wheels only: an sdist would run its code to be looked at.

pip's --only-binary is about an index alone. What a wheel requires of an address (`name @ https://...`) or a repository
may be an sdist, which pip would build while it selects. So a hook in pip's own process refuses the programs that this
needs: Python, and the clients of repositories. Others, such as those of keyrings, are left alone.

pip has no option for what markers are evaluated for: it takes the machine that it runs on, and so asks for what the
target does not need, and may not have. So the same process puts the target's values in place of the machine's. A pip
that has them elsewhere gets too much or too little, which `wheels.reached` finds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import wheels
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.batches import in_batches, into_store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.pip_failures import REFUSED, failure
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

LONGEST = 3600.0  # seconds that a command may take; it downloads what it needs
OLDEST = 22  # what Python 3.11 comes with
MARKERS = "DESIMAGES_MARKERS"  # names the variable of the environment that says what markers are evaluated for
OURS = ("--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off")
GUARDED = f"""\
import json, os, runpy, sys

def refuse(event, words):
    if event != "subprocess.Popen":
        return
    program, arguments = words[0], [] if isinstance(words[1], (str, bytes)) else [*map(os.fsdecode, words[1])]
    program = os.fsdecode(program or (arguments or [""])[0])
    if program == sys.executable or os.path.basename(program) in ("git", "hg", "svn", "bzr"):
        raise PermissionError(f"{REFUSED}: {{' '.join(arguments)[:200]}}")

target = json.loads(os.environ.pop({MARKERS!r}, "{{}}"))
try:
    from pip._vendor.packaging import markers
    here = markers.default_environment
    markers.default_environment = lambda: {{**here(), **target}}
except (ImportError, AttributeError):
    pass

sys.addaudithook(refuse)
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


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

    def download(self, lines: Sequence[str], options: Sequence[str], into: Path,
                 where: Mapping[str, str] | None = None) -> FarmError | None:
        """Downloads what the lines of a requirements file ask for into an empty folder; or says why not. Markers are
        evaluated for the environment `where`."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        file, log = into.with_suffix(".requirements"), into.with_suffix(".log")
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        log.unlink(missing_ok=True)
        done = programs.run([*self.command, "download", *OURS, *options, f"--dest={into}", f"--log={log}",
                             f"--cache-dir={self.folder / 'cache'}", f"--requirement={file}"],
                            seconds=LONGEST, environment={**self.environment, MARKERS: json.dumps(where or {})},
                            folder=str(into))
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
    command = (python, "-c", GUARDED)
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
    groups: dict[tuple[int, tuple[str, ...]], list[Entry]] = {}
    seen: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for entry in entries:
        options = wheels.target_of(entry.fact["file"])
        name = entry.fact["name"], options
        groups.setdefault((seen[name], options), []).append(entry)  # pip takes one version of a name at a time
        seen[name] += 1
    into = scratch / "wheels"
    try:
        for (_number, options), some in groups.items():
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
