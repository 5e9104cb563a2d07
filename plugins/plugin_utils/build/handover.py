# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of a run leave for later steps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.build.schedule import Outcome
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.relock import Overlay
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import File, Sources


@dataclass(frozen=True)
class Planned:
    """The plan step's. `wanted` are the chosen units, `existing` those that the registry has, with their digests,
    `todo` those to build.

    `build` is the platform that builds; `chosen` is true where platforms were chosen; `sizes` has (bytes, media type)
    by digest; `before` is how many seconds the run had taken until it planned; `again` are units that are built
    although they exist, `fresh` is true where no cache of BuildKit's may serve. Locks are whole for images with
    something to build, and else without their lines.
    """

    plan: Plan
    sources: dict[str, Sources]
    wanted: list[Key]
    existing: dict[Key, str]
    build: Platform
    todo: list[Key]
    chosen: bool
    relocked: dict[str, Overlay]
    sizes: dict[str, tuple[int, str]]
    before: float
    again: set[Key] = field(default_factory=set)
    fresh: bool = False

    def lean(self) -> Planned:
        """Without what no later step reads: most of a run that has little to build."""
        names = {key.image for key in self.todo}
        recipes = {name: recipe if name in names
                   else replace(recipe, lock=replace(recipe.lock, entries=(), made_for={}))
                   for name, recipe in self.plan.recipes.items()}
        needed = set(self.plan.closure(self.wanted, self.build))
        units = {key: unit for key, unit in self.plan.units.items() if key in needed}
        return replace(self, plan=Plan(units, recipes),
                       sources={name: found for name, found in self.sources.items() if name in names},
                       relocked={name: replace(overlay, lock=replace(overlay.lock, entries=()))
                                 for name, overlay in self.relocked.items()})


@dataclass(frozen=True)
class Fetched:
    """The fetch step's. `refused` are the units that cannot be built, and why; `unpacked` maps image and input to
    `repository@digest`; `trees` has all files of each unit."""

    refused: dict[Key, str] = field(default_factory=dict)
    unpacked: dict[str, dict[str, str]] = field(default_factory=dict)
    trees: dict[Key, dict[str, File]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Built:
    """The build step's: what became of each unit, the sizes of what was built, how long each batch took, why the step
    ended early, and the units built to another digest than the one that is kept: (kept, came)."""

    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    differs: dict[Key, tuple[str, str]] = field(default_factory=dict)
