"""A run's broker and its sessions: a real broker and real runners, and units whose files nobody has or whose buildctl
is a script, so that each fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.plugin_utils.build import broker, builder, ending, session
from ansible_collections.desimages.farm.plugins.plugin_utils.build.builder import Builder
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.failures import Submit
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Fetched, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.keeper import Keeper, Kept
from ansible_collections.desimages.farm.plugins.plugin_utils.build.link import Link
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node
from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import Seat
from ansible_collections.desimages.farm.plugins.plugin_utils.build.session import Session
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import policy
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Scheduler, State

from .conftest import Catalog
from .local_node import PROVEN, Local
from .trusting import trust

NOWHERE = "127.0.0.1:9"
BUILDCTL = """#!/bin/sh
for word in "$@"; do case $word in --source-policy-file=*) cp "${word#*=}" "$0.$$" ;; esac; done
exit 1
"""
ABOUT = {"state": "/x", "socket": "/x/s", "buildctl": "/x/b", "slots": 1, "local": False, "play": 2, "lost": "",
         "busy": "wait", "emulation": {}}  # what a session says of its node, without its name


@dataclass
class Farm:
    """A run of six images for two platforms, whose nodes are folders of this machine."""

    root: Path
    planned: Planned
    controller: int = field(default_factory=os.getpid)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.run = Run.begin(str(self.root), os.getpid())
        self.locals: list[Local] = []

    def make(self, tell: Callable[[str], None], submit: Submit) -> Builder:
        registry, plan = Registry(NOWHERE, pauses=()), self.planned.plan
        keeper = Keeper(registry, "desimages", Archive(registry, "desimages", Store(self.root / "store")),
                        trust(registry, self.root), plan, {})
        return Builder(str(self.root), self.run, self.planned, Fetched(),
                       Scheduler(plan, self.planned.wanted, {}), keeper, tell, submit, gathered=0.0)

    def start(self) -> None:
        broker.start(self.run, self.controller, self.make)

    def session(self, name: str = "here", buildctl: str = "", nodes: int = 1) -> Session:
        """`buildctl` is a program that fails, unless it is given."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        self.locals.append(local := Local(folder))
        about = {"name": name, "state": str(folder), "socket": str(local.socket), "slots": 2, "local": True,
                 "buildctl": buildctl or program(self.root, "#!/bin/sh\nexit 1\n"), "play": nodes, "lost": "",
                 "busy": "wait", "emulation": {}}
        return Session(self.run.folder, local.node, about, self.said.append)

    def finish(self) -> Built:
        link = Link(self.run.folder)
        self.said += link.ask({"finish": True}, 20)["lines"]
        link.close()
        return self.run.load(Built)


