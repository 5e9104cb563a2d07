"""The runner on a node: real processes, with a script in the place of buildctl."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import runner, runner_job
from ansible_collections.desimages.farm.plugins.module_utils.errors import Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.module_utils.state import claim
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node, runner_zip

from .local_node import BAD, GOOD, PROVEN, SLOW, Local


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    found = Local(tmp_path)
    yield found
    found.node.cancel([path.name for path in (tmp_path / "jobs").glob("*") if path.is_dir()])
    found.engine.close()


def test_a_job_gives_digest_progress_and_its_whole_log(local: Local) -> None:
    local.start("a", GOOD, {"etc/motd": local.keep(b"from the store\n")})
    state = local.end("a")
    assert (state["state"], state["digest"], state["done"], state["tail"]) == ("done", "sha256:abc", 1, ["hello"])
    log = state["log"]
    assert "[1/1] RUN make" in log and "    hello" in log and "from the store" in log
    local.node.turn([], [], ["a"], 0, 1)
    assert not (local.root / "jobs/a").exists()


LOGIN = """#!/bin/sh
stat -c 'mode %a of %n' "$DOCKER_CONFIG" "$DOCKER_CONFIG/config.json" >&2
echo "config $(cat "$DOCKER_CONFIG/config.json")" >&2
exit 1
"""


def test_a_job_has_its_login_while_it_runs_and_nothing_on_the_disk_keeps_it(local: Local) -> None:
    access = {"url": "https://192.0.2.5:5000", "ca": "", "user": "farm", "password": "open sesame"}
    local.node.turn([{**local.spec("a", LOGIN, {}), "registry": access}], [], [], 0, 1)
    state = local.end("a")
    folder = local.root / "jobs/a"
    secret = base64.b64encode(b"farm:open sesame").decode()
    assert state["tail"] == [f"mode 700 of {folder}/docker", f"mode 600 of {folder}/docker/config.json",
                             f'config {{"auths": {{"192.0.2.5:5000": {{"auth": "{secret}"}}}}}}']
    (folder / "log").unlink()  # this buildctl printed it
    (folder / "state.json").unlink()
    kept = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "open sesame" not in kept and secret not in kept
    assert '"user": "farm"' in kept


def test_a_job_without_a_login_gets_none(local: Local) -> None:
    local.start("a", '#!/bin/sh\necho "config ${DOCKER_CONFIG-none}" >&2\nexit 1\n', {})
    assert local.end("a")["tail"] == ["config none"]


def test_a_node_starts_the_next_job_itself_when_a_slot_becomes_free(local: Local) -> None:
    tree = {"etc/motd": local.keep(b"")}
    states = local.node.turn([local.spec(name, GOOD, tree) for name in "abc"], [], [], 30, 1)
    assert [(state["id"], state["state"]) for state in states[:1]] == [("a", "done")]
    assert [state["id"]
            for state in states[1:]] == list("bc")[: len(states) - 1] != [], "one at least was started in its place"
    for before, after in zip(states, states[1:]):
        assert after["started"] >= before["ended"]
    assert states[0]["age"] >= states[0]["elapsed"] + states[1]["age"], "how long ago it began, whenever it ended"


def test_what_a_node_had_no_slot_for_is_not_started(local: Local) -> None:
    states = local.node.turn([local.spec(name, SLOW, {}) for name in "abc"], [], [], 0, 2)
    assert [state["id"] for state in states] == ["a", "b"]
    assert not (local.root / "jobs/c").exists()


def test_a_job_that_a_full_disk_lets_not_begin_is_told_and_others_go_on(
        local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def start(spec: dict[str, Any]) -> None:
        if spec["id"] == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "spec.json")
        begun.append(spec["id"])

    local.start("a", SLOW, {})
    monkeypatch.setattr(runner, "start", start)
    states = {state["id"]: state for state in runner.turn(local.node.jobs, [{"id": "b"}, {"id": "c"}], ["a"], [], 0, 3)}
    assert (states["a"]["state"], begun) == ("running", ["c"])
    assert [states["b"][name] for name in ("state", "full", "error", "log")] == [
        "failed", True, "No space left on device: spec.json", ""]
    local.node.cancel(["a"])
    local.end("a")


def test_what_has_ended_is_told_soon_although_others_wait_for_its_slot(local: Local) -> None:
    began = time.monotonic()
    program = "#!/bin/sh\ncase $* in */jobs/a/*) exit 1 ;; esac\nexec sleep 300\n"
    states = local.node.turn([local.spec(name, program, {}) for name in "abc"], [], [], 30, 1)
    assert {state["id"]: state["state"] for state in states} == {"a": "failed", "b": "running"}
    assert time.monotonic() - began < 15


def test_a_host_is_probed_through_the_runner_where_that_lies(local: Local) -> None:
    value = {"state_dir": str(local.root), "fingerprint": "f", "services": ["registry"]}
    found = local.node.probe(value)
    assert found == {"changed": False, "well": False, "reasons": ["registry is missing", "it was never provisioned"],
                     "engine": "", "node": PROVEN, "other": ""}
    assert Node("new", local.execute, lambda: sys.executable, str(local.root / "new")).probe(value) is None
    assert not (local.root / "new").exists()


def test_what_lies_where_a_login_begins_is_no_part_of_python(tmp_path: Path) -> None:
    """Root runs it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "base64.py").write_text("raise SystemExit('planted')\n")

    def execute(command: str, stdin: str, seconds: float) -> tuple[int, str, str]:
        done = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, text=True, check=False, cwd=home)
        return done.returncode, done.stdout, done.stderr

    claim(str(tmp_path / "farm"))
    node = Node("here", execute, lambda: sys.executable, str(tmp_path / "farm"))
    node.install()
    assert node.prepare()["machine"] == os.uname().machine


