# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `image`: somebody's image in a registry, to build on. Each manifest, config and layer is a lock line, and is
fetched and archived like any input. A Dockerfile takes it by the input's name: `FROM NAME`."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    RegistryError,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import DOWN, THREADS
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import image_lines, licences
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.image_lines import (
    FILE,
    MANIFEST,
    REFERENCE,
    Reference,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk, Kind, Resolved, Resolver
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import IMAGE
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.http import PAUSES, BrokenOff

GONE = "lock the image again (make lock), or name a registry that has it (farm_origins: {image: ...})"
LARGEST = 16 << 20  # bytes of a config; it is read while the image is locked
Found = TypeVar("Found")


class Unusable(FarmError):
    """An image that is not one to build on, for one platform."""


class ImageKind(Kind):
    name = key = line = "image"
    fields = ("image", "digest", "file")
    schema = {
        "type": "object", "required": ["image"], "additionalProperties": False,
        "properties": {
            "image": {"type": "string", "pattern": REFERENCE, "examples": ["registry.example.org/name:tag"],
                      "$comment": "name the registry, the image, and its tag or digest",
                      "description": "`registry/name:tag` or `registry/name@sha256:...`; used as `FROM <input>`."},
            "for": {"enum": ["build", "target"],
                    "description": "`build`: for stages with `--platform=$BUILDPLATFORM`; by default `target`."},
        },
    }

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"image": given["image"]}

    def mistakes(self, found: Input, files: object, platforms: Sequence[Platform]) -> Iterator[str]:
        if not re.fullmatch(IMAGE, found.name):
            yield f"{found.name} cannot be a name in FROM: rename the input"

    def foreign(self, found: Input, entry: Entry) -> str:
        if other := super().foreign(found, entry):
            return other
        wanted = Reference.parse(str(found.spec["image"]))
        if entry.fact["image"] != found.spec["image"]:
            return f"the recipe says image {found.spec['image']}, this line says {entry.fact['image']}"
        if wanted.digest and wanted.digest != entry.fact["digest"]:
            return f"the recipe says {wanted.digest}, this line says {entry.fact['digest']}"
        return "" if entry.platform else "a line for all platforms, but an image is for one platform"

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        if len({entry.fact["digest"] for entry in entries}) > 1:
            yield "it has lines of different images"
        for platform in platforms:
            own = [entry for entry in entries if entry.platform == str(platform)]
            if gaps := list(image_lines.gaps(own)):
                yield f"the lock has no {', '.join(gaps)} of it for {platform}"

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['image']} {fact['file']}"

    def version(self, fact: Mapping[str, str]) -> str:
        return fact["digest"][:19]

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return f"{name}/{fact['file']}"

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        for name, pattern, what in (("image", REFERENCE, "name of an image"),
                                    ("digest", r"^sha256:[0-9a-f]{64}$", "digest"), ("file", FILE, "file of an image")):
            if not re.match(pattern, fact[name]):
                yield f"{name} {fact[name]!r} is not a valid {what}"

    def licensed(self, fact: Mapping[str, str]) -> bool:
        return fact["file"] == "config"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return licences.read(licences.config, path)

    def resolver(self, desk: Desk) -> Resolver:
        return _Images(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        registries = Registries(desk)

        def one(entry: Entry) -> FarmError | None:
            try:
                with desk.store.alone(entry.sha256):
                    if not desk.store.has(entry.sha256, entry.size):
                        registries.fetch(entry)
            except FarmError as error:
                return error
            return None

        with ThreadPoolExecutor(THREADS) as pool:
            pending = {pool.submit(one, entry): entry for entry, _snapshot in wanted}
            for future in as_completed(pending):
                yield pending[future], future.result()


class Registries:
    """The registries that images come from, with the Docker client's logins; or where farm_origins leads."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.origins = desk, desk.origins
        self._known: dict[str, Registry] = {}
        self._heard: dict[str, float] = {}  # address -> when it last gave something
        self._silent: dict[str, Unreachable] = {}  # those that are not asked any more -> the last error

    def of(self, reference: Reference) -> tuple[Registry, str]:
        """The registry, and the name of the repository there."""
        address, repository = image_lines.place(_led(self.origins, reference))
        if address not in self._known:
            waits = accumulate(PAUSES)
            pauses = [pause for pause, waited in zip(PAUSES, waits) if waited <= self.desk.client.patience]
            self._known[address] = Registry(address, pauses=pauses if self.desk.client.patience else ())
        return self._known[address], repository

    def fetch(self, entry: Entry) -> None:
        """Fetches one file of an image into the store."""
        registry, repository = self.of(Reference.parse(entry.fact["image"]))
        if silent := self._silent.get(registry.address):
            raise told(silent, f"{entry.label}: its registry is not asked any more")
        began = self.desk.client.clock()
        digest, partial = f"sha256:{entry.sha256}", self.desk.store.partial(entry.sha256)

        def took() -> None:
            if entry.fact["file"] == MANIFEST:
                partial.write_bytes(_read(registry, repository, digest)[0])
                return
            try:
                with partial.open("wb") as out:
                    for piece in registry.blob(repository, digest, entry.size):
                        out.write(piece)
            except RegistryError:  # it is asked only now, as some registries lead to storage that refuses HEAD
                if registry.has_blob(repository, digest):
                    raise
                raise Missing(f"{registry.address}/{repository} has no {digest}") from None

        try:
            self._patiently(took)
            self._heard[registry.address] = self.desk.client.clock()
            if partial.stat().st_size != entry.size:
                raise HashMismatch(f"{partial.stat().st_size} bytes, the lock says {entry.size}", hint=CHANGED)
            self.desk.store.put(partial, entry.sha256)
        except Missing as error:
            raise Missing(f"{entry.label}: {error.message}", hint=GONE) from error
        except HashMismatch as error:
            raise HashMismatch(f"{entry.label}: {error.message}", hint=CHANGED) from error
        except (RegistryError, Unreachable) as error:
            if isinstance(error, Unreachable) and self._heard.get(registry.address, -math.inf) < began:
                self._silent[registry.address] = error
            raise told(error, entry.label) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(f"{entry.label}: the disk of {self.desk.store.root} is full",
                              hint="make room there and run again") from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def _patiently(self, act: Callable[[], Found]) -> Found:
        """Again if an answer breaks off. (The client itself repeats what gets no answer.)"""
        pause, waited = 1.0, 0.0
        while True:
            try:
                return act()
            except BrokenOff:
                if waited + pause > self.desk.client.patience:
                    raise
                self.desk.client.sleep(pause)
                waited, pause = waited + pause, pause * 2


class _Images(Resolver):
    """Manifests and configs go into the store; layers are known by the manifests, and are not fetched here."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.registries = desk, Registries(desk)

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        said = str(found.spec["image"])
        reference = Reference.parse(said)
        try:
            registry, repository = self.registries.of(reference)
            digest = reference.digest or (registry.digest(repository, reference.tag) or [""])[0]
            if not digest:
                raise Missing(f"{said}: {registry.address} has no such image", hint="are name and tag right?")
            entries = self._known(recipe, found, digest, platforms)
            if entries is None:
                self.desk.say(f"lock {recipe.name}: reading {said} for {found.name}")
                entries = self._entries(found, registry, repository, digest, platforms)
        except (RegistryError, Unreachable, HashMismatch) as error:
            raise told(error, said) from error
        return Resolved(tuple(entries))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        said = str(found.spec["image"])
        reference = Reference.parse(said)
        locked = next((entry.fact["digest"] for entry in recipe.lock.entries if entry.input == found.name), "")
        if reference.digest:
            return [Version(said.partition("@")[0], reference.digest[:19], note="the recipe names a digest")]
        try:
            registry, repository = self.registries.of(reference)
            digest = (registry.digest(repository, reference.tag) or [""])[0]
        except (RegistryError, Unreachable) as error:
            raise told(error, said) from error
        if not digest:
            return [Version(said, locked[:19], withdrawn=f"{registry.address} has no such tag any more")]
        return [Version(said, locked[:19], digest[:19], note="the tag has moved" if digest != locked else "")]

    def _entries(self, found: Input, registry: Registry, repository: str, digest: str,
                 platforms: Sequence[Platform]) -> list[Entry]:
        """The lines of all platforms. Raises FarmError with all for which the image is of no use."""
        entries: list[Entry] = []
        refused: list[Unusable] = []
        wanted = self._manifests(registry, repository, digest, str(found.spec["image"]), platforms)
        for platform, manifest in wanted.items():
            try:
                entries += self._lines(found, registry, repository, digest, platform, manifest)
            except Unusable as error:
                refused.append(error)
            except FarmError as error:
                error.where.setdefault("platform", str(platform))
                raise
        if refused:
            raise FarmError("\n".join(error.message for error in refused), hint=refused[0].hint,
                            platform=", ".join(str(error.where["platform"]) for error in refused))
        return entries

    def _known(self, recipe: Recipe, found: Input, digest: str, platforms: Sequence[Platform]) -> list[Entry] | None:
        """The lines of the old lock, if they are of the same image for the same platforms."""
        there = [entry for entry in recipe.lock.entries if entry.input == found.name and entry.kind == KIND.line
                 and entry.fact["digest"] == digest and not KIND.foreign(found, entry)]
        wanted = set(map(str, platforms))
        kept = [entry for entry in there if entry.platform in wanted]
        return None if not kept or list(KIND.lacking(found, kept, platforms)) else kept

    def _manifests(self, registry: Registry, repository: str, digest: str, said: str,
                   platforms: Sequence[Platform]) -> dict[Platform, oci.Descriptor]:
        """The manifest of each platform. Raises FarmError with all platforms that the image lacks."""
        data, content = _read(registry, repository, digest, known=True)
        if content.config:
            config = self._config(registry, repository, content.config)
            own = image_lines.platform_in(config)
            there = {own: oci.Descriptor(digest, len(data), content.media_type)} if own else {}
        else:
            there = image_lines.children(content)
        if lacking := [str(platform) for platform in platforms if platform not in there]:
            oci.read(data, f"{registry.address}/{repository}@{digest}")  # raises if it has them by another digest
            raise FarmError(f"{said} is not made for {', '.join(lacking)}; it is for "
                            f"{', '.join(map(str, there)) or 'no platform that the farm knows'}",
                            platform=", ".join(lacking),
                            hint="leave these platforms out in image.yml (platforms: except), or take another image")
        return {platform: there[platform] for platform in platforms}

    def _lines(self, found: Input, registry: Registry, repository: str, digest: str, platform: Platform,
               manifest: oci.Descriptor) -> Iterator[Entry]:
        data, content = _read(registry, repository, manifest.digest)
        said = str(found.spec["image"])
        if not content.config:
            place = Reference.parse(said).place
            raise Unusable(f"{said} has an index inside its index for {platform}, which the farm does not support",
                           platform=platform,
                           hint=f"name the inner index, {place}@{manifest.digest}, or take another image")
        config = self._config(registry, repository, content.config)
        if why := image_lines.unusable(oci.document(data, said), config, platform):
            raise Unusable(f"{said} cannot be built on for {platform}: {why}", platform=platform,
                           hint="take another image, or leave the platform out in image.yml (platforms: except)")
        self._keep(data, manifest.digest)
        manifest = oci.Descriptor(manifest.digest, len(data), content.media_type)
        for file, part in image_lines.files(manifest, content).items():
            yield KIND.entry(found.name, part.digest.partition(":")[2], part.size, str(platform),
                             {"image": said, "digest": digest, "file": file})

    def _config(self, registry: Registry, repository: str, part: oci.Descriptor) -> dict[str, Any]:
        where = f"{registry.address}/{repository}@{part.digest}"
        if part.size > LARGEST:
            raise FarmError(f"{where} has {part.size} bytes, too many for a config")
        data = b"".join(registry.blob(repository, part.digest, part.size))
        if len(data) != part.size:
            raise RegistryError(f"{where} has {len(data)} bytes, its manifest says {part.size}")
        self._keep(data, part.digest)
        return oci.document(data, where)

    def _keep(self, data: bytes, digest: str) -> None:
        sha256 = digest.partition(":")[2]
        if not self.desk.store.has(sha256):
            partial = self.desk.store.partial(f"{sha256}.image")
            partial.write_bytes(data)
            self.desk.store.put(partial, sha256)


def _led(origins: Origins, reference: Reference) -> str:
    return origins.rewritten(reference.place, "image")


def _read(registry: Registry, repository: str, digest: str, *, known: bool = False) -> tuple[bytes, oci.Content]:
    data = registry.manifest(repository, digest)
    if data is None:
        raise Missing(f"{registry.address}/{repository} has no {digest}", hint="are name and digest right?")
    return data, oci.read(data, f"{registry.address}/{repository}@{digest}", known=known)


def told(error: FarmError, what: str) -> FarmError:
    """The same error, of an image."""
    hint = DOWN if isinstance(error, Unreachable) else error.hint
    return type(error)(f"{what}: {error.message}", hint=hint, platform=error.where.get("platform"))


KIND = ImageKind()
