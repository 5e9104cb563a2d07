# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings everything that units are made of into the store and the archive before they are built: inputs, contexts,
unpacked packages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, NoSpace, Unreachable, system_error
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import contexts
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import image_lines
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import LOCK
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, File, Recipe, Sources
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

SAY_EVERY = 5  # seconds between lines about an image


class Fetch:
    """Fetches image by image, and fills `unpacked`, `trees` (all files of each unit) and `changed` on the way."""

    def __init__(self, plan: Plan, sources: dict[str, Sources], builds: list[Platform], arguments: dict[str, Any],
                 say: Any, *, check: bool = False) -> None:
        self.plan, self.sources, self.builds, self.say = plan, sources, builds, say
        self.store = Store(f"{arguments['state']}/store", tell=say)
        origins = Origins(arguments["origins"])
        self.desk = Desk(origins, Path(arguments["state"]), self.store, Client(origins.here))
        registry = Registry(arguments["registry"], access=Access.of(arguments))
        self.archive = Archive(registry, arguments["namespace"], self.store)
        self.trust = Trust.of(registry, arguments, check=check)
        self.unpacked: dict[str, dict[str, dict[str, str]]] = {}
        self.trees: dict[Key, dict[str, File]] = {}
        self.changed = False

    def all(self, keys: Iterable[Key]) -> dict[Key, str]:
        """Fetches everything that units need; returns the units that cannot be built, and why. A failure for one image
        does not stop the others."""
        refused: dict[Key, str] = {}
        for image, some in by_image(keys).items():
            try:
                refused.update(self.image(image, some))
            except (NoSpace, Unreachable):
                raise  # a full disk, or no registry: the other images would fail as well
            except (FarmError, OSError, ValueError) as error:
                said = str(system_error(error) if isinstance(error, OSError) else error)
                refused.update(dict.fromkeys(some, said))
                self.say(f"{image}: cannot be built: {said}")
        return refused

    def lacks(self, keys: Iterable[Key]) -> bool:
        """Whether anything that units need is missing in the archive; nothing is fetched. A registry that does not
        answer now has nothing: the plan step has reported that, and it may be one that was never provisioned."""
        wanted = {file.sha256 for key in keys for file in self._files(key).values()}
        return bool(wanted) and (not self.archive.registry.answers() or self.archive.lacks(wanted))

    def image(self, image: str, keys: list[Key]) -> dict[Key, str]:
        """Fetches everything that units of one image need; returns the units that cannot be built, and why."""
        recipe, sources = self.plan.recipes[image], self.sources[image]
        contexts.keep(recipe, sources, self.store)
        units = [self.plan.units[key] for key in keys]
        wanted = {unit.key: self._entries(unit) for unit in units}
        errors = self._get(image, recipe.lock.snapshot, {entry for entries in wanted.values() for entry in entries})
        said = {entry: f"{place(recipe, entry)}{error}" for entry, error in errors.items() if error}
        refused = {key: "\n".join(sorted({said[entry] for entry in entries if entry in said}))
                   for key, entries in wanted.items() if not said.keys().isdisjoint(entries)}
        whole = [unit for unit in units if unit.key not in refused]
        for build, name in sorted({(build, name) for unit in whole for build in self._on(unit)
                                   for name in unit.unpacked}):
            entries = recipe.lock.of(name, str(build))
            digest = self.archive.unpacked(f"{image} {name}", entries, build, recipe.lock.epoch, self.trust)
            self.unpacked.setdefault(image, {}).setdefault(str(build), {})[name] = digest
        trees = {unit.key: self._files(unit.key) for unit in whole}
        # the artifact, which names these files as the unit's, is pushed once the unit exists
        self.changed = bool(self.archive.keep(file for tree in trees.values()
                                              for file in tree.values())) or self.changed
        images = [found for unit in whole for build in self._on(unit) for found in solve.images(self.plan, unit, build)]
        for digest, entries in {image_lines.digest(entries): entries for _name, _platform, entries in images}.items():
            self.archive.offer(digest, entries)
        self.trees.update(trees)
        for key, error in refused.items():
            self.say(f"{key}: cannot be built: {error}")
        return refused

    def single(self, image: str, keys: list[Key], contents: set[str], *builds: Platform) -> None:
        """Brings single files of an image's units into the store, whichever of these platforms builds them (all that
        may, if none is named). Raises FarmError if one is available nowhere."""
        recipe = self.plan.recipes[image]
        contexts.keep(recipe, self.sources[image], self.store)
        wanted = {entry for unit in map(self.plan.units.__getitem__, keys) for build in builds or unit.runs
                  for entry in self.plan.entries(unit, build)}
        errors = self._get(image, recipe.lock.snapshot, {entry for entry in wanted if entry.sha256 in contents})
        for error in filter(None, errors.values()):
            raise error

    def _get(self, image: str, snapshot: str, entries: set[Entry]) -> dict[Entry, FarmError | None]:
        """Brings the entries into the store; returns for each its error, or None."""
        ordered = sorted(entries, key=lambda entry: entry.key)
        lacking = self.archive.recall(ordered)
        said = time.monotonic()

        def progress(done: int, total: int, size: int) -> None:
            nonlocal said
            if done == total or time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                self.say(f"{image}: fetched {done} of {total} files, {size / 1e6:.0f} MB")

        found = fetch_entries([(entry, snapshot) for entry in lacking], self.desk, progress) if lacking else {}
        self.changed = self.changed or bool(lacking)
        return {entry: found.get(entry) for entry in ordered}

    def _on(self, unit: Unit) -> list[Platform]:
        """The platforms of the nodes that may build a unit."""
        return [build for build in self.builds if build in unit.runs] or [unit.on(self.builds[0])]

    def _entries(self, unit: Unit) -> list[Entry]:
        """The locked files that a unit needs, whichever node builds it."""
        return list(dict.fromkeys(entry for build in self._on(unit) for entry in self.plan.entries(unit, build)))

    def _files(self, key: Key) -> dict[str, File]:
        """All files that a unit is made of: path in its artifact -> file."""
        unit, sources = self.plan.units[key], self.sources[key.image]
        tree = {f"context/{path}": File(sha, size, mode) for path, (mode, sha, size) in sources.files.items()}
        tree.update(solve.definition(self.plan.recipes[key.image], sources))
        first, *others = self._on(unit)
        for context, names, platform in (("inputs", unit.inputs, key.platform),
                                         ("build-inputs", unit.build_inputs, first),
                                         *((f"build-inputs-{other.slug}", unit.build_inputs, other)
                                           for other in others)):
            tree.update({f"{context}/{path}": file
                         for path, file in solve.inputs_tree(self.plan, unit, names, platform, sources).items()})
        return tree


def place(recipe: Recipe, entry: Entry) -> str:
    """Where a lock names a file: `images/debian/lock.jsonl:12: `; '' if that is not known."""
    return f"{'/'.join(Path(recipe.folder).parts[-2:])}/{LOCK}:{entry.line}: " if entry.line else ""


def by_image(keys: Iterable[Key]) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = {}
    for key in keys:
        found.setdefault(key.image, []).append(key)
    return found
