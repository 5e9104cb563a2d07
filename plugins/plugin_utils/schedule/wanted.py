# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build-time parents are wanted on which build platforms.

One build platform is always wanted: the one where the units that need it end soonest. They are built for a second one
only if that makes the whole sooner by more than a few seconds, so that one node never builds what only others would
need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.nodes import Fleet
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.units import Need, Task

GAIN = 30.0  # seconds by which a second build platform must make the rest sooner


@dataclass
class Wanted:
    """The units that are wanted. `roots` are wanted whatever happens; `has` says whether a unit is wanted already, and
    `add` makes it so; `begun` whether it exists or is being built."""

    roots: list[Task]
    needs: list[Need]
    fleet: Fleet
    has: Callable[[Task], bool]
    add: Callable[[list[Task]], None]
    begun: Callable[[Task], bool]

    def choose(self, now: float) -> dict[Need, set[Platform]]:
        """Wants build-time parents on the platforms where that pays; returns the platforms that were added."""
        found: dict[Need, set[Platform]] = {}
        again = True
        while again:
            again = False
            for need in self.needs:
                if need.left and (new := self._more(need, now)):
                    again = True
                    need.chosen |= new
                    found.setdefault(need, set()).update(new)
        return found

    def forget(self, now: float) -> dict[Need, set[Platform]]:
        """Takes back what was chosen for other nodes than those that are there now, if nothing of it has begun; returns
        the platforms that were taken back."""
        found = {}
        for need in self.needs:
            served = set(self.fleet.served(need, now)) if need.left else set()
            lost = {build for build in need.chosen if need.ways[build] and not (
                build in served and any(map(self.begun, need.ways[build])))}
            if served and lost:
                need.chosen -= lost
                found[need] = lost
        return found

    def needed(self) -> set[Task]:
        """All units that are needed with what is chosen."""
        found: set[Task] = set()
        queue = list(self.roots)
        while queue:
            task = queue.pop()
            if task not in found:
                found.add(task)
                queue += self._above(task) if not self.begun(task) else []
        return found

    def _above(self, task: Task) -> Iterable[Task]:
        return [*task.parents, *(parent for build in task.need.chosen for parent in task.need.ways[build])]

    def _more(self, need: Need, now: float) -> set[Platform]:
        """The build platforms on which a need should be built too."""
        served = self.fleet.served(need, now)
        others = [build for build in served if build not in need.chosen]
        free = {build for build in others if all(map(self.has, need.ways[build]))}
        if free or not others:
            return free
        lacking = {build: self._lacking(need.ways[build]) for build in others}
        others = [build for build in others if all(self.begun(task) or self.fleet.served(task.need, now)
                                                   for task in lacking[build])]
        if not others:
            return set()
        if need.chosen.isdisjoint(served):
            best = min(others, key=lambda build: self._ends(need, [build], _chain(lacking[build]), lacking[build], now))
        else:
            chosen = [build for build in served if build in need.chosen]
            best = min(others, key=lambda build: _chain(lacking[build]))
            if not self._pays(need, chosen, best, lacking[best], now):
                return set()
        self.add(sorted(lacking[best], key=lambda task: task.order))
        return {best}

    def _lacking(self, parents: list[Task]) -> list[Task]:
        """The units that would have to be built, or are not wanted yet: these, and what they need in turn."""
        found: dict[Task, None] = {}
        queue = list(parents)
        while queue:
            task = queue.pop()
            if task not in found and not self.has(task):
                found[task] = None
                queue += self._above(task) if not self.begun(task) else []
        return list(found)

    def _ends(self, need: Need, builds: list[Platform], later: float, lacking: list[Task], now: float,
              chosen: Iterable[Platform] = ()) -> float:
        """In how many seconds the units are built that need the same parents, on nodes of these build platforms (which
        can begin after `later` seconds) and of those chosen (which begin now)."""
        here, all_ = self.fleet.on(need, chosen, now), self.fleet.on(need, [*chosen, *builds], now)
        speed, first = sum(node.speed * node.worker.slots for node in all_), 0.0
        kinds = 0
        for node in all_:
            kinds |= node.kind
        first = speed - sum(node.speed * node.worker.slots for node in here)
        work = sum(each.work for each in self.needs
                   if each is need or self._alike(each, lacking) or self.fleet.only(each, kinds, now))
        return (work + first * later) / speed

    def _alike(self, need: Need, lacking: list[Task]) -> bool:
        """Whether units of a need would use these parents as well."""
        return any(parent in lacking for parents in need.ways.values() for parent in parents)

    def _pays(self, need: Need, chosen: list[Platform], build: Platform, lacking: list[Task], now: float) -> bool:
        slots = sum(node.worker.slots for node in self.fleet.on(need, chosen, now))
        alike = sum(each.left for each in self.needs if each is need or self._alike(each, lacking))
        if alike <= slots:
            return False
        without = self._ends(need, [], 0.0, lacking, now, chosen)
        return without - self._ends(need, [build], _chain(lacking), lacking, now, chosen) > GAIN


def _chain(lacking: list[Task]) -> float:
    """How many seconds it takes until all of these are built, one after the other."""
    return sum(task.seconds / task.need.fastest for task in lacking if task.need.ways)
