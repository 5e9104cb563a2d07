"""A recipe as the farm works with it: typed, complete, checked (plugin_utils/catalog.py reads and checks it)."""

from __future__ import annotations

from dataclasses import dataclass, field

from .dockerfile import Dockerfile
from .evaluation import View, views
from .lockfile import Lock
from .platforms import Platform


@dataclass(frozen=True)
class Input:
    """One input of a recipe. `build` is true where it is for the platform that builds rather than for the one that is built.

    `kind` is debian, go or url; `spec` is what the recipe says of it: for debian `packages` (list) and `essential` (bool), for go
    `module` (or a `./folder`), `version` and `package`, for url `url` (a text, or a mapping of platform to text).
    """

    name: str
    kind: str
    spec: dict[str, object]
    build: bool = False


@dataclass(frozen=True)
class Recipe:
    """One image. `folder` is its absolute folder; `files` are the paths of its main context, relative to it, with their modes."""

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
    contract: dict[str, object] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def views(self, target: str) -> dict[Platform, dict[Platform, View]]:
        """For each of its platforms: the Dockerfile as it is on each platform that may build it."""
        return views(self.dockerfile, target, self.platforms, self.build_platforms, self.args)

    def input(self, name: str) -> Input:
        return next(found for found in self.inputs if found.name == name)
