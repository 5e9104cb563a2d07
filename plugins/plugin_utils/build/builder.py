# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3 of a run, on the controller: which orders each node gets, and what its reports lead to.

It waits for nothing: the broker calls it when a node asks, and runs what it submits in threads.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.failures import Failures, Submit
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Fetched, Planned, Share
from ansible_collections.desimages.farm.plugins.plugin_utils.build.keeper import Keeper, Kept
from ansible_collections.desimages.farm.plugins.plugin_utils.build.report import clock, step
from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import Job, Seat, answered
from ansible_collections.desimages.farm.plugins.plugin_utils.build.waiting import Waiting
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import last_built
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import (
    GOOD,
    Batch,
    Scheduler,
    State,
    Worker,
)

WAIT = 5.0  # seconds after which a node answers, sooner if something has ended; each costs it 35 ms of its processors
SOON = 0.2  # the same, if a slot is free while units are being tagged, as others may wait for these
# if builds end quickly, the only node gets this many times its slots of batches in advance, so that it need not wait
# for the controller
AHEAD = 2
SAY_EVERY = 5  # seconds between lines about a batch; later a tenth of its time
PAUSES = (1.0, 4.0, 15.0, 30.0, 60.0)  # seconds before a node that could not be reached is tried again
BUSY = 5.0  # the same for one that works for another controller
GATHER = 5.0  # seconds from when a node is there that work waits for other nodes, and for what the registry is asked
OUT = 3  # so many times in a row: then a node counts as lost
FRUITLESS = 6  # so many times in a row one that answers may lose its work before it has answered with it


