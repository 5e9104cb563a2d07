# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `npm`: a program from a package of an npm registry, with every package that it needs. Only JavaScript: no
install script runs, nothing is compiled, and optional packages are left out.

In the context are the wrapper and `tarballs/<package>/<version>.tgz`. `npm-build` in images/builder installs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import (
    licences,
    npm_client,
    npm_engines,
    npm_lockfile,
    npm_versions,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Kind,
    Read,
    Resolved,
    Resolver,
    Wrapper,
    hash_of,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_lockfile import NAME, VERSION, Package
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_packages import LOCKFILE, MADE, WRAPPER, Packages
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe

OWN: Mapping[str, Any] = {"required": ["npm"], "properties": {"npm": {"type": "string", "pattern": r"^\./"}}}
FALLBACK: Mapping[str, Any] = {
    "type": "array", "minItems": 1, "uniqueItems": True, "items": {
        "type": "string", "pattern": NAME, "examples": ["@scope/name"], "$comment": "be the name of a package"},
    "description": "Packages that work without their native code and their install scripts.",
}


class NpmKind(Kind):
    name = key = line = "npm"
    fields = ("name", "version", "integrity")
    wrapper: ClassVar[Wrapper | None] = Wrapper(WRAPPER, marked=WRAPPER[0], mark=MADE)
    sums = WRAPPER
    written = True
    schema = {
        "type": "object", "required": ["npm", "version"], "additionalProperties": False,
        "properties": {
            "npm": {"type": "string", "pattern": NAME, "examples": ["@scope/name"],
                    "$comment": "be the name of a package",
                    "description": "A package of an npm registry."},
            "version": {"type": "string", "pattern": VERSION, "examples": ["1.2.3"], "$comment": "be one version",
                        "description": "The package's version, an exact one."},
            "fallback": FALLBACK,
            "for": FOR,
        },
    }

    def takes(self, given: Mapping[str, Any]) -> bool:
        return "npm" in given and not str(given["npm"]).startswith("./")

    @property
    def when(self) -> Mapping[str, Any]:
        return {"required": ["npm"], "not": OWN}

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"package": given["npm"], "version": given.get("version", ""), **fallback(given)}

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        """The wrapper counts too: someone may have edited it since the lock was made."""
        return {**super().made_for(found, suites, read),
                "wrapper": hash_of(read, f"{self.name}/{found.name}", WRAPPER)}

    def foreign(self, found: Input, entry: Entry) -> str:
        other = super().foreign(found, entry)
        if entry.platform and not other:
            return f"a line for {entry.platform} only, but packages are for all platforms"
        return other

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        wanted = (found.spec["package"], found.spec["version"])
        if wanted not in {(entry.fact["name"], entry.fact["version"]) for entry in entries}:
            yield f"the lock has no tarball of {' '.join(map(str, wanted))}"

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['name']} {fact['version']}"

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return f"{name}/tarballs/{fact['name']}/{fact['version']}.tgz"

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        for name, pattern in (("name", NAME), ("version", VERSION), ("integrity", npm_lockfile.INTEGRITY)):
            if not re.fullmatch(pattern, fact[name]):
                yield f"{name} {fact[name]!r} is not valid for an npm package"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return licences.read(licences.npm, path)

    def resolver(self, desk: Desk) -> Resolver:
        return _Programs(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        yield from npm_client.fetch([entry for entry, _snapshot in wanted], desk.store, desk.state / "cache" / "npm",
                                    registry=desk.origins.npm)


def fallback(given: Mapping[str, Any]) -> dict[str, object]:
    return {"fallback": sorted(given["fallback"])} if "fallback" in given else {}


class Programs(Resolver):
    """What resolves both packages and programs of the image's own."""

    def __init__(self, desk: Desk) -> None:
        self.packages = Packages(desk.state / "lock" / "npm", desk.store, registry=desk.origins.npm, say=desk.say)
        self.say = desk.say

    def lines(self, recipe: Recipe, found: Input, text: str, packages: Sequence[Package],
              platforms: Sequence[Platform]) -> tuple[Entry, ...]:
        """The lock lines of the packages of a package-lock.json."""
        engines = npm_lockfile.engines(text)
        if said := npm_engines.compare(self.packages.npm, recipe, found, engines, platforms,
                                       self.packages.fresh("empty")):
            self.say(f"lock {recipe.name}: {said}")
        files = self.packages.tarballs(recipe.name, found.name, packages, platforms,
                                       found.spec.get("fallback", ()), recipe.lock)  # type: ignore[arg-type]
        return tuple(KIND.entry(found.name, sha256, size, "", {
            "name": package.name, "version": package.version, "integrity": integrity})
            for package, integrity, sha256, size in files)

    def versions(self, recipe: Recipe, found: Input, named: Mapping[str, str],
                 place: tuple[str | int, ...]) -> list[Version]:
        have = {(entry.fact["name"], entry.fact["version"]) for entry in recipe.lock.entries
                if entry.input == found.name and entry.kind == KIND.line}
        return npm_versions.packages(self.packages.npm, self.packages.folder / "versions", have, named, place)


class _Programs(Programs):
    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        place = f"{KIND.name}/{found.name}"
        wrapper = self.packages.wrapped(recipe.name, found.name, str(found.spec["package"]),
                                        str(found.spec["version"]), Path(recipe.folder) / place)
        packages = npm_lockfile.packages(wrapper[LOCKFILE], f"{place}/{LOCKFILE}")
        return Resolved(self.lines(recipe, found, wrapper[LOCKFILE], packages, platforms),
                        {f"{place}/{name}": text for name, text in wrapper.items()})

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        named = {str(found.spec["package"]): str(found.spec["version"])}
        return self.versions(recipe, found, named, ("version",))


KIND = NpmKind()
