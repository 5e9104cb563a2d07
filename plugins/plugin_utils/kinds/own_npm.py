# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of `npm: ./folder`: a program whose code is in the image's own folder. The packages that its
package-lock.json installs are locked."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import npm, npm_lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Read,
    Resolved,
    Resolver,
    folder_mistakes,
    hash_of,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_packages import (
    LOCKFILE,
    PACKAGE,
    needs_packages,
    text_of,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe

SHRINKWRAP = "npm-shrinkwrap.json"
NEEDS = {PACKAGE: "`npm init`", LOCKFILE: "`npm install --package-lock-only`"}


class OwnNpmKind(npm.NpmKind):
    name = "own_npm"
    wrapper = None
    own = True
    written = False
    schema = {
        "type": "object", "required": ["npm"], "additionalProperties": False,
        "properties": {
            "npm": {"type": "string", "pattern": r"^\./", "description": "`./folder`: a program of the image's own."},
            "fallback": npm.FALLBACK,
            "for": FOR,
        },
    }

    def takes(self, given: Mapping[str, Any]) -> bool:
        return str(given.get("npm", "")).startswith("./")

    @property
    def when(self) -> Mapping[str, Any]:
        return npm.OWN

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"folder": given["npm"], **npm.fallback(given)}

    def mistakes(self, found: Input, files: Collection[str], platforms: Sequence[Platform]) -> Iterator[str]:
        name = str(found.spec["folder"])
        yield from folder_mistakes(name, files, NEEDS)
        if posixpath.normpath(f"{name}/{SHRINKWRAP}") in files:
            yield f"{name} has a {SHRINKWRAP}, which npm reads instead of {LOCKFILE}; rename it to that"

    def has_lines(self, found: Input, read: Read) -> bool:
        return needs_packages(read(f"{found.spec['folder']}/{LOCKFILE}") or "")

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        return {**found.spec, "sums": hash_of(read, str(found.spec["folder"]), self.sums),
                **({"for": "build"} if found.build else {})}

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        yield from ()

    def resolver(self, desk: Desk) -> Resolver:
        return _OwnPrograms(desk)


class _OwnPrograms(npm.Programs):
    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        folder = str(found.spec["folder"])
        packages = self.packages.own(Path(recipe.folder) / folder, folder)
        return Resolved(self.lines(recipe, found, text_of(Path(recipe.folder) / folder / LOCKFILE), packages,
                                   platforms))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        """Of the packages that its package.json names."""
        folder = Path(recipe.folder) / str(found.spec["folder"])
        named = npm_lockfile.named(text_of(folder / PACKAGE), text_of(folder / LOCKFILE), str(found.spec["folder"]))
        return self.versions(recipe, found, named, ())


KIND = OwnNpmKind()
