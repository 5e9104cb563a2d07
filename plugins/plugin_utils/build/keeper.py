# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what nodes have pushed: archives what a unit was made of, and tags it. Only this code, on the controller, ever
tags units.

Everything here asks the registry, so the broker calls it in threads. What they share is the registry alone, and there
each unit is one thread's at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import File
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import indexes, oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

Manifest = tuple[str, int, str]  # digest, size in bytes, media type


@dataclass
class Kept:
    """Units that exist and are tagged now: `differs` maps a unit that had another digest to (kept, new)."""

    manifests: dict[Key, Manifest] = field(default_factory=dict)
    differs: dict[Key, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Keeper:
    """`trees` has all files of each unit. A unit has a lock: of two results that come together, one is the first."""

    registry: Registry
    namespace: str
    archive: Archive
    trust: Trust
    plan: Plan
    trees: Mapping[Key, Mapping[str, File]]
    locks: dict[Key, Lock] = field(default_factory=dict, repr=False)

    def repository(self, key: Key) -> str:
        return f"{self.namespace}/{key.image}"

    def look(self, key: Key, content: str) -> Kept | None:
        """Early cutoff: if a unit with the same content id exists under another build id, it is tagged as this one."""
        found = self.trust.find(self.repository(key), f"c-{content}")
        if found is None:
            return None
        kept = Kept()
        self._tag(key, found, [f"b-{self.plan.units[key].id}"], kept, {"like": f"c-{content}"})
        return kept

    def take(self, keys: Iterable[Key], digest: str, contents: Mapping[Key, str], *, name: str, node: str) -> Kept:
        """Tags what a solve pushed: an index of the platforms of these units. `name` and `node` are for errors."""
        keys = list(keys)
        data = None if references.digest(digest) else self.registry.pushed(self.repository(keys[0]), digest)
        if data is None:
            raise FarmError(f"{name}: BuildKit says that it pushed {digest}, but the registry does not have it",
                            node=node)
        children = oci.read(data, f"{digest}, which BuildKit pushed").manifests
        found = {_platform(child.platform): (child.digest, child.size, child.media_type) for child in children}
        if lacking := [str(key) for key in keys if str(key.platform) not in found]:
            raise FarmError(f"{digest}, which BuildKit pushed, lacks {', '.join(lacking)}", node=node)
        kept = Kept()
        for key in keys:
            tags = [*([f"c-{contents[key]}"] if contents[key] else []), f"b-{self.plan.units[key].id}"]
            self._tag(key, found[str(key.platform)], tags, kept, {"node": node})
        return kept

    def _tag(self, key: Key, manifest: Manifest, tags: Iterable[str], kept: Kept, about: dict[str, str]) -> None:
        """Archives what a unit was made of, signs it, and tags it: by its build id and, if it has parents, by its
        content id. `about` is what its signatures say besides.

        The first result is kept, if it is believed; a different one is reported.
        """
        with self.locks.setdefault(key, Lock()):
            self._tag_alone(key, manifest, tags, kept, about)

    def _tag_alone(self, key: Key, manifest: Manifest, tags: Iterable[str], kept: Kept, about: dict[str, str]) -> None:
        unit, repository = self.plan.units[key], self.repository(key)
        digest, size, kind = manifest
        data = b""  # of the manifest, once it was needed
        # first, so that whatever is tagged can be built again
        self.archive.describe(str(key), unit.id, unit.record, dict(self.trees[key]))
        for tag in tags:
            held = self.registry.digest(repository, tag)
            believed = held is not None and self.trust.believes(repository, tag, held[0])
            if held and believed:
                if held[0] != digest:
                    kept.notes.append(f"{key}: {tag} is {held[0]} already, but this build gave {digest}: not"
                                      " reproducible; the first one is kept")
                    kept.differs[key] = held[0], digest
                    data, about = b"", {"like": tag}
                digest = held[0]
                continue
            if held and held[0] != digest:
                kept.notes.append(f"{key}: {tag} was {held[0]}, which is not signed by this farm: now it is {digest}")
            if not data:
                data, size, kind = self._manifest(key, digest, about)
            self.trust.sign(repository, tag, digest, **about)  # first: what is tagged is signed
            if held is None or held[0] != digest:
                self.registry.put_manifest(repository, tag, data, kind)
        if not data:  # an index will say how large it is: that is not taken from a header, or from what a node pushed
            data, size, kind = self._manifest(key, digest, {})
        kept.manifests[key] = digest, size, kind

    def _manifest(self, key: Key, digest: str, about: Mapping[str, str]) -> tuple[bytes, int, str]:
        """A unit's manifest: its bytes, their number and the media type. What a node built must be for the unit's
        platform, whatever the index says that the node pushed."""
        repository = self.repository(key)
        data = self.registry.pushed(repository, digest)
        if data is None:
            raise FarmError(f"{repository}@{digest} is missing in the registry, so it cannot be tagged")
        content = oci.read(data, f"{repository}@{digest}")
        if node := about.get("node"):
            said = indexes.said_of_platform(self.registry, repository, content.config) if content.config else {}
            if _platform(said) != str(key.platform):
                raise FarmError(f"{digest}, which was built as {key}, is for {_platform(said) or 'no platform'}: it is"
                                " not kept", node=node)
        return data, len(data), content.media_type


def _platform(value: Mapping[str, str]) -> str:
    """The name of an index entry's platform. BuildKit writes no variant for arm64, other tools write v8."""
    variant = value.get("variant", "") if value.get("architecture") == "arm" else ""
    return "/".join(part for part in (value.get("os"), value.get("architecture"), variant) if part)
