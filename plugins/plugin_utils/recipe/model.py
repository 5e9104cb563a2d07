"""A recipe as the farm works with it: typed, complete, checked (catalog/catalog.py reads and checks it)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.lockfile import Lock
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import Dockerfile


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

    def input(self, name: str) -> Input:
        return next(found for found in self.inputs if found.name == name)
