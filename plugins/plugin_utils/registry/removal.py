# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes images from the farm's registry: tags, units, artifacts; and finds what was built on them.

A manifest is deleted by digest, in one repository, with every tag that names it there. Layers and files that an image
shares with others stay as long as something names them; the registry's garbage collection removes the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import RECORD
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import (
    ARCHIVE,
    BELIEVED,
    OWN,
    SIGNED,
    signature_tag,
)

THREADS = 8  # that read


@dataclass(frozen=True)
class Artifact:
    """What the archive keeps of a unit, or of unpacked packages. `name` is the unit's name in Dockerfiles."""

    digest: str
    image: str
    name: str = ""
    parents: frozenset[str] = frozenset()


@dataclass
class Removal:
    """What is removed: for each repository its tags (tag -> digest) and manifests (digests, indexes first).

    `signatures` are the digests of the signatures of its tags; their own tags are among those of the archive.
    `children` are images that were built on them, and stay. `unknown` are tags (`repository:tag`) whose manifests are
    damaged, so that the registry does not say what they name.
    """

    archive: str
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    manifests: dict[str, list[str]] = field(default_factory=dict)
    signatures: list[str] = field(default_factory=list)
    children: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.manifests.values()) or bool(self.unknown)

    def lines(self, repository: str) -> list[str]:
        """The tags removed from a repository, for people to compare: `repository:tag digest`."""
        return [f"{repository}:{tag} {digest}" for tag, digest in sorted(self.tags[repository].items())]

    @property
    def diff(self) -> list[dict[str, str]]:
        """Ansible's diff: the tags that are removed, by repository."""
        found = {repository: self.lines(repository) for repository in self.tags}
        return [{"before_header": repository, "after_header": repository,
                 "before": "\n".join([*lines, ""]), "after": ""} for repository, lines in found.items() if lines]


def check(images: list[str], namespace: str) -> None:
    """Raises BadInput with every name that is not valid for an image."""
    problems = [f"image: {name!r} must be {allowed}" for name in images
                if (allowed := references.repository(f"{namespace}/{name}" if name else ""))]
    problems += [f"image: {name!r} is not an image: it keeps what images are built from" for name in images
                 if name == ARCHIVE]
    if problems or not images:
        raise BadInput(problems or ["image is empty: name the images to remove"], what="the choice")


def find(registry: Registry, namespace: str, images: list[str], digests: Mapping[str, str]) -> Removal:
    """What exists of some images. `digests` says what tags (`repository:tag`) name if the registry does not say."""
    check(images, namespace)
    archive, ids = f"{namespace}/{ARCHIVE}", set[str]()
    found = Removal(archive)
    for repository in (f"{namespace}/{image}" for image in images):
        tags = _tags(registry, repository, digests)
        ids.update(own[2] for tag in tags if (own := OWN.match(tag)) and own[1] == "b")
        children = {digest: _children(registry, repository, digest) for digest in {*tags.values()} if digest}
        below = sorted(child for each in children.values() for child in each)
        ordered = [*sorted(children, key=lambda digest: (not children[digest], digest)), *below]
        found.manifests[repository] = list(dict.fromkeys(ordered))
        found.tags[repository] = tags
    everything = registry.tags(archive)
    kept = _named(registry, archive, [tag for tag in everything if not SIGNED.match(tag)], digests)
    read = dict(zip(kept, _each(lambda tag: _artifact(registry, archive, tag), list(kept))))
    own_ = [tag for tag, one in read.items() if (one.image in images if one else tag.partition("-")[2] in ids)]
    others = {kept[tag] for tag in kept if tag not in own_}
    found.tags[archive] = {tag: kept[tag] for tag in own_ if not kept[tag] or kept[tag] not in others}
    found.manifests[archive] = list(dict.fromkeys(filter(None, found.tags[archive].values())))
    signed = {signature_tag(repository, tag) for repository, tags in found.tags.items() for tag in tags
              if BELIEVED.match(tag)}
    signatures = _named(registry, archive, sorted(signed.intersection(everything)), digests)
    found.signatures = [digest for digest in signatures.values() if digest]
    found.tags[archive].update(signatures)
    names = {one.name for tag in own_ if (one := read[tag])} | set(images)
    found.children = {one.image for one in read.values() if one and one.image not in images and one.parents & names}
    for place, tags in found.tags.items():
        found.unknown += [f"{place}:{tag}" for tag, digest in tags.items() if not digest]
    return found


def remove(registry: Registry, removal: Removal) -> None:
    """Deletes it: signatures, whose names follow from the images' tags, then images, then the rest of the archive, so
    that a second attempt finds what is left."""
    for digest in removal.signatures:
        registry.delete_manifest(removal.archive, digest)
    for repository, digests in removal.manifests.items():
        for digest in digests:
            registry.delete_manifest(repository, digest)


def _each(look: Any, things: list[str]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(look, things))


def _tags(registry: Registry, repository: str, digests: Mapping[str, str]) -> dict[str, str]:
    """What each tag of a repository names."""
    return _named(registry, repository, registry.tags(repository), digests)


def _named(registry: Registry, repository: str, names: list[str], digests: Mapping[str, str]) -> dict[str, str]:
    """What tags name; '' if neither the registry nor `digests` says."""

    def look(tag: str) -> str:
        try:
            found = registry.digest(repository, tag)
        except FarmError:
            if not registry.answers():
                raise
            found = None
        return found[0] if found else digests.get(f"{repository}:{tag}", "")

    return dict(zip(names, _each(look, names)))


def _children(registry: Registry, repository: str, digest: str) -> list[str]:
    """The digests of the manifests that an index names; [] for a manifest, or for one that cannot be read."""
    try:
        read = registry.content(repository, digest)
    except FarmError:
        if not registry.answers():
            raise
        read = None
    return [child.digest for child in read[1].manifests] if read else []


def _artifact(registry: Registry, archive: str, tag: str) -> Artifact | None:
    """The artifact that a tag of the archive names; None if it cannot be read."""
    try:
        read = registry.content(archive, tag)
        if read is None:
            return None
        data, content = read
        name = content.annotations.get(oci.TITLE, "").partition(" ")[0]
        if not OWN.match(tag):  # unpacked packages
            return Artifact(oci.digest(data), name)
        record = oci.document(content.annotations.get(RECORD, "").encode(), f"the record of {archive}:{tag}")
        return Artifact(oci.digest(data), str(record.get("image")), name, _parents(record))
    except FarmError:
        if not registry.answers():
            raise
        return None


def _parents(record: Mapping[str, Any]) -> frozenset[str]:
    found = [record.get(key) for key in ("parents", "build_parents")]
    return frozenset(name for names in found if isinstance(names, dict) for name in names)
