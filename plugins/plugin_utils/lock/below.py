# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian packages that an image has from the images that it descends from. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.descent import ancestors, with_packages
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe


def over(recipes: Mapping[str, Recipe], locks: Mapping[str, Lock], recipe: Recipe) -> Recipe:
    """A recipe that knows what it has from its ancestors, as it is locked."""
    return replace(recipe, above=with_packages(recipes, recipe), below=below(recipes, locks, recipe))


def below(recipes: Mapping[str, Recipe], locks: Mapping[str, Lock], recipe: Recipe) -> dict[str, tuple[Entry, ...]]:
    """Platform -> the packages of its ancestors; of two with one name, the one of the nearer ancestor. An image with
    several targets may count on what all of them have."""
    found: dict[str, tuple[Entry, ...]] = {}
    for platform in recipe.platforms:
        each = []
        for target in recipe.targets or ("",):
            packages: dict[str, Entry] = {}
            for above in ancestors(recipes, recipe, platform, target):
                packages = {**of_image(recipes[above], locks[above], platform), **packages}
            each.append(packages)
        if shared := [entry for name, entry in sorted(each[0].items()) if all(one.get(name) == entry for one in each)]:
            found[str(platform)] = tuple(shared)
    return found


def of_image(recipe: Recipe, lock: Lock, platform: Platform) -> dict[str, Entry]:
    """Name -> the Debian package, of those that are for the image itself and not for what builds it."""
    return {entry.fact["name"]: entry for found in recipe.inputs
            if found.kind == "debian" and not found.build for entry in lock.of(found.name, str(platform))}


def parents_first(recipes: Mapping[str, Recipe], chosen: list[Recipe]) -> list[Recipe]:
    """The chosen images, each after those that it descends from."""
    def depth(recipe: Recipe) -> int:
        return max((len(list(ancestors(recipes, recipe, platform, target)))
                    for platform in recipe.platforms for target in recipe.targets or ("",)), default=0)

    return sorted(chosen, key=lambda recipe: (depth(recipe), recipe.name))
