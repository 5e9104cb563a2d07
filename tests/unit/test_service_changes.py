"""Services whose change was killed, whose farm was moved or copied, and units that somebody else made."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import files, state, supervision
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc, started
from ansible_collections.desimages.farm.plugins.module_utils.supervision import Service
from ansible_collections.desimages.farm.plugins.module_utils.supervisors import Runit
from ansible_collections.desimages.farm.plugins.module_utils.wellness import Host
from ansible_collections.desimages.farm.plugins.modules import state_folder, supervised

from .local_node import SLOW, Local
from .modules import module_of, result, run_command
from .test_supervised import until

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
    assert found["service"]["pid"] not in (0, before), "though the one before was started in this second"
    until(lambda: Proc().command(found["service"]["pid"]) == "/bin/sleep 601")  # one that starts has no words at first
    assert Host(sleeping["state_dir"], "f", ["sleeper"], run_command).problems == []
    assert not result(supervised.main, **other)["changed"]


@needs_runit
@pytest.mark.timeout(60)
def test_a_service_whose_stop_was_killed_runs_again_with_its_log(sleeping):
    """Its runsv waits for the log, which waits for what the service left; it would start the service without a log."""
    leaving = {**sleeping, "command": ["/bin/sh", "-c", "sleep 600 & exec sleep 601"], "stop_timeout": 9}
    before = pid(leaving)
    folder = f"{sleeping['state_dir']}/services/sleeper"
    until(lambda: {Proc().command(each) for each in Proc().marked(f"DESIMAGES_SERVICE={folder}")}
          >= {"sleep 600", "sleep 601"})
    subprocess.run(["sv", "-w", "1", "force-shutdown", folder], stdout=subprocess.DEVNULL, check=False)
    assert Path(folder, "log/supervise/stat").read_text() == "run, want exit\n"
    found = result(supervised.main, **leaving)
    assert found["reasons"] == ["it is not running"]
    assert found["service"]["pid"] not in (0, before)
    assert Path(folder, "log/supervise/stat").read_text() == "run\n"
    assert not result(supervised.main, **leaving)["changed"]
    assert result(supervised.main, **{**leaving, "state": "stopped"})["changed"]
    assert Proc().marked(f"DESIMAGES_SERVICE={folder}") == []


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


SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/calls"
case $* in
    show*FragmentPath*) echo FragmentPath= ;;
    show*) echo ActiveState=active; echo MainPID=$$; echo UnitFileState=enabled ;;
esac
"""


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A folder of units, with a systemctl that writes down what it is told in `programs/calls`."""
    units, programs = tmp_path / "units", tmp_path / "programs"
    units.mkdir()
    programs.mkdir()
    monkeypatch.setattr(supervision, "UNITS", str(units))
    files.write(str(programs / "systemctl"), SYSTEMCTL, 0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return units


def told(systemd):
    return (systemd.parent / "programs/calls").read_text().splitlines()


SHARING = {"name": "sleeper", "supervisor": "systemd", "command": ["/bin/sleep", "600"], "share": {"weight": 20}}


@pytest.mark.parametrize("spoil", [
    shutil.rmtree, lambda farm: (farm / "services/sleeper/service.json").write_text("{"),
    lambda farm: shutil.rmtree(farm / "services"),
])
@pytest.mark.parametrize("link", [True, False])
def test_units_of_a_farm_go_though_its_folder_does_not_describe_them_any_more(systemd, tmp_path, spoil, link):
    farm = tmp_path / "farm"
    if link:
        (tmp_path / "disk").mkdir()
        farm.symlink_to("disk")
    assert result(supervised.main, **SHARING, state_dir=str(farm))["changed"]
    (systemd / "other.service").write_text("[Service]\n")
    others = Service("sleeper", str(tmp_path / "other"))
    files.write(f"{systemd}/{others.unit}", f"{supervision.WRITTEN}{others.state_dir}: changes are lost.\n")
    unit = Service("sleeper", str(farm)).unit
    spoil(farm.resolve())
    module = module_of(farm)
    module.check_mode = True
    assert (state_folder.absent(module)["changed"], (systemd / unit).exists()) == (True, True)
    module.check_mode = False
    found = state_folder.absent(module)
    assert (found["changed"], found["services"]) == (True, ["sleeper"])
    assert sorted(path.name for path in systemd.iterdir()) == [others.unit, "other.service"]
    assert f"disable --now {unit}" in told(systemd)
    assert not state_folder.absent(module)["changed"]


def test_a_unit_whose_file_somebody_removed_is_stopped_and_does_not_start_at_boot(systemd, tmp_path):
    """systemd would start it again whenever it ends, for ever."""
    assert result(supervised.main, **SHARING, state_dir=str(tmp_path / "farm"))["changed"]
    unit = Service("sleeper", str(tmp_path / "farm")).unit
    wanted = systemd / "multi-user.target.wants" / unit
    wanted.parent.mkdir()
    wanted.symlink_to(systemd / unit)
    (systemd / unit).unlink()
    assert state_folder.absent(module_of(tmp_path / "farm"))["changed"]
    assert f"stop {unit}" in told(systemd)
    assert not wanted.is_symlink()


@pytest.mark.parametrize("make", [
    lambda path: path.write_text("[Slice]\nMemoryMax=1G\n"), lambda path: path.symlink_to("/dev/null"),
    lambda path: path.touch(),
])
@pytest.mark.parametrize("name", ["unit", "slice"])
def test_a_unit_or_slice_of_somebody_else_is_not_overwritten(systemd, tmp_path, make, name):
    path = systemd / getattr(Service("sleeper", str(tmp_path / "farm")), name)
    make(path)
    before = (path.lstat().st_ino, path.lstat().st_mtime_ns)
    for params in ({"state": "started"}, {"state": "absent"}):
        result(supervised.main, **SHARING, **params, state_dir=str(tmp_path / "farm"))
    assert "failed" in result(supervised.main, **SHARING, state_dir=str(tmp_path / "farm"))
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == before


@needs_runit
def test_a_service_of_a_copy_is_removed_and_the_files_of_the_farm_stay(sleeping, tmp_path):
    params = {**sleeping, "files": {f"{tmp_path}/farm/etc/settings": "one"}}
    assert pid(params)
    subprocess.run(["cp", "-a", str(tmp_path / "farm"), str(tmp_path / "copy")], check=True)
    found = result(supervised.main, name="sleeper", supervisor="runit", state="absent",
                   state_dir=str(tmp_path / "copy"))
    assert found["changed"] and not (tmp_path / "copy/services/sleeper").exists()
    assert (tmp_path / "farm/etc/settings").read_text() == "one"


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


def test_the_unit_of_a_farm_that_was_moved_does_not_stay(systemd, tmp_path):
    """systemd would try to start it for ever."""
    units, programs = systemd, tmp_path / "programs"
    state.claim(str(tmp_path / "farm"))
    params = {"name": "sleeper", "supervisor": "systemd", "command": ["/bin/sleep", "600"]}
    assert result(supervised.main, **params, state_dir=str(tmp_path / "farm"))["changed"]
    (old,) = units.iterdir()
    for name in (old.name, supervision.Service("sleeper", str(tmp_path / "farm")).slice):
        (units / f".{name}.0123456789ab").touch()  # as a kill leaves it
    (tmp_path / "farm").rename(tmp_path / "moved")
    (programs / "calls").unlink()
    assert result(supervised.main, **params, state_dir=str(tmp_path / "moved"))["changed"]
    (new,) = units.iterdir()
    assert new.name != old.name
    assert f"disable --now {old.name}" in (programs / "calls").read_text().splitlines()
    assert not result(supervised.main, **params, state_dir=str(tmp_path / "moved"))["changed"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("moved", [True, False])
def test_a_farm_is_not_made_again_by_a_job_that_runs_while_it_is_removed(tmp_path, moved):
    """Its controller died. A job writes its state several times a second."""
    local = Local(tmp_path)
    (tmp_path / state.MARK).touch()
    local.start("a", SLOW, {})
    local.engine.close()
    pid = int((tmp_path / "jobs/a/pid").read_text())
    farm = tmp_path.with_name(f"{tmp_path.name}-moved") if moved else tmp_path
    if moved:
        tmp_path.rename(farm)
    assert state_folder.absent(module_of(farm))["changed"]
    assert started(pid) == ""
    assert not farm.exists() and not tmp_path.exists()


def test_what_is_written_to_a_farm_while_it_is_removed_is_told_and_the_next_run_removes_it(tmp_path):
    farm = tmp_path / "farm"
    state.claim(str(farm))
    (farm / "log").mkdir()
    module = module_of(farm)

    def late(words, **options):
        done = run_command(words, **options)
        if words[-1].endswith("/log"):
            (farm / "jobs").mkdir()
        return done

    with pytest.raises(FarmError, match="something wrote to .* while it was removed: jobs came back"):
        state_folder.absent(SimpleNamespace(params=module.params, check_mode=False, run_command=late))
    assert state_folder.absent(module)["changed"] and not farm.exists()


@needs_runit
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_data_folder_that_a_killed_run_made_is_given_to_the_services_user(sleeping, public):
    """Or one on which a new disk is mounted. Else the service could not write there."""
    public.joinpath("outside").mkdir()
    nobody = pwd.getpwnam("nobody").pw_uid
    folders = {"begun": nobody, "disk": nobody, "full": 0, "link": nobody, "planted": 0}
    for name in ("begun", "disk/lost+found", "full/data", "target", "outside/target", "outside/theirs"):
        public.joinpath(name).mkdir(parents=True)
    public.joinpath("outside/theirs").chmod(0o1777)
    public.joinpath("link").symlink_to("target")
    public.joinpath("outside/theirs/planted").symlink_to(public / "outside/target")
    data = [str(public / ("outside/theirs" if name == "planted" else "") / name) for name in folders]
    found = result(supervised.main, **{**sleeping, "user": "nobody", "claims": {"data": data}})
    assert found.get("failed") and "planted" in found["msg"], found
    found = result(supervised.main, **{**sleeping, "user": "nobody", "claims": {"data": data[:-1]}})
    assert not found.get("failed"), found
    assert [os.stat(path).st_uid for path in data] == list(folders.values())


@pytest.mark.parametrize(("mode", "check", "said"), [
    (0o1777, True, "is writable for everyone"), (0o1777, False, "is writable for everyone"), (0o755, True, "")])
def test_no_service_listens_where_another_user_could_listen_in_its_place(public, mode, check, said):
    """They would be given what is meant for the service, such as a login."""
    (public / "open").mkdir()
    (public / "open").chmod(mode)
    path = public / "open/made/later/a.sock"
    params = {"name": "sleeper", "state_dir": str(public / "farm"), "supervisor": "systemd", "command": ["/bin/true"],
              "claims": {"sockets": [str(path)]}}
    found = result(supervised.main, check=check, **params)
    assert (f"cannot listen on {path}: {public}/open {said}" in found.get("msg", "")) is bool(said), found
    assert not said or os.listdir(public) == ["open"]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_what_lies_in_the_place_of_a_socket_is_named_and_stays(tmp_path, make):
    make(tmp_path / "a.sock")
    params = {"name": "sleeper", "state_dir": str(tmp_path / "farm"), "supervisor": "runit", "command": ["/bin/true"],
              "claims": {"sockets": [str(tmp_path / "a.sock")]}}
    found = result(supervised.main, **params)
    assert found["failed"] and f"socket {tmp_path}/a.sock is a" in found["msg"]
    assert os.listdir(tmp_path) == ["a.sock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_a_container_has_open_at_the_same_place_is_not_in_this_farm(tmp_path):
    """The kernel names its files as it sees them, so the names are the same. Its jobs are not ended, either."""
    job = tmp_path / "jobs/1"
    job.mkdir(parents=True)
    words = f"mount -t tmpfs none {tmp_path} && mkdir -p {job} && cd {job} && exec 2> runner.err && echo begun && " \
            "exec sleep 600"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", words], stdout=subprocess.PIPE, text=True) as container:
        try:
            assert container.stdout.readline() == "begun\n"
            assert os.readlink(f"/proc/{container.pid}/fd/2") == f"{job}/runner.err"
            assert Proc().users(str(tmp_path)) == [] == state_folder.jobs(str(tmp_path))
        finally:
            container.kill()
    with subprocess.Popen(["sleep", "600"], cwd=job, stderr=(job / "runner.err").open("w")) as own:
        try:
            assert Proc().users(str(tmp_path)) == [own.pid] == state_folder.jobs(str(tmp_path))
            (job / "runner.err").unlink()
            assert own.pid in Proc().users(str(tmp_path))
        finally:
            own.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a PID namespace")
def test_a_farm_at_the_same_place_in_a_container_is_another_one(tmp_path):
    """Its services have the same mark in their environment, and are not ended with those of this one."""
    mark = f"DESIMAGES_SERVICE={tmp_path}/services/x"
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "env", mark, "sleep", "600"]) as container:
        try:
            proc, inner, deadline = Proc(), 0, time.monotonic() + 20
            while proc.command(inner) != "sleep 600":
                inner = next((pid for pid in proc.pids() if proc.has_variable(pid, mark)), 0)
                assert time.monotonic() < deadline
            assert proc.marked(mark) == []
        finally:
            container.kill()
