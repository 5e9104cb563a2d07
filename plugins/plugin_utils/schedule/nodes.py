# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes and time in the scheduler: what each node may build, how fast it is, and when it and others will be free."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import Batch, Worker
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.units import Need

UNKNOWN = 20.0  # seconds that a unit takes if nothing is known of any
EMULATED = 10.0  # times as long as on a native node (17 to 20 for a Debian root file system, less where disks are slow)
NOISE = 0.2  # how much the same work differs, compared with what is not known of a new node or unit (1)
SILENT = 20.0  # seconds after which an idle node that takes nothing is not counted on


class Estimates:
    """How many seconds of a slot of speed 1 units take, by name: from earlier runs and from this one."""

    def __init__(self, durations: Mapping[str, float]) -> None:
        self.known = {name: seconds for name, seconds in durations.items() if seconds > 0}
        self._sure = dict.fromkeys(self.known, 0.3)
        self._sum = sum(self.known.values())

    def seconds(self, name: str) -> float:
        return self.known.get(name) or (self._sum / len(self.known) if self.known else UNKNOWN)

    def learn(self, name: str, node: Node, units: int, seconds: float) -> None:
        """So many units took `seconds` of a node's slots. Whichever is less sure, the node's speed or the unit's
        duration, is corrected more."""
        took = max(seconds, 0.1) / units
        if name not in self.known:
            self.known[name], self._sure[name] = took * node.speed, 0.5
            self._sum += self.known[name]
            return
        error = math.log(took * node.speed / self.known[name])
        all_ = self._sure[name] + node.sure + NOISE
        before = self.known[name]
        self.known[name] *= math.exp(error * self._sure[name] / all_)
        self._sum += self.known[name] - before
        node.speed *= math.exp(-error * node.sure / all_)
        self._sure[name] = max(self._sure[name] * (1 - self._sure[name] / all_), 0.02)
        node.sure = max(node.sure * (1 - node.sure / all_), 0.02)


@dataclass(eq=False, slots=True)
class Held:
    """A batch on a node, and the seconds that one slot of speed 1 needs for it.

    `did` is how many seconds of the node's slots it has had; `began` is -1 while it waits for one.
    """

    batch: Batch
    seconds: float
    began: float = -1.0
    did: float = 0.0


@dataclass(eq=False, slots=True)
class Node:
    """A node that is there.

    `free` is when it can begin another unit, `even` when its slots are free on average; both as of the last look.
    """

    worker: Worker
    kind: int  # a bit: nodes of one kind may build the same
    speed: float
    sure: float = 1.0  # how little is known of its speed
    held: dict[int, Held] = field(default_factory=dict)
    looked: float = 0.0
    free: float = 0.0
    even: float = 0.0
    spoke: float = 0.0

    def look(self, now: float) -> None:
        """Estimates again when it will be free. Called before and after its batches change.

        Its slots are shared by the batches that run; the units of a batch run side by side. One that takes longer than
        expected is expected to take half as long again.
        """
        slots, some = self.worker.slots, list(self.held.values())
        share = max(1.0, slots / min(len(some), slots)) if some else 0.0
        lanes = [now] * slots
        for held in some[:slots]:
            if held.began < 0:
                held.began = now
            else:
                held.did += (now - self.looked) * min(share, len(held.batch.keys))
        for held in some:
            left, parts = held.seconds / self.speed - held.did, min(slots, len(held.batch.keys))
            left = left if left > 0 else 0.5 * held.did
            for _part in range(parts):
                heapq.heapreplace(lanes, lanes[0] + left / parts)
        self.looked, self.free, self.even = now, lanes[0], sum(lanes) / slots

    @property
    def shortest(self) -> float:
        """The seconds that the shortest batch here is expected to take in all."""
        return min(held.seconds / self.speed for held in self.held.values())

    def ends(self, seconds: float, now: float) -> float:
        """When a unit that takes so long at speed 1 would end here, if it were next."""
        if self.free > now:
            return self.free + seconds / self.speed
        if not self.held and now - self.spoke > SILENT:
            return math.inf
        late = now - self.free if len(self.held) >= self.worker.slots else 0.0  # it should have been free by now
        return now + late + seconds / self.speed


@dataclass(eq=False, slots=True)
class Reach:
    """The nodes that may build the same units, and how long these units will keep them busy.

    `level` is when all would be idle if nothing more became ready, `end` when all is built that only they may build.
    """

    nodes: list[Node]
    kinds: int
    slower: float = 1.0  # how many times as long units take, if emulated
    needs: list[tuple[Need, float]] = field(default_factory=list)  # that only these may build, and how much slower
    level: float = 0.0
    end: float = 0.0
    looked: int = -1  # the count of events when these were computed

    def look(self, now: float, events: int) -> None:
        if self.looked >= 0 and events - self.looked <= len(self.nodes) // 8:
            return
        self.looked = events
        times = [(max(node.even, now), node.speed * node.worker.slots) for node in self.nodes]
        self.level = _level(times, sum(need.ready * slower for need, slower in self.needs), now)
        self.end = _level(times, sum(need.work * slower for need, slower in self.needs), now)


def _level(times: list[tuple[float, float]], work: float, now: float) -> float:
    """When nodes that are free at these times and have these speeds have done the work, if it is spread evenly."""
    while times:
        speed = sum(each for _free, each in times)
        level = (work + sum(free * each for free, each in times)) / speed
        some = [pair for pair in times if pair[0] < level]
        if len(some) == len(times) or not some:
            return level
        times = some
    return now


