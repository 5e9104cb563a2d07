"""Packages are installed by the real apt and dpkg, in a small Debian of its own, and nothing else happens to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.modules import packages

from .dpkg_root import STARTS, VENDOR, DpkgRoot
from .modules import result

needs_apt = pytest.mark.skipif(not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="needs apt and dpkg")
POLICY = Path("/usr/sbin/policy-rc.d")
WAIT = 60  # seconds


@pytest.fixture
def host(tmp_path, monkeypatch) -> DpkgRoot:
    made = DpkgRoot(tmp_path / "host")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(packages, "RUN", str(made.root / "run"))
    monkeypatch.setattr(packages, "UNITS", str(made.root / "units"))
    monkeypatch.setattr(packages, "BROUGHT", tuple(f"{made.root}{path}" for path in packages.BROUGHT))
    return made


def install(*names: str, check: bool = False, **more) -> dict:
    return result(packages.main, check=check, names=list(names), **more)


def refused(host: DpkgRoot, *names: str, **more) -> str:
    """The message, the same in both modes; the machine is as it was."""
    before, states = host.tree(), host.states()
    found = install(*names, check=True, **more)
    assert found.get("failed"), found
    assert host.tree() == before
    real = install(*names, **more)
    assert real.get("failed"), real
    assert real["msg"] == found["msg"]
    assert host.states() == states
    assert list((host.root / "run").iterdir()) == list((host.root / "units").iterdir()) == []
    return str(real["msg"])


def vendor(host: DpkgRoot) -> None:
    """Docker from its vendor's packages."""
    host.install(host.deb("containerd.io", "1.7", **VENDOR), host.deb("docker-ce", "28", Depends="containerd.io"))


@needs_apt
@pytest.mark.parametrize("lists", ["there", "missing"])
def test_a_package_that_conflicts_with_dockers_own_is_refused(host, lists):
    vendor(host)
    host.publish(host.deb("runc", "1.1"), update=lists == "there")
    before = host.tree()
    found = install("runc", check=True, remedy="name another runc")
    assert found["failed"]
    assert "cannot install runc: apt would remove containerd.io 1.7, docker-ce 28" in found["msg"]
    assert found["msg"].endswith("; or name another runc")
    assert host.tree() == before
    real = install("runc", remedy="name another runc")
    assert real["msg"] == found["msg"]
    assert host.states() == {"containerd.io": "ii 1.7", "docker-ce": "ii 28"}


@needs_apt
def test_apt_itself_may_not_remove_what_the_simulation_did_not_tell(host, monkeypatch):
    vendor(host)
    host.publish(host.deb("runc"))
    monkeypatch.setattr(packages.Packages, "consider", lambda self: None)
    assert "Packages need to be removed but remove is disabled" in install("runc")["msg"]
    assert host.states() == {"containerd.io": "ii 1.7", "docker-ce": "ii 28"}


@needs_apt
def test_a_package_that_only_another_one_provides_is_refused(host):
    vendor(host)
    said = refused(host, "runc")
    assert "no source of apt has a package runc" in said and "what to do: add a source that has it to" in said


@needs_apt
def test_a_held_package_in_the_way_stays(host):
    vendor(host)
    host.publish(host.deb("runc"))
    host.dpkg("--set-selections", stdin="containerd.io hold\n")
    assert "containerd.io : Conflicts: runc" in refused(host, "runc", remedy="name another runc")
    assert host.states() == {"containerd.io": "hi 1.7", "docker-ce": "ii 28"}


@needs_apt
@pytest.mark.parametrize(("old", "new"), [("1", "2"), ("2", "1")])
def test_a_package_that_needs_another_version_of_what_is_there_is_refused(host, old, new):
    host.install(host.deb("libthing", old))
    (host.root / "etc/apt/preferences.d/wanted").write_text(
        f"Package: libthing\nPin: version {new}\nPin-Priority: 1001\n"
    )
    host.configure('APT::Get::allow-downgrades "true";\n')
    host.publish(host.deb("libthing", new), host.deb("thing", Depends=f"libthing (= {new})"))
    assert f"apt would change libthing from {old} to {new}" in refused(host, "thing")


