"""A program that is read while it runs: whatever it and what it started do, there is an end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import child
from ansible_collections.desimages.farm.plugins.module_utils.child import Child

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "INTERVAL", 0.05)
    monkeypatch.setattr(child, "GRACE", 0.5)
    monkeypatch.setattr(child, "DRAIN", 0.5)


@pytest.fixture
def left() -> Iterator[dict[str, str]]:
    """The environment of programs that are to be ended with the test, whatever session they are in."""
    environment = {**os.environ, "DESIMAGES_TEST": f"{os.getpid()}.{time.monotonic()}"}
    yield environment
    for pid in marked(environment):
        os.kill(pid, signal.SIGKILL)


def marked(environment: dict[str, str]) -> list[int]:
    """The processes of an environment that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"DESIMAGES_TEST={environment['DESIMAGES_TEST']}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def none(environment: dict[str, str]) -> None:
    """Awaits that all have ended: a killed process takes a moment."""
    deadline = time.monotonic() + 5
    while marked(environment):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(script: str, environment: dict[str, str], stop: Any = lambda: False) -> tuple[list[str], int]:
    program = Child(["/bin/sh", "-c", script], environment)
    try:
        lines = list(program.lines(stop))
    finally:
        code = program.finish()
    return lines, code


def test_lines_are_whole_however_they_arrive(left: dict[str, str]) -> None:
    script = "printf 'o' >&2; sleep 0.2; printf 'ne\\n\\ntw' >&2; sleep 0.2; printf 'o\\n\\377\\nthree' >&2; exit 3"
    assert run(script, left) == (["one", "", "two", "\N{REPLACEMENT CHARACTER}", "three"], 3)
    assert run("exit 0", left) == ([], 0)


def test_a_line_without_an_end_comes_in_pieces(left: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LONGEST", 100_000)
    lines, _code = run("head -c 1000000 /dev/zero >&2; echo >&2; echo end >&2", left)
    assert lines[-1] == "end" and sum(map(len, lines[:-1])) == 1_000_000 and max(map(len, lines)) < 200_000


DEAF = "trap '' TERM INT; {first} while :; do sleep 0.1; done"


@pytest.mark.parametrize("first", ["", "exec 2>&-;", "sleep 300 &", "yes >&2 &", "(exec 2>&-; sleep 300) &"],
                         ids=["deaf", "mute", "not alone", "talking", "silent company"])
def test_what_does_not_end_when_it_is_asked_to_is_made_to_with_all_it_started(left: dict[str, str], first: str) -> None:
    began = time.monotonic()
    _lines, code = run(DEAF.format(first=first), left, stop=lambda: time.monotonic() > began + 0.3)
    assert code == -signal.SIGKILL
    none(left)


def test_what_ends_when_it_is_asked_to_ends_as_it_likes(left: dict[str, str]) -> None:
    began = time.monotonic()
    script = "trap 'echo bye >&2; exit 7' TERM; echo up >&2; while :; do sleep 0.1; done"
    assert run(script, left, stop=lambda: time.monotonic() > began + 0.5) == (["up", "bye"], 7)


@pytest.mark.parametrize("after", ["sleep 300 &", "setsid sleep 300 &", "while :; do echo x >&2; done &"],
                         ids=["mute", "in a session of its own", "talking"])
def test_what_an_ended_program_leaves_behind_is_not_waited_for(left: dict[str, str], after: str) -> None:
    lines, code = run(f"echo first >&2; {after} exit 3", left)
    assert (lines[0], code) == ("first", 3)
    if not after.startswith("setsid"):
        none(left)


def test_whatever_its_reader_raises_it_ends(left: dict[str, str]) -> None:
    def stop() -> bool:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(DEAF.format(first="yes >&2 &"), left, stop=stop)
    none(left)
