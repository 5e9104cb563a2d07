# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything that the tags of a namespace name, each digest once. It reports what is damaged or gone, and which
units it belongs to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from ansible_collections.desimages.farm.plugins.module_utils.errors import HashMismatch, RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import NoBlob, Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import (
    ARCHIVE,
    BELIEVED,
    OWN,
    signature_tag,
)

THREADS = 8  # that read
SAY_EVERY = 5  # seconds between lines of progress
PAUSES = (0, 0.5)  # seconds between attempts: for damaged data a registry fails each time
GONE, DAMAGED, UNREADABLE = "gone", "damaged", "unreadable"  # 404; other bytes; an error, or cut short
SHOWN = 3  # names of each kind in a line
Say = Callable[[str], None]
Thing = TypeVar("Thing")
Made = TypeVar("Made")


class Place(NamedTuple):
    """A manifest or blob of a repository, by digest, or a manifest by tag."""

    repository: str
    name: str

    def __str__(self) -> str:
        return f"{self.repository}{'@' if ':' in self.name else ':'}{self.name}"


class Trouble(NamedTuple):
    """Why something cannot be read."""

    problem: str
    said: str = ""


@dataclass
class Damage:
    """A manifest or blob that does not match its digest. `digest` is '' if a tag's manifest cannot be read at all.

    `places` are the repositories where that is so; `tags` (`repository:tag`) name it, directly or through others;
    `units` have such tags; `files` say which input or context file of a unit it is (`unit: path`).
    """

    kind: str  # manifest or blob
    digest: str
    problem: str
    said: str = ""
    places: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def words(self) -> str:
        """A line for people."""
        what = f"{self.kind} {self.digest}" if self.digest else f"the manifest that {_few(self.tags)} names"
        found = [f"{self.problem}: {what} in {', '.join(self.places)}"]
        found += [f"of {_few(self.units)}"] if self.units else []
        found += [f"as {_few(self.files)}"] if self.files else []
        found += [f"named by {_few(sorted(self.tags, key=_ours))}"] if self.tags and self.digest else []
        return "; ".join([*found, *([self.said] if self.said else [])])


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _ours(tag: str) -> bool:
    return bool(OWN.match(tag.rpartition(":")[2]))


@dataclass(frozen=True, slots=True)
class Named:
    """The digests that a manifest names, and its title."""

    manifests: tuple[str, ...]
    blobs: tuple[str, ...]
    title: str


@dataclass
class Report:
    """How much a check read (counts, and `size` in bytes), and what it found."""

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    size: int = 0
    damages: list[Damage] = field(default_factory=list)

    @property
    def numbers(self) -> dict[str, int]:
        return {"tags": self.tags, "manifests": self.manifests, "blobs": self.blobs, "size": self.size}


