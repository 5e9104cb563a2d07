# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes in a registry: compares what tags name with what they should name, pushes what differs, moves tags last."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, RegistryError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
LARGEST = 4 << 20  # bytes of a config
_VARIANTS = {"amd64": (1,), "arm64": (8,)}  # if a platform names none
_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9]+)(?:/([a-z0-9][a-z0-9.]{0,31}))?")


@dataclass(frozen=True)
class Change:
    """What changes (or would change) in one repository: `moved` maps a tag to the lines of what it named before,
    `after` has the lines of the index."""

    repository: str
    digest: str
    data: bytes
    after: list[str]
    tags: tuple[str, ...] = ()
    moved: dict[str, list[str]] = field(default_factory=dict)

    @property
    def diff(self) -> list[dict[str, str]]:
        after = "\n".join(self.after) + "\n"
        return [{"before_header": f"{self.repository}:{tag}", "after_header": f"{self.repository}:{tag}",
                 "before": "\n".join([*before, ""]), "after": after}
                for tag, before in self.moved.items()]


@dataclass(frozen=True)
class Chosen:
    """What an index is made of: `names` maps a platform to the tag or digest of its manifest, `attestations` are
    carried along, `taken` says for people what came out of other indexes."""

    names: dict[Platform, str]
    attestations: tuple[oci.Descriptor, ...]
    taken: tuple[str, ...]


def choose(registry: Registry, repository: str, names: Mapping[Platform, str], *, attestations: bool) -> Chosen:
    """Takes each platform's manifest out of what its name names, if that is an index, such as `docker buildx build
    --push` makes for a single platform. Raises FarmError with every index that has none for its platform."""
    found, carried, taken, problems = dict(names), list[oci.Descriptor](), list[str](), list[str]()
    for platform, name in names.items():
        data = registry.manifest(repository, name)
        if data is None or oci.media_type(data) not in oci.LISTS:
            continue  # `describe` says what it is
        inside = oci.read(data, f"{registry.address}/{repository} {name}").manifests
        images = [one for one in inside if not one.attested]
        good = _best([one for one in images if not _other(one.platform, platform)])
        if not good:
            there = ", ".join(oci.platform_name(one.platform) or one.digest for one in images) or "nothing"
            problems.append(f"{platform}: {name} is an index without it; it has {there}")
            continue
        if len(good) > 1:
            said = ", ".join(" ".join(filter(None, (one.digest, one.platform.get("os.version", "")))) for one in good)
            problems.append(f"{platform}: {name} is an index with several for it: give the digest of one of {said}")
            continue
        best = good[0]
        beside = [one for one in inside if one.attested == best.digest]
        found[platform] = best.digest
        carried += beside if attestations else []
        also = f", {'with' if attestations else 'without'} its attestations ({len(beside)})" if beside else ""
        taken.append(f"{platform}: {name} is an index, {best.digest} was taken out of it{also}")
    if problems:
        raise FarmError("the index cannot be made, because it needs all its manifests:\n" + "\n".join(problems),
                        hint="build or push what is missing first")
    return Chosen(found, tuple(carried), tuple(taken))


def _best(fitting: Sequence[oci.Descriptor]) -> list[oci.Descriptor]:
    """Which of some entries of an index that a platform can run are for it: of the newest variant, and rather one that
    says its platform than an artifact. Several if nothing tells them apart."""
    def worth(one: oci.Descriptor) -> tuple[bool, tuple[int, ...]]:
        return bool(oci.platform_name(one.platform)), _variant(one.platform.get("variant", ""))

    most = max(map(worth, fitting), default=None)
    return list({one.digest: one for one in fitting if worth(one) == most}.values())


def describe(registry: Registry, repository: str, names: Mapping[Platform, str]) -> list[oci.Manifest]:
    """Reads the manifests that an index will name, by tag or digest, so that what it says about them is true.

    Raises FarmError with every one that is missing, is an index, or is for another platform.
    """
    found, problems = [], []
    for platform, name in names.items():
        data = registry.manifest(repository, name)
        try:
            content = oci.read(data, name) if data is not None else None
        except RegistryError as error:
            problems.append(f"{platform}: {error}")
            continue
        if data is None or content is None:
            problems.append(f"{platform}: {registry.address}/{repository} has no {name}")
        elif content.config is None:
            hint = "give the digest of the manifest that it has for the platform"
            problems.append(f"{platform}: {name} is itself an index; {hint}")
        else:
            said = said_of_platform(registry, repository, content.config)
            if other := _other(said, platform):
                problems.append(f"{platform}: {name} is for {other}")
            found.append(oci.Manifest(oci.digest(data), len(data), content.media_type, platform,
                                      said.get("os.version", "")))
    if problems:
        text = "the index cannot be made, because it needs all its manifests:\n" + "\n".join(problems)
        raise FarmError(text, hint="build or push what is missing first")
    return found


