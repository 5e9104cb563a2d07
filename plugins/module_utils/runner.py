# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The runner: the program on a node that starts, watches and cancels solves.

Standard library only. It is sent as a zip file and unpacked on the node.

    python3 runner turn   forgets jobs, starts others in sessions of their own as slots become free, and answers
                          after a while with the state of all; a job that nobody asks for in 15 minutes is cancelled
    python3 runner cancel
    python3 runner clear  cancels and forgets what another controller left
    python3 runner probe  tells whether this host is well (wellness.py)

What goes in and out is JSON. A job's folder holds `spec.json`, `state.json` (replaced, never half-written), `log`,
`beat` (its mtime is the last poll), `pid`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import locked

STATE = "state.json"
CANCELLED = "cancelled"  # the same as in runner_job.py, which is loaded where a job is started only
TERMINAL = ("done", "failed", "lost", "cancelled")
# seconds between two looks at the states, at first and when nothing has happened for some seconds
TICK, SLOWEST = 0.05, 0.3
LINGER = 0.4  # seconds that what has ended is kept back while others are there to be started in its place
PATIENCE = 60  # seconds for another turn, or for a program
SETTLE = 0.05  # seconds that the answer waits for others to end as well


def turn(jobs: str, specs: list[dict[str, Any]], ids: list[str], forget: list[str], wait: float,
         slots: int) -> list[dict[str, Any]]:
    """Forgets jobs, and looks after the others for up to `wait` seconds: of `specs` as many are started, in order, as
    `slots` allow beside those of `ids`, and the next ones when some have ended. Ends sooner, once something has: at
    once where no spec waits, else after LINGER.

    The state of all that were started, with the log where one has ended; a spec that is not among them was not started.
    """
    with _alone(jobs):
        return _turn(jobs, specs, ids, forget, wait, slots)


def _turn(jobs: str, specs: list[dict[str, Any]], ids: list[str], forget: list[str], wait: float,
          slots: int) -> list[dict[str, Any]]:
    for name in forget:
        shutil.rmtree(Path(jobs) / name, ignore_errors=True)
    names, waiting = list(ids), list(specs)
    deadline, pause = time.monotonic() + wait, TICK
    while True:
        states = poll(jobs, names)
        ended = [state for state in states if state["state"] in TERMINAL]
        free = max(slots - len(states) + len(ended), 0)
        if waiting[:free]:
            for spec in waiting[:free]:
                start({**spec, "jobs": jobs})
            pause = TICK
            names, waiting = names + [spec["id"] for spec in waiting[:free]], waiting[free:]
            continue
        if ended:
            deadline = min(deadline, time.monotonic() + (LINGER if waiting else SETTLE))
        if time.monotonic() >= deadline or len(ended) == len(states):
            break
        # A state is a file that another process replaces: nothing to wait on that the standard library knows.
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.1, SLOWEST)
    for state in ended:
        state["log"] = "".join(_text(Path(jobs) / state["id"] / name) for name in ("log", "runner.err"))
    return states


@contextlib.contextmanager
def _alone(jobs: str) -> Iterator[None]:
    """One turn at a time: that of a controller which died, or which ssh tried again, may still run for its `wait`."""
    with locked(f"{jobs}.lock", PATIENCE):
        yield


def start(spec: dict[str, Any]) -> None:
    """Starts the job `spec["id"]` under `spec["jobs"]`; starting it twice is the same as once."""
    from .runner_job import run, write_state  # here: a turn that starts nothing loads none of it

    folder = Path(spec["jobs"]) / spec["id"]
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    try:
        (folder / "spec.json").write_text(json.dumps(spec))
        (folder / "beat").touch()
        write_state(folder, {"state": "running", "phase": "starting", "started": time.time()})
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if os.fork() == 0:
        try:
            os.setsid()
            job = os.fork()
            if job:  # its number is there before anybody asks for it
                (folder / "pid.new").write_text(str(job))
                os.replace(folder / "pid.new", folder / "pid")
            else:
                _detach(folder)
                run(folder, spec)
        except BaseException:  # nobody is there to take it; what ends without a state is `lost`, and this is why
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(0)
    os.wait()


