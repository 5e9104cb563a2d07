# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image descends from: what it is FROM, what that is FROM, and so on. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import contract
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import Stage
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import SCRATCH, View
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Input, Recipe


def ancestors(recipes: Mapping[str, Recipe], recipe: Recipe, platform: Platform, target: str = "") -> Iterator[str]:
    """The images of the catalog that an image descends from on a platform, the nearest first."""
    seen: set[str] = set()
    while platform in recipe.platforms and recipe.name not in seen:
        seen.add(recipe.name)
        view = next(iter(recipe.views(target)[platform].values()), None)
        if view is None:
            return
        base, target = view.base, ""
        if base not in recipes:
            return
        recipe = recipes[base]
        yield recipe.name


def above(recipes: Mapping[str, Recipe], found: View, platform: Platform | None
          ) -> tuple[tuple[Stage, ...], bool]:
    """The stages of the catalog's images that a view of a Dockerfile descends from on a platform, the furthest first;
    and whether it descends from nothing else."""
    stages: list[Stage] = []
    seen: set[str] = set()
    while found.base in recipes and found.base not in seen:
        seen.add(found.base)
        views = recipes[found.base].views("").get(platform, {}) if platform else {}
        parent = next(iter(views.values()), None)
        if parent is None:
            return tuple(stages), False
        stages = [*contract.own(parent), *stages]
        found = parent
    return tuple(stages), found.base == SCRATCH


def with_packages(recipes: Mapping[str, Recipe], recipe: Recipe) -> tuple[str, ...]:
    """The ancestors, on any platform, whose Debian packages the closures of an image leave out."""
    if not any(map(leaves_out, recipe.inputs)):
        return ()
    found = dict.fromkeys(above for platform in recipe.platforms for target in recipe.targets or ("",)
                          for above in ancestors(recipes, recipe, platform, target))
    return tuple(name for name in found
                 if any(one.kind == "debian" and not one.build for one in recipes[name].inputs))


def leaves_out(found: Input) -> bool:
    """Whether an input is a closure without the packages that the image has from its ancestors."""
    return (found.kind == "debian" and not found.build and not found.spec.get("essential")
            and bool(found.spec.get("dependencies", True)))
