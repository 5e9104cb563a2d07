# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `debian`: packages and all their dependencies, for each platform, from Debian's signed archives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.platforms import DEBIAN, NAMED, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import client_settings
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import download_all
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins, at_times
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import licences
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.debian_closures import (
    Debian,
    Index,
    Package,
    newest,
    refuse_older,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Kind,
    Read,
    Resolved,
    Resolver,
    plain,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.descent import leaves_out
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

# Debian Policy 5.6.1; with a minus at the end apt would remove the package
PACKAGE = r"^[a-z0-9][a-z0-9+.-]*[a-z0-9+.]$"
WORKERS = 4


class DebianKind(Kind):
    name = key = line = "debian"
    fields = ("archive", "platform", "name", "version", "architecture", "path")
    schema = {
        "type": "object", "required": ["debian"], "additionalProperties": False,
        "properties": {
            "debian": {"type": "array", "minItems": 1, "uniqueItems": True,
                       "items": {"type": "string", "pattern": PACKAGE, "examples": ["nginx"],
                                 "$comment": "be the name of a Debian package"},
                       "description": "Package names; the lock has their closure."},
            "essential": {"type": "boolean", "description": "Adds Debian's essential packages to the closure."},
            "dependencies": {"type": "boolean", "description": "false locks only these packages, without what "
                                                               "they depend on."},
            "for": FOR,
        },
    }

    def spec(self, given: Mapping[str, object]) -> dict[str, object]:
        packages = list(given["debian"])  # type: ignore[call-overload]
        alone = {} if given.get("dependencies", True) else {"dependencies": False}
        return {"packages": packages, "essential": bool(given.get("essential")), **alone}

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        packages = sorted(found.spec["packages"])  # type: ignore[call-overload]
        return {**super().made_for(found, suites, read), "packages": packages, "suites": list(suites)}

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        """A closure has one version of a package. If there are two, two locks were merged, or one line is for another
        platform."""
        counts = Counter((entry.fact["name"], entry.platform) for entry in entries)
        yield from (f"{name} occurs {count} times for {platform}"
                    for (name, platform), count in sorted(counts.items()) if count > 1)

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['name']} {fact['version']} {fact['architecture']}"

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return f"{name}/{fact['path'].rsplit('/', 1)[-1]}"

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        if fact["archive"] not in client_settings.ARCHIVES:
            yield f"archive is {fact['archive']!r}, it must be one of {', '.join(client_settings.ARCHIVES)}"
        own = DEBIAN[NAMED[fact["platform"]]] if fact["platform"] in NAMED else None
        if own and fact["architecture"] not in ("all", own):
            yield f"architecture is {fact['architecture']!r}, for {fact['platform']} it must be all or {own}"
        parts = fact["path"].split("/")
        if not fact["path"].endswith(".deb") or not plain(fact["path"]) or not {"", ".", ".."}.isdisjoint(parts):
            yield f"path {fact['path']!r} is not a valid path of a .deb in an archive"
        if not re.match(PACKAGE, fact["name"]):
            yield f"name {fact['name']!r} is not a valid name of a package"

    def urls(self, entry: Entry, snapshot: str, origins: Origins) -> list[str]:
        """The URLs of a package, best first. The last ones are those of the other archive: a security update enters
        the main one with the next point release, and mirrors of the two may serve it at different times."""
        (archive, path), *others = _places(entry.fact)
        found = [(base, path) for base in origins.bases(archive)]
        for other, there in others:
            # who names one origin wants that one asked alone
            if (archive in origins.configured) == (other in origins.configured):
                with suppress(FarmError):  # this machine has no origin of it
                    found += [(base, there) for base in origins.bases(other)]
        return [f"{at}/{quote(path, safe='/~')}" for base, path in found for at in at_times(base, snapshot)]

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return licences.read(licences.deb, path)

    def resolver(self, desk: Desk) -> Resolver:
        return Packages(Debian(desk.state / "lock" / "apt", desk.origins, snapshot=desk.snapshot, keyring=desk.keyring,
                               allow_missing_suites=desk.allow_missing_suites, say=desk.say), desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        yield from download_all(wanted, lambda entry, snapshot: self.urls(entry, snapshot, desk.origins), desk.client,
                                desk.store)


def _joined(failures: Mapping[Platform, FarmError]) -> FarmError:
    """The errors of an input's platforms as one. What several platforms have in common is said once."""
    alike: dict[str, list[Platform]] = {}
    for platform, error in failures.items():
        alike.setdefault(error.message, []).append(platform)
    first = next(iter(failures.values()))
    where = {key: value for key, value in first.where.items() if key != "platform"}
    return FarmError("\n".join(f"{', '.join(map(str, platforms))}: {text}" for text, platforms in alike.items()),
                     hint=first.hint, **where)


def _places(fact: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(archive, path) of a package: as locked, and where the other archive would have the same file."""
    archive, path = fact["archive"], fact["path"]
    yield archive, path
    if archive == "debian" and path.startswith("pool/"):
        yield "debian-security", path.replace("pool/", "pool/updates/", 1)
    elif archive == "debian-security" and path.startswith("pool/updates/"):
        yield "debian", path.replace("pool/updates/", "pool/", 1)


class Packages(Resolver):
    """Resolves closures with apt's own solver, an image's platforms in parallel."""

    def __init__(self, debian: Debian, desk: Desk) -> None:
        self.debian, self.desk = debian, desk

    def prepare(self, wanted: Iterable[tuple[Recipe, Input]]) -> None:
        self.debian.prepare((recipe.suites, platform) for recipe, found in wanted
                            for platform in recipe.platforms_of(found))

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        packages = [str(name) for name in found.spec["packages"]]  # type: ignore[attr-defined]
        essential = bool(found.spec.get("essential"))
        indexes = self._indexes(recipe, platforms)
        if not self.desk.snapshot:  # who names a time may go back to it
            refuse_older(recipe.lock, indexes)

        def closure(index: Index) -> list[Package] | FarmError:
            try:
                if not found.spec.get("dependencies", True):
                    return self.debian.alone(found.name, index, packages)
                below = recipe.below.get(str(index.platform), ()) if leaves_out(found) else ()
                return self.debian.closure(found.name, index, packages, essential,
                                           [Package(entry.sha256, entry.size, dict(entry.fact)) for entry in below])
            except FarmError as error:
                return error

        entries: list[Entry] = []
        failures: dict[Platform, FarmError] = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            for index, some in zip(indexes, pool.map(closure, indexes)):
                if isinstance(some, FarmError):
                    failures[index.platform] = some
                    continue
                self.desk.say(f"lock {recipe.name}: {index.platform} {amount(len(some), 'package')} for {found.name}")
                entries += [KIND.entry(found.name, *package[:2], str(index.platform), package.facts)
                            for package in some]
        if failures:
            raise _joined(failures)
        return Resolved(
            tuple(entries), releases=newest(indexes),
            left_out={index.platform: index.left_out for index in indexes if index.left_out},
            older={index.platform: index.older for index in indexes if index.older},
        )

    def _indexes(self, recipe: Recipe, platforms: Sequence[Platform]) -> list[Index]:
        """The indexes of all platforms. Raises what is wrong with them as one error."""
        found: list[Index] = []
        failed: dict[Platform, FarmError] = {}
        for platform in platforms:
            try:
                found.append(self.debian.index(recipe.suites, platform))
            except FarmError as error:
                failed[platform] = error
                if isinstance(error, Unreachable):
                    break  # the others would wait for the same
        if failed:
            first = next(iter(failed.values()))
            text = "\n".join(dict.fromkeys(error.message for error in failed.values()))
            raise type(first)(text, hint=first.hint, **{**first.where, "platform": ", ".join(map(str, failed))})
        return found

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        """What locking it again would bring now. Nothing is to be written in a recipe."""
        resolved = self.resolve(recipe, found, platforms)
        named: Collection[str] = found.spec["packages"]  # type: ignore[assignment]
        pairs: dict[tuple[str, str, str], list[str]] = {}
        for platform in map(str, platforms):
            now = {entry.fact["name"]: entry.fact["version"] for entry in resolved.entries
                   if entry.platform == platform}
            have = {entry.fact["name"]: entry.fact["version"] for entry in recipe.lock.of(found.name, platform)}
            for name in sorted({*now, *have}):
                if name in named or now.get(name) != have.get(name):
                    pairs.setdefault((name, have.get(name, ""), now.get(name, "")), []).append(platform)
        lacking = sorted({suite for suites in resolved.left_out.values() for suite in suites})
        note = (f"without {', '.join(lacking)} on some platforms: no index there matches its InRelease" if lacking
                else "")
        return [Version(name, was, now, note="; ".join(filter(None, (
            "no package needs it any more" if not now else "not needed before" if not was else "", note))),
            platforms=tuple(some)) for (name, was, now), some in pairs.items()]


KIND = DebianKind()
