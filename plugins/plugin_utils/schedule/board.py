# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the units that are wanted, which of them wait, and what they wait for."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Mapping

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.ready import Ready
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import (
    ENDED,
    GOOD,
    Batch,
    Outcome,
    State,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.units import Task, graph, group


class Board:
    """The units and their outcomes. It knows nothing of nodes."""

    def __init__(self, plan: Plan, roots: list[Key], existing: Mapping[Key, str], apart: Container[Key]) -> None:
        self.plan = plan
        self.outcomes: dict[Key, Outcome] = {}
        self._existing, self._apart = existing, apart
        self._tasks = graph(plan, roots, existing)
        self._order = list(self._tasks.values())
        self._roots = [self._tasks[key] for key in roots]
        self._needs = list(dict.fromkeys(task.need for task in self._order if task.key not in existing))
        self._ready = Ready()
        self._asking: dict[Key, None] = {}
        self._later: list[tuple[float, int]] = []  # when a unit that was put back waits no more, and its order
        self._left = 0  # units that have not ended
        self._now = 0.0

    @property
    def finished(self) -> bool:
        return not self._left

    def asking(self) -> list[Key]:
        """The units whose run-time parents exist, but of which it is not known yet whether their content exists. They
        are not handed out before `asked` or `done`."""
        return sorted(self._asking, key=lambda key: self._tasks[key].order)

    def asked(self, keys: Iterable[Key]) -> None:
        """The content of these units does not exist: they are to be built."""
        for key in keys:
            task = self._tasks[key]
            task.asked = True
            self._asking.pop(key, None)
            if task.waits and not task.missing:
                self._available(task)

    def parents(self, unit: Unit, build: Platform) -> list[Key]:
        return self.plan.parents(unit, build)

    def run_time_digests(self, key: Key) -> dict[str, str]:
        """Parent name -> digest, for the run-time parents of a unit whose parents exist."""
        unit = self.plan.units[key]
        return {p.name: self.outcomes[Key(p.image, p.target, key.platform)].digest for p in unit.parents if not p.build}

    def digests(self, batch: Batch) -> dict[str, dict[str, str]]:
        """Parent name -> platform -> digest, for all parents of a batch."""
        found: dict[str, dict[str, str]] = {}
        for key in batch.keys:
            for parent in self.parents(self.plan.units[key], batch.build):
                found.setdefault(parent.name, {})[str(parent.platform)] = self.outcomes[parent].digest
        return found

    def _bad(self, task: Task) -> bool:
        outcome = self.outcomes.get(task.key)
        return outcome is not None and outcome.state in ENDED and outcome.state not in GOOD

    def _begun(self, task: Task) -> bool:
        """Whether a unit exists, or is being built."""
        outcome = self.outcomes.get(task.key)
        return task.key in self._existing or bool(outcome and outcome.state in (State.RUNNING, *GOOD))

    def _wait(self, task: Task) -> None:
        self.outcomes[task.key] = Outcome(State.WAITING)
        task.waits = True
        task.need.left += 1
        task.need.work += task.seconds
        if not task.missing:
            self._available(task)

    def _rest(self, task: Task) -> None:
        """The unit waits no more."""
        if task.waits:
            task.waits = False
            task.need.left -= 1
            task.need.work = max(task.need.work - task.seconds, 0.0) if task.need.left else 0.0
            self._asking.pop(task.key, None)
            self._ready.remove(task)

    def _available(self, task: Task) -> None:
        """All run-time parents of a unit that waits exist."""
        if task.parents and not task.asked:
            self._asking[task.key] = None
        elif task.until > self._now:
            heapq.heappush(self._later, (task.until, task.order))
        else:
            task.group = task.group or group(task, task.key in self._apart)
            self._ready.add(task)
            self._ready.events += 1

    def _waited(self, now: float) -> None:
        """Lets units start that waited for a time that has come."""
        while self._later and self._later[0][0] <= now:
            task = self._order[heapq.heappop(self._later)[1]]
            if task.waits and not task.missing:
                self._available(task)
