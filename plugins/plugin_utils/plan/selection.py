# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user chooses: images, platforms, and a jmespath expression over units."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils import expressions
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import ALL_IMAGES
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import texts
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest


def select(plan: Plan, native: list[Platform] | None, images: list[str], platforms: list[str],
           expression: str, *, called: str = "farm_images") -> list[Key]:
    """The chosen units that nodes of the platforms `native` can build; all that are chosen if that is None, because not
    all nodes are known. Raises BadInput with every wrong name.

    Helper images (those with targets) are chosen only by name; otherwise they are built if something needs them. If
    neither names nor an expression choose, it is what the catalogs' defaults name. `called` is the variable that has
    the names of images.
    """
    everything = ALL_IMAGES in images
    named = [name for name in images if name != ALL_IMAGES]
    usual = not (named or everything or expression)
    problems = [f"{called}: {name!r} is not an image of the catalog{nearest(name, list(plan.recipes))}; images: "
                f"{', '.join(sorted(plan.recipes))}"
                for name in named if name not in plan.recipes]
    known = sorted({str(key.platform) for key in plan.units})
    problems += [f"farm_platforms: {name!r} is not a platform of the catalog{nearest(name, known)}; platforms: "
                 f"{', '.join(known)}"
                 for name in platforms if name not in known]
    kept: set[str] | None = None
    if expression:
        try:
            kept = expressions.chosen(expression, [describe(plan, key) for key in plan.units], "unit")
        except ValueError as error:
            problems.append(f"farm_select: {expression!r} does not choose units: {error}; an example: "
                            "[?image=='registry' && platform.variant=='v6']")
    chosen = [
        key for key in plan.units
        if (key.image in named or (everything or not named) and plan.recipes[key.image].index
            and (plan.recipes[key.image].usual or not usual))
        and (not platforms or str(key.platform) in platforms)
        and (kept is None or str(key) in kept)
    ]
    if not chosen and not problems:
        given = [name for name, value in (("farm_images", images), ("farm_platforms", platforms),
                                          ("farm_select", expression)) if value]
        problems.append(f"{' and '.join(given)}{' together choose' if len(given) > 1 else ' chooses'} no unit: correct "
                        f"{'one of them' if len(given) > 1 else 'it'}" if given else
                        "there is nothing to build: every image of the catalog has targets, which are built only if "
                        "another image needs them, or if farm_images names it")
    guilty = _guilty(plan, native) if native is not None else {}
    problems += [f"{key}: the steps of {guilty[key]} run code of "
                 f"{' or '.join(map(str, plan.units[guilty[key]].runs))}, but no node runs that natively: leave the "
                 "platform out (farm_platforms)"
                 for key in chosen if key in guilty and plan.recipes[key.image].index]
    if problems:
        raise BadInput(list(map(texts.told, problems)), what="the choice")
    return [key for key in chosen if key not in guilty]


def _guilty(plan: Plan, native: list[Platform]) -> dict[Key, Key]:
    """The units that no node of these platforms can build, each with the unit whose steps no node can run: itself, or
    one that it needs."""
    found: dict[Key, Key] = {}
    for key, unit in plan.units.items():  # a unit comes after its parents
        if not set(unit.runs) & set(native):
            found[key] = key
        elif need := next((found[parent] for parent in plan.parents(unit, native[0]) if parent in found), None):
            found[key] = need
    return found


def damaged(plan: Plan, names: list[str]) -> dict[Key, str]:
    """The units with these names, and why they are built. Raises BadInput for unknown names."""
    keys = {str(key): key for key in plan.units}
    if problems := [f"damaged: {name!r} is not a unit of the catalog" for name in names if name not in keys]:
        raise BadInput(problems, what="plan")
    return {keys[name]: "damaged in the registry" for name in names}


def describe(plan: Plan, key: Key) -> dict[str, Any]:
    """A unit as jmespath and people see it."""
    unit = plan.units[key]
    return {
        "unit": str(key), "image": key.image, "target": key.target, "id": unit.id,
        "platform": {"os": key.platform.os, "architecture": key.platform.architecture, "variant": key.platform.variant,
                     "name": str(key.platform)},
        "inputs": list(unit.inputs), "parents": [parent.name for parent in unit.parents],
    }
