"""A user who is not root, with sudo: what his actions write is his, the rest of the state folder is root's, and root
may come after him."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import state

from .conftest import PROJECT, REGISTRY, STATE, Farm, held, sh
from .small import Small

NAME = f"desimages-test-{os.getpid()}"
TOOLS = ("sudo", "setpriv", "useradd", "userdel", "chpasswd")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
                       reason=f"makes a user: needs root, and {', '.join(TOOLS)}"),
]


@dataclass
class Person:
    """Runs playbooks as himself, in a home of his own."""

    uid: int
    gid: int
    home: Path

    def run(self, playbook: str, *words: str, rc: int = 0) -> str:
        """What the playbook printed, which ends with `rc`. He may read what only root can, such as this Python, but not
        write there."""
        settings = [f"-efarm_state={STATE}", f"-efarm_registry={REGISTRY}", f"-efarm_namespace={NAME}",
                    f"-efarm_catalog={self.home}/images"]
        inherit = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        done = subprocess.run(
            ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", *inherit, "--",
             str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(PROJECT / "inventory/local"),
             str(PROJECT / playbook), f"--become-password-file={self.home}/password", *settings, *words],
            env={**os.environ, "HOME": str(self.home), "USER": NAME, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                 "ANSIBLE_NOCOLOR": "1"},
            capture_output=True, text=True, check=False, cwd=self.home,
        )
        assert done.returncode == rc, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """A new user who may become root with his password, and a small catalog in his home."""
    Small(tmp_path / "images")
    sudoers = Path("/etc/sudoers.d") / NAME
    sh("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(tmp_path), NAME)
    try:
        subprocess.run(["chpasswd"], input=f"{NAME}:{NAME}", text=True, check=True)
        (tmp_path / "password").write_text(NAME)
        sudoers.write_text(f"{NAME} ALL=(ALL) ALL\n")
        sudoers.chmod(0o440)
        found = pwd.getpwnam(NAME)
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, found.pw_uid, found.pw_gid)
        yield Person(found.pw_uid, found.pw_gid, tmp_path)
    finally:
        sudoers.unlink(missing_ok=True)
        sh("userdel", NAME)


def owners(*names: str) -> set[int]:
    return {path.lstat().st_uid for name in names for path in (STATE / name, *(STATE / name).rglob("*"))}


def test_a_user_with_sudo_locks_and_builds_and_root_after_him(farm: Farm, person: Person) -> None:
    images = person.home / "images"
    person.run("playbooks/lock.yml")
    assert (images / "box/lock.jsonl").stat().st_uid == person.uid
    assert "Units: 12 built" in person.run("build.yml")
    assert owners(*state.CONTROLLER) == {person.uid}
    assert owners("bin", "etc", "services", state.MARK) == {0}
    assert STATE.stat().st_uid == 0
    assert "changed=0" in person.run("build.yml")
    assert "changed=0" in person.run("build.yml", "--check")
    assert f"{NAME}/grand" in person.run("playbooks/status.yml")

    (images / "child/child.txt").write_text("changed by root\n")
    done = farm.on(images, farm_namespace=NAME).run()
    assert done.rc == 0, done.text[-3000:]
    assert owners(*state.CONTROLLER) == {0}
    with held() as words:
        assert words in person.run("build.yml", "-efarm_busy=stop", rc=2)
    assert owners(*state.CONTROLLER) == {0}
    assert "changed=0" not in person.run("build.yml")  # his again
    assert owners(*state.CONTROLLER) == {person.uid}
    assert farm.on(images, farm_namespace=NAME).run().rc == 0  # root's for the tests that follow
