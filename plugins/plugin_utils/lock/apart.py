# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where locks have grown apart: an image's Debian packages in other versions than those of what it descends from. No
I/O."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock, Recipe


def apart(recipes: Mapping[str, Recipe], locks: Mapping[str, Lock], locked: Container[str]) -> Iterator[str]:
    """A warning for each pair of images with different versions of a package, if one of the two was locked now."""
    for name, recipe in sorted(recipes.items()):
        found: dict[str, dict[str, list[str]]] = {}  # ancestor -> what differs -> platforms
        for platform in recipe.platforms:
            mine = _versions(recipe, locks[name], platform)
            for above in _ancestors(recipes, recipe, platform) if mine else ():
                theirs = _versions(recipes[above], locks[above], platform)
                for package in sorted(mine.keys() & theirs.keys()):
                    if mine[package] != theirs[package] and (name in locked or above in locked):
                        text = f"{package} {mine[package]}, there {theirs[package]}"
                        found.setdefault(above, {}).setdefault(text, []).append(str(platform))
        for above, texts in found.items():
            shown = "; ".join(f"{text} ({', '.join(platforms)})" for text, platforms in texts.items())
            yield (f"{name} has packages in other versions than {above}, from which it descends: {shown}."
                   f" debian-extract will refuse them; lock both at the same time: farm_images={above},{name}")


def _versions(recipe: Recipe, lock: Lock, platform: Platform) -> dict[str, str]:
    """The Debian packages for the image itself, not for what builds it."""
    return {entry.fact["name"]: entry.fact["version"] for found in recipe.inputs
            if found.kind == "debian" and not found.build for entry in lock.of(found.name, str(platform))}


def _ancestors(recipes: Mapping[str, Recipe], recipe: Recipe, platform: Platform) -> Iterator[str]:
    """What an image is FROM on a platform, and so on."""
    seen: set[str] = set()
    while platform in recipe.platforms and recipe.name not in seen:
        seen.add(recipe.name)
        view = next(iter(recipe.views("")[platform].values()), None)
        if view is None or view.base not in recipes:
            return
        recipe = recipes[view.base]
        yield recipe.name
