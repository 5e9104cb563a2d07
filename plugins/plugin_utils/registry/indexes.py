# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes in a registry: compare what a tag holds with what it should hold, push what differs, move tags last."""

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
_VARIANTS = {"amd64": "1", "arm64": "8"}  # of a platform that names none


@dataclass(frozen=True)
class Change:
    """What is done, or would be, to the tags of one repository: tag -> lines before; `after` are the lines of the
    index."""

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


def describe(registry: Registry, repository: str, names: Mapping[Platform, str]) -> list[oci.Manifest]:
    """Reads the manifests that an index will name, by tag or digest: what it says of them is what they are.

    Raises FarmError with every one that is not there, is an index, or is for another platform.
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
            hint = "name the manifest that it has for the platform, by digest"
            problems.append(f"{platform}: {name} is an index itself; {hint}")
        elif other := _other(said_of_platform(registry, repository, content.config), platform):
            problems.append(f"{platform}: {name} is for {other}")
        else:
            found.append(oci.Manifest(oci.digest(data), len(data), content.media_type, platform))
    if problems:
        text = "an index needs all its manifests:\n" + "\n".join(problems)
        raise FarmError(text, hint="build or push what is missing first")
    return found


def said_of_platform(registry: Registry, repository: str, config: oci.Descriptor) -> dict[str, str]:
    """What an image's config says (`os`, `architecture`, `variant`); nothing where it is no config of an image's."""
    if config.media_type not in CONFIGS or config.size > LARGEST:
        return {}
    where = f"{registry.address}/{repository}@{config.digest}"
    return oci.texts(oci.document(b"".join(registry.blob(repository, config.digest, config.size)), where))


def _other(said: Mapping[str, str], platform: Platform) -> str:
    """The platform that an image is for where that one does not run it; '' where it does, or the config does not say.

    What is for an older variant runs: of linux/arm/v5 on linux/arm/v6, but not the other way round.
    """
    if not {"os", "architecture"} <= said.keys():
        return ""
    same = (said["os"], said["architecture"]) == (platform.os, platform.architecture)
    needs = re.fullmatch(r"v([0-9]{1,2})(\.[0-9]+)?", said.get("variant", ""))
    has = platform.variant[1:] or _VARIANTS.get(platform.architecture, "")
    newer = needs and has and int(needs[1]) > int(has)
    return oci.platform_name(said) if not same or newer else ""


def compare(registry: Registry, repository: str, manifests: Sequence[oci.Manifest], annotations: Mapping[str, str],
            tags: Sequence[str], fixed: Sequence[str] = ()) -> Change:
    """What would have to change. `fixed` are those of the tags that are never moved once they are there."""
    data = oci.index(manifests, annotations)
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
    """Lets the tags name the index; the first of them brings it."""
    for tag in change.moved:
        registry.put_manifest(change.repository, tag, change.data, media_type)


def mistakes(arguments: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the arguments of `oci_index` and can be seen without a registry."""
    known = [str(platform) for platform in ALL]
    manifests = arguments["manifests"]
    given = [("registry", arguments["registry"], references.address)]
    given += [("name", arguments["name"], references.repository)]
    given += [(key, tag, references.tag) for key in ("tags", "fixed_tags") for tag in arguments[key]]
    given += [(f"manifests: {platform}", name, references.reference) for platform, name in manifests.items()]
    found = [f"{what} is {value!r}, it must be {allowed}" for what, value, check in given if (allowed := check(value))]
    found += [f"fixed_tags: {tag!r} is none of tags" for tag in arguments["fixed_tags"] if tag not in arguments["tags"]]
    found += [] if arguments["tags"] else ["tags is empty: an index that nothing names would be collected as garbage"]
    found += [] if manifests else ["manifests is empty: an index of nothing is of no use to anybody"]
    found += [f"manifests: {name!r} is no platform of the farm; platforms: {', '.join(known)}"
              for name in manifests if name not in known]
    for name, text in arguments["annotations"].items():
        if not isinstance(text, str):
            found.append(f"annotations: {name} is {text!r}, it must be a text")
        elif not _encodes(name + text) or not name:
            found.append(f"annotations: {name!r} is {text!r}: a name, and texts that UTF-8 can say")
    return found


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
