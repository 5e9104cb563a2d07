# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that replace those of the tree, because no origin has one of their .debs any more (`farm_relock_missing`, D4).

An **overlay** is `<farm_state>/relocked/<image>/lock.jsonl`, with `made.json` beside it, which says from which lock of
the tree it was made. It is valid as long as the tree has that lock.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.moves import moved
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import LOCK
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock, Recipe

MADE = "made.json"
NAMED = 3  # missing files that a message names


@dataclass(frozen=True)
class Overlay:
    """A lock that replaces the tree's. `missing` are the files that no origin had; `moved` says what differs from the
    tree's lock."""

    lock: Lock
    missing: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    def words(self, image: str) -> str:
        """For people: `static is not built from its lock in the tree: ... openssl 3.5.1-1 -> 3.5.2-1`."""
        more = f" and {len(self.missing) - NAMED} more" if len(self.missing) > NAMED else ""
        return (f"{image} is not built from its lock in the tree: no origin has "
                f"{', '.join(self.missing[:NAMED])}{more}, so "
                f"its Debian packages were resolved again. {'; '.join(self.moved)}")

    def as_dict(self) -> dict[str, object]:
        return {"missing": list(self.missing), "moved": list(self.moved), "snapshot": self.lock.snapshot}


class Overlays:
    """The overlays of a state folder."""

    def __init__(self, state: str | Path) -> None:
        self.root = Path(state) / "relocked"

    def read(self, recipe: Recipe) -> Overlay | None:
        """The overlay of a recipe as the tree has it, or None if there is no valid one."""
        folder = self.root / recipe.name
        try:
            made = json.loads((folder / MADE).read_text(encoding="utf-8"))
            text = (folder / LOCK).read_text(encoding="utf-8")
            if (made["tree"], made["lock"]) == (tree(recipe), _sha256(text)):
                lock = lockfile.parse(text, str(folder / LOCK))
                return Overlay(lock, tuple(made["missing"]), tuple(moved(recipe.lock, lock)))
        except (OSError, ValueError, KeyError, TypeError, FarmError):
            pass  # none, or half of one: its files are looked for again
        return None

    def write(self, recipe: Recipe, overlay: Overlay) -> None:
        """Keeps an overlay of a recipe as the tree has it."""
        folder, text = self.root / recipe.name, lockfile.dump(overlay.lock)
        files.write(str(folder / LOCK), text)
        made = {"tree": tree(recipe), "lock": _sha256(text), "missing": list(overlay.missing)}
        files.write(str(folder / MADE), json.dumps(made, indent=1, sort_keys=True) + "\n")

    def drop(self, recipes: Iterable[Recipe]) -> list[str]:
        """Removes overlays that are no longer valid; returns the names of their images."""
        stale = [recipe.name for recipe in recipes if (self.root / recipe.name).exists() and self.read(recipe) is None]
        for name in stale:
            shutil.rmtree(self.root / name)
        return stale


def tree(recipe: Recipe) -> str:
    """The sha256 of an image's lock in the tree."""
    return hashlib.sha256((Path(recipe.folder) / LOCK).read_bytes()).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def laid_over(recipes: Mapping[str, Recipe], overlays: Mapping[str, Overlay]) -> dict[str, Recipe]:
    """The recipes, with the lock of the overlay if an image has one."""
    return {name: replace(recipe, lock=overlays[name].lock) if name in overlays else recipe
            for name, recipe in recipes.items()}
