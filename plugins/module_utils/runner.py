# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The runner: the program on a node that starts, watches and cancels solves.

Standard library only. It is sent as a zip file and unpacked on the node.

    python3 runner turn   forgets jobs, starts others in sessions of their own while slots are free, and returns the
                          states of all after a while; a job that is not polled for 15 minutes is cancelled
    python3 runner cancel
    python3 runner log    returns a piece of a job's log
    python3 runner clear  takes the node for a controller, cancels and forgets jobs of other runs, and says what this
                          host is, what finished before it was asked for, and whether it reaches the registry
    python3 runner reach  says whether this host reaches the registry
    python3 runner release  gives the node back
    python3 runner probe  says whether this host is well (wellness.py)

Input and output are JSON. A job's folder has `spec.json` (without a password), `state.json` (replaced atomically),
`log`, `beat` (its mtime is the last poll), `pid`.
"""

from __future__ import annotations

import codecs
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

from . import lease
from .files import locked

STATE = "state.json"
CANCELLED = "cancelled"  # the same as in runner_job.py, which is loaded only to start a job
TERMINAL = ("done", "failed", "lost", "cancelled")
# seconds between looks at the states: at first, and after some seconds in which nothing happened
TICK, SLOWEST = 0.05, 0.3
LINGER = 0.4  # seconds that an answer is delayed after a job ended, if others can be started in its place
OLD = 7 * 86400  # seconds after which a runner that another version of the farm has sent goes
PATIENCE = 60  # seconds to wait for another turn, or for a program
LATER = 75  # exit code if that was too short: EX_TEMPFAIL of sysexits.h
PIECE = 256 << 10  # bytes of logs in one answer, for which there are some seconds over a network that may be slow
SETTLE = 0.05  # seconds that the answer waits for other jobs to end as well


def turn(jobs: str, specs: list[dict[str, Any]], ids: list[str], forget: list[str], wait: float,
         slots: int) -> list[dict[str, Any]]:
    """Forgets jobs, and watches the others for up to `wait` seconds. Of `specs` it starts as many, in order, as `slots`
    allow besides the jobs `ids`, and more when some have ended. It returns sooner if a job has ended: at once if no
    spec waits, else after LINGER.

    Returns the state of all jobs that were started, with the log of those that ended, or its beginning. A spec that is
    not among them was not started.
    """
    for name in forget:
        shutil.rmtree(Path(jobs) / name, ignore_errors=True)
    names, waiting = list(ids), list(specs)
    refused: list[dict[str, Any]] = []
    deadline, pause = time.monotonic() + wait, TICK
    while True:
        states = poll(jobs, names) + refused
        ended = [state for state in states if state["state"] in TERMINAL]
        free = max(slots - len(states) + len(ended), 0)
        if waiting[:free]:
            for spec in waiting[:free]:
                try:
                    start({**spec, "jobs": jobs})
                    names.append(spec["id"])
                except OSError as error:
                    refused.append(_refused(spec["id"], error))
            pause, waiting = TICK, waiting[free:]
            continue
        if ended:
            deadline = min(deadline, time.monotonic() + (LINGER if waiting else SETTLE))
        if time.monotonic() >= deadline or len(ended) == len(states):
            break
        # A state is a file that another process replaces; the standard library has no way to wait for that.
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.1, SLOWEST)
    room = PIECE
    for state in ended:
        state.update(log(jobs, state["id"], 0, room))
        room = max(room - len(state["log"]), 0)
    return states


def _refused(name: str, error: OSError) -> dict[str, Any]:
    """The state of a job that this node's system does not let begin. Others go on, and this one is told like them."""
    from .runner_job import of_node

    return {"id": name, **of_node(error), "started": time.time(), "elapsed": 0, "age": 0}


def log(jobs: str, name: str, at: int, most: int = PIECE) -> dict[str, Any]:
    """A piece of a job's `log` from byte `at` on, of `most` bytes at most; `rest` says where the next one begins, if
    there is more."""
    data, whole = b"", 0
    for part in (Path(jobs) / name / each for each in ("log", "runner.err")):
        with contextlib.suppress(OSError), part.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(at + len(data) - whole, 0))
            data += file.read(max(most - len(data), 0))
            whole += size
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, at + len(data) >= whole)
    end = at + len(data) - len(decoder.getstate()[0])  # no character is cut in two
    return {"log": text, **({"rest": end} if end < whole else {})}