def test_a_failed_job_says_which_step_and_why(local: Local) -> None:
    local.start("a", BAD, {})
    state = local.end("a")
    assert (state["state"], state["failed_step"], state["error"],
            state["tail"]) == ("failed", "[1/1] RUN make", "exit code: 2", ["error: failed to solve"])


def test_an_engine_that_goes_away_makes_its_jobs_lost_not_failed(local: Local) -> None:
    local.engine.close()
    local.start("a", BAD, {})
    assert local.end("a")["state"] == "lost"


def test_a_cancelled_job_ends_with_what_it_started(local: Local) -> None:
    local.start("a", SLOW, {})
    deadline = time.monotonic() + 10
    while local.node.turn([], ["a"], [], 0, 1)[0].get("phase") != "build" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert local.node.cancel(["a"]) == ["a"]
    assert local.end("a")["state"] == "cancelled"


def test_what_is_cancelled_while_a_turn_still_runs_is_not_started_by_it(local: Local) -> None:
    specs = [local.spec("a", SLOW, {}), local.spec("b", SLOW, {})]
    with ThreadPoolExecutor(1) as pool:
        turn = pool.submit(local.node.turn, specs, [], [], 30, 1)
        while not (local.root / "jobs/a/pid").exists() and not turn.done():
            time.sleep(0.02)
        local.node.cancel(["a", "b"])
        assert [state["state"] for state in turn.result()] == ["cancelled", "lost"]
    assert not (local.root / "jobs/b/pid").exists()


def test_a_new_controller_ends_the_jobs_of_one_that_died(local: Local) -> None:
    local.start("a", SLOW, {})
    local.node.prepare()
    assert local.end("a")["state"] == "cancelled"


def test_a_job_whose_process_was_killed_is_lost(local: Local) -> None:
    local.start("a", SLOW, {})
    os.kill(int((local.root / "jobs/a/pid").read_text()), 9)  # the number is there as soon as the job is started
    assert local.end("a")["state"] == "lost"


def test_what_neither_store_nor_archive_has_fails_the_job(local: Local) -> None:
    local.start("a", GOOD, {"x": ["0" * 64, 5, 0o644, 0]})
    state = local.end("a")
    assert state["state"] == "failed"
    assert "0" * 64 in state["error"]


