"""The runner on a node: real processes, with a script in the place of buildctl."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import runner_job
from ansible_collections.desimages.farm.plugins.module_utils.progress import Progress
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node, runner_zip

GOOD = """#!/bin/sh
for word in "$@"; do case $word in --metadata-file=*) metadata=${word#*=} ;; --local=context=*) context=${word#*=context=} ;; esac; done
echo '{"vertexes":[{"digest":"sha256:1","name":"[1/1] RUN make","started":"2026-11-24T10:00:00Z"}]}' >&2
echo '{"logs":[{"vertex":"sha256:1","data":"aGVsbG8K"}]}' >&2
cat "$context/etc/motd" >&2
echo '{"vertexes":[{"digest":"sha256:1","name":"[1/1] RUN make","started":"2026-11-24T10:00:00Z","completed":"2026-11-24T10:00:01Z"}]}' >&2
echo '{"containerimage.digest": "sha256:abc"}' > "$metadata"
"""
BAD = """#!/bin/sh
echo '{"vertexes":[{"digest":"sha256:1","name":"[1/1] RUN make","started":"2026-11-24T10:00:00Z","error":"exit code: 2"}]}' >&2
echo 'error: failed to solve' >&2
exit 1
"""
SLOW = "#!/bin/sh\nexec sleep 300\n"


class Local:
    """A node that is this machine, with a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.node = Node("here", self.execute, sys.executable, str(root))
        self.socket = root / "buildkitd.sock"
        self.engine = socket.socket(socket.AF_UNIX)
        self.engine.bind(str(self.socket))
        self.engine.listen()
        self.node.prepare()

    def execute(self, command: str, stdin: str) -> tuple[int, str, str]:
        done = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def spec(self, name: str, script: str, tree: dict[str, Any]) -> dict[str, Any]:
        program = self.root / "buildctl"
        program.write_text(script)
        program.chmod(0o755)
        folder = f"{self.node.jobs}/{name}"
        return {
            "id": name, "solve": {"contexts": {"context": tree}, "policy": {"rules": []}}, "buildctl": str(program), "socket": str(self.socket),
            "store": str(self.root / "store"), "root": str(self.root), "archive": "http://127.0.0.1:9/v2/x/archive",
            "words": ["build", f"--metadata-file={folder}/metadata.json", f"--local=context={folder}/contexts/context"],
        }

    def start(self, name: str, script: str, tree: dict[str, Any]) -> None:
        self.node.turn([self.spec(name, script, tree)], [], [], 0, 1)

    def end(self, name: str) -> dict[str, Any]:
        (state,) = self.node.turn([], [name], [], 30, 1)
        assert state["state"] != "running", "the job did not end"
        return state

    def keep(self, content: bytes) -> list[Any]:
        digest = hashlib.sha256(content).hexdigest()
        path = self.root / "store/sha256" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (0, 0))
        return [digest, len(content), 0o644, 0]


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


def test_a_node_starts_the_next_job_itself_when_a_slot_becomes_free(local: Local) -> None:
    tree = {"etc/motd": local.keep(b"")}
    states = local.node.turn([local.spec(name, GOOD, tree) for name in "abc"], [], [], 30, 1)
    assert [(state["id"], state["state"]) for state in states] == [(name, "done") for name in "abc"]
    began, ended = [state["started"] for state in states], [state["ended"] for state in states]
    assert began[1] >= ended[0] and began[2] >= ended[1]
    assert states[0]["age"] >= sum(state["elapsed"] for state in states), "how long ago it began, whenever it ended"


def test_what_a_node_had_no_slot_for_is_not_started(local: Local) -> None:
    states = local.node.turn([local.spec(name, SLOW, {}) for name in "abc"], [], [], 0, 2)
    assert [state["id"] for state in states] == ["a", "b"]
    assert not (local.root / "jobs/c").exists()


