# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/catalog.md: a row for each image of the family, built or not. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe

BEGIN = """# The catalog

Made by `make readmes` from the recipes and from [family.yml](family.yml). How an image is used is in its README.
`make catalog` builds and verifies them all; [the contract](contract.md) says what is checked.

## What is built
"""
REST = """
## What is not built

A recipe that was never built is not added. This table says why each of these images has none, and what you can do if
you have what is missing: put an image into [your own catalog](guide.md#your-own-catalog).
"""


def page(recipes: Mapping[str, Recipe], family: Mapping[str, Mapping[str, str]], tests: Mapping[str, str]) -> str:
    """`family` maps an image without a recipe to `why` and `do`; those that have one by now are left out. `tests` maps
    an image to the test that uses it, a path from docs/."""
    lines = [BEGIN, "| image | what it is | platforms | made of | proven by |", "|---|---|---|---|---|"]
    lines += [_row(recipe, tests.get(name, "")) for name, recipe in sorted(recipes.items())]
    left = {name: said for name, said in sorted(family.items()) if name not in recipes}
    if left:
        lines += [REST, "| image | why not | what you can do |", "|---|---|---|"]
        lines += [f"| {name} | {said['why']} | {said['do']} |" for name, said in left.items()]
    return "\n".join(lines) + "\n"


def _row(recipe: Recipe, test: str) -> str:
    kinds = sorted({KINDS[found.kind].key for found in recipe.inputs})
    cells = [f"[{recipe.name}](../images/{recipe.name}/README.md)",
             recipe.labels["org.opencontainers.image.description"],
             f"{len(recipe.platforms)}: {', '.join(str(one).removeprefix('linux/') for one in recipe.platforms)}",
             ", ".join(kinds) or "other images", "; ".join(_proofs(recipe, test))]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _proofs(recipe: Recipe, test: str) -> Iterator[str]:
    if test:
        yield f"[{test.rpartition('/')[2]}]({test})"
    promised: Mapping[str, Any] = {
        "health": bool(recipe.contract.health), "metrics": bool(recipe.contract.metrics),
        _counted(recipe.contract.answers, "answer"): recipe.contract.answers,
        _counted(recipe.contract.refuses, "refusal"): recipe.contract.refuses,
        _counted(recipe.contract.volumes, "volume"): recipe.contract.volumes,
    }
    if recipe.targets:
        yield "what is built with it"
    elif said := [text for text, there in promised.items() if there]:
        yield f"its contract: {', '.join(said)}"
    else:
        yield "its contract: what every image keeps"


def _counted(some: Sized, word: str) -> str:
    return f"{len(some)} {word}{'' if len(some) == 1 else 's'}"