@dataclass
class Builder:
    """Builds what a scheduler hands out, on the nodes that sit down. Filled on the way: `sizes` maps the digest of each
    manifest that now exists to (bytes, media type); `differs` maps a unit whose new digest is another one to
    (kept, new). `tell` takes lines for people.
    """

    state: str
    run: Run
    planned: Planned
    fetched: Fetched
    scheduler: Scheduler
    keeper: Keeper
    tell: Callable[[str], None]
    submit: Submit
    speeds: Mapping[str, float] = field(default_factory=dict)  # of nodes, as earlier runs knew them
    seats: dict[str, Seat] = field(default_factory=dict)
    differs: dict[Key, tuple[str, str]] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)
    looking: set[Key] = field(default_factory=set)  # whose content id is being asked
    tagging: int = 0  # batches that are being tagged
    stopping: bool = False
    count: int = 0
    began: float = field(default_factory=time.monotonic)
    gathered: float = math.inf  # from when on work is given out although some have not answered

    def __post_init__(self) -> None:
        self.failures = Failures(self.scheduler, self.keeper, self.run, self.seats, self.tell, self.submit,
                                 self.missed)
        self.waiting = Waiting(self.scheduler, self.seats, self.tell)

    @property
    def finished(self) -> bool:
        return (self.scheduler.finished or self.stopping) and not self.tagging

    def summed(self, seat: Seat) -> dict[str, Any]:
        """What a node did, and what its runner must do before its session ends."""
        units = [{"unit": str(key), "state": outcome.state.value, "digest": outcome.digest}
                 for key in (*seat.built, *seat.failed) for outcome in [self.scheduler.outcomes[key]]]
        return {"units": units, "failures": len(seat.failed), "seconds": round(seat.seconds, 1),
                "cancel": sorted({**seat.jobs, **seat.lost}), "forget": seat.forget}

    def built(self, stopped: str = "") -> Built:
        """What this step leaves."""
        nodes = {seat.name: Share(len(seat.built), seat.emulated, len(seat.failed), round(seat.seconds, 1), seat.out)
                 for seat in self.seats.values()}
        return Built(self.scheduler.outcomes, self.sizes, self.timings, stopped, self.differs, nodes,
                     {key: seat.name for seat in self.seats.values() for key in seat.built})

    def sit(self, name: str, about: dict[str, Any]) -> Seat:
        """A session began, or began again."""
        seat = self.seats.setdefault(name, Seat(name, about))
        seat.about, seat.out = about, ""
        return seat

    def preparing(self, seat: Seat) -> dict[str, Any]:
        """What a node is told before it works for this run: it keeps this run's jobs, and tries to reach the
        registry."""
        return {"keep": self.run.name, "registry": self.failures.way(seat)}

    def prepared(self, seat: Seat, machine: str, node: dict[str, Any], finished: list[dict[str, Any]],
                 apart: str = "") -> None:
        """A node is there. `machine` is what its kernel calls itself, `node` what was recorded of it at provisioning
        (module `node`), `finished` what a run that died gave it, `apart` why it does not reach the registry."""
        if apart:
            self.missed(seat, f"does not reach the registry: {apart}")
            return
        wanted = next((unit.record["engine"] for unit in self.planned.plan.units.values()), "")
        if (engine := node.get("engine")) != wanted:
            has = f"the engine id {engine}" if engine else "no proven engine id"
            self.missed(seat, f"its BuildKit has {has}, but this farm builds with {wanted}: provision it again",
                        for_good=True)
            return
        if seat.misses:
            self.tell(f"{seat.name}: answers again")
        try:
            worker = seat.worker(machine, node, self.speeds.get(seat.name, 0.0))
        except (FarmError, KeyError, ValueError, TypeError, AttributeError) as error:
            self.missed(seat, f"its own description cannot be used ({machine}, {type(error).__name__}: {error}): "
                        "provision it again", for_good=True)
            return
        seat.adopting = True
        self._adopt(seat, finished, worker)

    def _adopt(self, seat: Seat, finished: list[dict[str, Any]], worker: Worker) -> None:
        """Tags what a run that died left on a node, if it gave it to this node; afterwards the node may build."""
        for left in finished:
            units = self.run.given(left["id"], seat.name)
            keys = [key for key in self.planned.todo
                    if units.get(str(key)) == self.planned.plan.units[key].id and self._open(key)]
            if keys and all(map(self._ready, keys)):
                rest = [other for other in finished if other is not left]
                contents = {key: self._content(key) for key in keys}
                self.submit(partial(self.keeper.take, keys, left["digest"], contents, name=str(keys[0]),
                                    node=seat.name),
                            partial(self._adopted, seat, left["id"], rest, worker))
                return
        if not seat.adopting:  # its session has ended meanwhile
            return
        seat.adopting, seat.joined, seat.busy = False, True, False
        seat.forget += [left["id"] for left in finished]  # nobody needs them
        self.scheduler.join(worker, time.monotonic())
        self.gathered = min(self.gathered, time.monotonic() + GATHER)
        self.look()

    def _adopted(self, seat: Seat, job: str, rest: list[dict[str, Any]], worker: Worker,
                 kept: Kept | FarmError) -> None:
        if isinstance(kept, Kept) and (keys := self._keep(kept, State.BUILT)):
            seat.built += keys
            self.tell(f"{', '.join(map(str, keys))}: built on {seat.name} before the last run ended")
        self._forget(seat, job, kept)
        self._adopt(seat, rest, worker)

    def _ready(self, key: Key) -> bool:
        """Whether a unit does not exist yet (even if a node builds it now) and its run-time parents exist, so its
        content id is known."""
        outcomes, parents = self.scheduler.outcomes, self.planned.plan.units[key].parents
        above = [Key(parent.image, parent.target, key.platform) for parent in parents if not parent.build]
        return key in outcomes and outcomes[key].state in (State.WAITING, State.RUNNING) and all(
            parent in outcomes and outcomes[parent].state in GOOD for parent in above)

    def missed(self, seat: Seat, why: str, *, for_good: bool = False, alive: bool = False) -> None:
        """A node could not be reached, or cannot be used: its work goes to others at once, and it is tried again later,
        unless that is `for_good`. `alive`: it answers, but will not work for this run now."""
        seat.fruitless += seat.joined and not alive
        if seat.fruitless >= FRUITLESS and not for_good:
            why, for_good = f"{why}; this happened {FRUITLESS} times in a row, as soon as it had work", True
        self._leave(seat)
        seat.misses, seat.why = seat.misses + 1, why
        waited, seat.busy = seat.busy, alive and not for_good
        again = PAUSES[min(seat.misses, len(PAUSES)) - 1]
        if for_good:
            seat.out = why
            self.tell(f"{seat.name}: gets no more work: {why}")
        elif alive:
            self.waiting.heard, again = time.monotonic(), BUSY
            if not waited:
                self.tell(f"{seat.name}: {why}; waiting for it")
        elif seat.misses <= OUT:
            what = "it counts as lost, and is" if seat.misses == OUT else "it is"
            self.tell(f"{seat.name}: {why}; {what} tried again in {again:.0f} s")
        seat.again = time.monotonic() + again

    def rise(self, seat: Seat) -> None:
        """A session has ended."""
        self._leave(seat)
        seat.busy, seat.out = False, seat.out or "its session has ended"

    def _leave(self, seat: Seat) -> None:
        if seat.joined:
            self.scheduler.leave(seat.name, time.monotonic())
        seat.joined = seat.adopting = False
        seat.lost.update(seat.jobs)
        seat.jobs.clear()

    # orders and reports

    def orders(self, seat: Seat) -> dict[str, Any] | None:
        """What a node does next, for one turn of its runner; None if there is nothing."""
        self.look()  # also for what is wanted only since something else failed, or a node was lost
        running = sorted({**seat.jobs, **seat.lost})
        waits = time.monotonic() < self.gathered and (self.looking or not answered(self.seats.values()))
        specs = [] if self.stopping or waits else self._offer(seat)
        if not running and not specs:
            return None
        forget, seat.forget = seat.forget, []
        return {"specs": specs, "ids": running, "forget": forget, "cancel": self._needless(seat),
                "wait": SOON if self.tagging and len(seat.jobs) < seat.slots else WAIT, "slots": seat.slots}

    def _needless(self, seat: Seat) -> list[str]:
        """Jobs of units that another node has built in the meantime, or that are not wanted any more."""
        sent = [job for job in seat.jobs.values() if job.began]
        return [job.id for job in (*seat.lost.values(), *sent) if not any(map(self._open, job.batch.keys))]

    def _open(self, key: Key) -> bool:
        """Whether a result of a unit counts: it is wanted, and not there yet."""
        outcome = self.scheduler.outcomes.get(key)
        return outcome is not None and outcome.state not in GOOD

    def _offer(self, seat: Seat) -> list[dict[str, Any]]:
        """One batch for each slot, and some more if builds end quickly and no other node could have them. (If they are
        long, sending more would be wasted.) What a node began before it was lost still has its slots."""
        alone = sum(each.joined for each in self.seats.values()) == 1
        room = seat.slots * (1 + AHEAD * seat.brisk) if alone else seat.slots + 1
        if seat.lost:
            room = seat.slots - len(seat.lost)
            if room <= 0:
                return []  # a node that does not ask is not counted on
        batches = self.scheduler.claim(seat.name, time.monotonic(), room - len(seat.jobs))
        try:
            return [self._begin(seat, batch) for batch in batches]
        except FarmError as error:  # it is not what it was when the inputs were fetched
            self.missed(seat, str(error), for_good=True)
            return []

    def _begin(self, seat: Seat, batch: Batch) -> dict[str, Any]:
        """What the runner needs to start a batch, and where its log goes."""
        self.count += 1
        plan, first, about, registry = self.planned.plan, batch.keys[0], seat.about, self.keeper.registry
        made = solve.make([plan.units[key] for key in batch.keys], plan, self.planned.sources[first.image],
                          build=batch.build, registry=registry.address, repository=self.keeper.repository(first),
                          digests=self.scheduler.digests(batch),
                          unpacked=self.fetched.unpacked.get(first.image, {}).get(str(batch.build), {}))
        if self.planned.fresh and first in self.planned.again:
            made.options["no-cache"] = ""  # for all stages; cache mounts stay
        job = Job(f"{self.run.name}.{self.count}", batch, made.name)
        seat.jobs[job.id] = job
        self.run.give(job.id, seat.name, {str(key): plan.units[key].id for key in batch.keys})
        return {
            **made.spec(f"{about['state']}/jobs/{job.id}"), "id": job.id,
            "socket": about["socket"], "buildctl": about["buildctl"], "root": about["state"],
            "store": f"{self.state}/store" if about["local"] else "", "own": f"{about['state']}/node",
            "archive": f"{registry.base}/v2/{self.keeper.namespace}/archive", "newest": self.planned.newest,
            "registry": registry.for_job(f"{about['state']}/etc/registry-ca.pem"),
            "log": str(self.run.log(job.name)),  # on the controller: for the session
        }

    def reported(self, seat: Seat, sent: list[str], states: list[dict[str, Any]]) -> None:
        """The states after a turn, in which the runner could start the jobs `sent`; those without a slot wait again."""
        now = time.monotonic()
        seat.fruitless *= all(state["state"] == "lost" for state in states)
        for name in set(sent) - {state["id"] for state in states}:
            if name in seat.jobs:
                self.scheduler.put_back(seat.jobs.pop(name).batch, now)
            else:  # its work was taken from it meanwhile
                del seat.lost[name]
        for state in states:
            known = state["id"] in seat.jobs
            job = (seat.jobs if known else seat.lost)[state["id"]]
            if not (known or job.began or "started" in state) and state["state"] == "lost":
                del seat.lost[job.id]  # it never came there
                continue
            # no longer than it has been there: a node's clock may be set while it builds, and a node may lie
            state.update((name, min(max(state[name], 0.0), now - job.sent)) for name in ("elapsed", "age"))
            if not job.began:
                job.began = job.said = now - state["age"]
                job.moved = now
                self.tell(f"{job.name}: building on {seat.name}{_foreign(job.batch)}")
            if (steps := (state.get("steps"), state.get("done"))) != job.steps:
                job.steps, job.moved = steps, now
            if state["state"] == "running":
                if now - job.said >= max(SAY_EVERY, state["elapsed"] / 10) and state.get("steps"):
                    job.said = now
                    self.tell(f"{job.name}: {step(state)}")
                continue
            del (seat.jobs if known else seat.lost)[job.id]
            self._time(seat, job, state)
            for note in state.get("notes", []):  # damage that was repaired
                self.tell(f"{job.name}: {note}")
            # what a lost node could not do is somebody else's by now
            if not ((known or state["state"] == "done") and self._end(seat, job, state)):
                seat.forget.append(job.id)
            if not known and state["state"] == "lost":  # with the node
                self.failures.gone(seat, job, state)
        seat.brisk = any(state["state"] != "running" for state in states)
        self.look()

    def _time(self, seat: Seat, job: Job, state: dict[str, Any]) -> None:
        began = job.began - self.began
        self.scheduler.ran(job.batch, state["elapsed"], learn=state["state"] == "done")
        seat.seconds += state["elapsed"]
        self.timings.append({"batch": job.name, "image": job.batch.keys[0].name, "node": seat.name,
                             "began": round(began, 1), "ended": round(began + state["elapsed"], 1),
                             "seconds": round(state["elapsed"], 1), "state": state["state"],
                             "steps": state.get("steps"), "cached": state.get("cached"),
                             "emulated": job.batch.emulated})

    def _end(self, seat: Seat, job: Job, state: dict[str, Any]) -> bool:
        """Whether a result is being tagged: its node keeps it until then, for the next run if this one dies."""
        keys = list(filter(self._open, job.batch.keys))
        if not keys:
            return False  # another node was sooner
        if state["state"] != "done":
            self.failures.failed(seat, job, state)
            return False
        self.failures.succeeded(seat, job)
        self.tagging += 1
        contents, digest = {key: self._content(key) for key in keys}, str(state.get("digest"))
        self.submit(partial(self.keeper.take, keys, digest, contents, name=job.name, node=seat.name),
                    partial(self._taken, seat, job, state))
        return True

    def _taken(self, seat: Seat, job: Job, state: dict[str, Any], kept: Kept | FarmError) -> None:
        """A batch is tagged, or could not be."""
        self.tagging -= 1
        self._forget(seat, job.id, kept)
        if isinstance(kept, FarmError):
            self.failures.unkept(seat, job, f"it was built, but could not be tagged and archived: {kept}", state,
                                 bad=bool(kept.where.get("node")))
        else:
            keys = self._keep(kept, State.BUILT)
            seat.built += keys
            seat.emulated += len(keys) * job.batch.emulated
            if keys:  # no other node's result came first
                self.tell(f"{job.name}: built in {clock(state['elapsed'])}")
        self.look()

    def _forget(self, seat: Seat, job: str, kept: Kept | FarmError) -> None:
        if not isinstance(kept, Unreachable):  # else the next run may take it
            seat.forget.append(job)

    def _keep(self, kept: Kept, state: State) -> list[Key]:
        """Counts what is tagged now; returns the units that were not there before."""
        new = list(filter(self._open, kept.manifests))
        for note in kept.notes:
            self.tell(note)
        self.differs.update(kept.differs)
        place = last_built.Place(self.state, self.keeper.registry.address, self.keeper.namespace)
        plan = self.planned.plan
        for key, (digest, size, kind) in kept.manifests.items():
            self.sizes[digest] = size, kind
            self.scheduler.done(key, digest, state)
            with contextlib.suppress(OSError):  # on a full disk the next plan knows fewer reasons
                last_built.write(place, plan.units[key], plan.entries(plan.units[key], self.planned.build))
        return new

    # early cutoff

    def look(self) -> None:
        """Asks for units with the content of those that could be built now.

        For a unit without run-time parents there is nothing to ask: its content id is its build id.
        """
        for key in self.scheduler.asking():
            if key in self.looking:
                continue
            content = "" if key in self.planned.again else self._content(key)
            if content:
                self.looking.add(key)
                self.submit(partial(self.keeper.look, key, content), partial(self._looked, key))
            else:
                self.scheduler.asked([key])

    def _looked(self, key: Key, kept: Kept | FarmError | None) -> None:
        self.looking.discard(key)
        if isinstance(kept, Kept):
            self._keep(kept, State.SAME)
            self.tell(f"{key}: has the same content as before, {kept.manifests[key][0][:19]}")
        else:  # if the registry fails, the build will say so
            self.scheduler.asked([key])
        self.look()

    def _content(self, key: Key) -> str:
        unit = self.planned.plan.units[key]
        return unit.content_id(self.scheduler.run_time_digests(key)) if unit.record["parents"] else ""


def _foreign(batch: Batch) -> str:
    return f", under emulation of {batch.build}, which it does not run natively" if batch.emulated else ""
