# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `cargo`: a Rust program that a registry has, with every crate that its own Cargo.lock names."""

from __future__ import annotations

import errno
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import CHANGED, BadInput, FarmError, HashMismatch
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import download_all
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import cargo_lock, licences, versions
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_lock import Crate
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_registry import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Kind,
    Resolved,
    Resolver,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import NoText, is_there, read_text
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

MOST = 1 << 26  # bytes of a Cargo.lock
LARGEST = 1 << 30  # bytes of all files of a program that is unpacked
PROGRAM, CRATE = "program", "crate"  # the program itself, and what it is made of
FILES = (PROGRAM, CRATE)
# see own_cargo.py
OWN: Mapping[str, Any] = {"required": ["cargo"], "properties": {"cargo": {"type": "string", "pattern": r"^\./"}}}
AS_FOLDER = ("take another version, or put the program into the image's folder, with a Cargo.lock (cargo: ./folder)")


class CargoKind(Kind):
    name = key = line = "cargo"
    fields = ("name", "version", "file")
    written = True
    schema = {
        "type": "object", "required": ["cargo", "version"], "additionalProperties": False,
        "properties": {
            "cargo": {"type": "string", "pattern": f"^{cargo_lock.NAME}$", "examples": ["librespot"],
                      "$comment": "be the name of a crate",
                      "description": "A crate with a program; its own Cargo.lock says what it is made of."},
            "version": {"type": "string", "pattern": f"^{cargo_lock.VERSION}$", "examples": ["0.8.0"],
                        "$comment": "be a whole version",
                        "description": "The crate's version, whole: 0.8.0."},
            "for": FOR,
        },
    }

    def takes(self, given: Mapping[str, Any]) -> bool:
        return "cargo" in given and not str(given["cargo"]).startswith("./")

    @property
    def when(self) -> Mapping[str, Any]:
        return {"required": ["cargo"], "not": OWN}

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"crate": given["cargo"], "version": given.get("version", "")}

    def foreign(self, found: Input, entry: Entry) -> str:
        if other := super().foreign(found, entry):
            return other
        if entry.platform:
            return f"a line for {entry.platform} only, but crates are for all platforms"
        fact, spec = entry.fact, found.spec
        if fact["file"] == PROGRAM and (fact["name"], fact["version"]) != (spec["crate"], spec["version"]):
            return (f"the recipe says {spec['crate']} {spec['version']}, this line says {fact['name']} "
                    f"{fact['version']}")
        return ""

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        if all(entry.fact["file"] != PROGRAM for entry in entries):
            yield f"the lock has no program {found.spec['crate']} {found.spec['version']}"

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['name']} {fact['version']}"

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        if fact["file"] == PROGRAM:  # its name says no version, so that a Dockerfile need not
            return f"{name}/program.crate"
        return f"{name}/crates/{fact['name']}-{fact['version']}.crate"

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        if fact["file"] not in FILES:
            yield f"file is {fact['file']!r}, it must be one of {', '.join(FILES)}"
        for name, pattern in (("name", cargo_lock.NAME), ("version", cargo_lock.VERSION)):
            if not re.fullmatch(pattern, fact[name]):
                yield f"{name} {fact[name]!r} is not valid for a crate"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return licences.read(licences.crate, path)

    def resolver(self, desk: Desk) -> Resolver:
        return _Programs(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        """cargo says where its registry has the files; the sha256 in the lock says whether they are the right ones."""
        if not wanted:
            return
        registry = Registry(desk.state / "cache" / "cargo", desk.origins.crates, desk.client.plain, desk.store)
        try:
            registry.ask(_crate(wanted[0][0]))
            client = registry.client
            yield from download_all(wanted, lambda entry, snapshot: [registry.url(_crate(entry))], client, desk.store)
        except FarmError as error:  # of cargo: downloads raise none
            yield from ((entry, error) for entry, _snapshot in wanted)
        finally:
            shutil.rmtree(registry.folder, ignore_errors=True)


def _crate(entry: Entry) -> Crate:
    return Crate(entry.fact["name"], entry.fact["version"], entry.sha256)


def registry(desk: Desk, name: str) -> Registry:
    """What is asked during a lock step; each kind has an index of its own."""
    return Registry(desk.state / "lock" / name, desk.origins.crates, desk.client.plain, desk.store, desk.say)


def sizes(recipe: Recipe) -> dict[Crate, int]:
    """The crates that an image's lock names, with their sizes in bytes."""
    return {_crate(entry): entry.size for entry in recipe.lock.entries if entry.kind == KIND.line}


def lock_text(path: Path, where: str) -> str:
    """A Cargo.lock; `where` is its name in messages. Raises BadInput if it cannot be read."""
    try:
        return read_text(path, MOST)
    except NoText as error:
        raise BadInput([f"{where}: line {error.line}: {error.reason}; {cargo_lock.ANEW}"], what=where) from None


@contextmanager
def naming(found: Input) -> Iterator[None]:
    """Errors say which input they are about."""
    try:
        yield
    except FarmError as error:
        error.where.setdefault("input", found.name)
        raise


def entries(name: str, crates: Mapping[Crate, int], file: str = CRATE) -> tuple[Entry, ...]:
    """The lock lines for crates."""
    return tuple(KIND.entry(name, crate.sha256, size, "", {"name": crate.name, "version": crate.version, "file": file})
                 for crate, size in crates.items())


def told(desk: Desk, recipe: Recipe, found: Input, crates: Mapping[Crate, int], yanked: Sequence[str]) -> None:
    """Says what was locked. A yanked crate is still served, but its author advises against it."""
    size = f"{sum(crates.values()) / 1e6:.1f} MB"
    desk.say(f"lock {recipe.name}: {amount(len(crates), 'crate')} for {found.name}, {size}")
    if yanked:
        desk.say(f"lock {recipe.name}: {found.name} has crates that their authors have yanked, as the Cargo.lock names "
                 f"them: {', '.join(yanked)}")


def newest(registry: Registry, recipe: Recipe, found: Input, named: Mapping[str, str],
           place: tuple[str | int, ...]) -> list[Version]:
    """The crates that are `named` (name -> version), and those of the others that were yanked."""
    have = {(entry.fact["name"], entry.fact["version"]) for entry in recipe.lock.entries
            if entry.input == found.name and entry.kind == KIND.line} | set(named.items())
    error = registry.read(sorted({name for name, _version in have}))
    told = []
    unknown: dict[str, str] = {}
    for name, version in sorted(have):
        there = registry.versions(name)
        best = versions.newest((one for one, yanked in there.items() if not yanked), version) if there else ""
        withdrawn = "yanked" if there.get(version) else ""
        if not there and name in named:
            raise error or FarmError(f"the registry has no {name}", hint="check its name in image.yml")
        if not there:
            unknown[name] = version
        if withdrawn or (name, version) in named.items():
            told.append(Version(name, version, best, withdrawn, place=place if name in named else (), text=best))
    return told + versions.unknown(unknown, error.message if error else "the registry does not have it")


class _Programs(Resolver):
    def __init__(self, desk: Desk) -> None:
        self.desk, self.registry = desk, registry(desk, "cargo")

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        with naming(found):
            return self._resolved(recipe, found)

    def _resolved(self, recipe: Recipe, found: Input) -> Resolved:
        program, before = self.registry.look(str(found.spec["crate"]), str(found.spec["version"])), sizes(recipe)
        for crate in before:
            if crate[:2] == program[:2] and crate != program:
                raise HashMismatch(f"the index says that {program} is {program.sha256}, the lock says {crate.sha256}",
                                   hint=CHANGED)
        whole = self.registry.get([program], recipe.name)
        source = self._unpacked(program)
        where = f"the Cargo.lock of {program}"
        if not is_there(source / "Cargo.lock"):
            raise FarmError(f"{program} was published without a Cargo.lock, so its dependencies are not known",
                            hint=AS_FOLDER)
        text = lock_text(source / "Cargo.lock", where)
        lock = cargo_lock.parse(text, where, self.registry.name)
        if others := sorted(set(lock.own) - {program.name}):
            raise BadInput([f"{where}: {other} comes from no registry: {AS_FOLDER}" for other in others], what=where)
        self.registry.check(source / "Cargo.toml", lock.format, where, AS_FOLDER)
        crates = self.registry.get(lock.crates, recipe.name, before)
        told(self.desk, recipe, found, {**crates, **whole}, self.registry.yanked([program, *lock.crates]))
        return Resolved((*entries(found.name, whole, PROGRAM), *entries(found.name, crates)))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        named = {str(found.spec["crate"]): str(found.spec["version"])}
        with naming(found):
            return newest(self.registry, recipe, found, named, ("version",))

    def _unpacked(self, crate: Crate) -> Path:
        """A crate's folder, unpacked. A .crate is a tar.gz of files in one folder."""
        into, folder = self.registry.folder / "program", f"{crate.name}-{crate.version}"
        shutil.rmtree(into, ignore_errors=True)
        try:
            with self.desk.store.open(crate.sha256) as file, tarfile.open(fileobj=file, mode="r:gz") as archive:
                left = LARGEST
                for member in archive:
                    parts = member.name.split("/")
                    left -= member.size
                    if left < 0:
                        raise ValueError(f"it has more than {LARGEST >> 20} MiB")
                    content = archive.extractfile(member) if member.isreg() else None
                    if content and parts[0] == folder and ".." not in parts:
                        path = into / member.name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        with path.open("wb") as out:
                            shutil.copyfileobj(content, out)
        except (OSError, tarfile.TarError, EOFError, zlib.error, ValueError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FarmError(f"{crate} cannot be unpacked: {error}", hint=AS_FOLDER) from error
        return into / folder


KIND = CargoKind()
