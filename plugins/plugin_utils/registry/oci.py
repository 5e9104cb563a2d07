"""OCI image indexes: assembled the same way, to the byte, from the same manifests.

Source: https://github.com/opencontainers/image-spec/blob/main/image-index.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, Platform

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Manifest:
    """One image manifest: what an index says of it."""

    digest: str
    size: int
    media_type: str
    platform: Platform


def index(manifests: Sequence[Manifest], annotations: Mapping[str, str]) -> bytes:
    """The bytes of an index, its manifests in the farm's order of platforms."""
    ordered = sorted(manifests, key=lambda manifest: ALL.index(manifest.platform))
    children = [{"mediaType": m.media_type, "digest": m.digest, "size": m.size, "platform": m.platform.as_oci} for m in ordered]
    value: dict[str, object] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
    if annotations:
        value["annotations"] = dict(annotations)
    return canonical.encode(value)


def digest(data: bytes) -> str:
    """How a registry names content."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def lines(data: bytes | None) -> list[str]:
    """An index or manifest as lines that a person can compare: `linux/arm64 sha256:...`."""
    if data is None:
        return []
    value = json.loads(data)
    if "manifests" not in value:
        return ["not an index"]
    found = ["/".join(str(child["platform"][k]) for k in ("os", "architecture", "variant") if child.get("platform", {}).get(k)) + " " + child["digest"]
             for child in value["manifests"]]
    return found + [f"{name}={text}" for name, text in sorted(value.get("annotations", {}).items())]
