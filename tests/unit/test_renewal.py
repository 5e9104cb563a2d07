"""What a node's BuildKit keeps is later than the newest lock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import renewal

BUILDCTL = """#!/bin/sh
echo "$*" >> {0}/called
exit {1}
"""


def program(folder: Path, code: int = 0) -> list[str]:
    path = folder / "buildctl"
    path.write_text(BUILDCTL.format(folder, code))
    path.chmod(0o755)
    return [str(path), "--addr=unix:///x"]


def called(folder: Path) -> list[str]:
    return (folder / "called").read_text().splitlines()


def test_buildkit_forgets_what_is_from_before_a_lock_once_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    for newest in (0, now - 100, now, now - 5):
        assert renewal.renew(str(tmp_path), newest, program(tmp_path))
    assert called(tmp_path) == ["--addr=unix:///x prune --all --filter type!=exec.cachemount"]
    monkeypatch.setattr(time, "time", lambda: now + 1000.5)
    for _job in range(2):
        assert renewal.renew(str(tmp_path), now + 500, program(tmp_path))
    assert len(called(tmp_path)) == 2
    assert (tmp_path / renewal.SINCE).read_text() == f"{now + 1000}\n"


@pytest.mark.parametrize("text", ["", "x\n", "-5\n", "\u0663\n", "9" * 30])
def test_a_file_that_says_nothing_usable_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / renewal.SINCE).write_text(text)
    assert renewal.renew(str(tmp_path), int(time.time()) - 5, program(tmp_path))
    assert len(called(tmp_path)) == 1


def test_where_buildkit_cannot_forget_its_cache_is_not_used(tmp_path: Path) -> None:
    assert not renewal.renew(str(tmp_path), 5, program(tmp_path, 1))
    assert not renewal.renew(str(tmp_path), 5, ["/nowhere/buildctl"])
    assert not renewal.renew(str(tmp_path / "gone"), 5, program(tmp_path))
    assert not (tmp_path / renewal.SINCE).exists()


def test_a_lock_of_the_future_is_never_built_with_the_cache(tmp_path: Path) -> None:
    """The clock of this node is slow: what it makes now may be earlier than the lock."""
    later = int(time.time()) + 1000
    assert [renewal.renew(str(tmp_path), later, program(tmp_path)) for _job in range(2)] == [False, False]


def test_a_job_waits_until_the_clock_of_its_node_has_passed_the_newest_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step writes before has a time of its own in the layer, which no other node gives it."""
    now, slept = [1_700_000_000.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    renewal.wait_for(0)
    renewal.wait_for(1_699_999_999)
    assert slept == []
    renewal.wait_for(1_700_000_500)
    assert now[0] > 1_700_000_500 and len(slept) > 400
    with pytest.raises(OSError, match="is from 2023-11-15 00:13:21 UTC, and the clock says 2023-11-14 22:21:40 UTC"):
        renewal.wait_for(1_700_007_201)
