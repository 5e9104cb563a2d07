# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recipe as the farm uses it: typed, complete and checked (catalog/catalog.py reads and checks it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import Dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import View, views

# the contexts that a Dockerfile takes inputs from
INPUTS, BUILD_INPUTS, UNPACKED = "inputs", "build-inputs", "unpacked-"
IMAGE = "image"  # the kind of input that a Dockerfile takes by its own name
SNAPSHOT = "%Y%m%dT%H%M%SZ"  # as snapshot.debian.org writes a time


@dataclass(frozen=True)
class Input:
    """One input of a recipe. `build` is true if it is for the build platform, false if for the platform that is built.

    `kind` is a key of kinds.KINDS; `spec` is what the recipe says about the input, completed by that kind.
    """

    name: str
    kind: str
    spec: dict[str, object]
    build: bool = False


@dataclass(frozen=True)
class Entry:
    """One locked file. `facts` are the fields of its kind; `platform` is an OCI platform, or empty for all.

    `path` is its path in the inputs context, `label` is how messages name it; its kind derives both from the facts.
    `line` is its line in the lock file, 0 if it was not read from one.
    """

    input: str
    kind: str
    sha256: str
    size: int
    platform: str
    facts: tuple[tuple[str, str], ...]
    path: str
    label: str
    line: int = field(default=0, compare=False)

    @property
    def fact(self) -> dict[str, str]:
        return dict(self.facts)

    @property
    def key(self) -> tuple[str, ...]:
        """Lines are sorted by this."""
        fact = self.fact
        first = fact.get("module") or fact.get("name") or fact.get("url", "")
        rest = (self.kind, str(self.size), *fact.values())  # so that no two lines sort as equal
        return (self.input, self.platform, first, fact.get("version", ""), fact.get("file", ""), fact.get("path", ""),
                self.sha256, *rest)


@dataclass(frozen=True)
class Lock:
    """A lock file. `snapshot` is the time that its Debian closures were resolved for (empty if it has none),
    `releases` the time of each suite then.

    `made_for` maps an input to what the recipe said about it when it was locked (kinds.Kind.made_for). `left_out` maps
    a platform to the suites that its mirror could not serve whole; `older` maps it to the suites of which the mirror
    could serve only an older state, and the time of that. `above` has the images whose packages its closures leave out.
    """

    entries: tuple[Entry, ...] = ()
    snapshot: str = ""
    releases: Mapping[str, str] = field(default_factory=dict)
    made_for: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    older: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    above: tuple[str, ...] = ()

    @property
    def epoch(self) -> int:
        """The snapshot in seconds since 1970, 0 if there is none."""
        if not self.snapshot:
            return 0
        return int(datetime.strptime(self.snapshot, SNAPSHOT).replace(tzinfo=timezone.utc).timestamp())

    def of(self, name: str, platform: str) -> list[Entry]:
        """The entries of one input for one platform."""
        return [entry for entry in self.entries if entry.input == name and entry.platform in ("", platform)]


@dataclass(frozen=True)
class Sources:
    """The files of one image: `files` of its main context, and `wrappers`: input -> the files of its wrapper.

    Each maps a path to (mode, sha256, size in bytes).
    """

    files: dict[str, tuple[int, str, int]] = field(default_factory=dict)
    wrappers: dict[str, dict[str, tuple[int, str, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """A file of a context: content by sha256 and size (bytes), mode, and mtime in nanoseconds since 1970.

    Inputs are hard links to the store, whose files have the mtime 0.
    """

    sha256: str
    size: int
    mode: int = 0o644
    mtime: int = 0


@dataclass(frozen=True)
class Recipe:
    """One image. `folder` is its absolute folder; `usual` are those that are built if nobody chooses any. The lock
    step alone sets `above`, the images with Debian packages that it descends from, and `below`: platform -> those
    packages."""

    name: str
    folder: str
    dockerfile: Dockerfile
    inputs: tuple[Input, ...] = ()
    platforms: tuple[Platform, ...] = ()
    build_platforms: tuple[Platform, ...] = ()
    suites: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    args: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    index: bool = True
    compression: str = "zstd"
    usual: bool = True
    contract: Contract = field(default_factory=Contract)
    lock: Lock = field(default_factory=Lock)
    above: tuple[str, ...] = ()
    below: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)

    def views(self, target: str) -> dict[Platform, dict[Platform, View]]:
        """Platform -> build platform -> the view of the Dockerfile."""
        return views(self.dockerfile, target, self.platforms, self.build_platforms, self.args)

    @property
    def bases(self) -> dict[str, Input]:
        """The inputs that are images, by name."""
        return {found.name: found for found in self.inputs if found.kind == IMAGE}

    def input(self, name: str) -> Input:
        return next(found for found in self.inputs if found.name == name)

    def platforms_of(self, found: Input) -> tuple[Platform, ...]:
        """The platforms that an input is for."""
        return self.build_platforms if found.build else self.platforms