def test_what_has_ended_is_told_soon_although_others_wait_for_its_slot(local: Local) -> None:
    began = time.monotonic()
    program = "#!/bin/sh\ncase $* in */jobs/a/*) exit 1 ;; esac\nexec sleep 300\n"
    states = local.node.turn([local.spec(name, program, {}) for name in "abc"], [], [], 30, 1)
    assert {state["id"]: state["state"] for state in states} == {"a": "failed", "b": "running"}
    assert time.monotonic() - began < 15


def test_a_host_is_probed_through_the_runner_where_that_lies(local: Local) -> None:
    value = {"state_dir": str(local.root), "fingerprint": "f", "services": ["registry"]}
    found = local.node.probe(value)
    assert found == {"changed": False, "well": False, "reasons": ["registry is not there", "it was never provisioned"], "engine": ""}
    assert Node("new", local.execute, sys.executable, str(local.root / "new")).probe(value) is None
    assert not (local.root / "new").exists()


def test_a_failed_job_says_which_step_and_why(local: Local) -> None:
    local.start("a", BAD, {})
    state = local.end("a")
    assert (state["state"], state["failed_step"], state["error"], state["tail"]) == ("failed", "[1/1] RUN make", "exit code: 2", ["error: failed to solve"])


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


def test_contexts_have_the_modes_and_times_of_the_solve_whatever_the_store_has(tmp_path: Path) -> None:
    local = {"store": str(tmp_path / "store"), "archive": ""}
    digest = hashlib.sha256(b"x").hexdigest()
    path = tmp_path / "store/sha256" / digest[:2] / digest
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    path.chmod(0o644)
    tree = {"a/linked": [digest, 1, 0o644, 0], "a/copied": [digest, 1, 0o755, 1_700_000_000_000_000_005]}
    folder = Path(runner_job.lay_out(tmp_path / "context", tree, local))
    assert (folder / "a/linked").stat().st_ino == path.stat().st_ino
    copied = (folder / "a/copied").stat()
    assert (copied.st_mode & 0o777, copied.st_mtime_ns) == (0o755, 1_700_000_000_000_000_005)
    assert (folder / "a").stat().st_mtime == 0


def test_the_runner_is_the_same_file_each_time() -> None:
    assert runner_zip() == runner_zip()


def test_progress_knows_steps_what_runs_and_what_failed() -> None:
    progress = Progress()
    progress.feed(json.dumps({"vertexes": [{"digest": "a", "name": "one", "started": "1", "completed": "2", "cached": True},
                                           {"digest": "b", "name": "exporting to image", "started": "3"}, {"digest": "c", "name": "three"}]}))
    assert progress.as_dict()["steps"] == 3
    assert progress.running == "exporting to image"
    progress.feed(json.dumps({"vertexes": [{"digest": "b", "name": "exporting to image", "started": "3", "error": "503"}]}))
    assert progress.transport
    for error, transport in (("unexpected status from HEAD request to http://r/v2/box/manifests/sha256:1: 503 Service Unavailable", True),
                             ('failed to do request: Head "http://r/v2/box/manifests/sha256:1": dial tcp: connect: connection refused', True),
                             ("unexpected status from HEAD request to http://r/v2/box/manifests/sha256:1: 403 Forbidden", False),
                             ('process "timeout 9 go build x/v2/cmd" did not complete successfully: exit code: 1', False)):
        progress.feed(json.dumps({"vertexes": [{"digest": "d", "name": "[internal] load metadata", "error": error}]}))
        assert progress.transport is transport, error
    assert progress.as_dict()["cached"] == 1


@pytest.mark.parametrize(("error", "said", "full"), [
    ("failed to solve: write /x: no space left on device", "", True),
    ("process did not complete successfully: exit code: 1", "cp: error writing '/x': No space left on device", True),
    ("process did not complete successfully: exit code: 1", "cp: cannot stat '/x'", False),
])
def test_a_full_disk_is_known_by_what_was_said(error: str, said: str, full: bool) -> None:
    progress = Progress()
    progress.feed(json.dumps({"logs": [{"data": base64.b64encode(said.encode()).decode()}]}))
    progress.feed(json.dumps({"vertexes": [{"digest": "sha256:1", "name": "RUN", "error": error}]}))
    assert progress.full is full