@contextlib.contextmanager
def _alone(jobs: str) -> Iterator[None]:
    """One turn at a time: that of a controller that died, or one that ssh retried, may still run for its `wait`."""
    with locked(f"{jobs}.lock", PATIENCE):
        yield


def start(spec: dict[str, Any]) -> None:
    """Starts the job `spec["id"]` in `spec["jobs"]`. Starting it a second time does nothing."""
    from .runner_job import run, write_state  # here, so that a turn that starts nothing does not load it

    folder = Path(spec["jobs"]) / spec["id"]
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    try:
        (folder / "spec.json").write_text(json.dumps({**spec, "registry": _shown(spec.get("registry"))}))
        (folder / "beat").touch()
        write_state(folder, {"state": "running", "phase": "starting", "started": time.time()})
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if os.fork() == 0:
        try:
            os.setsid()
            job = os.fork()
            if job:  # written before anyone can ask for it
                (folder / "pid.new").write_text(str(job))
                os.replace(folder / "pid.new", folder / "pid")
            else:
                _detach(folder)
                run(folder, spec)
        except BaseException:  # nothing catches it; a job that ends without a state is `lost`, and this log says why
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(0)
    os.wait()


def _shown(registry: dict[str, str] | None) -> dict[str, str]:
    """How the registry is reached, without the secret: nothing on the disk has it but what buildctl reads."""
    return {name: text for name, text in (registry or {}).items() if name != "password"}


def poll(jobs: str, ids: list[str]) -> list[dict[str, Any]]:
    """The state of each job, in order, with how long it ran and how long ago it began (seconds). If its process ended
    without a result, it is `lost`."""
    found = []
    for name in ids:
        folder = Path(jobs) / name
        state = _state(folder)
        if state is None and not folder.exists():
            found.append({"id": name, "state": "lost", "error": "the node does not know this job", "elapsed": 0,
                          "age": 0})
            continue
        with contextlib.suppress(OSError):  # gone meanwhile: the job notices that too
            (folder / "beat").touch()
        if (state is None or state["state"] not in TERMINAL) and not _alive(folder):
            state = _state(folder) or {}  # it may have ended between the two checks
            if state.get("state") not in TERMINAL:
                state = {**state, "state": "lost", "error": "the job's process does not exist any more"}
        now = time.time()
        state = {"state": "running", "started": now, **(state or {})}  # an unreadable state is written again by its job
        # the clock may have been set back
        found.append({"id": name, **state, "elapsed": max(state.get("ended", now) - state["started"], 0),
                      "age": max(now - state["started"], 0)})
    return found


def _read(file: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file has none."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _state(folder: Path) -> dict[str, Any] | None:
    """The last state that a job wrote; None if it cannot be read."""
    found = _read(folder / STATE) or {}
    numbers = (found.get("started"), found.get("ended", 0))
    right = isinstance(found.get("state"), str) and all(isinstance(number, (int, float)) for number in numbers)
    return found if right else None


def cancel(jobs: str, ids: list[str]) -> list[str]:
    """Tells jobs to end, and a turn that still runs not to start them; returns those that ran."""
    stopped = []
    for name in ids:
        folder = Path(jobs) / name
        with contextlib.suppress(OSError):  # even on a full disk they must end
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CANCELLED).touch()
        with contextlib.suppress(OSError, ValueError):  # half made, or ended meanwhile
            if _alive(folder) and (_state(folder) or {}).get("state") not in TERMINAL:
                os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
                stopped.append(name)
    return stopped


def clear(jobs: str, keep: str = "") -> list[dict[str, Any]]:
    """Tells all jobs to end but those of the run `keep`, and forgets those that have ended without a result.

    Returns what had succeeded: the `id` of the job, and the `digest`. These stay until a turn forgets them: the answer
    may be lost. It also trims the node's own store, once a run.
    """
    from .staging import trim  # here, as only this verb needs it

    names = [path.name for path in Path(jobs).glob("*")
             if path.is_dir() and not (keep and path.name.startswith(f"{keep}."))]
    finished = [found for found in map(_finished, (Path(jobs) / name for name in names)) if found]
    names = sorted({*names} - {found["id"] for found in finished})
    cancel(jobs, names)
    for name in names:
        if not _alive(Path(jobs) / name):
            shutil.rmtree(Path(jobs) / name, ignore_errors=True)
    trim(str(Path(jobs).parent / "node"))
    if not any(_alive(path) for path in Path(jobs).glob("*")):  # one loads parts of its runner when it needs them
        _drop(Path(jobs).parent / "bin", Path(__file__).parents[1].name)
    return finished


