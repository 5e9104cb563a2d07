# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves npm packages: makes a wrapper that pins the selection, and gets every tarball that an installation of it
reads.

`images/<image>/npm/<input>/{package.json,package-lock.json}` require one package at one version; npm selects the rest.
If the wrapper before requires the same version, its selection stays: what a registry serves moves every day.
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import npm_lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.batches import AT_ONCE, keep
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import copy_program
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_client import Npm, find_npm
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_lockfile import Package, short
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock

MADE = "Made by playbooks/lock.yml."
PACKAGE, LOCKFILE = WRAPPER = ("package.json", "package-lock.json")
RESOLVE = ("install", "--package-lock-only", "--package-lock", "--lockfile-version=3",
           "--omit-lockfile-registry-resolved", "--prefer-online", "--save", "--install-strategy=hoisted",
           "--engine-strict=false")  # it is about the Node of this machine: npm_engines.py compares that of the image
# of the package itself, and of those that it bundles
_INSIDE = r"[^/]+/(?P<bundled>(node_modules/(@[^/]+/)?[^/]+/)*)"
COMPILED = re.compile(_INSIDE + r"binding\.gyp|.*\.node")
ELF = b"\x7fELF"  # how a program or a library for Linux begins
MANIFEST = re.compile(_INSIDE + r"package\.json")
MOST = 1 << 22  # bytes of a package.json
RUN = ("preinstall", "install", "postinstall")  # by npm, when it installs a package of a registry
REMEDY = ("choose a version or a package that needs none (`overrides` in package.json can replace it), name it in "
          "`fallback` if it works without its native code or its install script, or leave the platform out of the "
          "recipe")