class Check:
    """Checks a namespace. `known` maps build ids to units, for those that the archive does not name."""

    def __init__(self, registry: Registry, namespace: str, known: Mapping[str, str], say: Say) -> None:
        self.registry, self.archive, self.say = registry, f"{namespace}/{ARCHIVE}", say
        self.namespace, self.units = namespace, dict(known)
        self.report = Report()
        self._sizes: dict[str, int] = {}  # of blobs, in bytes
        self._digests: dict[str, str] = {}  # one string for each digest: artifacts name the same files many times
        self._said = time.monotonic()

    def run(self, images: Iterable[str]) -> Report:
        """Reads everything. `images` are looked for even if the registry does not list its repositories."""
        tags = [Place(name, tag) for name, found in self._each(self._tags, self._repositories(images)) for tag in found]
        roots = dict(self._each(self._digest, tags))
        named = {Place(tag.repository, digest) for tag, digest in roots.items() if isinstance(digest, str)}
        contents = dict(self._manifests(named))
        blobs = dict(self._blobs(contents))
        self.report.tags, self.report.manifests, self.report.blobs = len(tags), len(contents), len(blobs)
        self._names(roots, contents)
        troubles = {place: one for place, one in contents.items() if isinstance(one, Trouble)}
        troubles.update((place, one) for places in blobs.values() for place, one in places.items())
        found = [*self._nameless(roots), *_merged(troubles, contents)]
        self._explain(found, roots, contents)
        self.report.damages = sorted(found, key=lambda one: (one.kind, one.digest, one.tags))
        return self.report

    def again(self, damages: Iterable[Damage]) -> list[Damage]:
        """Reads only these again; returns those that are still damaged. An artifact is read by its tag: if the farm's
        nodes have other build platforms now, it names other files, and is as good."""
        def look(damage: Damage) -> Trouble | None:
            for repository in damage.places:
                tags = [tag.rpartition(":")[2] for tag in damage.tags]
                artifact = damage.kind == "manifest" and repository == self.archive and tags
                names = tags if artifact or not damage.digest else [damage.digest]
                for place in (Place(repository, name) for name in names):
                    found = self._blob(place, None) if damage.kind == "blob" else self._manifest(place)
                    if isinstance(found, Trouble):
                        return found
            return None

        found = []
        for damage, trouble in self._each(look, damages):
            if trouble:
                damage.problem, damage.said = trouble
                found.append(damage)
        return found

    def _each(self, look: Callable[[Thing], Made], things: Iterable[Thing]) -> Iterator[tuple[Thing, Made]]:
        """Each thing with the result of `look`, several at a time; the first error ends it."""
        with ThreadPoolExecutor(THREADS) as pool:
            futures = {pool.submit(look, thing): thing for thing in things}
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    yield futures[future], future.result()
                    if time.monotonic() - self._said > SAY_EVERY:
                        self._said = time.monotonic()
                        self.say(f"read {number} of {len(futures)}, {self.report.size / 1e6:.0f} MB in all")
            finally:
                pool.shutdown(cancel_futures=True)

    def _repositories(self, images: Iterable[str]) -> list[str]:
        named = {f"{self.namespace}/{image}" for image in images} | {self.archive}
        try:
            return sorted(named | set(self.registry.repositories(self.namespace)))
        except RegistryError as error:
            self.say(f"the registry does not list its repositories; reading those of the catalog ({error.message})")
            return sorted(named)

    def _tags(self, repository: str) -> list[str]:
        return self.registry.tags(repository)

    def _digest(self, tag: Place) -> str | Trouble:
        found = self._tried(lambda: self.registry.digest(*tag))
        return found[0] if isinstance(found, tuple) and not isinstance(found, Trouble) else found or Trouble(GONE)

    def _manifests(self, wanted: set[Place]) -> Iterator[tuple[Place, Named | Trouble]]:
        """These manifests, and all that they name."""
        seen: set[Place] = set()
        while wanted:
            seen |= wanted
            below: set[Place] = set()
            for place, content in self._each(self._manifest, wanted):
                yield place, content
                if isinstance(content, Named):
                    below.update(Place(place.repository, digest) for digest in content.manifests)
            wanted = below - seen

    def _manifest(self, place: Place) -> Named | Trouble:
        data = self._tried(lambda: self.registry.manifest(*place))
        if not isinstance(data, bytes):
            return data or Trouble(GONE)
        self.report.size += len(data)
        try:
            content = oci.read(data, str(place))
        except RegistryError as error:
            return Trouble(DAMAGED, error.message)
        self._sizes.update((blob.digest, blob.size) for blob in content.blobs)
        digests = [self._digests.setdefault(blob.digest, blob.digest) for blob in content.blobs]
        return Named(tuple(child.digest for child in content.manifests), tuple(digests),
                     content.annotations.get(oci.TITLE, ""))

    def _blobs(self, contents: Mapping[Place, Named | Trouble]) -> Iterator[tuple[str, dict[Place, Trouble]]]:
        """Each blob with its troubles, by place."""
        places: dict[str, set[str]] = {}
        for place, content in contents.items():
            for digest in content.blobs if isinstance(content, Named) else ():
                places.setdefault(digest, set()).add(place.repository)

        def look(digest: str) -> dict[Place, Trouble]:
            found, read = {}, False
            for place in (Place(repository, digest) for repository in sorted(places[digest])):
                trouble = self._there(place) if read else self._blob(place, self._sizes[digest])
                read = read or trouble is None
                if trouble:
                    found[place] = trouble
            return found

        yield from self._each(look, sorted(places, key=lambda digest: -self._sizes[digest]))  # the largest first

    def _blob(self, place: Place, size: int | None) -> Trouble | None:
        if trouble := self._there(place):
            return trouble

        def read() -> None:
            for piece in self.registry.blob(*place, size):
                self.report.size += len(piece)

        return self._tried(read) or None

    def _there(self, place: Place) -> Trouble | None:
        found = self._tried(lambda: self.registry.has_blob(*place))
        return found if isinstance(found, Trouble) else None if found else Trouble(GONE)

    def _tried(self, read: Callable[[], Made]) -> Made | Trouble:
        """What was read, or why not. If the registry is gone, or refuses, that is not damage: the error is raised."""
        for attempt in range(2):
            try:
                return read()
            except HashMismatch as error:
                return Trouble(DAMAGED, error.message)
            except NoBlob:
                return Trouble(GONE)
            except Unreachable as error:
                if not self.registry.answers():
                    raise
                trouble = Trouble(UNREADABLE, error.message)
                if attempt:
                    break
        return trouble

    def _names(self, roots: Mapping[Place, str | Trouble], contents: Mapping[Place, Named | Trouble]) -> None:
        """Learns from the archive which unit each artifact belongs to."""
        for place, digest in roots.items():
            tag = OWN.match(place.name)
            content = contents.get(Place(place.repository, digest)) if isinstance(digest, str) else None
            if place.repository == self.archive and tag and isinstance(content, Named) and content.title:
                self.units[tag[2]] = content.title

    def _unit(self, place: Place) -> list[str]:
        tag = OWN.match(place.name)
        name = self.units.get(tag[2], "") if tag and tag[1] != "c" else ""
        return [name] if name else []

    def _signed(self, place: Place) -> bool:
        """Whether a tag must have a signature."""
        match = BELIEVED.match(place.name)
        return match is not None and (match[1] == "u") == (place.repository == self.archive)

    def _nameless(self, roots: Mapping[Place, str | Trouble]) -> list[Damage]:
        """Damage known only by a tag: manifests that cannot be read, and missing artifacts of units."""
        found: dict[tuple[object, ...], Damage] = {}
        for place, trouble in sorted(roots.items()):
            tag, unit = OWN.match(place.name), self._unit(place)
            if isinstance(trouble, Trouble):
                key = (place.repository, trouble.problem, *unit)
                damage = found.setdefault(key, Damage("manifest", "", *trouble, [place.repository], units=unit))
                damage.tags.append(str(place))
            artifact = Place(self.archive, f"a-{tag[2]}") if tag and tag[1] == "b" else place
            if artifact != place and artifact not in roots:
                said = "the unit has no artifact: what it was built from is lost"
                found[artifact,] = Damage("manifest", "", GONE, said, [self.archive], [str(artifact)], unit)
            signature = Place(self.archive, signature_tag(*place))
            if self._signed(place) and signature not in roots:
                said = f"{place} has no signature, so it is not believed"
                found[signature,] = Damage("manifest", "", GONE, said, [self.archive], [str(signature)], unit)
        return list(found.values())

    def _explain(self, damages: list[Damage], roots: Mapping[Place, str | Trouble],
                 contents: Mapping[Place, Named | Trouble]) -> None:
        """Notes which tags, units, inputs and files the damaged digests belong to."""
        by_digest: dict[str, list[Damage]] = {}
        for damage in damages:
            if damage.digest:
                by_digest.setdefault(damage.digest, []).append(damage)
        signed = {signature_tag(*place): place for place in roots if self._signed(place)} if by_digest else {}
        for tag in sorted(roots) if by_digest else ():
            digest = roots[tag]
            if isinstance(digest, str):
                for name in _reach(Place(tag.repository, digest), contents):
                    for damage in by_digest.get(name, ()):
                        _add(damage.tags, [str(tag)])
                        _add(damage.units, self._unit(tag))
                        if tag.name in signed:
                            _add(damage.files, [f"signature of {signed[tag.name]}"])
                        else:
                            _add(damage.files, self._files(Place(tag.repository, digest), name))

    def _files(self, artifact: Place, digest: str) -> list[str]:
        """Which file a blob is, of the unit (or the unpacked packages) that an artifact of the archive is for."""
        data = self._tried(lambda: self.registry.manifest(*artifact)) if artifact.repository == self.archive else None
        content = oci.read(data, str(artifact)) if isinstance(data, bytes) else oci.Content("")
        whose = content.annotations.get(oci.TITLE, "")
        return [f"{whose}: {blob.title or 'unpacked'}" for blob in content.blobs if blob.digest == digest and whose]


