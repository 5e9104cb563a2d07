# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker: the one process of a run that knows the plan, decides what is built next and where, and tags the results.

Each node has a worker of Ansible, which asks the broker for orders over a unix socket (session.py). The broker ends
with its run, or soon after ansible-playbook has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any, TextIO

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error
from ansible_collections.desimages.farm.plugins.plugin_utils.build import durations
from ansible_collections.desimages.farm.plugins.plugin_utils.build.builder import Builder
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.failures import Submit
from ansible_collections.desimages.farm.plugins.plugin_utils.build.link import LOG, LONGEST, socket_name
from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import Seat
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

THREADS = 8  # that ask the registry
PROGRESS = "progress.log"  # what people were told, and when
IDLE = 5.0  # seconds after which a session without work is answered, so that it notices what happens to its run
GRACE = 5.0  # seconds that tagging in progress may take when a run is stopped
TICK = 1.0  # seconds between looks whether anything can still go on

Make = Callable[[Callable[[str], None], Submit], Builder]  # from `tell` and `submit`


def start(run: Run, controller: int, make: Make) -> None:
    """Starts the broker of a run, in a process of its own. Afterwards sessions can connect. `controller` is the process
    of ansible-playbook."""
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(run.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        before = os.umask(0o177)
        listener.bind(socket_name(folder))
        os.umask(before)
    finally:
        os.close(folder)
    listener.listen(1024)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _detach(run, {listener.fileno()})
                _Broker(run, controller, make).serve(listener)
        except BaseException:  # nothing catches it; the log says why
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    listener.close()


def _detach(run: Run, kept: set[int]) -> None:
    """Leaves everything of the worker that this process was forked from, but for the descriptors `kept`."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    said = os.open(run.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, target in enumerate((null, said, said)):
        os.dup2(target, number)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  # those here are of Ansible's
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):  # the one that lists the folder
                os.close(int(name))


class _Broker:
    """See the module. Everything but what `submit` gets runs in one thread."""

    def __init__(self, run: Run, controller: int, make: Make) -> None:
        self._run, self._controller = run, controller
        self._lines: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._builder = make(self._tell, self._submit)
        self._stopped = ""
        self._saved, self._unsaved = False, ""  # why what became of the units could not be saved
        self._leaving: asyncio.Task[None] | None = None
        self._errors: TextIO | None = None

    def serve(self, listener: socket.socket) -> None:
        gc.freeze()  # the plan: looking through it now and then delays decisions
        asyncio.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS)
        self._changed, self._over = asyncio.Event(), asyncio.Event()
        with contextlib.suppress(OSError):  # now: when ansible-playbook has ended, nobody else can say what was left
            self._errors = open(f"/proc/{self._controller}/fd/2", "a")  # noqa: SIM115
        try:
            self._life = os.pidfd_open(self._controller)
        except ProcessLookupError:
            return
        self._loop.add_reader(self._life, self._orphaned)
        server = await asyncio.start_unix_server(self._meet, sock=listener, limit=LONGEST)
        self._builder.look()
        watch = self._loop.create_task(self._watch())
        watch.add_done_callback(self._ended)
        await self._over.wait()
        watch.cancel()
        server.close()

    def _wake(self) -> None:
        """Something changed: sessions without work look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _submit(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Runs `work` in a thread, and then, here, `then` with its result or its error."""
        async def both() -> None:
            found: Any
            try:
                found = await self._loop.run_in_executor(self._pool, work)
            except FarmError as error:
                found = error
            except OSError as error:
                found = system_error(error)
            then(found)
            self._wake()

        task = self._loop.create_task(both())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        """A mistake of ours, or a disk that is full: the run ends, and says so."""
        traceback.print_exception(error)
        what = system_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        self._stop(f"{what} (see {self._run.folder / LOG})")

    # sessions

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seat: Seat | None = None
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "sit" in message:
                    seat = self._builder.sit(message["sit"]["name"], message["sit"])
                answer = await (self._end() if "finish" in message else self._answer(seat, message))
                writer.write(json.dumps({**answer, "lines": self._drained()}).encode() + b"\n")
                await writer.drain()
                if "finish" in message:
                    self._over.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:  # it must not pass unnoticed in a task of asyncio's
            self._crash(error)
        finally:
            if seat:
                self._builder.rise(seat)
                self._wake()
            writer.close()

    async def _answer(self, seat: Seat | None, message: dict[str, Any]) -> dict[str, Any]:
        """Takes what a session reports, and gives it what to do next."""
        if "stopping" in message:
            self._stop("the run was stopped")
        if seat is None:
            return {}
        if "prepared" in message:
            self._builder.prepared(seat, **message["prepared"])
        elif "missed" in message:
            self._builder.missed(seat, message["missed"], for_good=message["for_good"],
                                 alive=message.get("alive", False))
        elif "apart" in message:
            self._builder.failures.apart(seat, message["apart"])
        elif "states" in message:
            self._builder.reported(seat, message["sent"], message["states"])
        self._wake()
        until = self._loop.time() + IDLE
        while True:
            changed = self._changed
            if self._saved or self._builder.finished:
                self._save()
                return {"end": self._builder.summed(seat)}
            rests = seat.again - self._loop.time() if seat.away else 0.0
            if seat.away and rests <= 0:
                return {"prepare": self._builder.preparing(seat)}
            if seat.joined and (way := self._builder.failures.doubts(seat)):
                return {"look": way}
            if seat.joined and (turn := self._builder.orders(seat)):
                return {"turn": turn}
            left = until - self._loop.time()
            if left <= 0 or self._lines:
                return {}
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, rests) if rests else left)

    def _tell(self, line: str) -> None:
        """Says a line to people: a session prints it, and it is kept in the run's folder."""
        line = line.encode(errors="replace").decode()  # what a registry said may be in it
        self._lines.append(line)
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with contextlib.suppress(OSError), open(self._run.folder / PROGRESS, "a", encoding="utf-8") as file:
            file.write(f"{at} {line}\n")

    def _drained(self) -> list[str]:
        lines, self._lines[:] = list(self._lines), []
        return lines

    # the end

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK)  # nothing tells when nothing happens
            # what is being tagged needs no node, and may be all that is left
            if (why := self._builder.waiting.stuck(time.monotonic())) and not self._builder.tagging:
                self._stop(why)
            self._wake()  # units that were put back may be tried again by now

    def _stop(self, why: str) -> None:
        """No more orders; what is being tagged is still kept."""
        if not self._stopped and not self._builder.finished:
            self._stopped = why
            self._builder.stopping = True
            self._wake()
            self._leaving = self._loop.create_task(self._leave())

    async def _leave(self) -> None:
        deadline = self._loop.time() + GRACE
        while self._tasks and self._loop.time() < deadline:
            await asyncio.wait(self._tasks, timeout=deadline - self._loop.time())
        self._save()
        self._wake()

    def _orphaned(self) -> None:
        """ansible-playbook has ended, maybe without a word."""
        async def last() -> None:
            try:
                await self._end()
            finally:  # whatever happened: nobody else ends this process now
                self._over.set()

        self._loop.remove_reader(self._life)
        self._last = self._loop.create_task(last())

    async def _end(self) -> dict[str, Any]:
        """From here on nothing changes: the index step reads what was saved."""
        if not self._builder.finished:
            self._stop("the run was stopped")
        if self._leaving:
            await self._leaving
        self._save()
        return {"unsaved": self._unsaved} if self._unsaved else {}

    def _save(self) -> None:
        if self._saved:
            return
        self._saved = True
        left = self._builder.scheduler.leave_rest()
        built = self._builder.built(self._stopped)
        try:
            self._run.save(built)
        except OSError as error:
            self._unsaved = str(system_error(error))
        with contextlib.suppress(OSError):  # on a full disk people and later runs know less
            self._run.show("timings", built.timings)
            durations.write(self._builder.state, self._builder.scheduler.learned)
            self._builder.keeper.trust.known.save()
        if left and self._errors:
            with contextlib.suppress(OSError, ValueError):
                rest = amount(len(left), "unit", "is", "are")
                self._errors.write(f"stopped; {rest} not built, the next run continues: {', '.join(map(str, left))}\n")
                self._errors.flush()
