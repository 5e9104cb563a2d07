# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes OCI image indexes (the same bytes from the same manifests), and reads those and manifests.

Sources: https://github.com/opencontainers/image-spec/blob/main/image-index.md and .../manifest.md
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import canonical, references
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, Platform

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LISTS = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
SINGLES = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
LABEL = "org.opencontainers.image."  # how the names of labels and annotations begin that OCI defines
TITLE = f"{LABEL}title"
# A manifest with what a build says of another one, which it names, see
# https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md
ATTESTATION = ("vnd.docker.reference.type", "attestation-manifest")
ATTESTED = "vnd.docker.reference.digest"
UNKNOWN = {"architecture": "unknown", "os": "unknown"}
# The names of operating systems and architectures in an index are Go's, see
# https://github.com/opencontainers/image-spec/blob/main/image-index.md and `go tool dist list`
SYSTEMS = frozenset(("aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd",
                     "openbsd", "plan9", "solaris", "wasip1", "windows"))
ARCHITECTURES = frozenset(("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
                           "ppc64le", "riscv64", "s390x", "wasm"))


OTHER = re.compile(r"sha(384|512):[0-9a-f]{96,128}")  # digests that are valid elsewhere


@dataclass(frozen=True)
class Manifest:
    """One image manifest: what an index says about it. `system` is the version of the operating system, which Windows
    needs to choose."""

    digest: str
    size: int
    media_type: str
    platform: Platform
    system: str = ""


def index(manifests: Sequence[Manifest], annotations: Mapping[str, str],
          attestations: Sequence[Descriptor] = ()) -> bytes:
    """The bytes of an index, its manifests in the farm's order of platforms, others by name, and then what was attested
    of them."""
    def order(manifest: Manifest) -> tuple[int, str]:
        return (ALL.index(manifest.platform) if manifest.platform in ALL else len(ALL)), str(manifest.platform)

    children: list[dict[str, object]] = [
        {"mediaType": m.media_type, "digest": m.digest, "size": m.size,
         "platform": {**m.platform.as_oci, **({"os.version": m.system} if m.system else {})}}
        for m in sorted(manifests, key=order)]
    children += [{"mediaType": one.media_type, "digest": one.digest, "size": one.size, "platform": UNKNOWN,
                  "annotations": dict(one.annotations)} for one in attestations]
    value: dict[str, object] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
    if annotations:
        value["annotations"] = dict(annotations)
    return canonical.encode(value)


def digest(data: bytes) -> str:
    """How a registry names content."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Descriptor:
    """How a manifest names content. `size` is in bytes; `platform` has os, architecture and variant, if given."""

    digest: str
    size: int
    media_type: str
    platform: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.annotations.get(TITLE, "")

    @property
    def attested(self) -> str:
        """The digest of the manifest of which this one says something; '' if it is an image itself."""
        name, value = ATTESTATION
        return self.annotations.get(ATTESTED, "") if self.annotations.get(name) == value else ""


@dataclass(frozen=True)
class Content:
    """What an index or manifest says: an index has `manifests`, a manifest `config` and `blobs` (the config first)."""

    media_type: str
    manifests: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def document(data: bytes, where: str, *, shown: bool = False) -> dict[str, Any]:
    """Parses a JSON object from a registry. Raises RegistryError, which names `where`, for anything else. What is only
    `shown` may have text that cannot be written into another."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{where} is not JSON: {str(error)[:200]}", hint="is that address a registry's?") from error
    if not isinstance(value, dict):
        raise RegistryError(f"{where} is not a JSON object", hint="is that address a registry's?")
    if not shown and b"\\ud" in data.lower():  # half of a pair in UTF-16, which JSON allows
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise RegistryError(f"{where} has text that is not Unicode") from error
    return value


def media_type(data: bytes) -> str:
    """The media type of a manifest by its content, whatever type it was served as; '' if it is not one."""
    try:
        return _kind(document(data, ""))
    except RegistryError:
        return ""