def resolved(damages: Iterable[Damage], digests: Mapping[str, str]) -> list[Damage]:
    """The damages, with the digest of those known only by tags: `digests` maps tags, as the registry's host says."""
    found: dict[tuple[object, ...], Damage] = {}

    def add(damage: Damage, key: tuple[object, ...]) -> None:
        held = found.setdefault(key, damage)
        for name in ("places", "tags", "units", "files"):
            _add(getattr(held, name), getattr(damage, name))

    for number, damage in enumerate(sorted(damages, key=lambda one: not one.digest)):
        if damage.digest:
            add(damage, (damage.kind, damage.digest, damage.problem))
            continue
        for tag in damage.tags:
            digest = digests.get(tag, "")
            new = ("manifest", digest, digest or number)
            known = next((key for key in found if key[:2] == new[:2] and digest), new)
            add(replace(damage, digest=digest, tags=[tag], places=[*damage.places], units=[*damage.units]), known)
    return list(found.values())


def _merged(troubles: Mapping[Place, Trouble], manifests: Container[Place]) -> list[Damage]:
    """One damage for all places of a digest."""
    found: dict[tuple[str, str], Damage] = {}
    for place, trouble in sorted(troubles.items()):
        kind = "manifest" if place in manifests else "blob"
        damage = found.setdefault((place.name, trouble.problem), Damage(kind, place.name, *trouble))
        damage.places.append(place.repository)
    return list(found.values())


def _reach(place: Place, contents: Mapping[Place, Named | Trouble]) -> set[str]:
    """All digests that a manifest names, itself included, however deep indexes name each other."""
    found, left = set[str](), [place.name]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        content = contents.get(Place(place.repository, name))
        if isinstance(content, Named):
            found.update(content.blobs)
            left += content.manifests
    return found


def _add(names: list[str], more: list[str]) -> None:
    names += [name for name in more if name not in names]