@needs_apt
def test_what_is_no_longer_needed_is_not_removed_though_apt_is_set_to(host):
    host.publish(host.deb("leaf"), host.deb("thing"), host.deb("other", Depends="leaf"))
    install("other")
    host.dpkg("--remove", "other")
    host.configure('APT::Get::AutomaticRemove "true";\n')
    assert install("thing")["changed"]
    assert host.states() == {"leaf": "ii 1", "thing": "ii 1", "other": "rc 1"} or host.states() == {
        "leaf": "ii 1",
        "thing": "ii 1",
    }


@needs_apt
def test_what_something_else_left_half_installed_is_not_ended(host):
    host.install(host.deb("half"), how="--unpack")
    host.publish(host.deb("thing"))
    assert "apt would configure half, whose installation something else began" in refused(host, "thing")


@needs_apt
def test_what_was_asked_for_itself_is_ended(host):
    deb = host.deb("thing")
    host.install(deb, how="--unpack")
    host.publish(deb)
    assert install("thing", check=True)["new"] == {"thing": "1"}
    assert install("thing")["changed"]
    assert host.states() == {"thing": "ii 1"}
    assert not install("thing")["changed"]


@needs_apt
def test_nothing_is_begun_where_dpkg_was_interrupted(host):
    host.publish(host.deb("thing"))
    (host.root / "var/lib/dpkg/updates/0001").touch()
    assert "dpkg was interrupted" in refused(host, "thing")


@needs_apt
@pytest.mark.parametrize(
    "name", ["runc-", "runc=1", "runc/sid", "runc:i386", "-oDebug::x=1", "runc*", "ru.c^", "?essential", "", "Runc"]
)
def test_what_is_no_plain_name_is_refused(host, name):
    assert f"{name!r} is not the plain name of a Debian package" in refused(host, name, "runc+")


@needs_apt
@pytest.mark.parametrize("name", ["run.", "runc+", "r.nc"])
def test_a_name_that_no_package_has_is_not_taken_for_a_pattern(host, name):
    host.publish(host.deb("runc"))
    assert name in refused(host, name)


@needs_apt
def test_missing_packages_are_installed_with_what_they_need_and_nothing_is_done_twice(host):
    host.install(host.deb("there"))
    host.publish(
        host.deb("libthing", "2"),
        host.deb("extra"),
        host.deb("thing", "3", Depends="libthing", Recommends="extra"),
        update=False,
    )
    before = host.tree()
    found = install("thing", "there", check=True)
    assert host.tree() == before
    assert found["changed"] and found["installed"] == ["thing"] and found["new"] == {"libthing": "2", "thing": "3"}
    assert found["versions"] == {"there": "1"}
    real = install("thing", "there")
    assert {**found, "versions": {"there": "1", "thing": "3"}, "invocation": ""} == {**real, "invocation": ""}
    assert host.states() == {"there": "ii 1", "thing": "ii 3", "libthing": "ii 2"}
    again = install("thing", "there")
    assert not again["changed"] and again["installed"] == [] and again["new"] == {}


@needs_apt
def test_no_packages_are_none(host):
    assert not install()["changed"]


@needs_apt
def test_lists_that_name_a_file_which_the_mirror_no_longer_has_are_fetched_again(host):
    host.publish(host.deb("thing", "1"))
    host.withdraw("thing_1.deb")
    host.publish(host.deb("thing", "2"), update=False)
    assert install("thing")["versions"] == {"thing": "2"}


# --- services -------------------------------------------------------------------------------------------------------


def policy() -> tuple[str, int]:
    return (POLICY.read_text(), POLICY.stat().st_ino) if POLICY.is_file() else ("", 0)


