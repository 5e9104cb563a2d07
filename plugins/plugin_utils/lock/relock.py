# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves Debian closures again, outside the tree, if no origin has a locked .deb any more (`farm_relock_missing`,
D4): the new locks are overlays (overlays.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import THREADS, Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import debian
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, alone
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.moves import moved
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.overlays import NAMED, Overlay
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry


class Finder:
    """Finds out which .debs are available nowhere. `archive` is None if no registry answers. Nothing is asked twice."""

    def __init__(self, origins: Origins, store: Store, archive: Registry | None, namespace: str,
                 client: Client | None = None) -> None:
        self.origins, self.store, self.archive, self.repository = origins, store, archive, f"{namespace}/archive"
        self.client = client or Client(origins.here)
        self._known: dict[str, bool] = {}
        self._silent: set[str] = set()
        self._guard = threading.Lock()

    def nowhere(self, wanted: Iterable[tuple[Entry, str]]) -> list[Entry]:
        """The .debs that neither the store nor the archive nor any origin has, if all origins answer. `wanted` are
        pairs of an entry and its lock's snapshot time."""
        debs = {entry.sha256: (entry, snapshot) for entry, snapshot in wanted if entry.kind == "debian"}
        new = [pair for sha, pair in debs.items() if sha not in self._known]
        with ThreadPoolExecutor(THREADS) as pool:
            for (entry, _snapshot), found in zip(new, pool.map(lambda pair: self._nowhere(*pair), new)):
                self._known[entry.sha256] = found
        return sorted((entry for sha, (entry, _snapshot) in debs.items() if self._known[sha]),
                      key=lambda entry: entry.key)

    def _nowhere(self, entry: Entry, snapshot: str) -> bool:
        digest = f"sha256:{entry.sha256}"
        if self.store.holds(entry.sha256) or (self.archive and self.archive.has_blob(self.repository, digest)):
            return False
        try:
            urls = debian.KIND.urls(entry, snapshot, self.origins)
        except FarmError:
            return False  # no origin is known, so none said that it is gone
        return bool(urls) and all(self._gone(url) for url in urls)

    def _gone(self, url: str) -> bool:
        """An origin that fails to answer is not asked again, and nothing counts as missing because of it."""
        host = urlsplit(url).netloc
        if host in self._silent:
            return False
        try:
            return self.client.gone(url)
        except Unreachable:
            with self._guard:
                self._silent.add(host)
            return False


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
            self.say(f"{name}: no origin has {_named(found)} any more; resolving its Debian packages again")
        if not lacking:
            return {}
        overlays: dict[str, Overlay] = {}
        try:
            with alone(self.work):
                self.locker.prepare(used[name] for name in lacking)
                for name, found in lacking.items():
                    if overlay := self._resolved(tree_[name], used[name], found):
                        overlays[name] = overlay
        except FarmError as error:
            self.warn(f"{', '.join(sorted(set(lacking) - set(overlays)))} cannot be resolved again: {error}")
        return overlays

    def _resolved(self, tree_: Recipe, used: Recipe, missing: list[Entry]) -> Overlay | None:
        try:
            lock = self.locker.lock(used, kinds=("debian",)).lock
        except FarmError as error:
            self.warn(f"{used.name} cannot be resolved again (no origin has {_named(missing)}): {error}")
            return None
        if lock == used.lock:
            self.warn(f"{used.name} was resolved again, but its origins still name {_named(missing)} and do not have it"
                      ": try later, or use another origin")
            return None
        return Overlay(lock, tuple(entry.label for entry in missing), tuple(moved(tree_.lock, lock)))


def _named(entries: list[Entry]) -> str:
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return ", ".join(entry.label for entry in entries[:NAMED]) + more