def _drop(folder: Path, own: str) -> None:
    """Removes runners of other versions of the farm, and what is left of one that was sent in part; not those of the
    last days, as a controller of another version may use the node in turn with this one."""
    for path in folder.glob("runner-*"):
        with contextlib.suppress(OSError):
            if path.name != own and time.time() - path.stat().st_mtime > OLD:
                shutil.rmtree(path, ignore_errors=True)


def _finished(folder: Path) -> dict[str, Any] | None:
    """The result of a job that no controller has asked for; None if it has none."""
    state = _state(folder) or {}
    if state.get("state") != "done" or "digest" not in state:
        return None
    return {"id": folder.name, "digest": state["digest"]}


def _apart(registry: dict[str, str] | None) -> str:
    """Why this node does not reach the registry that it must push to; '' if it does, or if no registry is given."""
    if not registry:
        return ""
    from .fetching import reached  # slow to load

    return reached(registry)


def _alive(folder: Path) -> bool:
    try:
        pid = int((folder / "pid").read_text())
        # another process may have the pid by now
        return f"{folder.parent.parent}/bin/runner-".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def _detach(folder: Path) -> None:
    """Closes all descriptors of the caller: a connection that waits for them would wait for the whole build."""
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(folder / "runner.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, target in enumerate((null, null, errors)):
        os.dup2(target, number)
    os.closerange(3, 256)


def _program(words: list[str]) -> tuple[int, str, str]:
    """Runs a program: exit code, output, errors. The code is 124, as with timeout(1), if it does not end."""
    import subprocess

    try:
        # pylint: disable-next=ansible-bad-function  # a program of its own has no AnsibleModule
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return 124, "", f"{words[0]} did not end within {PATIENCE} s"
    except OSError as error:
        return 127, "", f"{words[0]}: {error.strerror}"
    return done.returncode, done.stdout, done.stderr


def main(arguments: list[str]) -> int:
    """The command line. An error of the system becomes a line on stderr; a mistake of the caller is a traceback."""
    os.umask(0o022)  # whatever the host's umask: nobody else may write what is read and run here
    try:
        return _main(arguments, json.load(sys.stdin))
    except OSError as error:
        sys.stderr.write(": ".join(filter(None, (error.strerror or str(error), error.filename))) + "\n")
        return LATER if isinstance(error, TimeoutError) else 1


def _main(arguments: list[str], value: dict[str, Any]) -> int:
    answer: Any
    if arguments in (["turn"], ["clear"]):
        jobs = value["jobs"]
        with _alone(jobs):
            # another controller's run may have the same name: it begins in the same second, with the same process id,
            # as in containers
            keep = value.get("keep", "") if lease.had(jobs, value["controller"]["id"]) else ""
            # a turn that came late, held up by the network, does not take again what was given back
            other = lease.take(jobs, value["controller"], anew=arguments == ["clear"])
            if other is not None:
                answer = {"taken": other}
            elif arguments == ["turn"]:
                answer = turn(jobs, value["specs"], value["ids"], value["forget"], value["wait"], value["slots"])
            else:
                answer = {"finished": clear(jobs, keep), "machine": os.uname().machine,
                          "node": _read(Path(jobs).parent / "etc/node.json") or {},
                          "apart": _apart(value.get("registry"))}
    elif arguments == ["cancel"]:
        answer = cancel(value["jobs"], value["ids"])
    elif arguments == ["log"]:
        answer = log(value["jobs"], value["id"], value["at"])
    elif arguments == ["reach"]:
        answer = {"apart": _apart(value["registry"])}
    elif arguments == ["release"]:
        lease.give_back(value["jobs"], value["controller"])
        answer = {}
    elif arguments == ["probe"]:
        from .wellness import Host  # here, as it is slow to load and the other verbs do not need it

        answer = Host(value["state_dir"], value["fingerprint"], value["services"], _program,
                      value.get("controller")).as_result()
    else:
        sys.stderr.write("usage: runner turn|cancel|clear|log|reach|release|probe\n")
        return 2
    json.dump(answer, sys.stdout)
    return 0