def said_of_platform(registry: Registry, repository: str, config: oci.Descriptor) -> dict[str, str]:
    """What an image's config says (`os`, `architecture`, `variant`); {} if it is not the config of an image."""
    if config.media_type not in CONFIGS or config.size > LARGEST:
        return {}
    where = f"{registry.address}/{repository}@{config.digest}"
    return oci.texts(oci.document(b"".join(registry.blob(repository, config.digest, config.size)), where))


def _other(said: Mapping[str, str], platform: Platform) -> str:
    """The platform that an image is for, if `platform` cannot run it; '' if it can, or if the config does not say.

    Images for an older variant run: linux/arm/v5 on linux/arm/v6, but not the other way round.
    """
    if not {"os", "architecture"} <= said.keys():
        return ""
    same = (said["os"], said["architecture"]) == (platform.os, platform.architecture)
    needs, has = _variant(said.get("variant", "")), _variant(platform.variant)
    has = has or _VARIANTS.get(platform.architecture, ())
    newer = needs and has and needs[0] > has[0]
    return oci.platform_name(said) if not same or newer else ""


def _variant(text: str) -> tuple[int, ...]:
    """`v8` -> (8,), `v9.1` -> (9, 1); () for another text."""
    return tuple(map(int, text[1:].split("."))) if re.fullmatch(r"v[0-9]{1,2}(\.[0-9]{1,2})?", text) else ()


def named(text: str) -> Platform | None:
    """A platform as an index may name it, of the farm or another; None if it is none."""
    found = _PLATFORM.fullmatch(text)
    if not found or found[1] not in oci.SYSTEMS or found[2] not in oci.ARCHITECTURES:
        return None
    return Platform(found[1], found[2], found[3] or "")


def compare(registry: Registry, repository: str, manifests: Sequence[oci.Manifest], annotations: Mapping[str, str],
            tags: Sequence[str], fixed: Sequence[str] = (), attestations: Sequence[oci.Descriptor] = ()) -> Change:
    """What has to change. `fixed` are tags that are never moved once they exist."""
    data = oci.index(manifests, annotations, attestations)
    return _compare(registry, repository, data, oci.lines(data), tags, fixed)


def compare_single(registry: Registry, repository: str, digest: str, tags: Sequence[str]) -> Change:
    """The same for tags that name one platform's manifest itself."""
    data = registry.manifest(repository, digest)
    if data is None:
        raise FarmError(f"{registry.address}/{repository} has no {digest}")
    return _compare(registry, repository, data, [digest], tags, ())


def _compare(registry: Registry, repository: str, data: bytes, after: list[str], tags: Sequence[str],
             fixed: Sequence[str]) -> Change:
    digest = oci.digest(data)
    moved: dict[str, list[str]] = {}
    for tag in tags:
        held = registry.digest(repository, tag)
        if held is None or (held[0] != digest and tag not in fixed):
            moved[tag] = oci.lines(registry.manifest(repository, tag)) if held else []
    return Change(repository, digest, data, after, tuple(tags), moved)


def push(registry: Registry, change: Change, media_type: str = oci.INDEX) -> None:
    """Points the tags at the index; the first one pushes it."""
    for tag in change.moved:
        registry.put_manifest(change.repository, tag, change.data, media_type)


def mistakes(arguments: Mapping[str, Any]) -> list[str]:
    """Everything wrong with the arguments of `oci_index` that can be seen without a registry."""
    manifests = arguments["manifests"]
    given = [("registry", arguments["registry"], references.address)]
    given += [("name", arguments["name"], references.repository)]
    given += [(key, tag, references.tag) for key in ("tags", "fixed_tags") for tag in arguments[key]]
    given += [(f"manifests: {platform}", name, references.reference) for platform, name in manifests.items()]
    found = [f"{what} is {value!r}, it must be {allowed}" for what, value, check in given if (allowed := check(value))]
    found += [f"fixed_tags: {tag!r} is not in tags" for tag in arguments["fixed_tags"] if tag not in arguments["tags"]]
    found += [] if arguments["tags"] else ["tags is empty: an index without a tag would be garbage-collected"]
    found += [] if manifests else ["manifests is empty: an index must have a manifest"]
    found += [f"manifests: {name!r} is not a platform: it must be OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT in Go's "
              f"names, such as {', '.join(map(str, ALL))}" for name in manifests if not named(name)]
    for name, text in arguments["annotations"].items():
        if not isinstance(text, str):
            found.append(f"annotations: {name} is {text!r}, it must be a string")
        elif not _encodes(name + text) or not name:
            found.append(f"annotations: {name!r} is {text!r}: the name must not be empty, and both must be UTF-8")
    return found


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