def with_files(catalog: Catalog, root: Path) -> None:
    """Lays the catalog's files into the run's store."""
    store = Store(root / "store")
    for path in catalog.root.glob("*/*"):
        kept = store.path(sha256_of(str(path)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)


def program(root: Path, text: str) -> str:
    made = root / "buildctl"
    made.write_text(text)
    made.chmod(0o755)
    return str(made)


def six(empty: Catalog, root: Path) -> Farm:
    """A run that has begun."""
    for number in range(6):
        empty.image(f"image{number}", "FROM scratch\nCOPY . /\n")
    recipes, plan = load_catalog([str(empty.root)]), empty.plan()
    sources = {name: read_sources(recipe) for name, recipe in recipes.items()}
    with_files(empty, root)
    keys = list(plan.units)
    return Farm(root, Planned(plan, sources, keys, {}, [AMD64], keys, False, {}, {}, 0.0))


@pytest.fixture
def farm(empty: Catalog, tmp_path: Path) -> Iterator[Farm]:
    made = six(empty, tmp_path)
    yield made
    for local in made.locals:
        local.engine.close()


def test_what_a_node_had_no_slot_for_comes_again(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "WAIT", 0.0)  # a turn starts what it can, and does not wait for a slot
    farm.start()
    assert farm.session().serve()["failures"] == 12
    built = farm.finish()
    assert {outcome.state for outcome in built.outcomes.values()} == {State.FAILED}
    began = [line for line in farm.said if line.endswith("building on here")]
    assert len(began) == 18  # each batch of two platforms, and then each of them alone
    assert not list((farm.root / "here/jobs").iterdir())


def test_two_nodes_share_the_work(farm: Farm) -> None:
    farm.start()
    with ThreadPoolExecutor(2) as pool:
        sessions = [farm.session(name, nodes=2) for name in ("one", "two")]
        found = list(pool.map(lambda session: session.serve(), sessions))
    assert sum(each["failures"] for each in found) == 12
    assert {batch["node"] for batch in farm.finish().timings} == {"one", "two"}


def test_a_node_that_cannot_be_reached_loses_its_work_to_another(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first batches run there, and nobody hears of it again."""
    farm.start()
    lost = farm.session("lost", nodes=2)
    turn, calls = lost._node.turn, 0

    def once(*arguments: Any) -> list[dict[str, Any]]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Unreachable("no route to host")
        return [{**state, "state": "running"} for state in turn(*arguments)]

    monkeypatch.setattr(lost._node, "turn", once)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lost.serve)
        second = pool.submit(farm.session("other", nodes=2).serve)
        assert second.result(300)["failures"] == 12
        first.result(300)
    assert {outcome.state for outcome in farm.finish().outcomes.values()} == {State.FAILED}
    assert any("lost: no route to host" in line for line in farm.said)


def test_a_node_that_does_not_answer_is_left_alone_for_a_while(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while lines are to be said, with which its session is answered at once."""
    farm.start()
    lost, calls = farm.session("lost", nodes=2), list[float]()

    def silent(keep: str, registry: object) -> dict[str, Any]:
        calls.append(time.monotonic())
        raise Unreachable("no route to host")

    monkeypatch.setattr(lost._node, "prepare", silent)
    slow = program(farm.root, "#!/bin/sh\nsleep 0.3\nexit 1\n")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lost.serve)
        pool.submit(farm.session("other", buildctl=slow, nodes=2).serve).result(300)
        first.result(300)
    pauses = [later - earlier for earlier, later in pairwise(calls)]
    assert all(pause >= least for pause, least in zip(pauses, builder.PAUSES)), pauses


def test_a_run_without_a_usable_node_says_why(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    farm.start()
    session = farm.session()

    def broken(keep: str, registry: object) -> dict[str, Any]:
        raise FarmError("its python is gone")

    monkeypatch.setattr(session._node, "prepare", broken)
    session.serve()
    built = farm.finish()
    assert built.error == "no node remains: here: its python is gone"
    assert {outcome.state for outcome in built.outcomes.values()} == {State.LEFT}


def test_a_run_whose_ansible_playbook_is_gone_builds_no_more(farm: Farm) -> None:
    with subprocess.Popen(["sleep", "300"]) as controller:
        farm.controller = controller.pid
        farm.start()
        link = Link(farm.run.folder)
        assert link.ask({}, 20) == {"lines": []}
        os.kill(controller.pid, signal.SIGKILL)
        with pytest.raises(FarmError, match="the broker of this run does not answer"):
            while True:
                link.ask({}, 20)
    assert {outcome.state for outcome in farm.run.load(Built).outcomes.values()} == {State.LEFT}


def test_every_build_that_a_node_starts_has_the_source_policy(farm: Farm, empty: Catalog, tmp_path: Path) -> None:
    farm.start()
    farm.session(buildctl=program(tmp_path, BUILDCTL)).serve()
    farm.finish()
    found = [json.loads(path.read_text()) for path in tmp_path.glob("buildctl.*")]
    assert found == [policy(NOWHERE, "desimages")] * 18  # as above


def building(farm: Farm) -> tuple[Builder, Seat, str]:
    """A node that was given its first job, and the job's id."""
    made = farm.make(print, lambda work, then: None)
    seat = made.sit("pi", {"name": "pi", "state": "/x", "socket": "/x/s", "buildctl": "/x/b", "slots": 1,
                           "local": True, "play": 1, "lost": "", "busy": "wait", "emulation": {}})
    made.prepared(seat, "x86_64", PROVEN, [])
    orders = made.orders(seat)
    assert orders
    return made, seat, orders["specs"][0]["id"]


def test_a_batch_that_ended_unseen_began_when_it_did(farm: Farm) -> None:
    made, seat, name = building(farm)
    made.began -= 10
    seat.jobs[name].sent -= 5
    made.reported(seat, [name], [{"id": name, "state": "failed", "full": True, "elapsed": 1.0, "age": 3.0}])
    (timing,) = made.timings
    assert timing["began"] == pytest.approx(7, abs=0.5)
    assert timing["ended"] == pytest.approx(8, abs=0.5)


def test_a_batch_has_not_taken_longer_than_it_was_there_whatever_its_node_says(farm: Farm) -> None:
    """The clock of a board is set by years while it builds."""
    made, seat, name = building(farm)
    seat.jobs[name].sent -= 5
    made.reported(seat, [name], [{"id": name, "state": "done", "digest": "sha256:1", "elapsed": 9e8, "age": 9e8}])
    (timing,) = made.timings
    assert [timing["seconds"], seat.seconds] == pytest.approx([5, 5], abs=0.5)
    assert timing["began"] == pytest.approx(-5, abs=0.5)
    assert max(made.scheduler.learned["durations"].values(), default=0) < 10


def test_a_log_too_long_for_one_answer_is_read_to_its_end(farm: Farm) -> None:
    """Broken off, it says so, and the result counts."""
    long = program(farm.root, "#!/bin/sh\nseq -f %0700.0f 2000 >&2\necho its end >&2\nexit 1\n")
    farm.start()
    whole, broken = farm.session("whole", long, 2), farm.session("broken", long, 2)

    def unreachable(job: str, at: int) -> tuple[str, int | None]:
        raise Unreachable("the line is down")

    broken._node.log = unreachable  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda session: session.serve(), (whole, broken)))
    assert {outcome.state for outcome in farm.finish().outcomes.values()} == {State.FAILED}
    ends = {path.read_text().splitlines()[-1] for path in (farm.run.folder / "logs").iterdir()}
    assert ends == {"its end", "the rest of this log could not be read: the line is down"}


