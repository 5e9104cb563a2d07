# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves Debian closures again, beside the tree, if a locked .deb is available nowhere any more
(`farm_relock_missing`, D4).

Such a lock is an **overlay**: `<farm_state>/relocked/<image>/lock.jsonl`, and beside it `made.json`, which says from
which lock of the tree it was made. It is used as long as the tree has that lock.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import THREADS, Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import debian
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, alone, moved, write_whole
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import LOCK
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

MADE = "made.json"
NAMED = 3  # missing files that a message names


@dataclass(frozen=True)
class Overlay:
    """A lock that stands in for the tree's. `missing` are the files that nobody had, `moved` what differs from the
    tree's lock."""

    lock: Lock
    missing: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    def words(self, image: str) -> str:
        """For people: `static is built from packages that were resolved again: openssl 3.5.1-1 -> 3.5.2-1
        (linux/amd64); ...`."""
        more = f" and {len(self.missing) - NAMED} more" if len(self.missing) > NAMED else ""
        return (f"{image} is not built from its lock in the tree, of which no origin has "
                f"{', '.join(self.missing[:NAMED])}{more}: "
                f"its Debian packages were resolved again. {'; '.join(self.moved)}")

    def as_dict(self) -> dict[str, object]:
        return {"missing": list(self.missing), "moved": list(self.moved), "snapshot": self.lock.snapshot}


class Overlays:
    """The overlays of a state folder."""

    def __init__(self, state: str | Path) -> None:
        self.root = Path(state) / "relocked"

    def read(self, recipe: Recipe) -> Overlay | None:
        """The overlay of a recipe as the tree has it, or None where there is none that holds."""
        folder = self.root / recipe.name
        try:
            made = json.loads((folder / MADE).read_text(encoding="utf-8"))
            text = (folder / LOCK).read_text(encoding="utf-8")
            if (made["tree"], made["lock"]) == (tree(recipe), _sha256(text)):
                lock = lockfile.parse(text, str(folder / LOCK))
                return Overlay(lock, tuple(made["missing"]), tuple(moved(recipe.lock, lock)))
        except (OSError, ValueError, KeyError, TypeError, FarmError):
            pass  # none, or half of one: what it was made for is looked at again
        return None

    def write(self, recipe: Recipe, overlay: Overlay) -> None:
        """Keeps an overlay of a recipe as the tree has it."""
        folder, text = self.root / recipe.name, lockfile.dump(overlay.lock)
        write_whole(folder / LOCK, text)
        made = {"tree": tree(recipe), "lock": _sha256(text), "missing": list(overlay.missing)}
        write_whole(folder / MADE, json.dumps(made, indent=1, sort_keys=True) + "\n")

    def drop(self, recipes: Iterable[Recipe]) -> list[str]:
        """Removes the overlays of recipes for which they hold no more; returns the names of these."""
        stale = [recipe.name for recipe in recipes if (self.root / recipe.name).exists() and self.read(recipe) is None]
        for name in stale:
            shutil.rmtree(self.root / name)
        return stale


def tree(recipe: Recipe) -> str:
    """The sha256 of the lock that the tree has of an image."""
    return hashlib.sha256((Path(recipe.folder) / LOCK).read_bytes()).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Finder:
    """Says which .debs can be had nowhere. `archive` is None where no registry answers; what was asked once is not
    asked again."""

    def __init__(self, origins: Origins, store: Store, archive: Registry | None, namespace: str,
                 client: Client | None = None) -> None:
        self.origins, self.store, self.archive, self.repository = origins, store, archive, f"{namespace}/archive"
        self.client = client or Client(origins.here)
        self._known: dict[str, bool] = {}
        self._silent: set[str] = set()
        self._guard = threading.Lock()

    def nowhere(self, wanted: Iterable[tuple[Entry, str]]) -> list[Entry]:
        """Of pairs of an entry and its lock's snapshot, the .debs that neither store nor archive have, nor any origin,
        all of which answer."""
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
            return False  # no origin is known: nobody said that it is gone
        return bool(urls) and all(self._gone(url) for url in urls)

    def _gone(self, url: str) -> bool:
        """An origin that does not answer once is not asked again, and nothing is missing for its silence."""
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
    """Resolves closures again. `work` is farm_state, or in check mode a folder that goes; it is used only where
    something is resolved."""

    def __init__(self, origins: Origins, work: Path, finder: Finder, *, keyring: str, allow_missing_suites: bool,
                 say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.finder, self.work, self.say, self.warn = finder, work, say, warn
        self.locker = Locker(origins, work, keyring=keyring, allow_missing_suites=allow_missing_suites, say=say)
        self.done: set[str] = set()

    def relock(self, tree_: Mapping[str, Recipe], used: Mapping[str, Recipe],
               wanted: Mapping[str, Iterable[Entry]]) -> dict[str, Overlay]:
        """Overlays for those images of which a wanted entry can be had nowhere. Recipes are given as the tree has them
        and as they are used.

        An image is resolved once a run at most; one that cannot be keeps the lock it has, and the fetch step says what
        is missing.
        """
        lacking = {name: found for name, entries in wanted.items() if name not in self.done
                   if (found := self.finder.nowhere((entry, used[name].lock.snapshot) for entry in entries))}
        self.done |= set(lacking)
        for name, found in lacking.items():
            self.say(f"{name}: no origin has {_named(found)} any more; its Debian packages are resolved again")
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
            self.warn(f"{', '.join(sorted(set(lacking) - set(overlays)))}: cannot be resolved again: {error}")
        return overlays

    def _resolved(self, tree_: Recipe, used: Recipe, missing: list[Entry]) -> Overlay | None:
        try:
            lock = self.locker.lock(used, kinds=("debian",)).lock
        except FarmError as error:
            self.warn(f"{used.name} cannot be resolved again, and no origin has {_named(missing)}: {error}")
            return None
        if lock == used.lock:
            self.warn(f"{used.name}: resolved again, its origins still name {_named(missing)}, which they do not have")
            return None
        return Overlay(lock, tuple(entry.label for entry in missing), tuple(moved(tree_.lock, lock)))


def _named(entries: list[Entry]) -> str:
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return ", ".join(entry.label for entry in entries[:NAMED]) + more


def laid_over(recipes: Mapping[str, Recipe], overlays: Mapping[str, Overlay]) -> dict[str, Recipe]:
    """The recipes, with the locks of overlays where there are any."""
    return {name: replace(recipe, lock=overlays[name].lock) if name in overlays else recipe
            for name, recipe in recipes.items()}