@needs_apt
def test_no_service_is_started_and_nothing_is_left_of_what_prevents_it(host):
    before = policy()
    host.publish(host.deb("server", postinst=STARTS))
    assert install("server", quiet=["server.service"])["changed"]
    found = (host.root / "found").read_text().split()
    assert [os.path.basename(path) for path in found] == ["invoke-rc.d", "deb-systemd-invoke"]
    assert all(path.startswith(f"{host.root}/run/desimages-quiet-") for path in found)
    assert list((host.root / "run").iterdir()) == []
    assert os.readlink(host.root / "units/server.service") == "/dev/null"
    assert policy() == before


@needs_apt
@pytest.mark.parametrize(
    ("files", "masked"),
    [
        ((), []),
        (("usr/lib/systemd/system/server.service",), ["server.service"]),
        (("lib/systemd/system/server.service",), ["server.service"]),
        (("etc/init.d/server",), ["server.service"]),
    ],
)
def test_a_mask_that_was_made_for_an_installation_that_failed_stays_only_where_the_unit_came(host, files, masked):
    host.publish(host.deb("server", files=files, postinst="exit 3"))
    found = install("server", quiet=["server.service"])
    assert (
        found["failed"]
        and "installed server package post-installation script subprocess returned error exit status 3" in found["msg"]
    )
    assert [path.name for path in (host.root / "units").iterdir()] == masked


@needs_apt
def test_a_unit_that_an_admin_wrote_or_masked_is_left_when_an_installation_fails(host):
    (host.root / "units/server.service").symlink_to("/dev/null")
    (host.root / "units/other.service").write_text("[Service]\n")
    host.publish(host.deb("server", postinst="exit 3"))
    assert install("server", quiet=["server.service", "other.service"])["failed"]
    assert sorted(path.name for path in (host.root / "units").iterdir()) == ["other.service", "server.service"]


@needs_apt
@pytest.mark.parametrize("where", ["usr/lib", "lib"])
def test_a_service_that_is_there_already_is_not_masked_by_the_package_that_needs_it(host, where):
    """As containerd's, which may run other containers, beside docker.io."""
    host.install(host.deb("engine", files=(f"{where}/systemd/system/engine.service",)))
    host.publish(host.deb("server", Depends="engine", files=("usr/lib/systemd/system/server.service",)))
    assert install("server", quiet=["server.service", "engine.service"])["changed"]
    assert [path.name for path in (host.root / "units").iterdir()] == ["server.service"]


@needs_apt
def test_a_script_that_a_removed_package_left_is_no_service_that_is_there(host):
    (host.root / "etc/init.d").mkdir(parents=True)
    (host.root / "etc/init.d/server").write_text("#!/bin/sh\n")
    host.publish(host.deb("server", files=("usr/lib/systemd/system/server.service",)))
    assert install("server", quiet=["server.service"])["changed"]
    assert [path.name for path in (host.root / "units").iterdir()] == ["server.service"]


