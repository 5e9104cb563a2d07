# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of a namespace, for people: tags, platforms and sizes. It reads no blobs except configs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, RegistryError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import indexes, oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import DAMAGED, Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import ARCHIVE, OWN

THREADS = 8  # images that are read at the same time
SINGLE = frozenset(f"latest-{platform.slug}" for platform in ALL)  # tags of single platforms
LOOKED_AT = 50  # tags, the last by name, if none of them is `latest`


@dataclass
class Overview:
    """One row for each platform of each image's newest tags (see plugins/modules/registry_info.py); and what could not
    be read."""

    images: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def overview(registry: Registry, namespace: str) -> Overview:
    """What a namespace has, without its archive. It raises nothing: what cannot be read is in `problems`."""
    found = Overview()
    try:
        names = [name for name in registry.repositories(namespace) if name != f"{namespace}/{ARCHIVE}"]
    except FarmError as error:
        found.problems.append(error.message)
        return found

    def rows(name: str) -> list[dict[str, Any]]:
        try:
            return _rows(registry, name)
        except FarmError as error:
            found.problems.append(f"{name}: {error.message}" + (f" ({error.hint})" if error.hint else ""))
        return []

    with ThreadPoolExecutor(THREADS) as pool:
        found.images = [row for image in pool.map(rows, names) for row in image]
    found.problems.sort()
    return found


def sort_tags(tags: Collection[str]) -> tuple[list[str], int]:
    """The tags for people, sorted, and the number of units, which the farm tags by build id and content id."""
    own = {tag: match[1] for tag in tags if (match := OWN.match(tag))}
    return sorted(tag for tag in tags if tag not in own), list(own.values()).count("b")


def _rows(registry: Registry, repository: str) -> list[dict[str, Any]]:
    """One row for each platform of the newest tag (`latest` if it exists), or of the newest tags of single platforms;
    one row if there are only units."""
    everything = registry.tags(repository)
    tags, units = sort_tags(everything)
    if not everything:
        return []
    common = {"image": repository, "tags": len(tags), "units": units}
    if not tags:
        return [{**common, "tag": "", "platform": "", "digest": "", "size": 0}]
    return [{**common, "tag": tag, **row} for tag in _newest(registry, repository, tags)
            for row in _platforms(registry, repository, tag)]


def _newest(registry: Registry, repository: str, tags: Sequence[str]) -> list[str]:
    """`latest`, else those of single platforms (`latest-arm64`), else the tag of what was created last."""
    if "latest" in tags:
        return ["latest"]
    if single := [tag for tag in tags if tag in SINGLE]:
        return single
    created = dict.fromkeys(tags[-LOOKED_AT:], "")
    for tag in created:
        with suppress(FarmError):  # the chosen one is read again, and then what is wrong with it is said
            created[tag] = _read(registry, repository, tag)[1].annotations.get(f"{oci.LABEL}created", "")
    return [max(created, key=lambda tag: (created[tag], tag))]


def _platforms(registry: Registry, repository: str, tag: str) -> list[dict[str, Any]]:
    data, content = _read(registry, repository, tag)
    if content.config:
        said = indexes.said_of_platform(registry, repository, content.config)
        return [_row(said, oci.digest(data), content)]
    return [_row(child.platform, child.digest, _read(registry, repository, child.digest)[1])
            for child in content.manifests if not child.attested]


def _read(registry: Registry, repository: str, name: str) -> tuple[bytes, oci.Content]:
    read = registry.content(repository, name)
    if read is None:
        raise RegistryError(f"{name} is missing", hint=DAMAGED)
    return read


def _row(platform: Mapping[str, str], digest: str, content: oci.Content) -> dict[str, Any]:
    size = sum(blob.size for blob in content.blobs if blob is not content.config)
    return {"platform": oci.platform_name(platform), "digest": digest, "size": size}
