"""The runner: the program on a node that starts, watches and cancels solves. Standard library only; it travels as one zip file.

    python3 runner.pyz start  < spec    lays nothing out itself: starts a job of its own session that does, and returns
    python3 runner.pyz poll   < [ids]   the state of jobs; a job that nobody polls for 15 minutes is cancelled
    python3 runner.pyz cancel < [ids]

What goes in and out is JSON. A job's folder holds `spec.json`, `state.json` (replaced, never half-written), `log`, `beat` (its mtime is the
last poll).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .runner_job import STATE, run, write_state

TERMINAL = ("done", "failed", "lost", "cancelled")


def start(spec: dict[str, Any]) -> dict[str, Any]:
    """Starts the job `spec["id"]` under `spec["jobs"]`; starting it twice is the same as once."""
    folder = Path(spec["jobs"]) / spec["id"]
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return {"id": spec["id"], "state": "running"}
    try:
        (folder / "spec.json").write_text(json.dumps(spec))
        (folder / "beat").touch()
        write_state(folder, {"state": "running", "phase": "starting", "started": time.time()})
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _detach(folder)
            (folder / "pid").write_text(str(os.getpid()))
            try:
                run(folder, spec)
            finally:
                os._exit(0)
        os._exit(0)
    os.wait()
    return {"id": spec["id"], "state": "running"}


def poll(jobs: str, ids: list[str]) -> list[dict[str, Any]]:
    """The state of each job, in order. A job whose process is gone without a result is `lost`."""
    found = []
    for name in ids:
        folder = Path(jobs) / name
        if not (folder / STATE).exists():
            found.append({"id": name, "state": "lost", "error": "the node knows nothing of this job"})
            continue
        (folder / "beat").touch()
        state = json.loads((folder / STATE).read_text())
        if state["state"] not in TERMINAL and not _alive(folder):
            state = json.loads((folder / STATE).read_text())  # it may have ended between the two looks
            if state["state"] not in TERMINAL:
                state = {**state, "state": "lost", "error": "the job's process is gone"}
        found.append({"id": name, **state, "elapsed": time.time() - state["started"]})
    return found


def cancel(jobs: str, ids: list[str]) -> list[str]:
    """Asks jobs to end; returns those that still ran. Without ids, all of them."""
    names = ids or [path.name for path in Path(jobs).glob("*") if path.is_dir()]
    stopped = []
    for name in names:
        folder = Path(jobs) / name
        try:
            if _alive(folder) and json.loads((folder / STATE).read_text())["state"] not in TERMINAL:
                os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
                stopped.append(name)
        except (OSError, ValueError):
            continue  # half made, or ended meanwhile
    return stopped


def _alive(folder: Path) -> bool:
    try:
        pid = int((folder / "pid").read_text())
        return f"{folder.parent.parent}/bin/runner-".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()  # a number may be another's by now
    except FileNotFoundError:
        return not (folder / "pid").exists() and time.time() - (folder / STATE).stat().st_mtime < 10  # it has only just been started
    except (OSError, ValueError):
        return False


def _detach(folder: Path) -> None:
    """No descriptor of the caller stays open: a connection that waits for them would wait for the whole build."""
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(folder / "runner.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, target in enumerate((null, null, errors)):
        os.dup2(target, number)
    os.closerange(3, 256)


def main(arguments: list[str]) -> int:
    """The command line; a mistake of the caller is an exception and a traceback."""
    value = json.load(sys.stdin)
    answer: Any
    if arguments == ["start"]:
        answer = start(value)
    elif arguments == ["poll"]:
        answer = poll(value["jobs"], value["ids"])
    elif arguments == ["cancel"]:
        answer = cancel(value["jobs"], value["ids"])
    else:
        print("usage: runner start|poll|cancel", file=sys.stderr)
        return 2
    json.dump(answer, sys.stdout)
    return 0
