# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs images on several testers at the same time. This file does I/O.

Ansible has a worker process for each tester. They share a file on the controller, which one at a time may change.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import abilities, files
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import clean
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import metrics, sharing
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.sharing import Sharing

JOIN = 60.0  # seconds in which a tester's worker comes
PAUSE = 0.2  # seconds between two looks whether there is work again
FINDING = ("check", "subject", "words", "by_hand")  # texts
WAYS = (abilities.NATIVE, abilities.EMULATED, abilities.NOT)
Call = Callable[[Mapping[str, Any]], dict[str, Any]]


class Board:
    """What the testers of one run share, in a file on the controller. `begin` makes it for the tester that comes
    first."""

    def __init__(self, path: Path, begin: Callable[[], Sharing]) -> None:
        self._path, self._begin = path, begin

    @contextmanager
    def open(self) -> Iterator[Sharing]:
        """Nobody else has it meanwhile; what is changed is kept."""
        with open(f"{self._path}.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = Sharing(**json.loads(self._path.read_bytes())) if self._path.exists() else self._begin()
            yield found
            files.write(str(self._path), json.dumps(asdict(found)).encode())


def board(folder: str, name: str, units: Mapping[str, str], testers: Mapping[str, Mapping[str, str]]) -> Board:
    """The one with this name."""
    return Board(Path(folder) / f"trials-{name}.json", lambda: sharing.of(units, testers))


def work(shared: Board, tester: str, subjects: Sequence[Mapping[str, Any]], run: Call, looks: Callable[[], str],
         say: Callable[[str], None]) -> dict[str, Any]:
    """Runs images on one tester until there is none for it, and none that others might still lose.

    `run` runs one and returns the result of module `contract`; `looks` says what is wrong with the tester itself, ''
    if nothing is. Both may raise FarmError, which is the tester's fault. Returns `results`, each with its `unit`, and
    why the tester was `lost`, or ''.
    """
    by_unit = {subject["unit"]: subject for subject in subjects}
    results: list[dict[str, Any]] = []
    with shared.open() as state:
        state.joined.append(tester)
    try:
        for unit in _claimed(shared, tester):
            say(f"{tester}: {unit}")
            why = ""
            try:
                found = heard(run(by_unit[unit]))
                why = looks() if found.get("failed") else ""
            except FarmError as error:
                found, why = {}, str(error)
            if why:
                say(f"{tester} is lost: {why}")
                with shared.open() as state:
                    state.lose(tester, why)
                return {"results": results, "lost": why}
            failed = bool(found.get("failed"))
            with shared.open() as state:
                last = state.end(unit, tester, good=not failed)
            if failed and not last:
                say(f"{tester}: {unit} could not be checked here; another tester tries it: {found.get('msg', '')}")
            if more := metrics.added(found.get("facts", {}), by_unit[unit]["promises"]):
                found["findings"] += more
            if last:
                found.pop("invocation", None)
                results.append({**found, "unit": unit})
    except BaseException:  # whatever it is, others must not wait for this one
        with shared.open() as state:
            state.lose(tester, "its worker was stopped")
        raise
    return {"results": results, "lost": ""}


def heard(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What module `contract` answered, as far as it fits what that was asked, and without what commands a terminal: an
    image's own words are in it. Raises FarmError if it does not fit: a tester may be anybody's by now."""
    try:
        found: dict[str, Any] = clean(dict(answer))
    except ValueError as error:
        raise FarmError(f"its answer does not fit the question: {error}") from error
    findings, facts = found.get("findings", []), found.get("facts", {})
    texts = [found.get(name, "") for name in ("msg", "emulator")]
    if not (isinstance(findings, list) and isinstance(facts, dict) and found.get("ran_by", abilities.NOT) in WAYS
            and all(isinstance(one, dict) and all(isinstance(one.get(name), str) for name in FINDING)
                    for one in findings)
            and all(isinstance(text, str) for text in (*texts, facts.get("metrics", "")))):
        raise FarmError(f"its answer does not fit the question: {str(found)[:200]}")
    return found


def _claimed(shared: Board, tester: str) -> Iterator[str]:
    """The units that a tester holds, one after the other."""
    deadline = time.monotonic() + JOIN
    while True:
        with shared.open() as state:
            unit = state.claim(tester)
            waits = state.awaits(tester, patient=time.monotonic() < deadline)
        if unit:
            yield unit
        elif not waits:
            return
        else:
            time.sleep(PAUSE)
