# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of `cargo: ./folder`: a Rust program whose code is in the image's own folder. The crates that its Cargo.lock
names are locked."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import tomllib
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import cargo, cargo_lock
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_failures import INSIDE
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Read,
    Resolved,
    Resolver,
    folder_mistakes,
    hash_of,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import look
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe

MADE = {"Cargo.toml": "`cargo init`", "Cargo.lock": "`cargo generate-lockfile`"}
MADE_BY_BUILDS = "target/CACHEDIR.TAG"
STALE = "run `cargo update --workspace` there and commit the Cargo.lock that it writes"


class OwnCargoKind(cargo.CargoKind):
    name = "own_cargo"
    own = True
    written = False
    sums = ("Cargo.toml", "Cargo.lock")
    schema = {
        "type": "object", "required": ["cargo"], "additionalProperties": False,
        "properties": {
            "cargo": {"type": "string", "pattern": r"^\./",
                      "description": "`./folder`: a program of the image's own, with its Cargo.lock."},
            "for": FOR,
        },
    }

    def takes(self, given: Mapping[str, Any]) -> bool:
        return str(given.get("cargo", "")).startswith("./")

    @property
    def when(self) -> Mapping[str, Any]:
        return cargo.OWN

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"folder": given["cargo"]}

    def mistakes(self, found: Input, files: Collection[str], platforms: Sequence[Platform]) -> Iterator[str]:
        name = str(found.spec["folder"])
        yield from folder_mistakes(name, files, MADE)
        if posixpath.normpath(f"{name}/{MADE_BY_BUILDS}") in files:
            yield (f"{name}/target was left by builds on this machine, and would be in the context: add it to "
                   ".dockerignore")

    def has_lines(self, found: Input, read: Read) -> bool:
        text = read(f"{found.spec['folder']}/Cargo.lock")
        return text is None or cargo_lock.needs_crates(text)  # None: it cannot be read, which the lock step reports

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        return {"folder": found.spec["folder"], "sums": hash_of(read, str(found.spec["folder"]), self.sums),
                **({"for": "build"} if found.build else {})}

    def foreign(self, found: Input, entry: Entry) -> str:
        if entry.kind == self.line and entry.fact["file"] == cargo.PROGRAM:
            return f"{entry.label} is a program of a registry, but the recipe says {found.spec['folder']}"
        return super().foreign(found, entry)

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        yield from ()

    def resolver(self, desk: Desk) -> Resolver:
        return _OwnPrograms(desk)


def outside(root: Path, program: str) -> list[str]:
    """The folders outside of `root` that a program in it requires by `path`, directly or not: they may be on this
    machine, but no build has them."""
    above = [program, *map(str, PurePosixPath(program).parents)]  # a workspace may be said there
    todo, seen, found = above, set[str](), []
    while todo:
        folder = todo.pop()
        if folder in seen:
            continue
        seen.add(folder)
        try:
            said = tomllib.loads((root / folder / "Cargo.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # what matters of it is reported by cargo
            continue
        for path in cargo_lock.paths(said):
            place = posixpath.normpath(posixpath.join(folder, path))
            if place.startswith(("/", "../")) or place == "..":
                found.append(path)
            else:
                todo.append(place)
    return sorted(set(found))


class _OwnPrograms(Resolver):
    def __init__(self, desk: Desk) -> None:
        self.desk, self.registry = desk, cargo.registry(desk, "own-cargo")

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        with cargo.naming(found):
            return self._resolved(recipe, found)

    def _resolved(self, recipe: Recipe, found: Input) -> Resolved:
        """In a copy of the main context, which is what a build has: what is beside the folder may be required by path,
        what is outside the image's folder may not."""
        name = str(found.spec["folder"])
        where = f"{posixpath.normpath(name)}/Cargo.lock".removeprefix("./")
        text = cargo.lock_text(Path(recipe.folder) / name / "Cargo.lock", where)
        if not cargo_lock.needs_crates(text):
            return Resolved(())
        lock = cargo_lock.parse(text, where, self.registry.name)
        copy = self.registry.folder / "context"
        shutil.rmtree(copy, ignore_errors=True)
        for path, (file, _mode) in look(Path(recipe.folder)).files.items():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy / path)
        if bad := outside(copy, posixpath.normpath(name)):
            raise FarmError(f"{where.removesuffix('.lock')}.toml requires what is outside of the image's folder: "
                            f"{', '.join(bad)}", hint=INSIDE)
        self.registry.check(copy / posixpath.normpath(name) / "Cargo.toml", lock.format, where, STALE)
        shutil.rmtree(copy)
        crates = self.registry.get(lock.crates, recipe.name, cargo.sizes(recipe))
        cargo.told(self.desk, recipe, found, crates, self.registry.yanked(lock.crates))
        return Resolved(cargo.entries(found.name, crates))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        """Of the crates that its Cargo.toml needs by itself."""
        name = str(found.spec["folder"])
        folder = Path(recipe.folder) / name
        manifest, lock = (cargo.lock_text(folder / file, f"{name}/{file}") for file in MADE)
        named = cargo_lock.named(manifest, lock, name)
        with cargo.naming(found):
            return cargo.newest(self.registry, recipe, found, named, ())


KIND = OwnCargoKind()