PROGRAM = """\
import sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.desimages.farm.plugins.modules import packages
packages.RUN, packages.UNITS = sys.argv[1:3]
with patch_module_args({"names": ["server"], "quiet": sys.argv[3:]}):
    packages.main()
"""


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def halfway(host, tmp_path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """An installation in the middle of a package's script, and the FIFO that this waits for."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f'touch "$DPKG_ROOT/began"\n[ -e "$DPKG_ROOT/again" ] || cat {gate}\n{STARTS}\necho started'
    host.publish(host.deb("server", postinst=script))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"{host.root}/run", f"{host.root}/units"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    until((host.root / "began").exists)
    yield process, gate
    process.kill()
    process.wait()
    until(lambda: not kill(started_by(host)))  # apt outlives the module


def started_by(host: DpkgRoot) -> list[int]:
    """apt, dpkg and what these run."""
    mark = f"APT_CONFIG={host.root}/apt.conf\0".encode()
    found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]
    return [pid for pid in found if pid != os.getpid()]


def kill(pids: list[int]) -> list[int]:
    """They may end before it is their turn, as what started them is gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@needs_apt
def test_an_installation_that_outlives_its_module_ends_well_and_starts_no_service_either(host, halfway):
    process, gate = halfway
    process.kill()
    process.wait()
    gate.write_text("")
    until(lambda: not started_by(host))
    assert host.states() == {"server": "ii 1"}, "what it says nobody reads"
    assert all(
        path.startswith(f"{host.root}/run/desimages-quiet-") for path in (host.root / "found").read_text().split()
    )


@needs_apt
def test_another_dpkg_that_works_is_awaited_and_not_taken_for_an_interrupted_one(host, halfway, monkeypatch):
    """As unattended-upgrades does just after a boot."""
    _process, gate = halfway
    assert packages.interrupted()
    assert "another dpkg is working, process" in packages.at_work()
    with monkeypatch.context() as patched:
        patched.setattr(packages, "TURN", 0.1)
        assert "cannot install server: another dpkg is working" in install("server", check=True)["msg"]
    seen, at_work = threading.Event(), packages.at_work

    def look() -> str:
        found = at_work()
        seen.set()
        return found

    monkeypatch.setattr(packages, "at_work", look)
    with ThreadPoolExecutor() as pool:
        opened = pool.submit(lambda: seen.wait(WAIT) and gate.write_text(""))
        found = install("server")
        opened.result()
    assert not found.get("failed"), found
    assert host.states() == {"server": "ii 1"}


@needs_apt
def test_a_killed_installation_leaves_nothing_that_keeps_a_service_from_starting(host, halfway):
    """Killed with all that it started, as by a power cut."""
    before = policy()
    process, _folder = halfway
    process.kill()
    process.wait()
    until(lambda: not kill(started_by(host)))
    assert policy() == before
    (left,) = (host.root / "run").iterdir()
    assert sorted(path.name for path in left.iterdir()) == ["deb-systemd-invoke", "invoke-rc.d"]

    (host.root / "again").touch()
    found = install("server")
    if found.get("failed"):  # where dpkg was killed while it wrote its journal
        assert "dpkg --configure -a" in found["msg"]
        host.dpkg("--configure", "-a")
    assert host.states() == {"server": "ii 1"}
    assert not install("server")["changed"]


BLOCKS = """#!/bin/sh
case "$*" in *--simulate*) exec {apt} "$@" ;; esac
echo "$*" >"{root}/asked"
cat "{root}/gate"
exit 100
"""


@needs_apt
def test_a_mask_is_not_made_before_the_package_is_there_to_install(host, monkeypatch):
    """apt waits for a mirror, the module is killed, and then the mirror has no package."""
    host.publish(host.deb("server", files=("usr/lib/systemd/system/server.service",)))
    os.mkfifo(host.root / "gate")
    programs = host.root / "programs"
    programs.mkdir()
    (programs / "apt-get").write_text(BLOCKS.format(apt=shutil.which("apt-get"), root=host.root))
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"{host.root}/run", f"{host.root}/units", "server.service"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    until((host.root / "asked").exists)
    process.kill()
    process.wait()
    (host.root / "gate").write_text("")
    until(lambda: not started_by(host))
    assert list((host.root / "units").iterdir()) == []


@needs_apt
def test_settings_that_a_removed_package_left_are_the_owners_and_hinder_nothing(host):
    """dpkg asks what to do with a file that somebody changed, and there is nobody to answer."""
    old = host.deb("server", "1", settings={"etc/server.conf": "old"})
    host.install(old)
    (host.root / "etc/server.conf").write_text("the owner's")
    host.dpkg("--remove", "server")
    host.publish(host.deb("server", "2", settings={"etc/server.conf": "new"}))
    found = install("server")
    assert not found.get("failed"), found
    assert host.states() == {"server": "ii 2"}
    assert (host.root / "etc/server.conf").read_text() == "the owner's"


@pytest.mark.timeout(60)
def test_an_apt_that_hangs_is_ended(tmp_path, monkeypatch):
    for name, script in (("apt-get", "sleep 600 & sleep 600"), ("dpkg-query", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    monkeypatch.setattr(packages, "LONGEST", 0.5)
    found = install("runc")
    assert found["failed"]
    assert "failed with 124:\napt-get did not end within 0 s, and was killed" in found["msg"]
