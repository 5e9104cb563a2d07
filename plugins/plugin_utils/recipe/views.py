# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The distinct views of a recipe's Dockerfile, and the platforms for which each holds. They are checked for
mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import View, varies, view
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """A view of a recipe's Dockerfile; the pairs (platform, build platform) for which it holds; all pairs there are."""

    view: View
    pairs: tuple[tuple[Platform, Platform], ...]
    all: tuple[tuple[Platform, Platform], ...]


def distinct(recipe: Recipe) -> list[Seen]:
    """Every distinct view of every target. If the recipe's platforms are wrong: what does not depend on them."""
    found: list[Seen] = []
    for target in recipe.targets or ("",):
        if not varies(recipe.dockerfile):
            pairs = tuple(product(recipe.platforms, recipe.build_platforms))
            found.append(Seen(view(recipe.dockerfile, target), pairs, pairs))
            continue
        same: dict[int, tuple[View, list[tuple[Platform, Platform]]]] = {}
        for platform, views in recipe.views(target).items():
            for build, one in views.items():
                same.setdefault(id(one), (one, []))[1].append((platform, build))
        everything = tuple(pair for _seen, pairs in same.values() for pair in pairs)
        found += [Seen(one, tuple(pairs), everything) for one, pairs in same.values()]
    return found


def gathered(recipe: Recipe, what: Callable[[View], Iterable[T]]) -> dict[T, Seen]:
    """What `what` finds in views -> the first view that has it, with the pairs of all views that have it."""
    found: dict[T, Seen] = {}
    for seen in distinct(recipe):
        for each in dict.fromkeys(what(seen.view)):
            if known := found.get(each):
                pairs, everything = dict.fromkeys((*known.pairs, *seen.pairs)), dict.fromkeys((*known.all, *seen.all))
                found[each] = Seen(known.view, tuple(pairs), tuple(everything))
            else:
                found[each] = seen
    return found


def shown(seen: Seen, written: str = "") -> str:
    """` (FROM leaf-$TARGETARCH for linux/s390x)`: the word before expansion, and the platforms if not all of them."""
    parts = [f"FROM {written}"] if written else []
    if len(seen.pairs) < len(seen.all):
        platforms = dict.fromkeys(platform for platform, _build in seen.pairs)
        builders = dict.fromkeys(build for _platform, build in seen.pairs)
        parts.append(f"for {', '.join(map(str, platforms))}")
        if len(seen.pairs) < sum(platform in platforms for platform, _build in seen.all):
            parts.append(f"built on {' or '.join(map(str, builders))}")
    return f" ({' '.join(parts)})" if parts else ""
