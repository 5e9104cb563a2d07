# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `pypi`: wheels from an index of Python packages, for the Python of the image's Debian release. They lie side
by side in the context; `pip-build` in images/builder installs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import licences, pip_client, pip_versions, wheels
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.batches import keep
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Kind,
    Read,
    Resolved,
    Resolver,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.pip_closures import Closures
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe


class PypiKind(Kind):
    name = key = line = "pypi"
    fields = ("name", "version", "file")
    written = True
    schema = {
        "type": "object", "required": ["pypi"], "additionalProperties": False,
        "properties": {
            "pypi": {"type": "array", "minItems": 1, "uniqueItems": True,
                     "items": {"type": "string", "pattern": wheels.REQUIREMENT, "examples": ["name==1.2.3"],
                               "$comment": "be a package at one version"},
                     "description": "Python packages, each at an exact version: `name==1.2.3`."},
            "dependencies": {"type": "boolean",
                             "description": "Whether to lock what they need as well; by default true."},
            "for": FOR,
        },
    }

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"packages": sorted(given["pypi"]), "dependencies": given.get("dependencies", True)}

    def mistakes(self, found: Input, files: Collection[str], platforms: Sequence[Platform]) -> Iterator[str]:
        for name, times in Counter(name for name, _version in _wanted(found)).items():
            if times > 1:
                yield f"{found.name} names {name} {times} times"

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        """The Python counts too: other wheels are for another one."""
        release = wheels.RELEASES.get(suites[0])
        return {**super().made_for(found, suites, read), "python": release.python if release else ""}

    def foreign(self, found: Input, entry: Entry) -> str:
        if other := super().foreign(found, entry):
            return other
        if not entry.platform:
            return "a line for all platforms, but each has its own wheels"
        fits = wheels.fits(entry.fact["file"], Platform.parse(entry.platform))
        return "" if fits else f"{entry.fact['file']} is not for {entry.platform}"

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        for platform in map(str, platforms):
            have = {entry.fact["name"]: entry.fact["version"] for entry in entries if entry.platform == platform}
            for name, version in _wanted(found):
                if not wheels.same_version(have.get(name, ""), version):
                    yield f"the lock has no wheel of {name} {version} for {platform}"
            several = Counter(entry.fact["name"] for entry in entries if entry.platform == platform)
            yield from (f"{name} occurs {times} times for {platform}" for name, times in several.items() if times > 1)

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['name']} {fact['version']} ({fact['file']})"

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return f"{name}/{fact['file']}"

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        parts = wheels.FILE.fullmatch(fact["file"])
        if not parts:
            yield f"file {fact['file']!r} is not the name of a wheel for CPython"
        elif (wheels.normal(parts["name"]) != fact["name"]
              or not wheels.same_version(parts["version"], fact["version"])):
            yield f"file {fact['file']!r} is not of {fact['name']} {fact['version']}"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return licences.read(licences.wheel, path)

    def resolver(self, desk: Desk) -> Resolver:
        return _Wheels(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        yield from pip_client.fetch([entry for entry, _snapshot in wanted], desk.store, desk.state / "cache" / "pip",
                                    origin=desk.origins.pypi)


def _wanted(found: Input) -> list[tuple[str, str]]:
    """The names and versions in a recipe."""
    return [wheels.split(text) for text in found.spec["packages"]]  # type: ignore[attr-defined]


class _Wheels(Resolver):
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.closures = Closures(desk.state / "lock" / "pip", origin=desk.origins.pypi, say=desk.say)

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        wanted: list[str] = found.spec["packages"]  # type: ignore[assignment]
        closures = self.closures.wheels(recipe.name, found.name, wanted, bool(found.spec["dependencies"]),
                                        recipe.suites[0], platforms)
        _refuse_others(found, {wheel.name: wheel.version for some in closures.values() for wheel in some})
        entries = []
        for platform, some in closures.items():
            for wheel in some:
                sha256 = sha256_of(str(wheel.path))
                keep(wheel.path, sha256, self.desk.store)
                entries.append(KIND.entry(found.name, sha256, wheel.path.stat().st_size, str(platform), {
                    "name": wheel.name, "version": wheel.version, "file": wheel.path.name}))
        self.desk.say(f"lock {recipe.name}: {len(entries)} wheels for {found.name}")
        return Resolved(tuple(entries))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        """For the first platform, as a lock has the same versions for all; for the others only what that lacks."""
        release, told = wheels.release_of(recipe.suites[0]), []
        named: list[str] = found.spec["packages"]  # type: ignore[assignment]
        asked: set[str] = set()
        for platform in platforms:
            have = {entry.fact["name"]: entry.fact["version"] for entry in recipe.lock.of(found.name, str(platform))
                    if entry.fact["name"] not in asked}
            if have or named:
                told += pip_versions.packages(self.closures.pip, self.closures.folder / "versions", have, named,
                                              wheels.target(platform, release))
            asked |= have.keys()
            named = []
        return told


def _refuse_others(found: Input, there: Mapping[str, str]) -> None:
    """To pip, `1.0+local` is a `1.0` too, and a better one. Raises FarmError if it took such a version."""
    for name, version in _wanted(found):
        if not wheels.same_version(there.get(name, version), version):
            raise FarmError(f"{name}=={version}: pip took {there[name]} instead, which the index has as well",
                            hint=f"write {name}=={there[name]} in the recipe, or use an index without it")


KIND = PypiKind()
