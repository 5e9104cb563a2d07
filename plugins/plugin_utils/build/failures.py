# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a batch that failed: whether its units, its node or the registry is the cause decides who tries it
again, and for how long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, NoSpace
from ansible_collections.desimages.farm.plugins.plugin_utils.build import patience
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.keeper import Keeper
from ansible_collections.desimages.farm.plugins.plugin_utils.build.patience import Patience
from ansible_collections.desimages.farm.plugins.plugin_utils.build.report import advice, failure
from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import Job, Seat
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Batch, Scheduler, State

ILL = 3  # failures of a node's own in a row after which it gets no more work
CUT = 2  # failures in a row on a node's way to a registry that answers here: then the node does not reach it
LOST = 6  # times that a unit may be lost with its node, or with BuildKit there, and go to another: it may be the cause
ALONE = 3  # such times after which it shares no batch, to see whether it is
DOUBT = 30.0  # seconds without a step that begins or ends
CUT_OFF = "does not reach the registry, which answers the controller"

UNDECIDED = (State.WAITING, State.RUNNING)

Submit = Callable[[Callable[[], Any], Callable[[Any], None]], None]  # runs the first in a thread, then the second


@dataclass
class Failures:
    """`missed` takes a node's work from it; `for_good`, or until it reaches the registry again."""

    scheduler: Scheduler
    keeper: Keeper
    run: Run
    seats: Mapping[str, Seat]
    tell: Callable[[str], None]
    submit: Submit
    missed: Callable[..., None]
    patience: Patience = field(default_factory=Patience)
    elsewhere: set[Key] = field(default_factory=set)  # units for whose failure a node was the cause
    lost: Counter[Key] = field(default_factory=Counter)  # how often units were lost

    def succeeded(self, seat: Seat, job: Job) -> None:
        seat.faults = seat.cuts = seat.losses = seat.misses = 0
        self.patience.forget(job.batch.keys)

    def failed(self, seat: Seat, job: Job, state: dict[str, Any]) -> None:
        """`state` is what the runner says of a job that has ended, and is not done."""
        if state.get("full"):
            self._blame(seat, job, state, f"no space left on {seat.name}",
                        "free some, or give BuildKit a larger disk, and run again")
        elif state.get("refused"):  # by the registry: another node may agree with it
            self.scheduler.put_back(job.batch, time.monotonic(), fault=seat.name)
            self.missed(seat, f"{state.get('error')}\n  what to do: {state['refused']}", for_good=True)
        elif state.get("fault"):
            self._blame(seat, job, state, f"{state['fault']}: {state.get('error') or 'failed'}", "")
        elif state.get("transport"):  # BuildKit does not say why a registry fails
            self.submit(lambda: self._asked(job), lambda found: self._away(seat, job, state, found))
        elif state["state"] in ("lost", "cancelled"):  # nothing here cancels what is still wanted
            self._lost(seat, job, state)
        elif len(job.batch.keys) > 1:
            self.tell(f"{job.name}: failed; each platform is now built alone, to see which one fails")
            self.scheduler.split(job.batch)
        else:
            self.fail(seat, job, state.get("error") or "failed", advice(state), state)

    def _asked(self, job: Job) -> bool:
        """Whether the registry answers this machine. Raises NoSpace."""
        self.keeper.registry.check_room(self.keeper.repository(job.batch.keys[0]))
        return self.keeper.registry.answers()

    def _away(self, seat: Seat, job: Job, state: dict[str, Any], found: bool | FarmError) -> None:
        """A batch failed on its way to or from the registry. `found` is what that says here."""
        if isinstance(found, NoSpace):
            self.fail(seat, job, str(found), "", state)
            return
        seat.cuts = seat.cuts + 1 if found is True else 0
        self.again(seat, job, state)
        if seat.cuts >= CUT and not seat.about["local"] and seat.joined:
            self.missed(seat, f"{CUT_OFF}: {state.get('error')}")

    def _lost(self, seat: Seat, job: Job, state: dict[str, Any]) -> None:
        """BuildKit or the job ended by itself. If that happens again and again, others get the node's work."""
        seat.losses += 1
        now = time.monotonic()
        if seat.losses < CUT or not self.scheduler.elsewhere(job.batch, now):
            self.again(seat, job, state)
            return
        self.scheduler.put_back(job.batch, now)
        self.gone(seat, job, state)
        if seat.joined:
            why = state.get("error") or "lost"
            self.missed(seat, f"{seat.losses} builds in a row were lost there; the last one: {why}")

    def gone(self, seat: Seat, job: Job, state: dict[str, Any]) -> None:
        """Units were lost, and wait or are built elsewhere. They fail if that has happened too often: one may be what
        ends each node that it goes to."""
        outcomes = self.scheduler.outcomes
        keys = [key for key in job.batch.keys if key in outcomes and outcomes[key].state in UNDECIDED]
        self.lost.update(keys)
        self.scheduler.alone(key for key in keys if self.lost[key] >= ALONE)
        if bad := [key for key in keys if self.lost[key] >= LOST]:
            what = f"{state.get('error') or 'lost'}; the unit was lost {LOST} times, and may itself be the cause"
            self._failed(seat, job, bad, what, "check the memory and the logs of the nodes that built it", state)

    def unkept(self, seat: Seat, job: Job, what: str, state: dict[str, Any], *, bad: bool) -> None:
        """What was built could not be tagged; `bad` if the node's result is the cause."""
        if bad:
            self._blame(seat, job, state, what, "")
        else:
            self.fail(seat, job, what, "", state)

    def way(self, seat: Seat) -> dict[str, str] | None:
        """How a node is to reach the registry; None for this machine."""
        if seat.about["local"]:
            return None
        access = self.keeper.registry.for_job(f"{seat.about['state']}/etc/registry-ca.pem")
        return {"url": self.keeper.registry.base, "ca": access.get("ca", "")}

    def doubts(self, seat: Seat) -> dict[str, str] | None:
        """The way to the registry, if a node must be asked whether it reaches it, as a job of it stands still: BuildKit
        waits for minutes for a registry that does not answer."""
        now = time.monotonic()
        still = max((now - job.moved for job in seat.jobs.values() if job.began), default=0.0)
        if still < DOUBT or now < seat.doubted:
            return None
        seat.doubted = now + still  # a step may take hours
        return self.way(seat)

    def apart(self, seat: Seat, why: str) -> None:
        """A node says why it does not reach the registry, or ''."""
        if why:
            self.submit(self.keeper.registry.answers,
                        lambda here: self.missed(seat, f"{CUT_OFF}: {why}") if here is True and seat.joined else None)

    def again(self, seat: Seat, job: Job, state: dict[str, Any]) -> None:
        """The units are not the cause: tries them again for a while, with growing pauses."""
        now, what = time.monotonic(), state.get("error") or "lost"
        until = self.patience.until(job.batch.keys, job.began, now)
        if until is None:
            self.fail(seat, job, f"{what} (tried for {patience.SECONDS} seconds)",
                      "check the logs of the registry and of buildkitd (`make status` shows where they are)", state)
            return
        self.tell(f"{job.name}: {what[:200]}; tried again in {until - now:.0f} s")
        self.scheduler.put_back(job.batch, now, until=until)

    def _blame(self, seat: Seat, job: Job, state: dict[str, Any], what: str, hint: str) -> None:
        """The node is the cause: its units are tried once on another, if there is one."""
        seat.faults += 1
        tried = self.elsewhere.intersection(job.batch.keys)
        if tried or not self.scheduler.elsewhere(job.batch, time.monotonic()):
            # side by side they may need too much; and others may not have been tried on another node yet
            apart = len(tried) not in (0, len(job.batch.keys)) if state.get("full") else len(job.batch.keys) > 1
            if apart:
                self.tell(f"{job.name}: {what}; each platform is now built alone")
                self.scheduler.split(job.batch)
            else:
                self.fail(seat, job, what, hint, state)
            return
        self.elsewhere.update(job.batch.keys)
        self.tell(f"{job.name}: {what}; tried on another node")
        self.scheduler.put_back(job.batch, time.monotonic(), fault=seat.name)
        if seat.faults >= ILL and seat.joined:
            self.missed(seat, f"{seat.faults} builds in a row failed because of it; the last one: {what}",
                        for_good=True)

    def fail(self, seat: Seat, job: Job, error: str, hint: str, state: dict[str, Any]) -> None:
        """The units that this node still has have failed, and what needs them cannot be built."""
        self._failed(seat, job, job.batch, error, hint, state)

    def _failed(self, seat: Seat, job: Job, what: Batch | list[Key], error: str, hint: str,
                state: dict[str, Any]) -> None:
        message = failure(error, hint, state, self.run.log(job.name))
        after = self.scheduler.fail(what, message)
        outcomes = self.scheduler.outcomes
        seat.failed += [key for key in job.batch.keys if key in outcomes and outcomes[key].error == message]
        self.tell(f"{job.name}: failed on {seat.name}: {message}"
                  + (f"\n  cannot be built either: {', '.join(map(str, after))}" if after else ""))
