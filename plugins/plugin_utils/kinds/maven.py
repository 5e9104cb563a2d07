# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `maven`: one file of an artifact in a Maven repository, without what it depends on. Its hash is taken on
first contact, and compared with those that the repository has beside it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    HashMismatch,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import maven_settings
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import redact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client, download_all, first_contact
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import versions
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import FOR, Desk, Kind, Resolved, Resolver
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_GROUP = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
# a snapshot, LATEST and RELEASE are another file tomorrow
_VERSION = rf"(?!(LATEST|RELEASE)$)(?!.*-SNAPSHOT$){_WORD}"
COORDINATES = rf"^{_GROUP}:{_WORD}:{_VERSION}$"
NAME, VERSION, FILE = rf"^{_GROUP}:{_WORD}$", rf"^{_VERSION}$", rf"^{_WORD}$"
# of an artifact that is published once for each Java, at the end of its version: 12.8.1.jre8, 33.4.0-android
_JAVA = re.compile(r"[.-](android|j(?:re|dk)[0-9]*)$")
SUMS = {".sha256": "sha256", ".sha1": "sha1"}
MOST = 1 << 16  # bytes of a file with a hash


class MavenKind(Kind):
    name = key = line = "maven"
    fields = ("name", "version", "file")
    written = True
    schema = {
        "type": "object", "required": ["maven"], "additionalProperties": False,
        "properties": {
            "maven": {"type": "string", "pattern": COORDINATES, "examples": ["org.example:server:1.2.3"],
                      "$comment": "be group:artifact:version, and no version that changes (LATEST, RELEASE, SNAPSHOT)",
                      "description": "`group:artifact:version`."},
            "type": {"type": "string", "pattern": r"^[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$", "examples": ["jar"],
                     "$comment": "be the extension of a file",
                     "description": "The extension of the file; by default `jar`."},
            "classifier": {"type": "string", "pattern": FILE, "$comment": "be letters, digits and _ . + -",
                           "description": "Which of the artifact's files it is, such as `linux-x86_64`; by default the "
                                          "main one."},
            "for": FOR,
        },
    }

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"maven": given["maven"], "type": given.get("type", "jar"), "classifier": given.get("classifier", "")}

    def facts(self, found: Input) -> dict[str, str]:
        """What a lock line says about an input."""
        name, _colon, version = str(found.spec["maven"]).rpartition(":")
        parts = (name.rpartition(":")[2], version, str(found.spec["classifier"]))
        return {"name": name, "version": version, "file": f"{'-'.join(filter(None, parts))}.{found.spec['type']}"}

    def foreign(self, found: Input, entry: Entry) -> str:
        if other := super().foreign(found, entry):
            return other
        if entry.platform:
            return f"a line for {entry.platform} only, but the recipe names one file for all platforms"
        return next((f"the recipe says {name} {text}, this line says {entry.fact[name]}"
                     for name, text in self.facts(found).items() if entry.fact[name] != text), "")

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['name']} {fact['version']} {fact['file']}"

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return name

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        for name, pattern in (("name", NAME), ("version", VERSION), ("file", FILE)):
            if not re.match(pattern, fact[name]):
                yield f"{name} {fact[name]!r} is not valid for a Maven artifact"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return Licence(note="its file does not say it reliably")

    def resolver(self, desk: Desk) -> Resolver:
        return _Artifacts(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        try:
            places = Places.of(desk)
        except FarmError as error:
            yield from ((entry, error) for entry, _snapshot in wanted)
            return
        yield from download_all(wanted, lambda entry, snapshot: places.urls(entry.fact), places.client, desk.store)


@dataclass(frozen=True)
class Places:
    """The base URLs that artifacts come from, best first, and a client with the logins for them."""

    bases: tuple[str, ...]
    client: Client

    @classmethod
    def of(cls, desk: Desk) -> Places:
        """Those of `farm_origins`, else those of this machine's Maven. Raises FarmError if there are none."""
        if desk.origins.maven:
            return cls(desk.origins.maven, desk.client.plain)
        settings = maven_settings.read(desk.origins.here.environment)
        client = Client(settings.machine(desk.origins.here), apt=False, patience=desk.client.patience,
                        sleep=desk.client.sleep)
        return cls(tuple(place.url for place in settings.places()), client)

    def lists(self, name: str) -> list[str]:
        """Where the versions of an artifact are listed."""
        return [f"{base}/{name.replace('.', '/').replace(':', '/')}/maven-metadata.xml" for base in self.bases]

    def urls(self, fact: Mapping[str, str]) -> list[str]:
        """Where a file may be. Source: https://maven.apache.org/repositories/layout.html"""
        group, _colon, artifact = fact["name"].partition(":")
        path = f"{group.replace('.', '/')}/{artifact}/{fact['version']}/{fact['file']}"
        return [f"{base}/{path}" for base in self.bases]


class _Artifacts(Resolver):
    """Puts what it downloads into the store, so that the fetch step does not fetch it again."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @cached_property
    def places(self) -> Places:
        return Places.of(self.desk)

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        facts = KIND.facts(found)
        made = next(((entry.sha256, entry.size) for entry in recipe.lock.entries
                     if entry.kind == KIND.line and entry.fact == facts), None) or self._first(facts)
        return Resolved((KIND.entry(found.name, *made, "", facts),))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        facts = KIND.facts(found)
        name, version = facts["name"], facts["version"]
        listed: list[str] = []
        failures: list[FarmError] = []
        for url in self.places.lists(name):
            try:
                path, _sha256, _size = first_contact(self.places.client, url, self.desk.store.partial("x").parent)
            except (Missing, Unreachable) as error:
                failures.append(error)
                continue
            listed += re.findall(r"<version>\s*([^<\s]+)\s*</version>", path.read_text("utf-8", "replace"))
            path.unlink()
        if not listed:
            raise Missing(f"{name}: no repository lists its versions: {'; '.join(map(str, failures))}",
                          hint="a repository need not have maven-metadata.xml; look at its pages", input=found.name)
        best = versions.newest((one for one in listed if re.match(VERSION, one) and _java(one) == _java(version)),
                               version)
        return [Version(name, version, best, place=("maven",), text=f"{name}:{best}")]

    def _first(self, facts: Mapping[str, str]) -> tuple[str, int]:
        """Downloads a file that no lock names yet, from the first repository that has it."""
        failures: list[FarmError] = []
        for url in self.places.urls(facts):
            try:
                return self._checked(url, KIND.label(facts))
            except (Missing, Unreachable) as error:
                failures.append(error)
        said = f"{KIND.label(facts)}: {'; '.join(error.message for error in failures)}"
        for failure in failures:
            if isinstance(failure, Unreachable):
                raise Unreachable(said, hint=failure.hint)
        raise Missing(said, hint="are group, artifact, version, type and classifier right?")

    def _checked(self, url: str, label: str) -> tuple[str, int]:
        folder = self.desk.store.partial("x").parent
        came, sha256, size = first_contact(self.places.client, url, folder)
        kept = came.rename(folder / f"maven-{os.getpid()}")
        try:
            said = {kind: text for kind in SUMS if (text := self._sum(url + kind, SUMS[kind], folder))}
            for kind, text in said.items():
                with kept.open("rb") as file:
                    got = hashlib.file_digest(file, SUMS[kind]).hexdigest()
                if got != text:
                    raise HashMismatch(f"{label} is {got}, but {redact(url)}{kind} says {text}", url=redact(url),
                                       hint="the repository is damaged or being updated: try later, or use another "
                                            "origin")
            if not said:
                self.desk.say(f"{label}: the repository has no hash of it to compare with")
            self.desk.store.put(kept, sha256)
        finally:
            kept.unlink(missing_ok=True)
        return sha256, size

    def _sum(self, url: str, kind: str, folder: Path) -> str:
        """The hash that the repository has beside a file; '' if it has none. It just gave the file, so what it refuses
        is not there: some answer so instead of 404."""
        try:
            path, _sha256, _size = first_contact(self.places.client, url, folder)
        except (Missing, Unreachable):
            return ""
        with path.open("rb") as file:
            text = file.read(MOST).decode("ascii", "replace").lower()
        path.unlink()
        found = re.search(rf"(?<![0-9a-f])[0-9a-f]{{{2 * hashlib.new(kind).digest_size}}}(?![0-9a-f])", text)
        return found[0] if found else ""


def _java(version: str) -> str:
    """The Java that a version is for, as it says it; '' if it does not."""
    found = _JAVA.search(version)
    return found[1] if found else ""


KIND = MavenKind()