class Packages:
    """Resolves npm inputs. `folder` has npm's cache, which is kept between runs, and scratch folders."""

    def __init__(self, folder: Path, store: Store, *, registry: str = "",
                 say: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.store, self.registry, self.say = folder, store, registry, say
        self._npm: Npm | None = None

    @property
    def npm(self) -> Npm:
        if self._npm is None:
            self._npm = Npm(find_npm(), self.folder / "cache", self.registry)
        return self._npm

    def wrapped(self, image: str, name: str, package: str, version: str, before: Path) -> dict[str, str]:
        """The wrapper of an input that is one package. `before` has the wrapper as it is now, if there is one: someone
        may have added `overrides` to it, or raised a dependency (`npm update NAME --package-lock-only` there)."""
        work = self.fresh("wrapper")
        manifest = {"//": MADE, "name": f"desimages-{image}-{name}", "private": True,
                    "dependencies": {package: version}}
        text = json.dumps(manifest, indent=2) + "\n"
        if _json(before / PACKAGE).get("dependencies") == {package: version}:
            text = text_of(before / PACKAGE)
            if (before / LOCKFILE).exists():
                shutil.copyfile(before / LOCKFILE, work / LOCKFILE)
        (work / PACKAGE).write_text(text, encoding="utf-8")
        self.npm.must(f"npm install {package}@{version}", *RESOLVE, folder=work)
        return {PACKAGE: text,
                LOCKFILE: npm_lockfile.tidied((work / LOCKFILE).read_text(encoding="utf-8"))}

    def own(self, folder: Path, said: str) -> tuple[Package, ...]:
        """The packages of a program of the image's own. `said` is the name of its folder in messages."""
        found = npm_lockfile.packages(text_of(folder / LOCKFILE), f"{said}/{LOCKFILE}")
        work = self.folder / "own"
        copy_program(folder, work, "node_modules", ".npmrc")
        self.npm.must(f"npm install in {said}", *RESOLVE, folder=work)
        if npm_lockfile.packages(text_of(work / LOCKFILE), f"{said}/{LOCKFILE}") != found:
            raise FarmError(f"{said}/{LOCKFILE} does not fit {said}/{PACKAGE}: `npm install` changes it",
                            hint="run `npm install --package-lock-only` there and commit the result")
        return found

    def fresh(self, name: str) -> Path:
        """An empty folder."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def tarballs(self, image: str, name: str, packages: Sequence[Package], platforms: Sequence[Platform],
                 fallback: Sequence[str], old: Lock) -> list[tuple[Package, str, str, int]]:
        """Gets the tarballs into the store; each package with the integrity, the sha256 and the size of its own.

        Raises FarmError if some need native code, with all of them.
        """
        known = {(entry.fact["name"], entry.fact["version"], entry.fact["integrity"]): (entry.sha256, entry.size)
                 for entry in old.entries if entry.kind == "npm"}
        had = {package: (one, *found) for package in packages for one in package.integrity.split()
               if (found := known.get((package.name, package.version, one))) and self.store.has(*found)}
        lacking = [package for package in packages if package not in had]
        for start in range(0, len(lacking), AT_ONCE):
            self.say(f"lock {image}: {name}: {start} of {len(lacking)} packages downloaded")
            error = self.npm.download([f"{one.name}@{one.version}" for one in lacking[start:start + AT_ONCE]],
                                      self.fresh("empty"))
            if error:
                raise error
        came = {package: one for package in lacking for one in package.integrity.split()
                if self.npm.tarball(one).is_file()}
        if others := [package for package in lacking if package not in came]:
            lines = "".join(f"\n    {package.label}, {package.integrity}" for package in others)
            raise FarmError(f"the registry has another integrity than {LOCKFILE}, which has:{lines}", input=name,
                            hint=f"find out why, and remove them from {LOCKFILE}")
        for package, one in came.items():
            path = self.npm.tarball(one)
            had[package] = (one, sha256_of(str(path)), path.stat().st_size)
            keep(path, had[package][1], self.store)
        self._look(name, [(package, needs(self.store.path(had[package][1]))) for package in packages], platforms,
                   fallback)
        return [(package, *had[package]) for package in packages]

    def _look(self, name: str, found: Sequence[tuple[Package, str]], platforms: Sequence[Platform],
              fallback: Sequence[str]) -> None:
        if unknown := sorted(set(fallback) - {package.name for package, _said in found}):
            raise FarmError(f"{name}: fallback names {', '.join(unknown)}, which is not one of its packages",
                            input=name, hint="remove it there")
        needy = list(npm_lockfile.natives(found, platforms, fallback))
        if needy:
            where = sorted({platform for _text, some in needy for platform in some}, key=platforms.index)
            lines = "".join(f"\n    {text} (not for {', '.join(map(str, some))})" for text, some in needy)
            raise FarmError(f"{name} needs what the farm neither compiles nor runs:{lines}", input=name,
                            platform=", ".join(map(str, where)), hint=REMEDY)


def needs(path: Path) -> str:
    """What a tarball needs that an installation does not do: native code to be compiled, or install scripts to be run;
    '' if it needs nothing."""
    try:
        with tarfile.open(path, "r:*") as archive:
            files, compiled = [], []
            for file in archive:
                if file.isfile() and (content := archive.extractfile(file)):
                    files.append(file)
                    compiled += [file.name] if COMPILED.fullmatch(file.name) or content.read(4) == ELF else []
            if compiled:
                return f"has native code ({min(compiled).partition('/')[2]})"
            files.sort(key=lambda file: file.name)
            manifests = [(found["bundled"], content.read(MOST + 1)) for file in files
                         if (found := MANIFEST.fullmatch(file.name)) and (content := archive.extractfile(file))]
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, RecursionError) as error:
        return f"cannot be unpacked: {error}"
    wanted = []
    for bundled, data in manifests:
        scripts = _scripts(data)
        if scripts is None and not bundled:  # what is bundled may have files of that name that are for its tests
            return "has a package.json that cannot be read"
        wanted += [f"{bundled}{name}: {short(str(scripts[name]))}" for name in RUN if scripts and scripts.get(name)]
    return f"wants to run an install script ({', '.join(wanted)})" if wanted else ""


def _scripts(data: bytes) -> dict[str, Any] | None:
    """The scripts in a package.json; None if it is none."""
    try:
        said = json.loads(data if len(data) <= MOST else b"").get("scripts")
    except (ValueError, AttributeError, RecursionError):
        return None
    return said if isinstance(said, dict) else {}


def needs_packages(text: str) -> bool:
    """Whether a program with this package-lock.json needs packages; also if it cannot be read, which the lock step
    reports."""
    try:
        return bool(npm_lockfile.packages(text, LOCKFILE))
    except FarmError:
        return True


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _json(path: Path) -> Mapping[str, Any]:
    """What a wrapper's package.json says; {} if there is none. Someone may have edited it, so it is not replaced if it
    cannot be read."""
    try:
        said = json.loads(text_of(path) or "{}")
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise FarmError(f"{'/'.join(path.parts[-3:])} is not JSON",
                        hint="correct it, or remove it: then it is made again")
    return said
