"""Services whose change was killed, whose farm was moved or copied, and units that somebody else made."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import files, state, supervision
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc
from ansible_collections.desimages.farm.plugins.module_utils.supervisors import Runit
from ansible_collections.desimages.farm.plugins.module_utils.wellness import Host
from ansible_collections.desimages.farm.plugins.modules import state_folder, supervised

from .modules import module_of, result, run_command

needs_runit = pytest.mark.skipif(not shutil.which("runsv"), reason="runit is not installed")


@pytest.fixture
def sleeping(tmp_path):
    """The parameters of a service of a farm in tmp_path/farm that sleeps; it is stopped afterwards."""
    state.claim(str(tmp_path / "farm"))
    params = {"name": "sleeper", "state_dir": str(tmp_path / "farm"), "supervisor": "runit",
              "command": ["/bin/sleep", "600"], "after": ["/bin/touch", str(tmp_path / "after")]}
    yield params
    for name in ("farm", "moved"):
        result(supervised.main, **{**params, "state_dir": str(tmp_path / name), "state": "stopped"})


def pid(params):
    return result(supervised.main, **params)["service"]["pid"]


@needs_runit
@pytest.mark.parametrize("when", ["write", "start"])
def test_a_change_of_a_service_that_was_killed_is_made_good_by_the_next_run(sleeping, monkeypatch, when):
    """The description may be the new one already, and what runs the old one."""
    before = pid(sleeping)
    other = {**sleeping, "command": ["/bin/sleep", "601"]}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        real = files.write

        def write(path, *arguments):
            real(path, *arguments)
            if when == "write" and path.endswith("service.json"):
                raise KeyboardInterrupt

        def killed(*arguments):
            raise KeyboardInterrupt

        patched.setattr(files, "write", write)
        patched.setattr(Runit, "start", killed)
        result(supervised.main, **other)
    assert Host(sleeping["state_dir"], "f", ["sleeper"], run_command).problems == ["the last change of sleeper was "
                                                                                   "not completed"]
    found = result(supervised.main, **other)
    assert found["reasons"] == ["its last change was not completed"]
    until = time.monotonic() + 10
    while (now := pid(other)) in (0, before):  # sv does not await one that was started in this second
        assert time.monotonic() < until
    assert Proc().command(now) == "/bin/sleep 601"
    assert Host(sleeping["state_dir"], "f", ["sleeper"], run_command).problems == []
    assert not result(supervised.main, **other)["changed"]


@needs_runit
@pytest.mark.timeout(60)
def test_a_farm_that_was_moved_leaves_nothing_running_when_it_is_removed(sleeping, tmp_path):
    assert pid(sleeping)
    (tmp_path / "farm").rename(tmp_path / "moved")
    assert state_folder.absent(module_of(tmp_path / "moved"))["changed"]
    assert [found for found in Proc().pids() if str(tmp_path / "farm") in Proc().command(found)] == []
    assert Proc().marked(f"DESIMAGES_SERVICE={tmp_path}/farm/services/sleeper") == []


@needs_runit
def test_a_copy_of_a_farm_is_removed_and_the_farm_runs_on(sleeping, tmp_path):
    before = pid(sleeping)
    (tmp_path / "after").unlink()
    subprocess.run(["cp", "-a", str(tmp_path / "farm"), str(tmp_path / "copy")], check=True)
    assert state_folder.absent(module_of(tmp_path / "copy"))["changed"]
    assert not (tmp_path / "copy").exists()
    found = result(supervised.main, **sleeping)
    assert (found["changed"], found["service"]["pid"]) == (False, before)
    assert not (tmp_path / "after").exists()


@pytest.mark.parametrize(("make", "said"), [
    (lambda path: path.write_text("[Service]\nExecStart=/bin/hers\n"), "exists, and this farm did not make it"),
    (lambda path: path.symlink_to("/dev/null"), "is a link to /dev/null, as of `systemctl mask`"),
])
def test_a_unit_that_somebody_else_made_or_masked_is_refused_and_stays(tmp_path, monkeypatch, make, said):
    units = tmp_path / "units"
    units.mkdir()
    monkeypatch.setattr(supervision, "UNITS", str(units))
    params = {"name": "sleeper", "state_dir": str(tmp_path / "farm"), "supervisor": "systemd",
              "command": ["/bin/sleep", "600"]}
    unit = units / supervision.Service.from_params(params).unit
    make(unit)
    before = os.readlink(unit) if unit.is_symlink() else unit.read_text()
    for check in (True, False):
        found = result(supervised.main, check=check, **params)
        assert found["failed"] and said in found["msg"] and unit.name in found["msg"], found
    assert not (tmp_path / "farm").exists()
    state.claim(str(tmp_path / "farm"))
    described = supervision.definition(supervision.Service.from_params(params), {}, "systemd")
    files.write(str(tmp_path / "farm/services/sleeper/service.json"), supervision.encode(described))
    result(supervised.main, **{**params, "state": "absent"})
    files.write(str(tmp_path / "farm/services/sleeper/service.json"), supervision.encode(described))
    assert state_folder.absent(module_of(tmp_path / "farm"))["changed"]
    assert (os.readlink(unit) if unit.is_symlink() else unit.read_text()) == before


SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/calls"
case $1 in show) echo ActiveState=active; echo MainPID=$$; echo UnitFileState=enabled ;; esac
"""


def test_the_unit_of_a_farm_that_was_moved_does_not_stay(tmp_path, monkeypatch):
    """systemd would try to start it for ever."""
    units, programs = tmp_path / "units", tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setattr(supervision, "UNITS", str(units))
    files.write(str(programs / "systemctl"), SYSTEMCTL, 0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    state.claim(str(tmp_path / "farm"))
    params = {"name": "sleeper", "supervisor": "systemd", "command": ["/bin/sleep", "600"]}
    assert result(supervised.main, **params, state_dir=str(tmp_path / "farm"))["changed"]
    (old,) = units.iterdir()
    (units / f".{old.name}.0123456789ab").touch()  # as a kill leaves it
    (tmp_path / "farm").rename(tmp_path / "moved")
    (programs / "calls").unlink()
    assert result(supervised.main, **params, state_dir=str(tmp_path / "moved"))["changed"]
    (new,) = units.iterdir()
    assert new.name != old.name
    assert f"disable --now {old.name}" in (programs / "calls").read_text().splitlines()
    assert not result(supervised.main, **params, state_dir=str(tmp_path / "moved"))["changed"]
