# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler: which units a node builds next, which cannot be built any more, and the outcome of each. No I/O and no
clock: `now` is in seconds, of whichever clock the caller has. docs/scheduling.md says how it decides.

Units of one image that are ready together and have the same labels and epoch form one batch: one solve.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Mapping

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.board import Board
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.claims import Claims
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.nodes import (
    EMULATED,
    Estimates,
    Fleet,
    Held,
    Node,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import (
    ENDED,
    GOOD,
    Batch,
    Outcome,
    State,
    Worker,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.units import Need, Task, measure
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.wanted import Wanted

__all__ = ["ENDED", "GOOD", "Batch", "Outcome", "Scheduler", "State", "Worker"]

WEIGHED = 100  # times in a run, about, it is weighed whether a second build platform pays


class Scheduler(Board):
    """Hands out batches of the `wanted` units to nodes.

    `existing` has the digests of units that need no building; `refused` the units that cannot be built and why;
    `durations` the seconds that a unit of a name took last time; units `apart` share no batch with others of their
    image. A platform is `missing` when no native node was there for `patience` seconds.

    `outcomes` has the units that are wanted, in plan order. Build-time parents come in as nodes of other platforms
    join, and go out again if these leave before they have begun: what comes late may be of a unit that is not in it.
    """

    def __init__(self, plan: Plan, wanted: Iterable[Key], existing: Mapping[Key, str],
                 refused: Mapping[Key, str] | None = None, durations: Mapping[str, float] | None = None,
                 patience: float = 300.0, apart: Container[Key] = ()) -> None:
        super().__init__(plan, list(wanted), existing, apart)
        self._refused = refused or {}
        self._estimates, self._fleet = Estimates(durations or {}), Fleet(patience)
        self._claims = Claims(self._fleet, self._ready, self._needs)
        self._wanted = Wanted(self._roots, self._needs, self._fleet,
                              lambda task: task.key in self.outcomes, self._add, self._begun)
        self._faulty: dict[Task, None] = {}  # units that some node must not get
        self._count = self._ended = self._ran = self._joined = 0
        for task in self._order:
            task.seconds = self._estimates.seconds(task.key.name)
        self._add(sorted(self._wanted.needed(), key=lambda task: task.order))
        self._measure()

    @property
    def workers(self) -> dict[str, Worker]:
        """The nodes that are there, by name."""
        return {name: node.worker for name, node in self._fleet.nodes.items()}

    @property
    def learned(self) -> dict[str, dict[str, float]]:
        """What later runs may know: `durations`, seconds of a slot of speed 1 by a unit's name, and `speeds` by a
        node's name."""
        return {"durations": dict(self._estimates.known),
                "speeds": {**self._fleet.speeds, **{name: node.speed for name, node in self._fleet.nodes.items()}}}

    def join(self, worker: Worker, now: float) -> None:
        """A node is there: it is new, came back, or has changed."""
        self._tick(now)
        kinds = self._fleet.kinds
        self._fleet.join(worker, now)
        self._joined += 1
        if self._fleet.kinds != kinds or self._joined & (self._joined - 1) == 0:
            self._choose(anew=True)

    def leave(self, name: str, now: float) -> list[Batch]:
        """A node is lost: what it had waits again at once, for others. Returns these batches; none for which `ran` was
        called, as their results are there."""
        self._tick(now)
        if name not in self._fleet.nodes:
            return []
        kinds = self._fleet.kinds
        lost = [held.batch for held in self._fleet.leave(name, now).held.values()]
        for batch in lost:
            self.put_back(batch, now)
        if self._fleet.kinds != kinds:
            self._choose(anew=True)
        return lost

    def claim(self, name: str, now: float, room: int) -> list[Batch]:
        """The batches, at most `room`, that a node takes now: those for its free slots, and at most one ahead."""
        self._tick(now)
        node = self._fleet.nodes[name]
        node.spoke = now
        found: list[Batch] = []
        while len(found) < room and (claimed := self._claims.next(node, now)):
            found.append(self._take(node, *claimed))
        return found

    def put_back(self, batch: Batch, now: float, until: float = 0.0, fault: str = "") -> None:
        """Lets units wait again that were not started, or failed through no fault of theirs, not before `until`.
        `fault` names a node that must not get them again."""
        self._tick(now)
        for task in self._release(batch):
            task.until = until
            if fault:
                task.faults += (fault,)
                self._faulty[task] = None
            self._wait(task)

    def elsewhere(self, batch: Batch, now: float) -> bool:
        """Whether another node that is there may build a batch's units now."""
        self._tick(now)
        task = self._tasks[batch.keys[0]]
        return any(node.worker.name != batch.node and node.worker.name not in task.faults
                   for node in self._fleet.on(task.need, task.need.open, now))

    def split(self, batch: Batch) -> None:
        """The batch failed in a step: each of its units waits again, to be built alone."""
        for task in self._release(batch):
            task.group = str(task.key)
            self._wait(task)

    def alone(self, keys: Iterable[Key]) -> None:
        """Each of these units is built alone the next time."""
        for task in map(self._tasks.__getitem__, keys):
            waits = self._ready.remove(task)
            task.group = str(task.key)
            if waits:
                self._ready.add(task)

    def ran(self, batch: Batch, seconds: float, *, learn: bool = True) -> None:
        """A node has worked on a batch for so long, by its own clock, and its slot is free again. Estimates `learn`
        from it; the other methods report the outcome of its units."""
        node = self._fleet.nodes.get(batch.node)
        held = node.held.get(batch.number) if node else None
        if not node or not held:
            return
        self._release_slot(batch)
        if learn and held.began >= 0 and not batch.emulated:
            side = held.did / max(self._now - held.began, 0.1)  # units that ran side by side
            self._estimates.learn(batch.keys[0].name, node, len(batch.keys), seconds * max(side, 0.1))
        self._ran += 1
        if self._ran & (self._ran - 1) == 0:
            self._measure()

    def done(self, key: Key, digest: str, state: State = State.BUILT) -> None:
        """Marks a unit as existing and tagged, no matter which node built it: its descendants may start, even if they
        had failed with it."""
        task, before = self._tasks[key], self.outcomes.get(key)
        if before and before.state in GOOD:
            return
        self._end(task, Outcome(state, digest))
        for child in task.children:
            child.missing -= 1
            if child.waits and not child.missing:
                self._available(child)
        for need, build in task.serves:
            need.lacking[build] -= 1
            if build in need.chosen and not need.lacking[build]:
                self._open(need, build)
        if before and before.state in ENDED:
            self._revive(task)
        self._ended += 1
        if self._ended % (len(self._order) // WEIGHED + 1) == 0:
            self._choose()

    def fail(self, batch: Batch | Iterable[Key], error: str, state: State = State.FAILED) -> list[Key]:
        """Fails units, and everything that descends from them; returns the descendants. Of a batch, only what its node
        still has to build."""
        if isinstance(batch, Batch):
            lost = self._release(batch)
        else:
            lost = [self._tasks[key] for key in batch if key in self.outcomes and self.outcomes[key].state not in ENDED]
        for task in lost:
            self._end(task, Outcome(state, error=error))
        return self._lose(lost)

    def unable(self, now: float) -> dict[Key, str]:
        """The waiting units that no node that is there can build, now or later, and why."""
        self._tick(now)
        found = {}
        for need in self._unserved(now):
            if not self._fleet.later(need, now):
                why = self._fleet.why_not(need)
                found.update({task.key: why for task in need.tasks if task.waits})
        for task in self._faulty:
            nodes = self._fleet.on(task.need, task.need.open, now)
            if task.waits and nodes and all(node.worker.name in task.faults for node in nodes):
                found[task.key] = f"it failed on {', '.join(task.faults)}, and no other node may build it"
        return found

    def delayed(self, now: float) -> dict[Key, str]:
        """The waiting units that a node will emulate if no native one comes, and when."""
        self._tick(now)
        return {task.key: why for need in self._unserved(now) if (why := self._fleet.later(need, now))
                for task in need.tasks if task.waits}

    def _unserved(self, now: float) -> list[Need]:
        """The needs of waiting units that no node that is there may build now."""
        return [need for need in self._needs if need.left and not self._fleet.served(need, now)]

    def leave_rest(self) -> list[Key]:
        """Gives up units that have not ended."""
        left = [key for key, outcome in self.outcomes.items() if outcome.state not in ENDED]
        for key in left:
            self._end(self._tasks[key], Outcome(State.LEFT, error="the run was stopped"))
        return left

    # ------ nodes and batches

    def _tick(self, now: float) -> None:
        """Time goes on: some units need not wait any longer, some platforms are missing now."""
        self._now = max(self._now, now)
        if self._fleet.tick(now):
            self._choose()
        self._waited(now)

    def _take(self, node: Node, tasks: list[Task], build: Platform) -> Batch:
        self._count += 1
        for task in tasks:
            self._rest(task)
            task.attempts += 1
            self.outcomes[task.key] = Outcome(State.RUNNING)
        emulated = build not in node.worker.native
        batch = Batch(self._count, tuple(task.key for task in tasks), build, node.worker.name,
                      max(task.attempts for task in tasks), emulated)
        after = max(task.path - task.seconds / task.need.fastest for task in tasks)
        seconds = sum(task.seconds for task in tasks) * (EMULATED if emulated else 1.0)
        for task in tasks:
            task.batch = batch
        node.look(self._now)
        node.held[batch.number] = Held(batch, seconds)
        node.look(self._now)
        self._claims.began(batch.number, node.even + after)
        return batch

    def _release(self, batch: Batch) -> list[Task]:
        """The units that a batch still has to build, which it has no more."""
        tasks = [self._tasks[key] for key in batch.keys]
        found = [task for task in tasks if task.batch and task.batch.number == batch.number]
        for task in found:
            task.batch = None
        self._release_slot(batch)
        return found

    def _release_slot(self, batch: Batch) -> None:
        self._claims.ended(batch.number)
        node = self._fleet.nodes.get(batch.node)
        if node and batch.number in node.held:
            node.look(self._now)
            del node.held[batch.number]
            node.look(self._now)

    # ------ units

    def _add(self, tasks: list[Task]) -> None:
        """Wants units; none of which is wanted yet, parents first."""
        failed = []
        for task in tasks:
            key = task.key
            if key in self._existing:
                self.outcomes[key] = Outcome(State.EXISTS, self._existing[key])
                continue
            self._left += 1
            self.outcomes[key] = Outcome(State.WAITING)
            self._wait(task)
            if key in self._refused:
                self._end(task, Outcome(State.INPUT_FAILED, error=self._refused[key]))
                failed.append(task)
        self._lose([*failed, *(parent for task in tasks for parent in task.parents
                               if parent.key in self.outcomes and self._bad(parent))])

    def _end(self, task: Task, outcome: Outcome) -> None:
        before = self.outcomes.get(task.key)
        self._rest(task)
        if task.batch:
            batch, task.batch = task.batch, None
            if not any(self._tasks[key].batch is batch for key in batch.keys):
                self._release_slot(batch)
        self.outcomes[task.key] = outcome
        if before and before.state not in ENDED:
            self._left -= 1

    def _open(self, need: Need, build: Platform) -> None:
        need.open |= {build}
        self._ready.opened(need, build)
        self._fleet.changed(self._now)

    def _lose(self, lost: list[Task]) -> list[Key]:
        """Fails what waits for lost units, and in turn for those that fail so; returns these in plan order."""
        after: list[Task] = []
        queue = [task.order for task in lost]
        heapq.heapify(queue)
        broken = False
        while queue:
            task = self._order[heapq.heappop(queue)]
            doomed = [child for child in task.children if child.waits]
            for need, build in task.serves:
                broken = True
                need.broken.setdefault(build, task.key)
                doomed += self._hopeless(need)
            for each in dict.fromkeys(doomed):
                self._end(each, Outcome(State.PARENT_FAILED, error=f"{task.key} failed"))
                after.append(each)
                heapq.heappush(queue, each.order)
        if broken:
            self._fleet.changed(self._now)
            self._choose()
        return [task.key for task in sorted(after, key=lambda task: task.order)]

    def _revive(self, task: Task) -> None:
        """Lets units wait again that failed with one that exists after all, unless another that they need failed."""
        queue = [task]
        while queue:
            task = queue.pop()
            after = list(task.children)
            for need, build in task.serves:
                need.broken.pop(build, None)
                need.broken.update((build, parent.key) for parent in need.ways[build] if self._bad(parent))
                after += need.tasks
            for each in dict.fromkeys(after):
                before = self.outcomes.get(each.key)
                if before and before.state == State.PARENT_FAILED and not any(map(self._bad, each.parents)):
                    self._left += 1
                    self._wait(each)
                    queue.append(each)
        self._choose()

    def _hopeless(self, need: Need) -> list[Task]:
        """The waiting units of a need that cannot be built on any platform of a node that is or was there, as a
        build-time parent is broken."""
        if not need.broken or any(map(self._fleet.ever, need.whole)) or self._fleet.served(need, self._now) or (
                need.whole and not self._joined):
            return []
        return [task for task in need.tasks if task.waits]

    # ------ what is wanted, and for how long

    def _choose(self, anew: bool = False) -> None:
        """Decides for which build platforms build-time parents are wanted; `anew` if other nodes are there."""
        if anew:
            self._forget()
        added = self._wanted.choose(self._now)
        for need, builds in added.items():
            for build in builds:
                if not need.lacking[build]:
                    self._open(need, build)
        doomed = [(need, task) for need in self._needs if need.broken for task in self._hopeless(need)]
        for need, task in doomed:
            self._end(task, Outcome(State.PARENT_FAILED, error=f"{next(iter(need.broken.values()))} failed"))
        if added or anew:
            found = sorted(self.outcomes.items(), key=lambda pair: self._tasks[pair[0]].order)
            self.outcomes.clear()
            self.outcomes.update(found)
            self._fleet.changed(self._now)
            self._measure()
        if doomed:
            self._lose([task for _need, task in doomed])

    def _forget(self) -> None:
        for need, builds in self._wanted.forget(self._now).items():
            for build in builds & need.open:
                self._ready.closed(need, build)
            need.open -= builds
        needed = self._wanted.needed()
        for key, outcome in list(self.outcomes.items()):
            if outcome.state == State.WAITING and self._tasks[key] not in needed:
                self._rest(self._tasks[key])
                del self.outcomes[key]
                self._left -= 1

    def _measure(self) -> None:
        """Computes how long units take, and the paths behind them, by what is known now."""
        for need in self._needs:
            need.work, need.fastest = 0.0, self._fleet.fastest(need, self._now)
        for task in self._order:
            task.seconds = self._estimates.seconds(task.key.name)
            if task.waits:
                task.need.work += task.seconds
        measure(self._order)
        self._ready.sort()
        self._ready.events += len(self._fleet.nodes)
