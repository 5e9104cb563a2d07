"""How scripts/setup.sh installs Debian packages: its function, with real apt and dpkg, in a Debian of its own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .dpkg_root import STARTS, VENDOR, DpkgRoot

SETUP = Path(__file__).resolve().parents[2] / "scripts/setup.sh"
pytestmark = [
    pytest.mark.skipif(not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="needs apt and dpkg"),
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: /run is root's"),
]


@pytest.fixture
def host(tmp_path) -> DpkgRoot:
    return DpkgRoot(tmp_path / "host")


def apt_install(host: DpkgRoot, *names: str) -> subprocess.CompletedProcess[str]:
    found = re.search(r"(?ms)^apt_install\(\) \{$.*?^\}$", SETUP.read_text(encoding="utf-8"))
    assert found
    helpers = 'say() { echo "setup: $*" >&2; }\ndie() { say "$*"; exit 1; }\nas_root() { "$@"; }\n'
    return subprocess.run(
        ["sh", "-euc", f'{helpers}{found[0]}\napt_install "$@"', "sh", *names],
        capture_output=True,
        text=True,
        check=False, env={**os.environ, **host.environment},
    )


@pytest.mark.parametrize("lists", ["there", "missing"])
def test_what_would_remove_something_is_refused(host, lists):
    host.install(host.deb("containerd.io", "1.7", **VENDOR), host.deb("docker-ce", "28", Depends="containerd.io"))
    host.publish(host.deb("docker.io", Conflicts="docker-ce"), host.deb("runc"), update=lists == "there")
    done = apt_install(host, "docker.io", "runc")
    assert done.returncode == 1
    assert "setup: apt would remove docker-ce containerd.io for docker.io runc: nothing is removed" in done.stderr
    assert host.states() == {"containerd.io": "ii 1.7", "docker-ce": "ii 28"}


def test_what_is_missing_is_installed_with_no_service_started(host):
    policy = list(Path("/usr/sbin").glob("policy-rc.d"))
    host.configure('APT::Get::AutomaticRemove "true";\n')
    host.publish(
        host.deb("leaf"), host.deb("other", Depends="leaf"), host.deb("server", postinst=STARTS), host.deb("second")
    )
    host.publish(update=False)
    host.withdraw("second_1.deb")
    host.publish(host.deb("second", "2"), update=False)  # the lists are older than that
    assert apt_install(host, "other").returncode == 0
    host.dpkg("--remove", "other")
    done = apt_install(host, "server", "second")
    assert done.returncode == 0, done.stderr
    assert {name: state for name, state in host.states().items() if name != "other"} == {
        "leaf": "ii 1",
        "server": "ii 1",
        "second": "ii 2",
    }
    found = [Path(path) for path in (host.root / "found").read_text().split()]
    assert [path.name for path in found] == ["invoke-rc.d", "deb-systemd-invoke"]
    assert all(path.match("/run/desimages-quiet-*/*") and not path.parent.exists() for path in found)
    assert list(Path("/usr/sbin").glob("policy-rc.d")) == policy


def test_a_package_that_is_nowhere_fails_by_name(host):
    done = apt_install(host, "nowhere")
    assert done.returncode == 1
    assert (
        "Unable to locate package nowhere" in done.stderr and "setup: apt-get could not install nowhere" in done.stderr
    )


WHEEL = """\
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("half/__init__.py", "")
    wheel.writestr("half-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: half\\nVersion: 1\\n")
    wheel.writestr("half-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("half-1.dist-info/RECORD", "half/__init__.py,,\\n")
"""


@pytest.fixture
def clone(tmp_path):
    """What setup.sh needs of a clone, with one requirement, of a wheel."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SETUP, tmp_path / "scripts")
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-go.txt"):
        (tmp_path / name).touch()
    return tmp_path


def set_up(clone: Path) -> subprocess.CompletedProcess[str]:
    words = ["sh", str(clone / "scripts/setup.sh"), "run"]
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


def test_an_environment_that_was_left_half_made_is_made_anew(clone):
    made = [sys.executable, "-m", "venv", "--without-pip", str(clone / ".venv")]  # as a kill leaves it
    subprocess.run(made, check=True)
    done = set_up(clone)
    assert done.returncode == 0, done.stderr
    assert (clone / ".venv/.requirements.run").exists()


def test_a_package_that_was_left_half_installed_is_installed_whole(clone):
    """pip takes a package for installed where its METADATA is there: before its programs and its RECORD are."""
    assert set_up(clone).returncode == 0
    (packages,) = (clone / ".venv/lib").glob("python*/site-packages")
    (packages / "half-1.dist-info").mkdir()
    (packages / "half-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1\n")
    (clone / "wheels").mkdir()
    wheel = clone / "wheels/half-1-py3-none-any.whl"
    subprocess.run([sys.executable, "-c", WHEEL, str(wheel)], check=True)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    text = f"--no-index\n--find-links {clone}/wheels\nhalf==1 --hash=sha256:{digest}\n"
    (clone / "requirements.txt").write_text(text)
    (clone / ".venv/.requirements.begun").touch()
    done = set_up(clone)
    assert done.returncode == 0, done.stderr
    assert list((clone / ".venv/lib").glob("python*/site-packages/half/__init__.py"))
    assert not (clone / ".venv/.requirements.begun").exists()


def test_an_installation_that_fails_is_known_for_one(clone):
    (clone / "requirements.txt").write_text(f"--no-index\nnowhere==1 --hash=sha256:{'0' * 64}\n")
    assert set_up(clone).returncode != 0
    assert (clone / ".venv/.requirements.begun").exists()
