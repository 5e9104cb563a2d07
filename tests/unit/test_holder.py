"""Who holds the farm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import locked
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK, at_work
from ansible_collections.desimages.farm.plugins.plugin_utils import holder
from ansible_collections.desimages.farm.plugins.plugin_utils.holder import hold, release
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import alone


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


@pytest.mark.parametrize("create", [True, False])
def test_a_run_that_waited_for_a_clean_says_so_or_has_nothing_to_do(tmp_path: Path, create: bool) -> None:
    """It failed because of a lock that does not exist."""
    farm = tmp_path / "farm"
    farm.mkdir()
    (farm / MARK).touch()
    with subprocess.Popen(["sleep", "60"]) as other:
        hold(str(farm), wait=False, tell=print, pid=other.pid)

        def clean(_words: str) -> None:
            shutil.rmtree(farm)
            other.kill()

        removed = pytest.raises(FarmError, match="was removed while this run waited for it")
        with removed if create else contextlib.nullcontext():
            hold(str(farm), wait=True, tell=clean, pid=os.getpid(), create=create)
    assert not farm.exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", [
    78 * "\0", "", '{"pid": 1', "[]", "{}", "5", "null", '"x"', "[" * 4000, "{" * 4000, "\xff\xfe",
    '{"pid": ' + "1" * 4000, json.dumps({"pid": 4_000_000, "started": ""}),
    *(json.dumps({"pid": pid, "started": "1"}) for pid in ("1", 1.5, True, None, [1], {}, -1, 0, 1 << 70)),
    *(json.dumps({"pid": 1, "started": wrong}) for wrong in (1, "", None, [])),
    json.dumps({"pid": 1}), json.dumps({"pid": 1, "started": "1", "user": 5}),
])
def test_a_holder_that_makes_no_sense_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "holder.json").write_text(text, encoding="latin-1")
    release(str(tmp_path), os.getpid())
    hold(str(tmp_path), wait=False, tell=print, pid=os.getpid())
    assert json.loads((tmp_path / "holder.json").read_text())["pid"] == os.getpid()
    release(str(tmp_path), os.getpid())
    assert (tmp_path / "holder.json").read_text() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_farm_on_a_full_disk_can_be_stopped_and_cleaned(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    try:
        (tmp_path / MARK).touch()
        release(str(tmp_path), os.getpid())
        hold(str(tmp_path), wait=False, tell=print, pid=os.getpid())
        release(str(tmp_path), os.getpid())
        with contextlib.suppress(OSError), (tmp_path / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1000))
        said: list[str] = []
        hold(str(tmp_path), wait=False, tell=said.append, pid=os.getpid(), create=False)
        assert said == [f"no space left for {tmp_path}/holder.json: this run does not hold the farm"]
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/holder.json'"):
            hold(str(tmp_path), wait=False, tell=print, pid=os.getpid())
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/x'"):
            files.write(str(tmp_path / "x"), "x" * 10_000)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".x")]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_name_that_a_holder_gives_himself_is_shown_as_plain_text(tmp_path: Path) -> None:
    found = {"pid": 1, "started": started(1), "since": "now", "user": "a\x1b[2Jb\nc" + "d" * 1000}
    (tmp_path / "holder.json").write_text(json.dumps(found))
    with pytest.raises(Busy) as error:
        hold(str(tmp_path), wait=False, tell=print, pid=os.getpid())
    assert f"process 1 of a[2Jbc{'d' * 94} since now" in error.value.message


STRANGER = """
import fcntl, os, sys, time
os.setgid(65534); os.setuid(65534)
for folder, _folders, names in os.walk(sys.argv[1]):
    for name in names:
        try:
            fcntl.flock(os.open(os.path.join(folder, name), os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
            print(name, end=" ")
        except OSError:
            pass
print(flush=True)
time.sleep(600)
"""


@pytest.mark.timeout(30)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_who_may_only_look_cannot_hold_anybody_up(public: Path) -> None:
    (public / MARK).touch()
    state = str(public)
    hold(state, wait=False, tell=print, pid=os.getpid())
    with alone(public):
        pass
    with subprocess.Popen([sys.executable, "-c", STRANGER, state], stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout
        try:
            assert "holder.json" in stranger.stdout.readline(), "he reads who holds the farm"
            hold(state, wait=False, tell=print, pid=os.getpid())
            with alone(public):
                assert at_work(state) == "a lock step"
            assert at_work(state) == ""
            release(state, os.getpid())
            hold(state, wait=False, tell=print, pid=1, create=False)
        finally:
            stranger.kill()


@pytest.mark.timeout(20)
def test_a_process_that_stops_while_it_takes_the_farm_is_not_awaited_for_ever(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "PATIENCE", 0.2)
    with locked(str(tmp_path / "holder.lock"), 0), pytest.raises(Busy, match="has been trying to take the farm"):
        hold(str(tmp_path), wait=True, tell=print, pid=os.getpid())


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