def poll(jobs: str, ids: list[str]) -> list[dict[str, Any]]:
    """The state of each job, in order, with how long it ran and how long ago it began (seconds). One whose process is
    gone without a result is `lost`."""
    found = []
    for name in ids:
        folder = Path(jobs) / name
        state = _state(folder)
        if state is None and not folder.exists():
            found.append({"id": name, "state": "lost", "error": "the node knows nothing of this job", "elapsed": 0,
                          "age": 0})
            continue
        with contextlib.suppress(OSError):  # gone meanwhile: the job sees that as well
            (folder / "beat").touch()
        if (state is None or state["state"] not in TERMINAL) and not _alive(folder):
            state = _state(folder) or {}  # it may have ended between the two looks
            if state.get("state") not in TERMINAL:
                state = {**state, "state": "lost", "error": "the job's process is gone"}
        now = time.time()
        state = {"state": "running", "started": now, **(state or {})}  # what cannot be read its job writes again
        # the clock may have been set back meanwhile
        found.append({"id": name, **state, "elapsed": max(state.get("ended", now) - state["started"], 0),
                      "age": max(now - state["started"], 0)})
    return found


def _state(folder: Path) -> dict[str, Any] | None:
    """What a job wrote last; None where that cannot be read."""
    try:
        found = json.loads((folder / STATE).read_text())
        numbers = (found["started"], found.get("ended", 0))
        right = isinstance(found["state"], str) and all(isinstance(number, (int, float)) for number in numbers)
        return found if right else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def cancel(jobs: str, ids: list[str]) -> list[str]:
    """Asks jobs to end, and a turn that still runs to start them no more; returns those that ran."""
    stopped = []
    for name in ids:
        folder = Path(jobs) / name
        with contextlib.suppress(OSError):  # a full disk is no reason to go on
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CANCELLED).touch()
        with contextlib.suppress(OSError, ValueError):  # half made, or ended meanwhile
            if _alive(folder) and (_state(folder) or {}).get("state") not in TERMINAL:
                os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
                stopped.append(name)
    return stopped


def clear(jobs: str) -> list[str]:
    """Asks all jobs to end, as a new controller does, and forgets those that have; returns those that ran."""
    with _alone(jobs):
        names = [path.name for path in Path(jobs).glob("*") if path.is_dir()]
        stopped = cancel(jobs, names)
        for name in names:
            if not _alive(Path(jobs) / name):
                shutil.rmtree(Path(jobs) / name, ignore_errors=True)
    return stopped


def _alive(folder: Path) -> bool:
    try:
        pid = int((folder / "pid").read_text())
        # a number may be another's by now
        return f"{folder.parent.parent}/bin/runner-".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def _detach(folder: Path) -> None:
    """No descriptor of the caller stays open: a connection that waits for them would wait for the whole build."""
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(folder / "runner.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, target in enumerate((null, null, errors)):
        os.dup2(target, number)
    os.closerange(3, 256)


def _program(words: list[str]) -> tuple[int, str, str]:
    """Runs a program: exit code, output, errors; 124, as of timeout(1), where it does not end."""
    import subprocess

    try:
        # pylint: disable-next=ansible-bad-function  # this is a program of its own, without an AnsibleModule
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return 124, "", f"{words[0]} did not end within {PATIENCE} s"
    except OSError as error:
        return 127, "", f"{words[0]}: {error.strerror}"
    return done.returncode, done.stdout, done.stderr


def main(arguments: list[str]) -> int:
    """The command line. What the system refuses is a line on stderr; a mistake of the caller is a traceback."""
    os.umask(0o022)  # whatever mask the host has: nobody else may write what is read and run here
    try:
        return _main(arguments, json.load(sys.stdin))
    except OSError as error:
        sys.stderr.write(": ".join(filter(None, (error.strerror or str(error), error.filename))) + "\n")
        return 1


def _main(arguments: list[str], value: dict[str, Any]) -> int:
    answer: Any
    if arguments == ["turn"]:
        answer = turn(value["jobs"], value["specs"], value["ids"], value["forget"], value["wait"], value["slots"])
    elif arguments == ["cancel"]:
        answer = cancel(value["jobs"], value["ids"])
    elif arguments == ["clear"]:
        answer = clear(value["jobs"])
    elif arguments == ["probe"]:
        from .wellness import Host  # here: it is slow to load, and the other verbs need none of it

        answer = Host(value["state_dir"], value["fingerprint"], value["services"], _program).as_result()
    else:
        sys.stderr.write("usage: runner turn|cancel|clear|probe\n")
        return 2
    json.dump(answer, sys.stdout)
    return 0
