"""Indexes in a registry: compare what a tag holds with what it should hold, push what differs, move tags last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import LISTS, Registry


@dataclass(frozen=True)
class Change:
    """What is done, or would be, to the tags of one repository: tag -> lines before; `after` are the lines of the index."""

    repository: str
    digest: str
    data: bytes
    after: list[str]
    tags: tuple[str, ...] = ()
    moved: dict[str, list[str]] = field(default_factory=dict)

    @property
    def diff(self) -> list[dict[str, str]]:
        after = "\n".join(self.after) + "\n"
        return [{"before_header": f"{self.repository}:{tag}", "after_header": f"{self.repository}:{tag}", "before": "\n".join([*before, ""]), "after": after}
                for tag, before in self.moved.items()]


def describe(registry: Registry, repository: str, names: Mapping[Platform, str]) -> list[oci.Manifest]:
    """Asks for the manifests that an index will name, by tag or digest. Raises FarmError with every one that is not there, or is an index."""
    found, missing = [], []
    for platform, name in names.items():
        answer = registry.digest(repository, name)
        if answer is None:
            missing.append(f"{platform}: {registry.address}/{repository} has no {name}")
        elif answer[2] in LISTS:
            missing.append(f"{platform}: {name} is an index itself; name the manifest that it has for the platform, by digest")
        else:
            found.append(oci.Manifest(answer[0], answer[1], answer[2], platform))
    if missing:
        raise FarmError("an index needs all its manifests:\n" + "\n".join(missing), hint="build or push what is missing first")
    return found


def compare(registry: Registry, repository: str, manifests: Sequence[oci.Manifest], annotations: Mapping[str, str], tags: Sequence[str],
            fixed: Sequence[str] = ()) -> Change:
    """What would have to change. `fixed` are those of the tags that are never moved once they are there."""
    data = oci.index(manifests, annotations)
    return _compare(registry, repository, data, oci.lines(data), tags, fixed)


def compare_single(registry: Registry, repository: str, digest: str, tags: Sequence[str]) -> Change:
    """The same for tags that name one platform's manifest itself."""
    data = registry.manifest(repository, digest)
    if data is None:
        raise FarmError(f"{registry.address}/{repository} has no {digest}")
    return _compare(registry, repository, data, [digest], tags, ())


def _compare(registry: Registry, repository: str, data: bytes, after: list[str], tags: Sequence[str], fixed: Sequence[str]) -> Change:
    digest = oci.digest(data)
    moved: dict[str, list[str]] = {}
    for tag in tags:
        held = registry.digest(repository, tag)
        if held is None or (held[0] != digest and tag not in fixed):
            moved[tag] = oci.lines(registry.manifest(repository, tag)) if held else []
    return Change(repository, digest, data, after, tuple(tags), moved)


def push(registry: Registry, change: Change, media_type: str = oci.INDEX) -> None:
    """Lets the tags name the index; the first of them brings it."""
    for tag in change.moved:
        registry.put_manifest(change.repository, tag, change.data, media_type)
