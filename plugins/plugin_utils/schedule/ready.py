# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units that may start now: lists for each build platform, sorted by how long the chain of units behind each is."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.units import Need, Task

Place = tuple[float, int, int]  # of a pool in the lists: its path (negative), the order of a unit, its number


@dataclass(eq=False, slots=True)
class Pool:
    """Units that are ready and may be one batch, with the same need."""

    group: str
    need: Need
    place: Place
    tasks: dict[int, Task] = field(default_factory=dict)  # by order

    @property
    def path(self) -> float:
        return -self.place[0]


class Ready:
    """All units that may start. A pool is listed under each build platform on which its need is open."""

    def __init__(self) -> None:
        self._pools: dict[str, dict[Need, Pool]] = {}  # by group
        self._needs: dict[Need, dict[str, Pool]] = {}
        self._lists: dict[Platform, list[tuple[Place, Pool]]] = {}
        self._count = 0
        self.events = 0  # counts what has happened: others compute anew what may have changed

    def add(self, task: Task) -> None:
        pools = self._pools.setdefault(task.group, {})
        pool = pools.get(task.need)
        if pool is None:
            self._count += 1
            pool = pools[task.need] = Pool(task.group, task.need, (-task.path, task.order, self._count))
            self._needs.setdefault(task.need, {})[task.group] = pool
            self._list(pool, pool.need.open)
        elif (-task.path, task.order) < pool.place:
            self._unlist(pool, pool.need.open)
            pool.place = -task.path, task.order, pool.place[2]
            self._list(pool, pool.need.open)
        pool.tasks[task.order] = task
        task.need.ready += task.seconds

    def remove(self, task: Task) -> bool:
        """Takes a unit out; whether it was in."""
        pool = self._pools.get(task.group, {}).get(task.need)
        if pool is None or task.order not in pool.tasks:
            return False
        del pool.tasks[task.order]
        task.need.ready = max(task.need.ready - task.seconds, 0.0)
        if not pool.tasks:
            self._unlist(pool, pool.need.open)
            del self._needs[pool.need][pool.group], self._pools[pool.group][pool.need]
            if not self._pools[pool.group]:
                del self._pools[pool.group]
        return True

    def opened(self, need: Need, platform: Platform) -> None:
        """All build-time parents of a need exist now on a platform."""
        for pool in self._needs.get(need, {}).values():
            self._list(pool, [platform])

    def closed(self, need: Need, platform: Platform) -> None:
        """A need is not open on a platform any more."""
        for pool in self._needs.get(need, {}).values():
            self._unlist(pool, [platform])

    def beside(self, pool: Pool, platform: Platform) -> list[Task]:
        """The units of a pool and of others in its group that may be built on a platform."""
        return [task for each in self._pools[pool.group].values() if platform in each.need.open
                for task in each.tasks.values()]

    def first(self, platforms: Iterable[Platform]) -> Iterator[tuple[Pool, Platform]]:
        """Pools and where they may be built, those with the longest path first."""
        for _place, pool, platform in heapq.merge(*map(self._listed, platforms), key=itemgetter(0)):
            yield pool, platform

    def _listed(self, platform: Platform) -> Iterator[tuple[Place, Pool, Platform]]:
        for place, pool in self._lists.get(platform, ()):
            yield place, pool, platform

    def longest(self) -> float:
        """The longest path, in seconds."""
        return max((-found[0][0][0] for found in self._lists.values() if found), default=0.0)

    def sort(self) -> None:
        """Computes the paths of all units again."""
        for found in self._lists.values():
            found.clear()
        for pools in self._needs.values():
            for pool in pools.values():
                path, order = min((-task.path, task.order) for task in pool.tasks.values())
                pool.place = path, order, pool.place[2]
                for platform in pool.need.open:
                    self._lists.setdefault(platform, []).append((pool.place, pool))
        for found in self._lists.values():
            found.sort(key=_place)

    def _list(self, pool: Pool, platforms: Iterable[Platform]) -> None:
        for platform in platforms:
            insort(self._lists.setdefault(platform, []), (pool.place, pool), key=_place)

    def _unlist(self, pool: Pool, platforms: Iterable[Platform]) -> None:
        for platform in platforms:
            found = self._lists[platform]
            del found[bisect_left(found, pool.place, key=_place)]


def _place(entry: tuple[Place, Pool]) -> Place:
    return entry[0]
