"""Who holds the farm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK
from ansible_collections.desimages.farm.plugins.plugin_utils.run import hold, release


def test_a_farm_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    said: list[str] = []
    with subprocess.Popen(["sleep", "60"]) as other:
        hold(str(tmp_path), wait=False, tell=said.append, pid=other.pid)
        with pytest.raises(Busy, match=f"held by process {other.pid}"):
            hold(str(tmp_path), wait=False, tell=said.append, pid=os.getpid())
        other.kill()
    hold(str(tmp_path), wait=True, tell=said.append, pid=os.getpid())
    hold(str(tmp_path), wait=False, tell=said.append, pid=os.getpid())
    assert said == []
    release(str(tmp_path), os.getpid())
    assert (tmp_path / "holder.json").read_text() == ""


@pytest.mark.parametrize("text", [78 * "\0", '{"pid": 1', "[]", "{}"])
def test_a_holder_that_was_half_written_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "holder.json").write_text(text)
    release(str(tmp_path), os.getpid())
    hold(str(tmp_path), wait=False, tell=print, pid=os.getpid())
    assert f'"pid": {os.getpid()}' in (tmp_path / "holder.json").read_text()


def test_a_farm_that_is_not_there_is_not_made_to_be_taken(tmp_path: Path) -> None:
    state = tmp_path / "farm"
    hold(str(state), wait=False, tell=print, pid=os.getpid(), create=False)
    assert not state.exists()
    state.mkdir()
    hold(str(state), wait=False, tell=print, pid=os.getpid(), create=False)
    assert not list(state.iterdir())
    (state / MARK).touch()
    hold(str(state), wait=False, tell=print, pid=os.getpid(), create=False)
    with pytest.raises(Busy):
        hold(str(state), wait=False, tell=print, pid=1)


def test_a_second_run_waits_and_says_for_whom(tmp_path: Path) -> None:
    said: list[str] = []
    with subprocess.Popen(["sleep", "1"]) as other:
        hold(str(tmp_path), wait=False, tell=said.append, pid=other.pid)
        reaper = subprocess.Popen(["sh", "-c", "exit 0"])
        reaper.wait()

        def tell(text: str) -> None:
            said.append(text)
            other.wait()

        hold(str(tmp_path), wait=True, tell=tell, pid=os.getpid())
    assert len(said) == 1
    assert f"held by process {other.pid}" in said[0]
