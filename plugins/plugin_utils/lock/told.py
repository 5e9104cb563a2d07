# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses the images to lock, refuses those whose locks cannot be written, and describes the result of a lock step: for
people, for --diff, and as the module's result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import may
from ansible_collections.desimages.farm.plugins.plugin_utils import expressions
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import ALL_IMAGES
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locked
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import texts
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import LOCK
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


def choose(recipes: Mapping[str, Recipe], images: list[str], expression: str) -> list[Recipe]:
    """The chosen images that have inputs, by name. Raises BadInput with every wrong name, and for an expression that
    chooses no image: it would look as if there were nothing to do."""
    named = [name for name in images if name != ALL_IMAGES]
    problems = [f"farm_images: {name!r} is not an image of the catalog{nearest(name, list(recipes))}; images: "
                f"{', '.join(sorted(recipes))}"
                for name in named if name not in recipes]
    kept = set(recipes)
    if expression:
        try:
            kept = expressions.chosen(expression, [view(recipe) for recipe in recipes.values()], "image")
        except ValueError as error:
            problems.append(f"farm_lock_select: {expression!r} does not choose images: {error}; an example: "
                            "[?contains(kinds, 'go')]")
    wanted = [name for name in sorted(recipes) if name in kept and (not named or name in named or ALL_IMAGES in images)]
    if expression and not wanted and not problems:
        problems.append("farm_images and farm_lock_select together choose no image: correct one of them" if named else
                        f"farm_lock_select: {expression!r} chooses no image: correct it; the keys of an image are "
                        f"{', '.join(view(next(iter(recipes.values()))))}")
    if problems:
        raise BadInput(list(map(texts.told, problems)), what="the choice")
    return [recipes[name] for name in wanted if recipes[name].inputs or recipes[name].lock != Lock()]


def refuse_sealed(recipes: Iterable[Recipe]) -> None:
    """Raises BadInput with all images in whose folders this user cannot write locks, which are made in minutes."""
    if sealed := [recipe.folder for recipe in recipes if not may(recipe.folder, os.W_OK)]:
        raise BadInput([f"{texts.visible(folder)}: this user may not write here, so {LOCK} cannot be replaced: run as "
                        "its owner, or with --check" for folder in sealed], what="the choice")


def view(recipe: Recipe) -> dict[str, Any]:
    """An image as jmespath sees it."""
    return {
        "image": recipe.name, "kinds": sorted({KINDS[found.kind].key for found in recipe.inputs}),
        "platforms": list(map(str, recipe.platforms)),
        "suites": list(recipe.suites), "locked": recipe.lock != Lock(),
    }


def described(recipe: Recipe, locked: Locked, seconds: float, upgraded: tuple[str, ...] = ()) -> dict[str, Any]:
    """One image's part of the result, as the module documents it. `upgraded` is what moved in its recipe."""
    return {
        "name": locked.name, "changed": locked.changed or bool(upgraded),
        "new": locked.changed and recipe.lock == Lock(),
        "lines": len(locked.lock.entries),
        "snapshot": locked.lock.snapshot, "moved": [*upgraded, *locked.moved], "seconds": seconds,
        "older": locked.lock.older,
        "left_out": {platform: list(suites) for platform, suites in locked.lock.left_out.items()},
    }


def difference(image: Mapping[str, Any]) -> str:
    """What moved in an image, as --diff shows it. For a first lock that is its size, not every line."""
    if image["new"]:
        return f"{image['name']}: {amount(image['lines'], 'file')}, locked for the first time\n"
    return f"{image['name']}:\n" + "".join(f"  {line}\n" for line in image["moved"]
                                           or ["no version; only its wrapper, or the format of its lock"])


def summary(image: Mapping[str, Any]) -> str:
    """One line for an image: `registry: 206 files, 3 moved (21 s)`."""
    change = f"{len(image['moved'])} moved" if image["changed"] else "nothing moved"
    change = "locked for the first time" if image["new"] else change
    snapshot = f", Debian of {image['snapshot']}" if image["snapshot"] else ""
    return f"{image['name']}: {amount(image['lines'], 'file')}{snapshot}, {change} ({image['seconds']} s)"


def failed(failures: Mapping[str, FarmError]) -> str:
    """Why images (name -> error) could not be locked. What they have in common, such as an origin that serves an index
    in pieces, is said once for all of them."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, error in failures.items():
        alike.setdefault((error.message, error.hint), []).append(name)
    lines = []
    for names in alike.values():
        first = failures[names[0]]
        common = {key: value for key, value in first.where.items()
                  if all(failures[name].where.get(key) == value for name in names)}
        lines.append(f"{', '.join(names)}: {FarmError(first.message, hint=first.hint, **common)}")
    return "\n".join(lines)


def warnings(images: list[dict[str, Any]]) -> list[str]:
    """What people must know about the locks: one line for all images and platforms that lack the same."""
    lacks: dict[str, tuple[set[str], set[str]]] = {}
    for image in images:
        for platform, suites in image["left_out"].items():
            updates = " (no security updates)" if any(suite.endswith("-security") for suite in suites) else ""
            _note(lacks, f"without {', '.join(suites)}{updates}", image["name"], platform)
        for platform, suites in image["older"].items():
            _note(lacks, ", ".join(f"{suite} only as of {time_}" for suite, time_ in suites.items()), image["name"],
                  platform)
    return [f"locked {text}, because no index there matches its InRelease: {', '.join(sorted(names))} on "
            f"{', '.join(sorted(platforms))}"
            for text, (names, platforms) in sorted(lacks.items())]


def _note(lacks: dict[str, tuple[set[str], set[str]]], text: str, name: str, platform: str) -> None:
    names, platforms = lacks.setdefault(text, (set(), set()))
    names.add(name)
    platforms.add(platform)
