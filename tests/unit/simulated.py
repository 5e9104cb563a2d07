"""A fleet on a simulated clock: the scheduler's own code, and everything around it (nodes, ssh, tags, faults) made up.

A node shares its slots between the batches that it runs, as BuildKit does with their steps; the units of a batch run
side by side. It starts the next batch by itself if it has one ahead. The controller learns of an end a moment later,
and needs another to tag. Durations and speeds are known from an earlier run, and partly wrong or missing; without one,
speeds are as rough as what provisioning measures.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import (
    ALL,
    AMD64,
    ARM64,
    ARMV6,
    ARMV7,
    I386,
    PPC64LE,
    RISCV64,
    S390X,
    Platform,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Parent, Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import (
    GOOD,
    Batch,
    Scheduler,
    State,
    Worker,
)

BUILD = (AMD64, ARM64)
REPORT = 0.5  # seconds until the controller learns that a batch has ended
TAG = 0.3  # and until its units are tagged
IDLE = 2.0  # how often a node without work asks for some
UNABLE = 60.0  # seconds between looks at what no node can build
NOTICED = 15.0  # until a lost node is known to be lost
EMULATED = 10.0  # times as long

# part of the nodes, what they run, speed from and to, slots
KINDS: tuple[tuple[float, dict[str, Any], tuple[float, float], int], ...] = (
    (0.32, {"native": (AMD64, I386), "emulated": (RISCV64,)}, (1.0, 2.0), 4),
    (0.40, {"native": (ARM64, ARMV7, ARMV6)}, (0.4, 0.8), 4),
    (0.10, {"native": (ARMV7, ARMV6)}, (0.2, 0.3), 2),
    (0.08, {"native": (ARMV6,)}, (0.08, 0.12), 1),
    (0.05, {"native": (S390X,)}, (0.8, 1.2), 2),
    (0.05, {"native": (PPC64LE,)}, (0.8, 1.2), 2),
)


def catalog(size: int, chance: random.Random) -> tuple[Plan, list[Key], dict[str, float]]:
    """A plan of about `size` units, the wanted ones, and how long a unit of each name takes on a node of speed 1."""
    units: dict[Key, Unit] = {}
    seconds: dict[str, float] = {}

    def image(name: str, took: float, parents: tuple[Parent, ...] = (), platforms: Iterable[Platform] = ALL,
              target: str = "", own: bool = False) -> None:
        for platform in platforms:
            key = Key(name, target, platform)
            units[key] = Unit(key, str(key), 0, {}, {}, parents, runs=(platform,) if own else BUILD)
        seconds[f"{name}-{target}" if target else name] = took

    def parent(name: str, build: bool = False, target: str = "") -> Parent:
        return Parent(f"{name}-{target}" if target else name, name, target, build)

    image("debian", 20)
    image("base", 5, (parent("debian"),))
    image("static", 3, (parent("debian", build=True),))
    for target, took in (("c", 40), ("go", 60), ("rust", 90)):
        image("builder", took, (parent("debian"),), BUILD, target, own=True)
    depth = {"base": 0, "static": 0}
    for number in range(size // len(ALL) - 4):
        name = f"image{number}"
        above = "base" if chance.random() < 0.5 else "static"
        if chance.random() < 0.25 and len(depth) > 20:
            above = chance.choice([each for each in chance.sample(list(depth), 10) if depth[each] < 4] or [above])
        own = chance.random() < 0.08
        beside = (parent("builder", True, chance.choice(("c", "go", "rust"))),) if chance.random() < 0.6 else ()
        depth[name] = depth[above] + 1
        image(name, min(max(chance.lognormvariate(math.log(25), 0.8), 3), 150),
              (parent(above), *(() if own else beside)), own=own)
    return Plan(units, {}), [key for key in units if not key.target], seconds


@dataclass
class Machine:
    """A node: what it really does. `work` has what each batch that it has still needs, in seconds of speed 1."""

    worker: Worker
    speed: float
    work: dict[Batch, float] = field(default_factory=dict)
    there: bool = True
    since: float = 0.0  # as of when `work` is
    version: int = 0
    polls: bool = False  # whether it asks again in a moment
    began: dict[Batch, float] = field(default_factory=dict)
    took: dict[Batch, float] = field(default_factory=dict)  # seconds
    away: list[list[float]] = field(default_factory=list)  # from when to when

    def run(self, now: float) -> tuple[float, list[Batch]]:
        """Works until now; returns when something ends next, and what has ended."""
        rates = self._rates()
        for batch, rate in rates.items():
            self.work[batch] -= (now - self.since) * rate
        self.since = now
        ended = [batch for batch in rates if self.work[batch] < 1e-6]
        for batch in ended:
            del self.work[batch]
            self.took[batch] = now - self.began.pop(batch)
        for batch in self._rates():
            self.began.setdefault(batch, now)
        return min((now + self.work[batch] / rate for batch, rate in self._rates().items()), default=math.inf), ended

    def stop(self) -> None:
        self.work.clear()
        self.began.clear()
        self.version += 1

    def _rates(self) -> dict[Batch, float]:
        running = list(self.work)[:self.worker.slots]
        rates, left = {}, float(self.worker.slots)
        for number, batch in enumerate(sorted(running, key=lambda batch: len(batch.keys))):
            lanes = min(len(batch.keys), left / (len(running) - number))
            left -= lanes
            rates[batch] = lanes * self.speed
        return {batch: rates[batch] for batch in running}


@dataclass
class Simulation:
    """One run. `faults` is how many times as often something goes wrong as in a bad night; 0 is never."""

    nodes: int
    units: int
    seed: int
    faults: float = 1.0
    known: bool = True  # whether durations and speeds are known from an earlier run
    now: float = 0.0
    decided: list[float] = field(default_factory=list)  # seconds of a processor that each decision took
    others: dict[str, list[float]] = field(default_factory=dict)  # the same for the scheduler's other methods
    started: Counter[Key] = field(default_factory=Counter)
    excused: Counter[Key] = field(default_factory=Counter)  # how often there was a reason to start a unit again
    reasons: Counter[str] = field(default_factory=Counter)
    results: Counter[Key] = field(default_factory=Counter)
    destroyed: Counter[Key] = field(default_factory=Counter)  # work that faults made worthless, in seconds of speed 1

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.plan, self.wanted, seconds = catalog(self.units, self.chance)
        self.truth = {key: seconds[key.name] * self.chance.lognormvariate(0, 0.15) for key in self.plan.units}
        known = {name: took * self.chance.lognormvariate(0, 0.2 if self.chance.random() < 0.98 else 1)
                 for name, took in seconds.items() if self.chance.random() < 0.95}
        self.broken = {key for key in self.plan.units if key.image.startswith("image")
                       and self.chance.random() < 0.003 * self.faults}
        self.scheduler = Scheduler(self.plan, self.wanted, {}, durations=known if self.known else None)
        self.machines = {machine.worker.name: machine for machine in self._machines()}
        self.queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.given: dict[str, dict[int, Batch]] = {name: {} for name in self.machines}
        self.finished: set[Batch] = set()
        self.given_up: set[Key] = set()
        self.count = 0

    def _machines(self) -> list[Machine]:
        found = []
        for part, platforms, (low, high), slots in KINDS:
            for number in range(max(1, round(part * self.nodes))):
                name = f"{platforms['native'][0].slug}-{len(platforms['native'])}-{number}"
                speed = self.chance.uniform(low, high)
                guess = speed * self.chance.lognormvariate(0, 0.1 if self.known else 0.3)
                found.append(Machine(Worker(name, slots=slots, speed=guess, **platforms), speed))
        return found

    def run(self) -> Simulation:
        for name, machine in self.machines.items():
            self._timed("join", self.scheduler.join, machine.worker, self.now)
            self._at(0.0, self._ask, name)
            if self.faults and self.chance.random() < 0.2 * self.faults:
                self._at(self.chance.uniform(5, 100 + 12 * self.units / self.nodes), self._lost, name)
        self._at(UNABLE, self._give_up)
        while not self.scheduler.finished:
            if not self.queue or self.now > 2e4:
                raise AssertionError(f"seed {self.seed}: units are left at {self.now:.0f} s: "
                                     f"{[str(key) for key in self._waiting()][:5]}, {self.scheduler.unable(self.now)}")
            self.now, _count, what, arguments = heapq.heappop(self.queue)
            what(*arguments)
        return self

    # ------ what happens

    def _ask(self, name: str, polls: bool = False) -> None:
        machine = self.machines[name]
        if polls:
            machine.polls = False
        if not machine.there or name not in self.scheduler.workers:
            return
        asking = self.scheduler.asking()
        if asking:
            self._timed("asked", self.scheduler.asked, asking)
        before = time.thread_time()
        batches = self.scheduler.claim(name, self.now, machine.worker.slots + 1 - len(self.given[name]))
        self.decided.append((time.thread_time() - before) / max(len(batches), 1))
        for batch in batches:
            self.started.update(batch.keys)
            self.given[name][batch.number] = batch
            factor = EMULATED if batch.emulated else 1.0
            self._at(REPORT, self._begin, name, batch, sum(self.truth[key] for key in batch.keys) * factor)
        if not machine.polls and len(self.given[name]) <= machine.worker.slots:
            machine.polls = True
            self._at(IDLE, self._ask, name, True)

    def _begin(self, name: str, batch: Batch, work: float) -> None:
        machine = self.machines[name]
        if batch.number in self.given[name]:
            self._work(machine)
            machine.work[batch] = work
            self._work(machine)

    def _work(self, machine: Machine) -> None:
        until, ended = machine.run(self.now)
        for batch in ended:
            self._at(REPORT, self._ended, machine.worker.name, batch)
        machine.version += 1
        if until < math.inf:
            self._at(until - self.now, self._worked, machine, machine.version)

    def _worked(self, machine: Machine, version: int) -> None:
        if version == machine.version:
            self._work(machine)

    def _ended(self, name: str, batch: Batch) -> None:
        if batch.number not in self.given[name]:
            return
        if not self.machines[name].there:
            self.finished.add(batch)  # it is told when the node is back
            return
        del self.given[name][batch.number]
        broken = self.broken.intersection(batch.keys)
        if self.chance.random() < 0.01 * self.faults:
            self._destroy(batch)
            self._excuse("fault of the node", batch)
            self._timed("put_back", self.scheduler.put_back, batch, self.now, self.now + 5, name)
        elif self.chance.random() < 0.01 * self.faults:
            self._destroy(batch)
            self._excuse("fault of the registry", batch)
            self._timed("put_back", self.scheduler.put_back, batch, self.now, self.now + 8)
        elif broken and len(batch.keys) > 1:
            self._excuse("another unit of its batch failed", batch)
            self._timed("split", self.scheduler.split, batch)
        elif broken:
            self._timed("fail", self.scheduler.fail, batch, "broken")
        else:
            self._timed("ran", self.scheduler.ran, batch, self.machines[name].took.pop(batch))
            self._at(TAG, self._tagged, batch)
        self._ask(name)

    def _tagged(self, batch: Batch) -> None:
        for key in batch.keys:
            if self._open(key):
                self.results[key] += 1
                self._timed("done", self.scheduler.done, key, f"sha256:{key}")

    def _lost(self, name: str) -> None:
        machine = self.machines[name]
        self._work(machine)
        machine.there = False
        cut = self.chance.random() < 0.5  # it runs on, but nobody hears of it
        held = dict(machine.work)
        if not cut:
            machine.stop()
        machine.away.append([self.now, math.inf])
        self._at(NOTICED, self._left, name)
        self._at(NOTICED + self.chance.expovariate(1 / 200), self._back, name, cut, held)

    def _give_up(self) -> None:
        """A unit that failed on each node that may build it, by no fault of its own, is failed."""
        for key, why in self._timed("unable", self.scheduler.unable, self.now).items():
            if "failed on" in why and all(machine.there for machine in self.machines.values()):
                self.given_up.add(key)
                self._timed("fail", self.scheduler.fail, [key], why)
        self._at(UNABLE, self._give_up)

    def _left(self, name: str) -> None:
        for batch in self._timed("leave", self.scheduler.leave, name, self.now):
            self._excuse("its node was lost", batch)

    def _back(self, name: str, cut: bool, held: dict[Batch, float]) -> None:
        machine = self.machines[name]
        machine.there = True
        machine.away[-1][1] = self.now
        self._work(machine)
        for batch in self.given[name].values():  # what it finished meanwhile, although others have it now
            if cut and batch in self.finished and not self.broken.intersection(batch.keys):
                self._at(TAG, self._tagged, batch)
            elif batch in held:
                self._destroy(batch, held[batch])
        self.given[name].clear()
        machine.stop()
        self._timed("join", self.scheduler.join, machine.worker, self.now)
        self._ask(name)

    # ------ what it is held against

    def problems(self) -> list[str]:
        """What must not be: a unit lost, or built twice without a reason."""
        found = []
        for key, outcome in self.scheduler.outcomes.items():
            unit, times = self.plan.units[key], self.started[key]
            if outcome.state == State.BUILT:
                parents = [Key(p.image, p.target, key.platform) for p in unit.parents if not p.build]
                right = (self.results[key] == 1 and times <= 1 + self.excused[key]
                         and all(self.scheduler.outcomes[parent].state == State.BUILT for parent in parents))
            elif outcome.state == State.FAILED:
                right = key in self.broken | self.given_up and not self.results[key] and times <= 1 + self.excused[key]
            else:
                right = outcome.state == State.PARENT_FAILED and not times
            if not right:
                found.append(f"{key}: {outcome.state.value}, started {times} times, {self.excused[key]} with a reason "
                             f"to start it again, {self.results[key]} results")
        return found + [f"{key}: forgotten" for key in self.wanted if key not in self.scheduler.outcomes]

    def ideal(self, again: bool = False) -> float:
        """Seconds that the work takes if every node that could do it is always busy, or the longest chain on the
        fastest nodes if that is more. `again`: with the work that faults destroyed, which nobody could have foreseen.
        """
        work: Counter[frozenset[str]] = Counter()
        for key, outcome in self.scheduler.outcomes.items():
            if outcome.state in (State.BUILT, State.FAILED):
                names, slower = self._may(key)
                work[names] += self.truth[key] * slower + again * self.destroyed[key]
        unions = {frozenset[str]().union(*some) for size in range(1, len(work) + 1)
                  for some in combinations(work, size)}
        return max([self._chain()] + [self._time(sum(took for names, took in work.items() if names <= union), union)
                                      for union in unions])

    def _time(self, work: float, names: frozenset[str]) -> float:
        """When these machines, busy whenever they are there, have done the work."""
        low, high = 0.0, 1e7
        while high - low > 0.01:
            middle = (low + high) / 2
            done = 0.0
            for name in names:
                machine = self.machines[name]
                away = sum(max(0.0, min(to, middle) - min(begin, middle)) for begin, to in machine.away)
                done += (middle - away) * machine.speed * machine.worker.slots
            low, high = (low, middle) if done >= work else (middle, high)
        return high

    def _may(self, key: Key) -> tuple[frozenset[str], float]:
        """The machines that may build a unit, and how much slower they are at it."""
        runs = set(self.plan.units[key].runs)
        names = frozenset(name for name, machine in self.machines.items() if runs & set(machine.worker.native))
        return (names, 1.0) if names else (frozenset(
            name for name, machine in self.machines.items() if runs & set(machine.worker.emulated)), EMULATED)

    def _chain(self) -> float:
        ends: dict[Key, float] = {}
        for key in self.plan.units:
            unit = self.plan.units[key]
            names, slower = self._may(key)
            above = [ends[Key(p.image, p.target, key.platform)] for p in unit.parents if not p.build]
            beside = [max((ends[Key(p.image, p.target, build)] for p in unit.parents if p.build), default=0.0)
                      for build in unit.runs]
            ends[key] = max([*above, min(beside)]) + self.truth[key] * slower / max(
                self.machines[name].speed for name in names)
        return max(ends[key] for key, outcome in self.scheduler.outcomes.items() if outcome.state == State.BUILT)

    # ------ helpers

    def _waiting(self) -> list[Key]:
        return [key for key, outcome in self.scheduler.outcomes.items()
                if outcome.state in (State.WAITING, State.RUNNING)]

    def _open(self, key: Key) -> bool:
        """Whether a result of a unit counts: nobody else has built it."""
        return key not in self.scheduler.outcomes or self.scheduler.outcomes[key].state not in GOOD

    def _destroy(self, batch: Batch, left: float = 0.0) -> None:
        """What a batch has done, all but `left`, is worth nothing."""
        factor = EMULATED if batch.emulated else 1.0
        whole = sum(self.truth[key] for key in batch.keys)
        for key in batch.keys:
            self.destroyed[key] += self.truth[key] * (factor - left / whole)

    def _excuse(self, reason: str, batch: Batch) -> None:
        keys = [key for key in batch.keys if self._open(key)]
        self.excused.update(keys)
        self.reasons[reason] += len(keys)

    def _at(self, later: float, what: Callable[..., None], *arguments: Any) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + later, self.count, what, arguments))

    def _timed(self, name: str, what: Callable[..., Any], *arguments: Any) -> Any:
        before = time.thread_time()
        result = what(*arguments)
        self.others.setdefault(name, []).append(time.thread_time() - before)
        return result
