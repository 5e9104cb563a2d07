# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3 of a run, on one node: hands out batches, watches them, and tags the results. Only this code, on the
controller, ever tags units."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, NoSpace
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node
from ansible_collections.desimages.farm.plugins.plugin_utils.build.report import clock, step
from ansible_collections.desimages.farm.plugins.plugin_utils.build.schedule import Batch, Scheduler, State
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import last_built
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import File, Sources
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

# seconds after which a node answers; sooner if something has ended. Each answer costs about 35 ms of the processors
# that build
WAIT = 5.0
SOON = 0.2  # the same, if a slot is free while units are being tagged, as others may wait for these
# if builds end quickly, a node gets this many times its slots of batches in advance, so that it need not wait for the
# controller
AHEAD = 2
GRACE = 5  # seconds that tagging in progress may take when a run is stopped
THREADS = 8  # that tag units
PATIENCE = 60  # seconds of retries while a registry fails or BuildKit restarts
TRIES = 8  # at most, however long each takes
SAY_EVERY = 5  # seconds between lines about a batch; later a tenth of its time

Manifest = tuple[str, int, str]  # digest, size in bytes, media type


@dataclass(frozen=True)
class Farm:
    """Where things are: the registry and its namespace, the controller's state folder, the node's socket and
    buildctl."""

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
    batch: Batch
    name: str
    began: float = 0.0  # 0 until the node has started it
    said: float = 0.0


@dataclass
class _Trouble:
    """When a unit first failed without being the cause, and when it is tried again."""

    since: float
    tries: int = 0
    until: float = 0.0


