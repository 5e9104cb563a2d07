# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where locks have grown apart: an image's Debian packages in other versions than those of what it descends from. No
I/O."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from ansible_collections.desimages.farm.plugins.plugin_utils.lock.below import of_image
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.descent import ancestors
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock, Recipe


def apart(recipes: Mapping[str, Recipe], locks: Mapping[str, Lock], locked: Container[str]) -> Iterator[str]:
    """A warning for each pair of images with different versions of a package, if one of the two was locked now."""
    for name, recipe in sorted(recipes.items()):
        found: dict[str, dict[str, list[str]]] = {}  # ancestor -> what differs -> platforms
        for platform in recipe.platforms:
            mine = of_image(recipe, locks[name], platform)
            for above in ancestors(recipes, recipe, platform) if mine else ():
                theirs = of_image(recipes[above], locks[above], platform)
                for package in sorted(mine.keys() & theirs.keys()):
                    here, there = mine[package].fact["version"], theirs[package].fact["version"]
                    if here != there and (name in locked or above in locked):
                        text = f"{package} {here}, there {there}"
                        found.setdefault(above, {}).setdefault(text, []).append(str(platform))
        for above, texts in found.items():
            shown = "; ".join(f"{text} ({', '.join(platforms)})" for text, platforms in texts.items())
            yield (f"{name} has packages in other versions than {above}, from which it descends: {shown}."
                   f" debian-extract will refuse them; lock both at the same time: farm_images={above},{name}")
