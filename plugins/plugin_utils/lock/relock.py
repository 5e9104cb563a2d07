# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves Debian closures again, outside the tree, if no origin has a locked .deb any more (`farm_relock_missing`,
D4): the new locks are overlays (overlays.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.below import over, parents_first
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.finder import Finder, named
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, alone
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.moves import moved
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.overlays import Overlay
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Recipe


class Relocker:
    """Resolves closures again. `work` is farm_state, or a temporary folder in check mode; it is used only if something
    is resolved."""

    def __init__(self, origins: Origins, work: Path, finder: Finder, *, keyring: str, allow_missing_suites: bool,
                 say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.finder, self.work, self.say, self.warn = finder, work, say, warn
        self.locker = Locker(origins, work, keyring=keyring, allow_missing_suites=allow_missing_suites, say=say)
        self.done: set[str] = set()

    def relock(self, tree_: Mapping[str, Recipe], used: Mapping[str, Recipe],
               wanted: Mapping[str, Iterable[Entry]]) -> dict[str, Overlay]:
        """Overlays for the images with a wanted entry that is available nowhere. `tree_` has the recipes as in the
        tree, `used` as they are used now.

        An image is resolved at most once in a run. If that fails it keeps its lock, and the fetch step reports what is
        missing.
        """
        lacking = {name: found for name, entries in wanted.items() if name not in self.done
                   if (found := self.finder.nowhere((entry, used[name].lock.snapshot) for entry in entries))}
        self.done |= set(lacking)
        for name, found in lacking.items():
            self.say(f"{name}: no origin has {named(found)} any more; resolving its Debian packages again")
        if not lacking:
            return {}
        overlays: dict[str, Overlay] = {}
        try:
            with alone(self.work):
                self.locker.prepare(used[name] for name in lacking)
                locks = {name: recipe.lock for name, recipe in used.items()}
                for recipe in parents_first(used, [used[name] for name in lacking]):
                    name, found = recipe.name, lacking[recipe.name]
                    given = over(used, locks, recipe)
                    if overlay := self._resolved(tree_[name], given, found):
                        locks[name] = overlay.lock
                        overlays[name] = overlay
        except FarmError as error:
            self.warn(f"{', '.join(sorted(set(lacking) - set(overlays)))} cannot be resolved again: {error}")
        return overlays

    def _resolved(self, tree_: Recipe, used: Recipe, missing: list[Entry]) -> Overlay | None:
        try:
            lock = self.locker.lock(used, kinds=("debian",)).lock
        except FarmError as error:
            self.warn(f"{used.name} cannot be resolved again (no origin has {named(missing)}): {error}")
            return None
        if lock == used.lock:
            self.warn(f"{used.name} was resolved again, but its origins still name {named(missing)} and do not have it"
                      ": try later, or use another origin")
            return None
        return Overlay(lock, tuple(entry.label for entry in missing), tuple(moved(tree_.lock, lock)))
