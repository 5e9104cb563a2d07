# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's session, in its worker of Ansible: takes orders from the broker, gives them to the runner on the node, and
reports what came of them. It decides nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError, Unreachable, system_error
from ansible_collections.desimages.farm.plugins.plugin_utils.build.link import Link
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node

GRACE = 10.0  # seconds in which the broker must hear that the run is stopped
LOGS = 60.0  # seconds that may be spent on logs that are too long for one answer: results do not wait for longer
LOG = 80 << 20  # characters of a log, at most; runner_job.py cuts it off before


class Session:
    """`about` is what the broker must know of this node to give it orders:

    `name`; `state`, `socket` and `buildctl`: paths on the node; `slots`: how many solves it runs at once, or 0;
    `emulation`: platform -> never, missing or allowed; `local`: whether it is this machine; `play`: how many nodes this
    run has; `lost`: why this one gets no work, or ''; `busy`: `wait` or `stop` while it works for another controller
    """

    def __init__(self, run: Path, node: Node, about: dict[str, Any], say: Callable[[str], None]) -> None:
        self._run, self._node, self._about, self._say = run, node, about, say
        self._running: set[str] = set()
        self._logs: dict[str, str] = {}

    def serve(self) -> dict[str, Any]:
        """Runs until the broker has nothing more to do for anyone; returns what this node did.

        Whatever ends it, what it started on the node is cancelled. Only a signal ends the run with it: others go on
        without a node whose session fails.
        """
        link = Link(self._run)
        try:
            answer = self._told(link.ask({"sit": self._about}))
            while "end" not in answer:
                answer = self._told(link.ask(self._do(answer)))
            found: dict[str, Any] = answer["end"]
            self._tidy(found.pop("cancel"), found.pop("forget"))
            return found
        except Exception:
            self._release()
            raise
        except BaseException:
            try:
                self._release()
            finally:
                self._stop()
            raise
        finally:
            link.close()

    def _told(self, answer: dict[str, Any]) -> dict[str, Any]:
        for line in answer["lines"]:
            self._say(line)
        return answer

    def _do(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Follows an order, and says what to report."""
        try:
            if "prepare" in answer and self._about["lost"]:
                return {"missed": self._about["lost"], "for_good": True}
            if "prepare" in answer:
                return {"prepared": self._node.prepare(**answer["prepare"])}
            if "look" in answer:
                return {"apart": self._node.reach(answer["look"])}
            if "turn" in answer:
                return self._turn(**answer["turn"])
        except Busy as error:
            return {"missed": str(error), "for_good": self._about["busy"] == "stop", "alive": True}
        except Unreachable as error:
            return {"missed": str(error), "for_good": False}
        except FarmError as error:
            return {"missed": str(error), "for_good": True}
        return {}

    def _turn(self, specs: list[dict[str, Any]], ids: list[str], forget: list[str], cancel: list[str], wait: float,
              slots: int) -> dict[str, Any]:
        for spec in specs:
            self._logs[spec["id"]] = spec.pop("log")
        self._running.update(spec["id"] for spec in specs)  # first, whenever a signal arrives
        if cancel:
            self._node.cancel(cancel)
        states = self._node.turn(specs, ids, forget, wait, slots)
        until = time.monotonic() + LOGS
        for state in states:
            if "log" in state:
                self._keep_log(state["id"], state.pop("log"), state.pop("rest", None), until)
        self._running = {state["id"] for state in states if state["state"] == "running"}
        return {"states": states, "sent": [spec["id"] for spec in specs]}

    def _keep_log(self, job: str, text: str, at: int | None, until: float) -> None:
        """Writes a job's log, which begins with `text`. The result counts even if no disk has room for that."""
        try:
            with open(self._logs[job], "a", encoding="utf-8") as log:  # an earlier attempt is in it
                log.write(text)
                log.write(self._rest(log, job, at, len(text), until))
        except OSError as error:
            self._say(f"{self._about['name']}: a log could not be kept: {system_error(error)}")

    def _rest(self, log: TextIO, job: str, at: int | None, had: int, until: float) -> str:
        """Reads the rest of a log, of which there are `had` characters, piece by piece; returns what there is to say of
        what is missing then."""
        try:
            while at is not None:
                if time.monotonic() > until or had > LOG:  # by what came: a node may say anything of how far that is
                    return "\nthe rest of this log was not read: it is too long for this connection\n"
                text, at = self._node.log(job, at)
                had += len(text)
                log.write(text)
        except FarmError as error:  # the result counts all the same; the next turn says what became of the node
            return f"\nthe rest of this log could not be read: {error}\n"
        return ""

    def _tidy(self, cancel: list[str], forget: list[str]) -> None:
        """Ends what is no longer needed. A node that cannot be reached ends it by itself."""
        try:
            if cancel:
                self._node.cancel(cancel)
            if forget:
                self._node.turn([], [], forget, 0, 1)
            self._node.release()
        except FarmError:
            pass

    def _release(self) -> None:
        try:
            if self._running:
                self._node.cancel(sorted(self._running))
            self._node.release()
        except FarmError:  # it cannot be reached, or works for somebody else
            pass

    def _stop(self) -> None:
        with contextlib.suppress(FarmError):  # the broker has ended: it has nothing to stop
            link = Link(self._run)  # another one: this session's may be in the middle of an answer
            try:
                self._told(link.ask({"stopping": True}, GRACE))
            finally:
                link.close()