ODD = [  # what stands on BuildKit's stderr may be anything
    "5", "-1.5e300", '"text"', "true", "null", "[]", "[1, {}]", "{}", "", " ", "not JSON", "{",
    '{"vertexes": 5}', '{"vertexes": [5, null, [], "x", {}]}', '{"vertexes": {"a": 1}, "logs": "x"}',
    '{"vertexes": [{"digest": {"a": 1}, "name": ["x"], "started": true, "completed": 7, "error": [1], "cached": 0}]}',
    '{"vertexes": [{"name": "no digest", "started": "1"}]}', '{"vertexes": [{"digest": 1e999, "name": NaN}]}',
    '{"vertexes": [{"digest": "d", "name": "half \\ud800 of a character", "started": "1", "error": "\\udfff"}]}',
    '{"logs": [{"data": 5}, {"data": "no base64!"}, {"data": "YQ"}, {"data": ["x"]}, {}]}',
    '{"logs": [{"data": "//79"}]}',
    '"\\ud800"', "\0\x1b[2J", "\xff\xfe", "1" * 5000,
    "[" * 100_000, '{"a":' * 100_000, '{"vertexes": [' + "[" * 900 + "]" * 900 + "]}",
]


@pytest.mark.timeout(60)
def test_whatever_buildkit_prints_the_job_goes_on_to_its_end(local: Local) -> None:
    (local.root / "lines").write_bytes("\n".join(ODD).encode("latin-1"))
    script = GOOD.replace("cat ", f"cat {local.root}/lines >&2; echo >&2; cat ", 1)
    local.start("a", script, {"etc/motd": local.keep(b"from the store\n")})
    state = local.end("a")
    assert (state["state"], state["digest"]) == ("done", "sha256:abc"), state
    for said in ("hello", "no base64!", "not JSON", "half ? of a character", "from the store"):
        assert said in state["log"]


@pytest.mark.timeout(60)
def test_a_line_of_any_length_is_kept_in_part(local: Local) -> None:
    long = "head -c 40000000 /dev/zero | tr '\\0' '[' >&2; echo >&2; cat "
    local.start("a", GOOD.replace("cat ", long, 1), {"etc/motd": local.keep(b"from the store\n")})
    state = local.end("a")
    assert state["state"] == "done"
    assert "from the store" in state["log"]
    assert len(state["log"]) < 1_000_000 and len(json.dumps(state["tail"])) < 100_000


