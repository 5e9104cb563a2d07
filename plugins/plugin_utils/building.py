"""Step 3 of a run, on one node: hand out batches, watch them, tag what comes back. Only this, on the controller, ever tags."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import solve as solves
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.plan import Key, Plan, Sources
from ansible_collections.desimages.farm.plugins.module_utils.schedule import Scheduler, State
from ansible_collections.desimages.farm.plugins.plugin_utils import known
from ansible_collections.desimages.farm.plugins.plugin_utils.node import Node
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.report import clock
from ansible_collections.desimages.farm.plugins.plugin_utils.run import Run

PATIENCE = 60  # seconds for which a registry that fails, or a BuildKit that restarts, is tried again
TRIES = 8  # and so often at most, however long each took
SAY_EVERY = 5  # seconds between two lines about one batch; a tenth of its time, once that is more


@dataclass(frozen=True)
class Farm:
    """Where things are: the registry and its namespace, the controller's state folder, the node's socket and programs."""

    registry: Registry
    namespace: str
    state: str
    socket: str
    buildctl: str
    slots: int


@dataclass
class Job:
    """A batch that a node works on."""

    id: str
    batch: list[Key]
    name: str
    began: float
    said: float = 0.0


@dataclass
class _Trouble:
    """When a unit first failed for a reason that is not its own, and when it is tried again."""

    since: float
    tries: int = 0
    until: float = 0.0


@dataclass
class Builder:
    """Builds what a scheduler hands out. `unpacked` maps an image's unpacked inputs to `repository@digest`."""

    farm: Farm
    run: Run
    node: Node
    plan: Plan
    sources: dict[str, Sources]
    scheduler: Scheduler
    unpacked: dict[tuple[str, str], str]
    say: Callable[[str], None]
    alert: Callable[[str], None]
    jobs: dict[str, Job] = field(default_factory=dict)
    alone: set[Key] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    trouble: dict[Key, _Trouble] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    began: float = field(default_factory=time.monotonic)

    def build(self) -> None:
        """Runs until every unit has ended. Whatever stops it, what it started on the node is cancelled."""
        try:
            self.node.prepare()
            pause = 0.1
            while not self.scheduler.finished:
                changed = self._start()
                if self.jobs:
                    changed = self._look() or changed
                pause = 0.1 if changed else min(pause * 1.5, 1.0)
                if not self.scheduler.finished:
                    time.sleep(pause)  # the node is asked, it does not call
        finally:
            left = self.scheduler.leave()
            if left:
                self.alert(f"stopped; {len(left)} units are left, the next run goes on from here: {', '.join(map(str, left))}")
            if self.jobs:
                self.node.cancel(sorted(self.jobs))

    def _start(self) -> bool:
        started = False
        if len(self.jobs) >= self.farm.slots:
            return started
        for ready in self.scheduler.ready():
            batch = [key for key in ready if not self._same(key)]
            started = started or len(batch) < len(ready)
            for part in self._parts(batch):
                if len(self.jobs) >= self.farm.slots:
                    return started
                if all(self.trouble[key].until <= time.monotonic() for key in part if key in self.trouble):
                    self._begin(part)
                    started = True
        return started

    def _parts(self, batch: list[Key]) -> list[list[Key]]:
        together = [key for key in batch if key not in self.alone]
        return ([together] if together else []) + [[key] for key in batch if key in self.alone]

    def _same(self, key: Key) -> bool:
        """Early cutoff: the unit exists under another id, made of the same content and the same parents' digests."""
        content = self.plan.units[key].content_id(self.scheduler.run_time_digests(key))
        if content in self.asked:
            return False
        found = self.farm.registry.digest(self._repository(key), f"c-{content}")
        self.asked.add(content)
        if not found:
            return False
        self._keep(key, found[0], State.SAME)
        self.say(f"{key}: the same content as before, {found[0][:19]}")
        return True

    def _repository(self, key: Key) -> str:
        return f"{self.farm.namespace}/{key.image}"

    def _begin(self, batch: list[Key]) -> None:
        self.count += 1
        first = batch[0]
        unpacked = {name: self.unpacked[(first.image, name)] for name in self.plan.units[first].unpacked}
        solve = solves.make([self.plan.units[key] for key in batch], self.plan, self.sources[first.image], build=self.scheduler.build,
                            registry=self.farm.registry.address, repository=self._repository(first), digests=self.scheduler.digests(batch), unpacked=unpacked)
        job = Job(f"{self.run.name}.{self.count}", batch, solve.name, time.monotonic(), time.monotonic())
        folder = f"{self.node.jobs}/{job.id}"
        folders = {name: f"{folder}/contexts/{name}" for name in solve.contexts}
        self.jobs[job.id] = job  # first: what is started is known, whenever a signal comes
        self.node.start({
            "id": job.id, "solve": {"contexts": solve.trees(), "policy": solve.policy},
            "words": solve.words(folders, f"{folder}/policy.json", f"{folder}/metadata.json"),
            "socket": self.farm.socket, "buildctl": self.farm.buildctl, "store": f"{self.farm.state}/store", "root": self.farm.state,
            "archive": f"{self.farm.registry.base}/v2/{self.farm.namespace}/archive",
        })
        self.scheduler.start(batch)
        self.say(f"{job.name}: building on {self.node.name}")

    def _look(self) -> bool:
        ended = False
        for state in self.node.poll(sorted(self.jobs)):
            job = self.jobs[state["id"]]
            if state["state"] == "running":
                if time.monotonic() - job.said >= max(SAY_EVERY, state["elapsed"] / 10) and state.get("steps"):
                    job.said = time.monotonic()
                    self.say(f"{job.name}: step {state['done']} of {state['steps']}, {clock(state['elapsed'])}, {state['running'][:100]}")
                continue
            ended = True
            del self.jobs[job.id]
            self.run.log(job.name).write_text(self.node.collect(job.id))
            now = time.monotonic()
            self.timings.append({"batch": job.name, "image": job.batch[0].name, "began": round(job.began - self.began, 1), "ended": round(now - self.began, 1),
                                 "seconds": round(now - job.began, 1), "state": state["state"], "steps": state.get("steps"), "cached": state.get("cached")})
            self._end(job, state)
        return ended

    def _end(self, job: Job, state: dict[str, Any]) -> None:
        seconds = time.monotonic() - job.began
        if state["state"] == "done":
            for key in job.batch:
                self.trouble.pop(key, None)
            try:
                self._take(job, state["digest"], seconds)
            except FarmError as error:
                self._fail(job, f"built, and not kept: {error}", "", state)
        elif state.get("full"):
            self._fail(job, f"no space left on {self.node.name}", "free some, or give BuildKit a larger disk; nothing was tried twice", state)
        elif state["state"] == "lost" or state.get("transport"):
            self._again(job, state)
        elif len(job.batch) > 1:
            self.say(f"{job.name}: failed; each platform is now built alone, to see which it is")
            self.alone.update(job.batch)
            self.scheduler.put_back(job.batch)
        else:
            self._fail(job, state.get("error") or "failed", "", state)

    def _again(self, job: Job, state: dict[str, Any]) -> None:
        """Not the units' fault: they are tried again for a minute, with growing pauses."""
        now = time.monotonic()
        waits = min((self.trouble[key] for key in job.batch if key in self.trouble), key=lambda each: each.since, default=_Trouble(now))
        if job.began - waits.since > PATIENCE and waits.tries < TRIES:
            waits.since = now  # it ran well in between: this is another trouble
        what = state.get("error") or "lost"
        if now - waits.since > PATIENCE:
            self._fail(job, f"{what} (tried for {PATIENCE} seconds)", "look at the logs of the registry and of buildkitd in the state folder", state)
            return
        waits.tries += 1
        waits.until = now + min(2.0**waits.tries, 15)
        self.trouble.update(dict.fromkeys(job.batch, waits))
        self.say(f"{job.name}: {what[:200]}; tried again in {waits.until - now:.0f} s")
        self.scheduler.put_back(job.batch)

    def _fail(self, job: Job, error: str, hint: str, state: dict[str, Any]) -> None:
        log = self.run.log(job.name)
        text = f"{error}\n  step: {state['failed_step']}" if state.get("failed_step") else error
        tail = "\n".join(f"  | {line}" for line in state.get("tail", [])[-8:])
        message = text + (f"\n{tail}" if tail else "") + f"\n  whole log: {log}" + (f"\n  what to do: {hint}" if hint else "")
        after = self.scheduler.fail(job.batch, message)
        self.say(f"{job.name}: failed on {self.node.name}: {message}" + (f"\n  with it: {', '.join(map(str, after))}" if after else ""))

    def _take(self, job: Job, digest: str, seconds: float) -> None:
        """Tags what a solve pushed: an index of the batch's platforms."""
        data = self.farm.registry.manifest(self._repository(job.batch[0]), digest)
        if data is None:
            raise FarmError(f"{job.name}: BuildKit says it pushed {digest}, the registry does not have it", node=self.node.name)
        found = {_platform(child["platform"]): child["digest"] for child in json.loads(data)["manifests"]}
        for key in job.batch:
            self._keep(key, found[str(key.platform)], State.BUILT)
        self.say(f"{job.name}: built in {clock(seconds)}")

    def _keep(self, key: Key, digest: str, state: State) -> None:
        """Tags a unit by its build id and by its content. The first result holds; another one is a finding."""
        unit, registry, repository = self.plan.units[key], self.farm.registry, self._repository(key)
        content = unit.content_id(self.scheduler.run_time_digests(key))
        for tag in (f"c-{content}", f"b-{unit.id}"):
            held = registry.digest(repository, tag)
            if held is None:
                registry.tag(repository, digest, tag)
            elif held[0] != digest:
                self.say(f"{key}: {tag} is {held[0]} already, this build gave {digest}: not reproducible; the first one is kept")
                digest = held[0]
        self.scheduler.done(key, digest, state)
        place = known.Place(self.farm.state, registry.address, self.farm.namespace)
        known.write(place, unit, solves.entries(self.plan, unit, self.scheduler.build))


def _platform(value: dict[str, str]) -> str:
    """The name of an index entry's platform. BuildKit writes no variant for arm64; other tools write v8."""
    variant = value.get("variant", "") if value["architecture"] == "arm" else ""
    return "/".join(part for part in (value["os"], value["architecture"], variant) if part)