def test_a_node_whose_session_fails_costs_only_itself(farm: Farm) -> None:
    farm.start()
    bad, good = farm.session("bad", nodes=2), farm.session("good", nodes=2)

    def failing(*arguments: object, **named: object) -> None:
        raise TypeError("a mistake")

    bad._node.prepare = failing  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError, match="a mistake"):
        bad.serve()
    good.serve()
    built = farm.finish()
    assert (built.error, built.nodes["bad"].out) == ("", "its session has ended")
    assert {outcome.state for outcome in built.outcomes.values()} == {State.FAILED}


def test_the_broker_ends_with_its_run(farm: Farm) -> None:
    farm.start()
    link = Link(farm.run.folder)
    assert {outcome.state for outcome in farm.finish().outcomes.values()} == {State.LEFT}
    with pytest.raises(FarmError, match="does not answer"):
        while True:
            link.ask({}, 20)


def test_what_is_being_tagged_is_kept_although_no_node_remains(
        farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICK", "GRACE"):
        monkeypatch.setattr(broker, name, 0.05)
    told = farm.run.folder / broker.PROGRESS

    def take(self: Keeper, keys: list[Key], digest: str, contents: object, **_about: str) -> Kept:
        while "gets no more work" not in told.read_text():
            time.sleep(0.01)
        time.sleep(0.5)  # the registry is slow
        return Kept(dict.fromkeys(keys, (digest, 1, "")))

    monkeypatch.setattr(Keeper, "take", take)
    farm.start()
    here = farm.session(buildctl=program(tmp_path, DONE))
    here._about["slots"] = 1  # else it gets all in its first turn
    turn = here._node.turn

    def once(*arguments: Any) -> list[dict[str, Any]]:
        if any("building on" in line for line in farm.said):
            raise FarmError("its python is gone")
        return turn(*arguments)

    monkeypatch.setattr(here._node, "turn", once)
    here.serve()
    built = farm.finish()
    assert built.error == "no node remains: here: its python is gone"
    assert {outcome.state for outcome in built.outcomes.values()} == {State.BUILT, State.LEFT}


def full(self: Run, value: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))


def test_a_run_whose_result_no_disk_has_room_for_says_so(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "save", full)
    farm.start()
    assert farm.session().serve()["failures"] == 12
    with pytest.raises(FarmError, match="what became of the units could not be written down: no space left for /"):
        ending.built(farm.run, farm.planned, {}, farm.said.append)


def test_a_broker_ends_after_ansible_playbook_even_if_it_can_save_nothing(
        farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "save", full)
    with subprocess.Popen(["sleep", "300"]) as controller:
        farm.controller = controller.pid
        farm.start()
        link, until = Link(farm.run.folder), time.monotonic() + 30
        os.kill(controller.pid, signal.SIGKILL)
        with pytest.raises(FarmError, match="the broker of this run does not answer"):
            while time.monotonic() < until:
                link.ask({}, 20)