def _kind(value: Mapping[str, Any]) -> str:
    said = "" if value.get("mediaType") is None else value["mediaType"]
    if _items(value, "manifests") is not None and (said or value["manifests"] is not None):
        kinds, usual = LISTS, INDEX
    elif _items(value, "layers") is not None and isinstance(value.get("config"), dict):
        kinds, usual = SINGLES, MANIFEST
    else:
        return ""
    return usual if said == "" else said if said in kinds else ""


def _items(value: Mapping[str, Any], name: str) -> list[Any] | None:
    """A list in a manifest, which programs in Go write as null if it is empty; None if it has none."""
    found = value.get(name, ())
    return [] if found is None else found if isinstance(found, list) else None


def signed(data: bytes) -> bool:
    """Whether it is a manifest of Docker's first kind, whose digest is not that of its bytes."""
    try:
        return document(data, "").get("schemaVersion") == 1
    except RegistryError:
        return False


def read(data: bytes, where: str, *, known: bool = False) -> Content:
    """Reads a manifest or index. Raises RegistryError, which names `where`, if it is not one, or not valid.

    Layers that come from elsewhere (`urls`) are not the registry's content, and are left out. So are manifests of an
    index whose digests the farm cannot check, if only those that are `known` are asked for.
    """
    value = document(data, where)
    kind = _kind(value)
    if value.get("schemaVersion") == 1:
        raise RegistryError(f"{where} is a manifest of Docker's first kind (schema 1), which is not supported any more:"
                            " push the image again with an engine of today")
    if not kind:
        said = str(value.get("mediaType", "none"))[:100]
        raise RegistryError(f"{where} is neither a manifest nor an index that the farm knows: mediaType {said!r}")
    annotations = texts(value.get("annotations"))
    if kind in LISTS:
        children = [one for one in _items(value, "manifests") or ()
                    if not (known and isinstance(one, dict) and OTHER.fullmatch(str(one.get("digest"))))]
        return Content(kind, tuple(_descriptor(one, where) for one in children), annotations=annotations)
    config = _descriptor(value["config"], where)
    layers = [_descriptor(one, where) for one in _items(value, "layers") or ()
              if not (isinstance(one, dict) and one.get("urls"))]
    return Content(kind, blobs=(config, *layers), config=config, annotations=annotations)


def _descriptor(value: Any, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise RegistryError(f"{where} names content by {str(value)[:100]!r}, which is not a descriptor")
    digest_, size, kind = value.get("digest"), value.get("size"), value.get("mediaType")
    if isinstance(digest_, str) and OTHER.fullmatch(digest_):
        raise RegistryError(f"{where} names content by {digest_.partition(':')[0]}, which the farm cannot check: it "
                            "knows sha256 alone")
    good = not references.digest(digest_) and isinstance(kind, str)
    if not good or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        said = f"the digest {str(digest_)[:100]!r}, the size {str(size)[:30]!r} and the media type {str(kind)[:100]!r}"
        raise RegistryError(f"{where} names content with {said}: one of these is not valid")
    return Descriptor(str(digest_), size, str(kind), texts(value.get("platform")), texts(value.get("annotations")))


def texts(value: Any) -> dict[str, str]:
    """The strings of a mapping; other values are ignored, as nothing depends on them."""
    given = value.items() if isinstance(value, dict) else ()
    return {str(name): text for name, text in given if isinstance(text, str)}


def platform_name(said: Mapping[str, str]) -> str:
    """A platform from the parts in an index or a config: `linux/arm/v6`; '' if there are none."""
    return "/".join(said[part] for part in ("os", "architecture", "variant") if said.get(part))


def lines(data: bytes | None) -> list[str]:
    """An index as lines for people to compare (`linux/arm64 sha256:...`), whatever is wrong with it."""
    if data is None:
        return []
    try:
        value = document(data, "", shown=True)
    except RegistryError:
        return ["not an index"]
    if "manifests" not in value:
        return ["not an index"]
    found = []
    for child in value["manifests"] if isinstance(value["manifests"], list) else ():
        said = texts(child.get("platform")) if isinstance(child, dict) else {}
        found.append(f"{platform_name(said)} {child.get('digest') if isinstance(child, dict) else child}")
    found += [f"{name}={text}" for name, text in sorted(texts(value.get("annotations")).items())]
    return [text if text.isprintable() else ascii(text) for text in found]
