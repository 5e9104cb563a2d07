# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node that asks for work gets: the ready units with the longest path that no other node would end sooner, and
as many of them as keep all nodes busy equally long."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.nodes import Fleet, Node
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.ready import Pool, Ready
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.units import Need, Task

WORTH = 5.0  # seconds: no batch is split, and no node is passed over, to save less
RISK = 3.0  # times as long as expected a batch may take without being the last
LATE = 1.5  # times as long as on the fastest nodes a chain of units may take
AHEAD = 10.0  # seconds before a slot is free, at most, that a node takes the next batch
SHORT = 60.0  # and only if batches end quickly: others are worth a wait of a second for the controller
LOOKS = 8  # at so many pools, of those with the longest path, before a node takes nothing
ENTRIES = 40  # of lists that are read at most for that


@dataclass
class Claims:
    """Decides. `ends` has when the chain of units behind each batch that runs ends
    (negative) and the batch's number, `running` the numbers of these."""

    fleet: Fleet
    ready: Ready
    needs: list[Need]
    ends: list[tuple[float, int]] = field(default_factory=list)
    running: set[int] = field(default_factory=set)

    def began(self, number: int, end: float) -> None:
        """A batch is on a node; the chain of units behind it will end then."""
        self.running.add(number)
        heapq.heappush(self.ends, (-end, number))
        self.ready.events += 1

    def ended(self, number: int) -> None:
        self.running.discard(number)
        self.ready.events += 1

    def next(self, node: Node, now: float) -> tuple[list[Task], Platform] | None:
        """The units that the node takes next as one batch, in plan order, and the build platform; None if it takes
        nothing."""
        node.look(now)
        if len(node.held) >= node.worker.slots and len(self.fleet.nodes) > 1 and (
                node.free > now + AHEAD or node.shortest > SHORT):
            return None  # what it took would wait there, and nobody else could have it
        looks: set[int] = set()
        for pool, build in self._candidates(node):
            if id(pool) not in looks and self._may(node, pool.need, build, now):
                looks.add(id(pool))
                tasks = [task for task in self.ready.beside(pool, build)
                         if node.worker.name not in task.faults and self._may(node, task.need, build, now)]
                count = self._fit(node, pool.need, tasks, now) if tasks else 0
                if count:
                    first = sorted(tasks, key=lambda task: (-task.path, task.order))[:count]
                    return sorted(first, key=lambda task: task.order), build
                if len(looks) == LOOKS:
                    break
        return None

    def _candidates(self, node: Node) -> Iterator[tuple[Pool, Platform]]:
        worker = node.worker
        places = (*worker.native, *worker.emulated, *worker.missing)
        return islice(self.ready.first(places), ENTRIES)

    def _may(self, node: Node, need: Need, build: Platform, now: float) -> bool:
        return self.fleet.may(node.worker, build, self.fleet.strict(need), now)

    def _fit(self, node: Node, need: Need, tasks: list[Task], now: float) -> int:
        """How many of these units the node takes as one batch."""
        reach = self.fleet.reach(need, self.needs, now)
        if len(reach.nodes) == 1:
            return len(tasks)
        reach.look(now, self.ready.events)
        seconds, slots = tasks[0].seconds * reach.slower, node.worker.slots
        each, start, even = seconds / node.speed, max(node.free, now), max(node.even, now)
        after = max(task.path for task in tasks) - tasks[0].seconds / need.fastest

        def slot(seconds: float) -> int:  # how many one slot can build in that time, or in a few seconds
            return int(max(seconds, WORTH) / each + 0.3)

        fits = min(len(tasks), int((max(reach.level, start + WORTH) - even) * slots / each + 0.3),
                   slot((reach.end - start) / RISK))
        count = min(fits, slot(max(reach.end, self._horizon(now)) - LATE * after - start))
        if count > 0:
            return count
        if after < WORTH and start + RISK * each <= reach.end:  # nothing waits for it, and others have enough to do
            return 1
        mine = start + each - WORTH
        barred = set(tasks[0].faults).intersection(*(task.faults for task in tasks))
        if all(other.ends(seconds, now) >= mine for other in reach.nodes
               if other is not node and other.worker.name not in barred):
            return max(1, min(fits, slots) if even <= now else 1)
        return 0

    def _horizon(self, now: float) -> float:
        """When the longest chain of units can end at the earliest."""
        while self.ends and self.ends[0][1] not in self.running:
            heapq.heappop(self.ends)
        return max(now + self.ready.longest(), -self.ends[0][0] if self.ends else 0.0)