@dataclass
class Builder:
    """Builds what a scheduler hands out. `unpacked` maps an image's unpacked inputs to `repository@digest`; `trees` has
    all files of each unit.

    Units in `again` are built without early cutoff, and if `fresh` without BuildKit's cache too. Filled on the way:
    `sizes` maps the digest of each manifest that now exists to (bytes, media type); `differs` maps a unit whose new
    digest is another one to (kept, new).
    """

    farm: Farm
    run: Run
    node: Node
    plan: Plan
    sources: dict[str, Sources]
    scheduler: Scheduler
    unpacked: dict[str, dict[str, str]]
    say: Callable[[str], None]
    alert: Callable[[str], None]
    archive: Archive
    trees: dict[Key, dict[str, File]]
    again: Container[Key] = ()
    fresh: bool = False
    differs: dict[Key, tuple[str, str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    trouble: dict[Key, _Trouble] = field(default_factory=dict)
    timings: list[dict[str, Any]] = field(default_factory=list)
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)
    forget: list[str] = field(default_factory=list)
    tagging: dict[Future[dict[Key, Manifest]], tuple[Job, dict[str, Any]]] = field(default_factory=dict)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS))
    brisk: bool = True  # whether something ended in the last turn
    count: int = 0
    began: float = field(default_factory=time.monotonic)
    parent: int = field(default_factory=os.getppid)

    def build(self) -> None:
        """Runs until every unit has ended. If anything stops it, it cancels what it started on the node."""
        try:
            self.node.prepare()
            while not self.scheduler.finished:
                if os.getppid() != self.parent:  # nothing reads our output, and a new run may hold the farm by now
                    raise FarmError("ansible-playbook is gone", hint="run it again: it continues from here")
                self._kept()
                running = sorted(self.jobs)
                specs = self._offer()
                if self.jobs:
                    self._look(specs, running)
                elif self.tagging:
                    wait(self.tagging, return_when=FIRST_COMPLETED)
                elif unable := self.scheduler.unable(time.monotonic()):
                    for key, why in unable.items():
                        self.scheduler.fail([key], f"cannot be built: {why}")
                elif not self.scheduler.finished:
                    time.sleep(0.2)  # the rest waits to be tried again
            self.node.turn([], [], self.forget, 0, self.farm.slots)
        finally:
            try:
                if self.jobs:
                    self.node.cancel(sorted(self.jobs))
            finally:
                self._leave()

    def _leave(self) -> None:
        """Gives tagging a moment to end; then gives up the units that do not exist."""
        try:
            wait(self.tagging, GRACE)
            self._kept()
        finally:
            left = self.scheduler.leave_rest()
            if left:
                self.alert(f"stopped; {len(left)} units are not built, the next run continues with them: "
                           f"{', '.join(map(str, left))}")

    def _offer(self) -> list[dict[str, Any]]:
        """What the node may start: one batch for each slot, and some more if builds end quickly. (If they are long,
        sending more would be wasted.)"""
        self._changed(self.scheduler.asking())
        room = self.farm.slots * (1 + AHEAD * self.brisk) - len(self.jobs)
        return [self._begin(batch) for batch in self.scheduler.claim(self.node.name, time.monotonic(), room)]

    def _fresh(self, key: Key) -> bool:
        """Whether a unit is built without BuildKit's cache."""
        return self.fresh and key in self.again

    def _changed(self, keys: list[Key]) -> None:
        """Early cutoff: tags the units for which a unit with the same content and parent digests exists under another
        id; the others are to be built."""
        contents = {key: self._content(key) for key in keys if key not in self.again}
        asked = {key: content for key, content in contents.items() if content not in self.asked}
        self.asked.update(asked.values())
        found = self.pool.map(lambda key: self.farm.registry.digest(self._repository(key), f"c-{asked[key]}"), asked)
        same = {key: answer for key, answer in zip(asked, found) if answer}
        for key, answer in same.items():
            self._done(key, *self._tag(key, *answer), State.SAME)
            self.say(f"{key}: has the same content as before, {answer[0][:19]}")
        self.scheduler.asked(key for key in keys if key not in same)

    def _content(self, key: Key) -> str:
        unit = self.plan.units[key]
        return unit.content_id(self.scheduler.run_time_digests(key)) if unit.record["parents"] else ""

    def _repository(self, key: Key) -> str:
        return f"{self.farm.namespace}/{key.image}"

    def _begin(self, batch: Batch) -> dict[str, Any]:
        self.count += 1
        first = batch.keys[0]
        made = solve.make([self.plan.units[key] for key in batch.keys], self.plan, self.sources[first.image],
                          build=batch.build,
                          registry=self.farm.registry.address, repository=self._repository(first),
                          digests=self.scheduler.digests(batch), unpacked=self.unpacked.get(first.image, {}))
        if self._fresh(first):
            made.options["no-cache"] = ""  # for all stages; cache mounts stay
        job = Job(f"{self.run.name}.{self.count}", batch, made.name)
        folder = f"{self.node.jobs}/{job.id}"
        folders = {name: f"{folder}/contexts/{name}" for name in made.contexts}
        self.jobs[job.id] = job  # first, so that a job is known before it starts, whenever a signal arrives
        spec = {
            "id": job.id, "solve": {"contexts": made.trees(), "policy": made.policy},
            "words": made.words(folders, f"{folder}/policy.json", f"{folder}/metadata.json"),
            "socket": self.farm.socket, "buildctl": self.farm.buildctl, "root": self.farm.state,
            "store": f"{self.farm.state}/store", "own": self.node.store,
            "archive": f"{self.farm.registry.base}/v2/{self.farm.namespace}/archive",
        }
        return spec

    def _look(self, specs: list[dict[str, Any]], running: list[str]) -> None:
        """One turn of the node: handles what it started and what ended; batches without a slot wait again."""
        forget, self.forget = self.forget, []
        hurry = self.tagging and len(self.jobs) < self.farm.slots
        states = self.node.turn(specs, running, forget, SOON if hurry else WAIT, self.farm.slots)
        for name in {spec["id"] for spec in specs} - {state["id"] for state in states}:
            self.scheduler.put_back(self.jobs.pop(name).batch, time.monotonic())
        now = time.monotonic()
        for state in states:
            job = self.jobs[state["id"]]
            if not job.began:
                job.began = job.said = now - state["age"]
                self.say(f"{job.name}: building on {self.node.name}")
            if state["state"] == "running":
                if now - job.said >= max(SAY_EVERY, state["elapsed"] / 10) and state.get("steps"):
                    job.said = now
                    self.say(f"{job.name}: {step(state)}")
                continue
            del self.jobs[job.id]
            self.forget.append(job.id)
            with self.run.log(job.name).open("a") as log:  # an earlier attempt is in it
                log.write(state.pop("log"))
            began = job.began - self.began
            self.timings.append({"batch": job.name, "image": job.batch.keys[0].name, "began": round(began, 1),
                                 "ended": round(began + state["elapsed"], 1),
                                 "seconds": round(state["elapsed"], 1), "state": state["state"],
                                 "steps": state.get("steps"), "cached": state.get("cached")})
            for note in state.get("notes", []):  # damage that was repaired
                self.say(f"{job.name}: {note}")
            self._end(job, state)
        self.brisk = any(state["state"] != "running" for state in states)

    def _end(self, job: Job, state: dict[str, Any]) -> None:
        if state["state"] == "done":
            for key in job.batch.keys:
                self.trouble.pop(key, None)
            self.tagging[self.pool.submit(self._take, job, state["digest"])] = job, state
        elif state.get("full"):
            self._fail(job, f"no space left on {self.node.name}",
                       "free some, or give BuildKit a larger disk, and run again", state)
        elif state["state"] == "lost" or state.get("transport"):
            self._again(job, state)
        elif len(job.batch.keys) > 1:
            self.say(f"{job.name}: failed; each platform is now built alone, to see which one fails")
            self.scheduler.split(job.batch)
        else:
            self._fail(job, state.get("error") or "failed", "", state)

    def _again(self, job: Job, state: dict[str, Any]) -> None:
        """The units are not the cause: tries them again for a minute, with growing pauses."""
        now = time.monotonic()
        waits = min((self.trouble[key] for key in job.batch.keys if key in self.trouble), key=lambda each: each.since,
                    default=_Trouble(now))
        if max(now - job.began, job.began - waits.until) > PATIENCE and waits.tries < TRIES:
            waits.since = now  # it ran well for long, or waited long for a slot: this is a new problem
        what = state.get("error") or "lost"
        try:
            if state.get("transport"):  # BuildKit does not say why a registry fails
                self.farm.registry.check_room(self._repository(job.batch.keys[0]))
        except NoSpace as error:
            self._fail(job, str(error), "", state)
            return
        if now - waits.since > PATIENCE:
            self._fail(job, f"{what} (tried for {PATIENCE} seconds)",
                       "check the logs of the registry and of buildkitd (`make status` shows where they are)", state)
            return
        waits.tries += 1
        waits.until = now + min(2.0**waits.tries, 15)
        self.trouble.update(dict.fromkeys(job.batch.keys, waits))
        self.say(f"{job.name}: {what[:200]}; tried again in {waits.until - now:.0f} s")
        self.scheduler.put_back(job.batch, now, waits.until)

    def _fail(self, job: Job, error: str, hint: str, state: dict[str, Any]) -> None:
        log = self.run.log(job.name)
        text = f"{error}\n  step: {state['failed_step']}" if state.get("failed_step") else error
        tail = "\n".join(f"  | {line}" for line in state.get("tail", [])[-8:])
        message = text + (f"\n{tail}" if tail else "") + f"\n  whole log: {log}"
        message += f"\n  what to do: {hint}" if hint else ""
        after = self.scheduler.fail(job.batch, message)
        self.say(f"{job.name}: failed on {self.node.name}: {message}"
                 + (f"\n  cannot be built either: {', '.join(map(str, after))}" if after else ""))

    def _take(self, job: Job, digest: str) -> dict[Key, Manifest]:
        """Tags what a solve pushed: an index of the batch's platforms. It runs in another thread than the loop, so it
        must not touch what the loop uses."""
        data = self.farm.registry.pushed(self._repository(job.batch.keys[0]), digest)
        if data is None:
            raise FarmError(f"{job.name}: BuildKit says that it pushed {digest}, but the registry does not have it",
                            node=self.node.name)
        children = oci.read(data, f"{digest}, which BuildKit pushed").manifests
        found = {_platform(child.platform): (child.digest, child.size, child.media_type) for child in children}
        if lacking := [str(key) for key in job.batch.keys if str(key.platform) not in found]:
            raise FarmError(f"{digest}, which BuildKit pushed, lacks {', '.join(lacking)}", node=self.node.name)
        return {key: self._tag(key, *found[str(key.platform)]) for key in job.batch.keys}

    def _tag(self, key: Key, digest: str, size: int, kind: str) -> Manifest:
        """Archives what a unit was made of, and tags it by its build id and, if it has parents, by its content id.

        The first result is kept; a different one is reported.
        """
        unit, registry, repository = self.plan.units[key], self.farm.registry, self._repository(key)
        # first, so that whatever is tagged can be built again
        self.archive.describe(str(key), unit.id, unit.record, self.trees[key])
        content = self._content(key)
        for tag in ([f"c-{content}"] if content else []) + [f"b-{unit.id}"]:
            held = registry.digest(repository, tag)
            if held is None:
                size, kind = registry.tag(repository, digest, tag)
            elif held[0] != digest:
                self.say(f"{key}: {tag} is {held[0]} already, but this build gave {digest}: not reproducible; the "
                         "first one is kept")
                self.differs[key] = held[0], digest
                digest, size, kind = held
        return digest, size, kind

    def _kept(self) -> None:
        """Handles units that have been tagged meanwhile."""
        for future in [future for future in self.tagging if future.done()]:
            job, state = self.tagging.pop(future)
            try:
                for key, manifest in future.result().items():
                    self._done(key, *manifest, State.BUILT)
            except FarmError as error:
                self._fail(job, f"it was built, but could not be kept: {error}", "", state)
            else:
                self.say(f"{job.name}: built in {clock(state['elapsed'])}")

    def _done(self, key: Key, digest: str, size: int, kind: str, state: State) -> None:
        self.sizes[digest] = size, kind
        self.scheduler.done(key, digest, state)
        place = last_built.Place(self.farm.state, self.farm.registry.address, self.farm.namespace)
        build = self.scheduler.workers[self.node.name].native[0]
        last_built.write(place, self.plan.units[key], self.plan.entries(self.plan.units[key], build))


def _platform(value: Mapping[str, str]) -> str:
    """The name of an index entry's platform. BuildKit writes no variant for arm64, other tools write v8."""
    variant = value.get("variant", "") if value.get("architecture") == "arm" else ""
    return "/".join(part for part in (value.get("os"), value.get("architecture"), variant) if part)