def running(marker: str) -> list[int]:
    """The processes that have a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def until(condition: Any, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


DEAF = """#!/bin/sh
trap '' TERM INT
while :; do sleep 0.1; done
"""


@pytest.mark.timeout(60)
def test_a_buildctl_that_does_not_end_when_it_is_asked_to_is_made_to(local: Local) -> None:
    local.start("a", DEAF, {})
    until(lambda: local.node.turn([], ["a"], [], 0, 1)[0].get("phase") == "build")
    local.node.cancel(["a"])
    assert local.end("a")["state"] == "cancelled"
    until(lambda: not running(str(local.root / "jobs/a")))


@pytest.mark.timeout(60)
def test_a_job_that_cannot_go_on_ends_buildctl_and_says_why(local: Local) -> None:
    folder = local.root / "jobs/a"
    local.start("a", SLOW, {})
    until(lambda: json.loads((folder / "state.json").read_text()).get("phase") == "build")
    (folder / "beat").unlink()
    until(lambda: json.loads((folder / "state.json").read_text())["state"] != "running")
    state = local.end("a")
    assert state["state"] == "failed" and "No such file or directory" in state["error"], state
    assert not running(f"{folder}")


def test_a_job_that_nobody_asks_for_ends_and_one_whose_clock_is_set_goes_on(tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """A board without a battery learns the time when it has a network; a laptop sleeps."""
    beat, clocks = tmp_path / "beat", {"time": 1e9, "monotonic": 50.0}
    monkeypatch.setattr(runner_job, "time", SimpleNamespace(**{name: lambda name=name: clocks[name]
                                                               for name in clocks}))
    beat.touch()
    os.utime(beat, (1e9, 1e9))
    job = runner_job._Job(tmp_path, {})
    for year in (1e9, 2e9, 1e6):
        clocks["time"] = year
        assert not job._look()
        os.utime(beat, (year, year))
        clocks["monotonic"] += 899
    assert not job._look()
    clocks["monotonic"] += 901
    assert job._look() and job.why == "no controller asked about this job for 15 minutes"


def test_a_log_comes_in_pieces_that_a_slow_network_carries_in_time(tmp_path: Path) -> None:
    """A step may print 64 MB, more than 1 Mbit/s carries before a node counts as lost."""
    jobs, lines = tmp_path / "jobs", "".join(f"{number} \N{EURO SIGN}\n" for number in range(60_000))
    for name in ("a", "b"):
        (jobs / name).mkdir(parents=True)
        (jobs / name / "log").write_text(lines)
        (jobs / name / "runner.err").write_text("and why\n")
        runner_job.write_state(jobs / name, {"state": "done", "started": 1.0, "ended": 2.0})
    states = runner.turn(str(jobs), [], ["a", "b"], [], 0, 2)
    assert sum(len(state["log"]) for state in states) <= runner.PIECE < len(lines)
    for state in states:
        whole, at = state["log"], state.get("rest")
        while at is not None:
            piece = runner.log(str(jobs), state["id"], at)
            whole, at = whole + piece["log"], piece.get("rest")
        assert whole == lines + "and why\n"
    assert runner.log(str(jobs), "gone", 0) == {"log": ""}


def test_what_a_job_leaves_on_a_node_is_bounded_and_goes_with_the_next_run(
        local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_job, "LOG", 2000)
    before = signal.getsignal(signal.SIGTERM)
    for name in ("forgotten", "abandoned"):
        spec = local.spec(name, "#!/bin/sh\nseq 100000 >&2\nexit 1\n", {"etc/motd": local.keep(b"x")})
        spec["registry"] = {"url": "http://127.0.0.1:9", "user": "farm", "password": "secret"}
        folder = local.root / "jobs" / name
        folder.mkdir(parents=True)
        (folder / "beat").touch()
        runner_job.run(folder, spec)
        signal.signal(signal.SIGTERM, before)
        log = (folder / "log").read_text()
        assert len(log) < 2100 and log.endswith("the log is cut off here, at 0 MB\n")
        assert {path.name for path in folder.iterdir()} == {"beat", "command.json", "log", "policy.json", "state.json"}
    runner.turn(str(local.root / "jobs"), [], [], ["forgotten"], 0, 1)
    assert [path.name for path in (local.root / "jobs").iterdir()] == ["abandoned"]
    local.node.prepare()  # as the next run of any controller does
    assert list((local.root / "jobs").iterdir()) == []


def test_runners_of_other_versions_do_not_gather_on_a_node(local: Local) -> None:
    folder = local.root / "bin"
    (own,) = folder.glob("runner-*")
    for name in ("runner-old", "runner-old.77", "runner-new", "buildkitd"):
        (folder / name).mkdir()
        (folder / name / "part").touch()
        if name != "runner-new":
            os.utime(folder / name, (1, 1))
    os.utime(own, (1, 1))
    local.start("a.1", SLOW, {})
    local.node.prepare(keep="a")
    assert (folder / "runner-old").exists(), "a job that runs may be of it"
    local.node.cancel(["a.1"])
    local.end("a.1")
    local.node.prepare()
    assert {path.name for path in folder.iterdir()} == {own.name, "runner-new", "buildkitd"}


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_whatever_mask_a_host_has_nobody_else_writes_what_root_runs(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        local = Local(tmp_path)
        local.start("a", GOOD, {"etc/motd": local.keep(b"x")})
        assert local.end("a")["state"] == "done"
    finally:
        os.umask(before)
    made = [path for name in ("bin", "jobs", "node") for path in (tmp_path / name, *(tmp_path / name).rglob("*"))]
    assert len(made) > 20
    assert [path for path in made if path.stat().st_mode & 0o022 and path.name != "bin"] == []
    local.engine.close()


@pytest.mark.timeout(60)
def test_a_job_whose_folder_vanishes_is_lost_and_its_buildctl_ended(local: Local) -> None:
    local.start("a", DEAF, {})
    until(lambda: running(str(local.root / "jobs/a")))
    pid = int((local.root / "jobs/a/pid").read_text())
    (local.root / "jobs").rename(local.root / "removed")  # at once, as the job writes into it
    assert local.end("a")["state"] == "lost"
    until(lambda: not running(str(local.root / "jobs/a")))
    until(lambda: not started(pid))
    assert not (local.root / "jobs/a").exists(), "else a farm that was removed would come back"


def test_a_state_that_cannot_be_read_is_that_of_a_job_which_runs_or_is_lost(local: Local) -> None:
    local.start("a", SLOW, {})
    state, pid = local.root / "jobs/a/state.json", int((local.root / "jobs/a/pid").read_text())
    texts = ["", "{", "5", "[]", "{}", "\0" * 50, "[" * 100_000]
    texts += ['{"state": 5, "started": 1}', '{"state": "done", "started": "x"}']
    os.kill(pid, signal.SIGSTOP)  # it writes no other
    for text in texts:
        state.write_text(text)
        assert local.node.turn([], ["a"], [], 0, 1)[0]["state"] == "running"
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in running("runner-"))
    for text in texts:
        state.write_text(text)
        assert local.end("a")["state"] == "lost"


def test_a_buildctl_that_is_not_there_or_tells_no_digest_is_named(local: Local) -> None:
    local.start("a", "#!/bin/sh\nexit 0\n", {})
    assert "gave no digest" in local.end("a")["error"]
    spec = local.spec("b", GOOD, {})
    local.node.turn([{**spec, "buildctl": "/nowhere/buildctl"}], [], [], 0, 1)
    assert local.end("b")["error"] == "No such file or directory: /nowhere/buildctl"


def test_what_was_found_damaged_is_told_and_in_the_log(local: Local) -> None:
    motd = local.keep(b"from the store\n")
    path = local.root / "store/sha256" / motd[0][:2] / motd[0]
    wrong = b"FROM THE STORE\n"
    path.write_bytes(wrong)
    blobs = local.root / "archive/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"sha256:{motd[0]}").write_bytes(b"from the store\n")
    local.node.turn([{**local.spec("a", GOOD, {"etc/motd": motd}), "archive": f"file://{blobs.parent}"}], [], [], 0, 1)
    state = local.end("a")
    assert state["state"] == "done"
    assert state["notes"] == [f"{path} is not used: it is sha256:{hashlib.sha256(wrong).hexdigest()}"]
    assert state["log"].startswith(state["notes"][0])


def test_no_other_user_can_hold_a_turn_up(local: Local) -> None:
    local.node.turn([], [], [], 0, 1)
    assert (local.root / "jobs.lock").stat().st_mode & 0o777 == 0o600
    (local.root / "jobs.lock").chmod(0o644)
    local.node.turn([], [], [], 0, 1)
    assert (local.root / "jobs.lock").stat().st_mode & 0o777 == 0o600


def test_a_turn_that_another_one_holds_up_says_so(
        local: Local, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The node is slow, and may be faster the next time."""
    monkeypatch.setattr(runner, "PATIENCE", 0.2)
    with (local.root / "jobs.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"jobs": local.node.jobs})))
        code, said = runner.main(["turn"]), capsys.readouterr().err
    node = Node("pi", lambda command, stdin, seconds: (code, "", said), lambda: "python3", "/x")
    with pytest.raises(Unreachable, match=r"pi is too slow: another process has held the lock for more than 0\.2 s"):
        node.turn([], [], [], 0, 1)


def test_a_program_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 0.2)
    assert runner._program(["sleep", "300"]) == (124, "", "sleep did not end within 0.2 s")
    assert runner._program(["/nowhere/x"])[0] == 127


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_how_a_job_ended_is_told_on_a_full_disk_too(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        runner_job.write_state(tmp_path, {"state": "running", "started": 1.0, "tail": ["x" * 100]})
        job = runner_job._Job(tmp_path, {})
        with contextlib.suppress(OSError), (tmp_path / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1000))
        job.end({"state": "failed", "error": "No space left on device", "full": True})
        assert runner.poll(str(tmp_path.parent), [tmp_path.name])[0]["error"] == "No space left on device"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_runner_is_the_same_file_each_time() -> None:
    assert runner_zip() == runner_zip()


def test_what_a_run_that_died_had_finished_is_told_to_the_next(local: Local) -> None:
    spec = local.spec("old.1", GOOD, {"etc/motd": local.keep(b"")})
    local.node.turn([spec], [], [], 30, 1)
    found = local.node.prepare(keep="new")
    assert found["finished"] == [{"id": "old.1", "digest": "sha256:abc"}]
    assert local.node.prepare(keep="new")["finished"] == found["finished"], "the answer may have been lost"
    local.node.turn([], [], ["old.1"], 0, 1)
    assert not (local.root / "jobs/old.1").exists()