def test_a_session_that_is_stopped_after_its_broker_ends_like_any_other(farm: Farm) -> None:
    farm.start()
    session = farm.session()

    def stopped(**_named: object) -> dict[str, Any]:
        farm.finish()
        raise KeyboardInterrupt

    session._node.prepare = stopped  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        session.serve()


class Chatty:
    """A node that says that its log goes on, from the same place for ever."""

    def turn(self, *_arguments: object) -> list[dict[str, Any]]:
        return [{"id": "a.1", "state": "done", "elapsed": 1, "age": 1, "log": "x" * 400, "rest": 1}]

    def log(self, job: str, at: int) -> tuple[str, int]:
        return "y" * 400, 1


@pytest.mark.parametrize("name", ["log", "gone/log"])
def test_a_log_that_does_not_end_or_fit_costs_no_result(
        farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(session, "LOG", 1000)
    made = Session(farm.run.folder, Chatty(), {"name": "pi"}, farm.said.append)  # type: ignore[arg-type]
    found = made._turn([{"id": "a.1", "log": str(tmp_path / name)}], [], [], [], 0, 1)
    assert found == {"states": [{"id": "a.1", "state": "done", "elapsed": 1, "age": 1}], "sent": ["a.1"]}
    if name == "log":
        text = (tmp_path / name).read_text()
        assert text.count("\n") == 2 and "was not read" in text and len(text) < 2000
    else:
        assert farm.said[-1].startswith("pi: a log could not be kept: ")


def test_units_are_not_given_up_before_the_nodes_are_there(farm: Farm) -> None:
    made = farm.make(print, lambda work, then: None)
    assert made.waiting.stuck(time.monotonic()) == ""
    assert {outcome.state for outcome in made.scheduler.outcomes.values()} == {State.WAITING}


def test_units_that_no_node_can_build_fail_and_the_others_go_on(farm: Farm) -> None:
    made = farm.make(print, lambda work, then: None)
    about = {"name": "pi", "state": "/x", "socket": "/x/s", "buildctl": "/x/b", "slots": 1, "local": False, "play": 1,
             "lost": "", "busy": "wait", "emulation": {}}
    made.prepared(made.sit("pi", about), "armv6l", PROVEN, [])
    assert made.waiting.stuck(time.monotonic()) == ""
    assert {outcome.error for outcome in made.scheduler.outcomes.values()} == {
        "no available node runs linux/amd64 or linux/arm64, and none may emulate it"}


DONE = """#!/bin/sh
for word in "$@"; do
    case $word in --metadata-file=*) echo '{"containerimage.digest": "sha256:abc"}' > "${word#*=}" ;; esac
done
"""


def test_a_mistake_of_ours_ends_the_run_and_is_told(farm: Farm, empty: Catalog, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def take(*arguments: object, **named: object) -> None:
        raise IndexError("a mistake")

    monkeypatch.setattr(Keeper, "take", take)
    farm.start()
    farm.session(buildctl=program(tmp_path, DONE)).serve()
    built = farm.finish()
    assert "IndexError: a mistake (see " in built.error
    assert "IndexError: a mistake" in (farm.run.folder / "broker.log").read_text()
    assert {outcome.state for outcome in built.outcomes.values()} == {State.LEFT}


def test_a_result_that_comes_after_another_nodes_is_let_go(farm: Farm) -> None:
    submitted: list[object] = []
    made = farm.make(print, lambda work, then: submitted.append(work))
    late, other = made.sit("late", {**ABOUT, "name": "late"}), made.sit("other", {**ABOUT, "name": "other"})
    made.prepared(late, "x86_64", PROVEN, [])
    orders = made.orders(late)
    assert orders
    first = orders["specs"][0]["id"]
    keys = late.jobs[first].batch.keys
    made.missed(late, "no answer")
    made.prepared(other, "x86_64", PROVEN, [])
    for key in keys:
        made.scheduler.done(key, "sha256:1")
    made.prepared(late, "x86_64", PROVEN, [])
    assert first in made.orders(late)["cancel"]  # type: ignore[index]
    made.reported(late, [], [{"id": first, "state": "done", "digest": "sha256:2", "elapsed": 1.0, "age": 3.0}])
    assert submitted == []
    assert {made.scheduler.outcomes[key].digest for key in keys} == {"sha256:1"}


def test_a_late_result_that_cannot_be_kept_fails_no_unit_of_another_node(farm: Farm) -> None:
    pending: list[Callable[[object], None]] = []
    made = farm.make(print, lambda work, then: pending.append(then))
    late = made.sit("late", {**ABOUT, "name": "late"})
    made.prepared(late, "x86_64", PROVEN, [])
    orders = made.orders(late)
    assert orders
    first = orders["specs"][0]["id"]
    keys = late.jobs[first].batch.keys
    made.missed(late, "no answer")
    made.prepared(late, "x86_64", PROVEN, [])
    made.reported(late, [], [{"id": first, "state": "done", "digest": "sha256:2", "elapsed": 1.0, "age": 3.0}])
    pending[-1](Unreachable("no registry answers"))
    assert first not in late.forget, "the next run may take it"
    pending[-1](FarmError("the registry does not have it"))
    assert first in late.forget
    assert {made.scheduler.outcomes[key].state for key in keys} <= {State.WAITING, State.RUNNING}


def test_a_result_that_comes_twice_counts_once_and_its_node_keeps_it_until_then(farm: Farm) -> None:
    pending: list[Callable[[object], None]] = []
    said: list[str] = []
    made = farm.make(said.append, lambda work, then: pending.append(then))
    one, two = made.sit("one", {**ABOUT, "name": "one"}), made.sit("two", {**ABOUT, "name": "two"})
    made.prepared(one, "x86_64", PROVEN, [])
    orders = made.orders(one)
    assert orders
    first = orders["specs"][0]["id"]
    keys = one.jobs[first].batch.keys
    made.missed(one, "no answer")
    made.prepared(two, "x86_64", PROVEN, [])
    while not (jobs := [name for name, job in two.jobs.items() if job.batch.keys == keys]):
        assert made.orders(two)
    made.prepared(one, "x86_64", PROVEN, [])
    for seat, name in ((one, first), (two, jobs[0])):
        made.reported(seat, [], [{"id": name, "state": "done", "digest": "sha256:1", "elapsed": 1.0, "age": 1.0}])
        assert name not in seat.forget
    for then in pending:
        then(Kept(dict.fromkeys(keys, ("sha256:1", 1, ""))))
    assert (one.forget, two.forget, two.built) == ([first], jobs, [])
    assert sorted(one.built) == sorted(keys)
    assert sum(": built in " in line for line in said) == 1


def test_what_a_node_finished_counts_if_this_controller_gave_it_to_that_node(farm: Farm) -> None:
    submitted: list[object] = []
    made = farm.make(print, lambda work, then: submitted.append(work))
    key = farm.planned.todo[0]
    farm.run.give(f"{farm.run.name}.1", "pi", {str(key): farm.planned.plan.units[key].id})
    finished = [{"id": f"{farm.run.name}.1", "digest": "sha256:1", "units": {str(key): "x"}}]
    other = made.sit("other", {**ABOUT, "name": "other", "slots": 20})
    made.prepared(other, "x86_64", PROVEN, finished)
    assert submitted == []
    assert made.orders(other) and made.scheduler.outcomes[key].state == State.RUNNING  # it answered sooner
    made.prepared(made.sit("pi", {**ABOUT, "name": "pi"}), "x86_64", PROVEN, finished)
    assert len(submitted) == 1


@pytest.mark.parametrize("answer", [[], {"machine": 1, "node": {}, "finished": []},
                                    {"machine": "x86_64", "node": {}, "finished": [{"id": 1, "digest": "x"}]}])
def test_a_node_whose_answer_fits_nothing_gets_no_work(answer: object) -> None:
    node = Node("pi", lambda command, stdin, seconds: (0, json.dumps(answer), ""), lambda: "python3", "/x")
    with pytest.raises(FarmError, match="does not fit the question"):
        node.prepare()


@pytest.mark.parametrize("state", [{"id": "other.1", "state": "done", "elapsed": 1, "age": 1}, {"id": "own.1"}, 1])
def test_a_state_of_a_job_that_a_node_was_not_given_is_refused(state: object) -> None:
    node = Node("pi", lambda command, stdin, seconds: (0, json.dumps([state]), ""), lambda: "python3", "/x")
    with pytest.raises(FarmError, match="does not fit the question"):
        node.turn([], ["own.1"], [], 0, 1)
