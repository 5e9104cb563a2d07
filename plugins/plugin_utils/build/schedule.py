# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler: which units can be built now, which cannot be built any more, and the outcome of each. No I/O; time
and nodes are the caller's business.

Units of one image that are ready together and have the same labels and epoch form one batch: one solve.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
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


@dataclass
class Outcome:
    """What is known of a unit: its state, the digest of its manifest if it exists, the error if it does not."""

    state: State
    digest: str = ""
    error: str = ""


class Scheduler:
    """Hands out batches of the `wanted` units on one node that builds as platform `build`.

    `existing` has the digests of units that need no building; `refused` the units that cannot be built and why.
    """

    def __init__(self, plan: Plan, wanted: Iterable[Key], existing: Mapping[Key, str], build: Platform,
                 refused: Mapping[Key, str] | None = None) -> None:
        self.plan, self.build = plan, build
        order = plan.closure(wanted, build, existing)
        self.outcomes = {key: Outcome(State.EXISTS, existing[key]) if key in existing else Outcome(State.WAITING)
                         for key in order}
        lost = {key: error for key, error in (refused or {}).items()
                if key in self.outcomes and self.outcomes[key].state == State.WAITING}
        self.outcomes |= {key: Outcome(State.INPUT_FAILED, error=error) for key, error in lost.items()}
        self._lose(set(lost))

    @property
    def finished(self) -> bool:
        return all(outcome.state in ENDED for outcome in self.outcomes.values())

    def ready(self) -> list[list[Key]]:
        """The batches that could start now, in plan order."""
        batches: dict[str, list[Key]] = {}
        for key, outcome in self.outcomes.items():
            unit = self.plan.units[key]
            if outcome.state == State.WAITING and all(self.outcomes[parent].state in GOOD
                                                      for parent in self.parents(unit)):
                batches.setdefault(f"{key.name} {unit.epoch} {canonical.sha256(unit.labels)}", []).append(key)
        return list(batches.values())

    def parents(self, unit: Unit) -> list[Key]:
        return self.plan.parents(unit, self.build)

    def run_time_digests(self, key: Key) -> dict[str, str]:
        """Parent name -> digest, for the run-time parents of a unit whose parents exist."""
        unit = self.plan.units[key]
        return {p.name: self.outcomes[Key(p.image, p.target, key.platform)].digest for p in unit.parents if not p.build}

    def digests(self, batch: list[Key]) -> dict[str, dict[str, str]]:
        """Parent name -> platform -> digest, for all parents of a batch."""
        found: dict[str, dict[str, str]] = {}
        for key in batch:
            for parent in self.parents(self.plan.units[key]):
                found.setdefault(parent.name, {})[str(parent.platform)] = self.outcomes[parent].digest
        return found

    def start(self, batch: Iterable[Key]) -> None:
        """Marks units that a node works on."""
        for key in batch:
            self.outcomes[key] = Outcome(State.RUNNING)

    def put_back(self, batch: Iterable[Key]) -> None:
        """Lets units wait again, after a failure that was not their fault."""
        for key in batch:
            self.outcomes[key] = Outcome(State.WAITING)

    def done(self, key: Key, digest: str, state: State = State.BUILT) -> None:
        """Marks a unit as existing and tagged: its descendants may start."""
        self.outcomes[key] = Outcome(state, digest)

    def fail(self, batch: Iterable[Key], error: str, state: State = State.FAILED) -> list[Key]:
        """Fails units, and everything that descends from them; returns the descendants."""
        lost = set(batch)
        for key in lost:
            self.outcomes[key] = Outcome(state, error=error)
        return self._lose(lost)

    def _lose(self, lost: set[Key]) -> list[Key]:
        """Fails what waits for lost units, and in turn for those that fail so; returns these."""
        after: list[Key] = []
        for key, outcome in self.outcomes.items():  # plan order: parents come first
            broken = [parent for parent in self.parents(self.plan.units[key]) if parent in lost]
            if outcome.state == State.WAITING and broken:
                self.outcomes[key] = Outcome(State.PARENT_FAILED, error=f"{broken[0]} failed")
                lost.add(key)
                after.append(key)
        return after

    def leave(self) -> list[Key]:
        """Gives up units that have not ended."""
        left = [key for key, outcome in self.outcomes.items() if outcome.state not in ENDED]
        for key in left:
            self.outcomes[key] = Outcome(State.LEFT, error="the run was stopped")
        return left
