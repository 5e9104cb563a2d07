# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler: which units a node builds next, which cannot be built any more, and the outcome of each. No I/O and no
clock: `now` is in seconds.

Units of one image that are ready together and have the same labels and epoch form one batch: one solve.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, Unit


class State(str, enum.Enum):
    """The state of a unit."""

    WAITING = "waiting"
    RUNNING = "running"
    EXISTS = "exists"
    BUILT = "built"
    SAME = "same content"  # early cutoff: tagged, not built
    FAILED = "failed"
    INPUT_FAILED = "input failed"
    PARENT_FAILED = "parent failed"
    LEFT = "left"  # the run was stopped before it was built


GOOD = (State.EXISTS, State.BUILT, State.SAME)
ENDED = (*GOOD, State.FAILED, State.INPUT_FAILED, State.PARENT_FAILED, State.LEFT)
ANY = Platform("", "")


@dataclass
class Outcome:
    """What is known of a unit: its state, the digest of its manifest if it exists, the error if it does not."""

    state: State
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class Worker:
    """A node, as the scheduler sees it. It runs the platforms `native` by itself; the first is its build platform.

    Of others it may run `emulated` whenever no joined node is native, and `missing` only after none was for a while.
    `slots` is how many batches it builds at once; `speed` is a first guess of how fast each is, relative to others.
    """

    name: str
    native: tuple[Platform, ...]
    emulated: tuple[Platform, ...] = ()
    missing: tuple[Platform, ...] = ()
    slots: int = 1
    speed: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Units of one image for one solve on one node, built as the platform `build`. A result carries it, so that one
    that comes late is known: `number` is never given twice, `attempt` counts from 1."""

    number: int
    keys: tuple[Key, ...]
    build: Platform
    node: str
    attempt: int
    emulated: bool = False


class Scheduler:
    """Hands out batches of the `wanted` units to nodes.

    `existing` has the digests of units that need no building; `refused` the units that cannot be built and why;
    `durations` the seconds that a unit of a name took last time; units `apart` share no batch with others of their
    image. A unit waits `patience` seconds for a native node before nodes emulate what they may if it is `missing`.
    """

    def __init__(self, plan: Plan, wanted: Iterable[Key], existing: Mapping[Key, str],
                 refused: Mapping[Key, str] | None = None, durations: Mapping[str, float] | None = None,
                 patience: float = 300.0, apart: Container[Key] = ()) -> None:
        self.plan, self.existing, self.refused = plan, existing, dict(refused or {})
        self.patience, self.apart, self.durations = patience, apart, durations or {}
        self.outcomes: dict[Key, Outcome] = {}
        self.workers: dict[str, Worker] = {}
        self._asked: set[Key] = set()
        self._alone: set[Key] = set()
        self._until: dict[Key, float] = {}
        self._faults: dict[Key, set[str]] = {}
        self._attempts: dict[Key, int] = {}
        self._held: dict[Key, Batch] = {}
        self._seen: dict[Platform, float] = {}  # when a node was last native
        self._count = 0
        self._want(list(wanted))

    @property
    def finished(self) -> bool:
        return all(outcome.state in ENDED for outcome in self.outcomes.values())

    def join(self, worker: Worker, now: float) -> None:
        """A node is there: it is new, came back, or has changed."""
        self.workers[worker.name] = worker
        for platform in worker.native:
            self._seen[platform] = now
        self._seen.setdefault(ANY, now)
        self._choose()

    def leave(self, name: str, now: float) -> list[Batch]:
        """A node is lost: what it had waits again at once, for others. Returns these batches."""
        worker = self.workers.pop(name, None)
        for platform in worker.native if worker else ():
            self._seen[platform] = now
        lost = list({batch.number: batch for batch in self._held.values() if batch.node == name}.values())
        for batch in lost:
            self.put_back(batch, now)
        self._choose()
        return lost

    def asking(self) -> list[Key]:
        """The units whose run-time parents exist and of which nobody has asked whether their content does. They are not
        handed out before `asked` or `done`."""
        return [key for key, outcome in self.outcomes.items()
                if outcome.state == State.WAITING and key not in self._asked and self._run_time(key)
                and self._exist(self._run_time(key))]

    def asked(self, keys: Iterable[Key]) -> None:
        """Their content does not exist: they are to be built."""
        self._asked.update(keys)

    def claim(self, name: str, now: float, room: int) -> list[Batch]:
        """The batches, `room` at most, that a node takes now."""
        found: list[Batch] = []
        pools: dict[str, list[Key]] = {}
        for key, outcome in self.outcomes.items():
            if (outcome.state == State.WAITING and (key in self._asked or not self._run_time(key))
                    and self._until.get(key, 0.0) <= now and name not in self._faults.get(key, ())
                    and (build := self._build(key, self.workers[name], now))
                    and self._exist(self.parents(self.plan.units[key], build[0]))):
                unit = self.plan.units[key]
                apart = str(key) if key in self._alone else "apart" if key in self.apart else ""
                pools.setdefault(f"{key.name} {unit.epoch} {canonical.sha256(unit.labels)} {apart} {build}",
                                 []).append(key)
        for keys in list(pools.values())[:room]:
            self._count += 1
            platform, emulated = self._build(keys[0], self.workers[name], now) or (keys[0].platform, False)
            attempt = max(self._attempts.get(key, 0) for key in keys) + 1
            batch = Batch(self._count, tuple(keys), platform, name, attempt, emulated)
            for key in keys:
                self._attempts[key], self._held[key], self.outcomes[key] = attempt, batch, Outcome(State.RUNNING)
            found.append(batch)
        return found

    def put_back(self, batch: Batch, now: float, until: float = 0.0, fault: str = "") -> None:
        """Lets units wait again that were not started, or failed through no fault of theirs, not before `until`.
        `fault` names a node that must not get them again."""
        for key in self._still(batch):
            self.outcomes[key] = Outcome(State.WAITING)
            self._until[key] = until
            if fault:
                self._faults.setdefault(key, set()).add(fault)

    def split(self, batch: Batch) -> None:
        """The batch failed in a step: each of its units waits again, to be built alone."""
        for key in self._still(batch):
            self.outcomes[key] = Outcome(State.WAITING)
            self._alone.add(key)

    def ran(self, batch: Batch, seconds: float) -> None:
        """A node has worked on a batch for so long, by its own clock, and is free again. Estimates learn from it;
        nothing else needs it."""

    def done(self, key: Key, digest: str, state: State = State.BUILT) -> None:
        """Marks a unit as existing and tagged, whoever built it: its descendants may start."""
        self._held.pop(key, None)
        self.outcomes[key] = Outcome(state, digest)

    def fail(self, batch: Batch | Iterable[Key], error: str, state: State = State.FAILED) -> list[Key]:
        """Fails units, and everything that descends from them; returns the descendants. Of a batch, only what its node
        still holds."""
        lost = set(self._still(batch) if isinstance(batch, Batch) else batch)
        for key in lost:
            self._held.pop(key, None)
            self.outcomes[key] = Outcome(state, error=error)
        return self._lose(lost)

    def unable(self, now: float) -> dict[Key, str]:
        """The waiting units that no joined node can build now, and why."""
        return {key: f"no node runs {' or '.join(map(str, self.plan.units[key].runs))}"
                for key, outcome in self.outcomes.items()
                if outcome.state == State.WAITING
                and not any(self._build(key, worker, now) for worker in self.workers.values())}

    def leave_rest(self) -> list[Key]:
        """Gives up units that have not ended."""
        left = [key for key, outcome in self.outcomes.items() if outcome.state not in ENDED]
        for key in left:
            self.outcomes[key] = Outcome(State.LEFT, error="the run was stopped")
        self._held.clear()
        return left

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

    def _still(self, batch: Batch) -> list[Key]:
        """The units that the batch still holds, which are let go."""
        found = [key for key in batch.keys if self._held.get(key) == batch]
        for key in found:
            del self._held[key]
        return found

    def _run_time(self, key: Key) -> list[Key]:
        return [Key(p.image, p.target, key.platform) for p in self.plan.units[key].parents if not p.build]

    def _exist(self, keys: Iterable[Key]) -> bool:
        return all(key in self.outcomes and self.outcomes[key].state in GOOD for key in keys)

    def _want(self, queue: list[Key]) -> None:
        """Adds units and what they need: of build-time parents nothing, until it is known where they are built."""
        added = set()
        while queue:
            key = queue.pop()
            if key not in self.outcomes and key not in added:
                added.add(key)
                queue += [] if key in self.existing else self._run_time(key)
        new = {key: Outcome(State.EXISTS, self.existing[key]) if key in self.existing
               else Outcome(State.INPUT_FAILED, error=self.refused[key]) if key in self.refused
               else Outcome(State.WAITING) for key in added}
        both = self.outcomes | new
        self.outcomes = {key: both[key] for key in self.plan.units if key in both}
        self._lose({key for key in added if self.outcomes[key].state == State.INPUT_FAILED})

    def _build(self, key: Key, worker: Worker, now: float) -> tuple[Platform, bool] | None:
        """The build platform of a unit on a node, and whether that is emulated; None if the node cannot build it."""
        runs = [platform for platform in self.plan.units[key].runs
                if all(parent in self.plan.units for parent in self.parents(self.plan.units[key], platform))]
        for platform in worker.native:
            if platform in runs:
                return platform, False
        if any(platform in each.native for each in self.workers.values() for platform in runs):
            return None
        for platform in runs:
            waited = now - self._seen.get(platform, self._seen[ANY])
            if platform in worker.emulated or (platform in worker.missing and waited >= self.patience):
                return platform, True
        return None

    def _choose(self) -> None:
        """Wants the build-time parents of each unit for the platform of the first node that can build it."""
        for worker in list(self.workers.values()):
            for key in list(self.outcomes):
                unit = self.plan.units[key]
                if self.outcomes[key].state == State.WAITING and any(parent.build for parent in unit.parents):
                    have = any(all(p in self.outcomes for p in self.parents(unit, b)) for b in unit.runs)
                    if not have and (build := self._build(key, worker, 0.0)):
                        self._want(self.parents(unit, build[0]))
        self._lose({key for key, outcome in self.outcomes.items() if outcome.state in ENDED and outcome.error})

    def _lose(self, lost: set[Key]) -> list[Key]:
        """Fails what waits for lost units, and in turn for those that fail so; returns these."""
        after: list[Key] = []
        for key, outcome in self.outcomes.items():  # plan order: parents come first
            if outcome.state != State.WAITING:
                continue
            unit = self.plan.units[key]
            builds = [self.parents(unit, build) for build in unit.runs]
            wanted = [some for some in builds if all(parent in self.outcomes for parent in some)]
            broken = [p for p in self._run_time(key) if p in lost] or (
                [p for some in wanted for p in some if p in lost]
                if wanted and all(any(p in lost for p in some) for some in wanted) else [])
            if broken:
                self.outcomes[key] = Outcome(State.PARENT_FAILED, error=f"{broken[0]} failed")
                lost.add(key)
                after.append(key)
        return after
