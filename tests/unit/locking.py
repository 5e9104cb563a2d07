"""Locks one input of an image, and fetches what its lock names, each as if by another controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import kind_of
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locked, Locker
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe


class Place:
    """A catalog's image with one input, and a farm's state folder."""

    def __init__(self, root: Path, origins: dict[str, object], **options: str) -> None:
        self.root, self.image, self.state = root, root / "image", root / "state"
        self.image.mkdir()
        self.origins, self.options = origins, options
        self.said: list[str] = []
        self.below: dict[str, tuple[Entry, ...]] = {}  # what images below have, by platform

    def lock(self, given: dict[str, Any], old: Lock = Lock(),  # noqa: B008
             platforms: tuple[Platform, ...] = (AMD64, ARM64), suite: str = "trixie") -> Locked:
        """The lock of an input as a recipe has it, by a locker of its own."""
        return self._locker().lock(self._recipe(given, old, platforms, suite))

    def newest(self, given: dict[str, Any], old: Lock = Lock(),  # noqa: B008
               platforms: tuple[Platform, ...] = (AMD64, ARM64), suite: str = "trixie") -> list[Version]:
        """What the same input's versions are, locked and upstream."""
        recipe = self._recipe(given, old, platforms, suite)
        return self._locker().resolvers[recipe.inputs[0].kind].newest(recipe, recipe.inputs[0], platforms)

    def _recipe(self, given: dict[str, Any], old: Lock, platforms: tuple[Platform, ...], suite: str) -> Recipe:
        kind = kind_of(given)
        assert kind
        return Recipe(name="web", folder=str(self.image), dockerfile=dockerfile.parse("FROM scratch\n"),
                      inputs=(kind.input("app", given),), platforms=platforms, suites=(suite,), lock=old,
                      below=self.below)

    def _locker(self) -> Locker:
        origins = self._origins()
        return Locker(origins, self.state, say=self.said.append, **self.options,
                      client=Client(origins.here, patience=0, sleep=lambda seconds: None))

    def _origins(self) -> Origins:
        return Origins(self.origins, here=Machine(), snapshots=False)

    def fetch(self, entries: tuple[Entry, ...] | list[Entry], name: str = "fresh") -> dict[str, FarmError | None]:
        """What a controller that has nothing yet gets of these, by name."""
        origins = self._origins()
        desk = Desk(origins, self.root / name, Store(self.root / name / "store"), Client(origins.here, patience=0))
        found = fetch_entries([(entry, "") for entry in entries], desk)
        assert all(desk.store.has(entry.sha256, entry.size) == (error is None) for entry, error in found.items())
        return {entry.label: error for entry, error in found.items()}


def labels(locked: Locked) -> list[str]:
    return [entry.label for entry in locked.lock.entries]
