# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image of a registry is named, and which files it is for one platform. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import platform_of
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci

_PORT = r":[1-9][0-9]{0,4}"
_NAME = r"[A-Za-z0-9-]+"
# without a dot or a port, the first part would be a name on Docker Hub
_HOST = rf"((localhost|{_NAME}(\.{_NAME})+|\[[0-9A-Fa-f:.]+\])({_PORT})?|{_NAME}{_PORT})"
_REPOSITORY = r"[a-z0-9]+(([._/]|__|-+)[a-z0-9]+)*"  # as in references.py
_DIGEST = "@sha256:[0-9a-f]{64}"
_TAG = ":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
REFERENCE = rf"^{_HOST}/{_REPOSITORY}({_TAG}({_DIGEST})?|{_DIGEST})$"
HUB = "docker.io"
MANIFEST, CONFIG, LAYER = "manifest", "config", "layer-"
NAMED = "application/vnd."  # a type that says what it is
# https://github.com/opencontainers/image-spec/blob/main/media-types.md, and what Docker has for the same
UNPACKED = (r"application/vnd\.(docker\.image\.rootfs(\.foreign)?\.diff\.tar(\.gzip|\.zstd)?"
            r"|oci\.image\.layer(\.nondistributable)?\.v1\.tar(\+(gzip|zstd))?)")
FILE = rf"^({MANIFEST}|{CONFIG}|{LAYER}[0-9]{{3}})$"


@dataclass(frozen=True)
class Reference:
    """Where an image is. One of `tag` and `digest` may be empty; if both are given, the digest counts."""

    address: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`registry.example.org/team/app:v1@sha256:...`. On Docker Hub, a name without a slash is in `library`."""
        name, _at, digest = text.partition("@")
        place, _slash, last = name.rpartition("/")
        last, _colon, tag = last.partition(":")
        address, _slash, folder = place.partition("/")
        if address == HUB and not folder:
            folder = "library"
        return cls(address, f"{folder}/{last}".lstrip("/"), tag, digest)

    @property
    def place(self) -> str:
        return f"{self.address}/{self.repository}"

    @property
    def name(self) -> str:
        """What a registry is asked for."""
        return self.digest or self.tag


def place(text: str) -> tuple[str, str]:
    """Address and repository. Raises FarmError if farm_origins made something else of them."""
    address, _slash, repository = text.partition("/")
    if said := references.address(address) or references.repository(repository):
        raise FarmError(f"farm_origins leads to {text!r}, which is not the place of an image: {said}",
                        hint="a rule of farm_origins.image replaces HOST/NAME by another HOST/NAME")
    return address, repository


def children(content: oci.Content) -> dict[Platform, oci.Descriptor]:
    """The manifests of an index by platform; the first one counts. Those of no platform that the farm knows, such as
    attestations, are left out."""
    found: dict[Platform, oci.Descriptor] = {}
    for child in content.manifests:
        if platform := platform_of(oci.platform_name(child.platform)):
            found.setdefault(platform, child)
    return found


def files(manifest: oci.Descriptor, content: oci.Content) -> dict[str, oci.Descriptor]:
    """The files of an image for one platform."""
    config, *layers = content.blobs
    return {MANIFEST: manifest, CONFIG: config,
            **{f"{LAYER}{number:03}": layer for number, layer in enumerate(layers, 1)}}


def unusable(manifest: dict[str, object], config: dict[str, object], platform: Platform) -> str:
    """Why an image cannot be a base for a platform; '' if it can."""
    given = manifest.get("layers")
    layers = [one for one in (given if isinstance(given, list) else ()) if isinstance(one, dict)]
    if any(one.get("urls") for one in layers):
        return "it has layers that registries do not keep"
    if odd := sorted({kind for one in layers if (kind := str(one.get("mediaType"))).startswith(NAMED)
                      and not re.fullmatch(UNPACKED, kind)}):
        return f"it has layers of {', '.join(odd)}, which no build can unpack"
    said = oci.texts(config)
    if said.get("os") and said.get("architecture"):  # a variant is often left out
        own = platform_of(f"{said['os']}/{said['architecture']}")
        if not own or (own.os, own.architecture) != (platform.os, platform.architecture):
            return f"its config says {said['os']}/{said['architecture']}, so it may have another platform's programs"
        if said.get("variant") and _newer(said, platform):
            return (f"its config says {oci.platform_name(said)}, so it may have programs that such a processor does"
                    " not run")
    inside = config.get("rootfs")
    contents = inside.get("diff_ids") if isinstance(inside, dict) else None
    if isinstance(contents, list) and len(contents) != len(layers):
        return f"it has {len(layers)} layers, but its config names {len(contents)}"
    inner = config.get("config")
    if isinstance(inner, dict) and inner.get("OnBuild"):
        return "its ONBUILD would add steps to a build that the plan does not know"
    return ""


def _newer(said: dict[str, str], platform: Platform) -> bool:
    """Whether a config names a variant with more instructions than a platform has: arm/v7 for arm/v6, amd64/v3."""
    if platform.architecture not in ("arm", "amd64") or platform_of(oci.platform_name(said)) == platform:
        return False
    return platform.architecture == "amd64" or f"v{said['variant'].lower().lstrip('v')}" > platform.variant


def platform_in(config: dict[str, object]) -> Platform | None:
    """The platform that an image's config says."""
    return platform_of(oci.platform_name(oci.texts(config)))


def digest(entries: Sequence[Entry]) -> str:
    """The digest of the manifest among an image's lines for one platform; '' if there is none."""
    return next((f"sha256:{entry.sha256}" for entry in entries if entry.fact["file"] == MANIFEST), "")


def gaps(entries: Sequence[Entry]) -> Iterator[str]:
    """What the lines of an image for one platform lack."""
    have = {entry.fact["file"] for entry in entries}
    layers = sorted(name for name in have if name.startswith(LAYER))
    wanted = [MANIFEST, CONFIG, *(f"{LAYER}{number:03}" for number in range(1, len(layers) + 1))]
    yield from (name for name in wanted if name not in have)