class Fleet:
    """The nodes that are there, and what they may build together."""

    def __init__(self, patience: float) -> None:
        self.nodes: dict[str, Node] = {}
        self.speeds: dict[str, float] = {}  # of those that left, as they were known last
        self.version = 0  # changes with what nodes may build
        self._patience = patience
        self._kinds: dict[object, int] = {}
        self._alike: dict[int, list[Node]] = {}  # the nodes of each kind
        self._native: dict[Platform, int] = {}  # how many nodes are native
        self._seen: dict[Platform, float] = {}  # when one was there last
        self._began: float | None = None
        self._reaches: dict[object, Reach] = {}
        self._flip = math.inf  # when a platform will have been missing for so long that it may be emulated

    def join(self, worker: Worker, now: float) -> Node:
        old = self.nodes.get(worker.name)
        if old:
            self.leave(worker.name, now)
        kind = self._kinds.setdefault((worker.native, worker.emulated, worker.missing), 1 << len(self._kinds))
        node = Node(worker, kind, self.speeds.get(worker.name, worker.speed), spoke=now)
        if old:
            node.sure, node.held = old.sure, old.held
        node.look(now)
        self.nodes[worker.name] = node
        self._alike.setdefault(kind, []).append(node)
        self._began = now if self._began is None else self._began
        self._count(worker, 1, now)
        return node

    def leave(self, name: str, now: float) -> Node:
        node = self.nodes.pop(name)
        self.speeds[name] = node.speed
        self._alike[node.kind].remove(node)
        self._count(node.worker, -1, now)
        return node

    def _count(self, worker: Worker, number: int, now: float) -> None:
        for platform in worker.native:
            self._native[platform] = self._native.get(platform, 0) + number
            self._seen[platform] = now
        self.changed(now)

    def changed(self, now: float) -> None:
        """What nodes may build is another set than before."""
        self.version += 1
        self._reaches.clear()
        missing = {platform for worker in self.some() for platform in worker.missing}
        times = [self._since(platform, now) + self._patience for platform in missing if not self._native.get(platform)]
        self._flip = min((time for time in times if time > now), default=math.inf)

    def tick(self, now: float) -> bool:
        """Whether a platform has now been missing for so long that it may be emulated."""
        flips = now >= self._flip
        if flips:
            self.changed(now)
        return flips

    def _since(self, platform: Platform, now: float) -> float:
        """Since when no native node is there."""
        return self._seen.get(platform, now if self._began is None else self._began)

    def native(self, platform: Platform) -> bool:
        return self._native.get(platform, 0) > 0

    def ever(self, platform: Platform) -> bool:
        """Whether a native node was there at any time."""
        return platform in self._native

    def strict(self, need: Need) -> bool:
        """Whether only native nodes may build it, as there is one."""
        return any(map(self.native, need.whole))

    def may(self, worker: Worker, platform: Platform, strict: bool, now: float) -> bool:
        """Whether a node may build on a platform, which `strict` says has to be native."""
        if platform in worker.native:
            return True
        return not strict and (platform in worker.emulated or (
            platform in worker.missing and now - self._since(platform, now) >= self._patience))

    def why_not(self, need: Need) -> str:
        """Why no node may build it, in words."""
        if not need.ways:
            return "the plan lacks what it needs on each build platform"
        return f"no available node runs {' or '.join(map(str, need.runs))}, and none may emulate it"

    def later(self, need: Need, now: float) -> str:
        """Which node may build it if it goes on to lack a native one, and from when on, in words; '' if none."""
        some = [(self._since(platform, now) + self._patience - now, worker.name, platform)
                for worker in self.some() for platform in worker.missing if platform in need.whole]
        if not some:
            return ""
        seconds, name, platform = min(some)
        return (f"no available node runs {' or '.join(map(str, need.runs))} natively; {name} emulates {platform} if "
                f"none comes in {max(seconds, 0):.0f} s")

    def served(self, need: Need, now: float) -> list[Platform]:
        """The build platforms on which the nodes that are there may build."""
        strict = self.strict(need)
        return [platform for platform in need.whole
                if any(self.may(worker, platform, strict, now) for worker in self.some())]

    def fastest(self, need: Need, now: float) -> float:
        """The speed of the fastest node that may build it; 1 if there is none."""
        slower = 1.0 if self.strict(need) else EMULATED
        return max((node.speed for node in self.on(need, need.whole, now)), default=slower) / slower

    @property
    def kinds(self) -> set[int]:
        """The kinds of the nodes that are there."""
        return {kind for kind, nodes in self._alike.items() if nodes}

    def some(self) -> list[Worker]:
        """A node of each kind."""
        return [nodes[0].worker for nodes in self._alike.values() if nodes]

    def on(self, need: Need, platforms: Iterable[Platform], now: float) -> list[Node]:
        """The nodes that may build on one of these platforms."""
        strict, places = self.strict(need), list(platforms)
        return [node for nodes in self._alike.values()
                if nodes and any(self.may(nodes[0].worker, each, strict, now) for each in places) for node in nodes]

    def only(self, need: Need, kinds: int, now: float) -> bool:
        """Whether all nodes that may build units of this need are of these kinds."""
        found = self._at(need, now).kinds
        return bool(found) and not found & ~kinds

    def reach(self, need: Need, needs: list[Need], now: float) -> Reach:
        """The nodes that may build units of this need now."""
        found = self._at(need, now)
        if not found.needs:
            found.needs = [(each, self._at(each, now).slower) for each in needs if self.only(each, found.kinds, now)]
        return found

    def _at(self, need: Need, now: float) -> Reach:
        places = need.open or frozenset(need.chosen)
        strict = self.strict(need)
        key = places, strict
        if key not in self._reaches:
            nodes = self.on(need, places, now)
            kinds = 0
            for node in nodes:
                kinds |= node.kind
            self._reaches[key] = Reach(nodes, kinds, 1.0 if strict else EMULATED)
        return self._reaches[key]
