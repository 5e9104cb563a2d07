# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each step of a run leaves for the steps after it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.overlays import Overlay
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import File, Sources
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import Outcome


@dataclass(frozen=True)
class Planned:
    """Left by the plan step. `wanted` are the chosen units, `existing` those that the registry has, with their digests,
    `todo` those to build.

    `builds` are the platforms of the nodes, the main one first; `chosen` is true if platforms were chosen; `sizes` maps
    a digest to (bytes, media type); `before` is how many seconds the run took before the plan; `optional` are built
    only if a node of another platform builds what needs them; `again` are units to build although they exist; `fresh`
    is true if they are built without BuildKit's cache. The lock of an image with nothing to build has no lines.
    """

    plan: Plan
    sources: dict[str, Sources]
    wanted: list[Key]
    existing: dict[Key, str]
    builds: list[Platform]
    todo: list[Key]
    chosen: bool
    relocked: dict[str, Overlay]
    sizes: dict[str, tuple[int, str]]
    before: float
    optional: list[Key] = field(default_factory=list)
    again: set[Key] = field(default_factory=set)
    fresh: bool = False

    @property
    def build(self) -> Platform:
        """The build platform that plan and reasons are shown for."""
        return self.builds[0]

    @cached_property
    def newest(self) -> int:
        """The epoch of the newest lock of what may be built."""
        return max((self.plan.units[key].epoch for key in (*self.todo, *self.optional)), default=0)

    def lean(self) -> Planned:
        """A copy without what no later step reads, which is most of it if there is little to build."""
        names = {key.image for key in (*self.todo, *self.optional)}
        recipes = {name: recipe if name in names
                   else replace(recipe, lock=replace(recipe.lock, entries=(), made_for={}))
                   for name, recipe in self.plan.recipes.items()}
        needed = set(self.plan.closure_of(self.wanted, self.builds))
        units = {key: unit for key, unit in self.plan.units.items() if key in needed}
        return replace(self, plan=Plan(units, recipes),
                       sources={name: found for name, found in self.sources.items() if name in names},
                       relocked={name: replace(overlay, lock=replace(overlay.lock, entries=()))
                                 for name, overlay in self.relocked.items()})


@dataclass(frozen=True)
class Fetched:
    """Left by the fetch step. `refused` are the units that cannot be built, and why; `unpacked` maps image,
    build platform and input to `repository@digest`; `trees` has all files of each unit."""

    refused: dict[Key, str] = field(default_factory=dict)
    unpacked: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    trees: dict[Key, dict[str, File]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Share:
    """What a node did in a run: units built (how many of them under emulation) and failed there, the seconds of its
    solves, and why it got no more work ('' if it did to the end)."""

    units: int = 0
    emulated: int = 0
    failures: int = 0
    seconds: float = 0.0
    out: str = ""


@dataclass(frozen=True)
class Built:
    """Left by the build step: the outcome of each unit, the sizes of what was built, how long each batch took, why the
    step ended early ('' if it did not), the units whose new digest differs from the one that is kept: (kept, new), what
    each node did, and by which node each unit was built."""

    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    differs: dict[Key, tuple[str, str]] = field(default_factory=dict)
    nodes: dict[str, Share] = field(default_factory=dict)
    by: dict[Key, str] = field(default_factory=dict)
