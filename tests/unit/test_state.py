"""The state folder: what may lie in it, and whose the controller's parts are."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import fitness, programs, state
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL
from ansible_collections.desimages.farm.plugins.module_utils.proc import started

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("plugins", "roles", "playbooks") for path in (PROJECT / folder).rglob("*")
           if path.suffix in (".py", ".yml", ".j2")]
OTHER = 4711  # a user that is nobody
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def test_a_folder_with_other_things_in_it_does_not_become_a_state_folder(tmp_path):
    (tmp_path / "letters").mkdir()
    with pytest.raises(FarmError, match="is not empty and not a farm's state folder: it has letters"):
        state.claim(str(tmp_path))
    assert os.listdir(tmp_path) == ["letters"]


@pytest.mark.parametrize("name", sorted(state.OWN))
def test_a_folder_that_holds_what_the_farm_makes_becomes_a_state_folder(tmp_path, name):
    for each in (name, "holder.json"):
        (tmp_path / each).touch()
    state.claim(str(tmp_path))
    assert (tmp_path / state.MARK).exists()


def test_a_folder_whose_names_the_farm_uses_too_does_not_become_a_state_folder(tmp_path):
    """It would be removed with the farm."""
    for name in ("bin", "etc", "log"):
        (tmp_path / name).mkdir()
    with pytest.raises(FarmError, match="is not empty and not a farm's state folder: it has bin, etc, log"):
        state.claim(str(tmp_path))


@pytest.mark.parametrize("inside", ["fsync", "replace", "starts", pytest.param("overlay", marks=needs_root)])
def test_a_folder_that_a_host_was_preparing_when_it_went_down_can_be_prepared_again(tmp_path, inside):
    """An empty one, as a disk that was just mounted there."""
    def killed(*_arguments, **_more):
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            setattr(*{"overlay": (programs, "run"), "starts": (subprocess, "Popen")}.get(inside, (os, inside)), killed)
            if inside == "overlay":
                fitness.overlayfs(str(tmp_path))
            if inside == "starts":
                fitness.starts(str(tmp_path), str(KERNEL[os.uname().machine]))
            state.claim(str(tmp_path))
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    state.claim(str(tmp_path))
    assert (tmp_path / state.MARK).exists()


def test_every_name_that_the_code_makes_in_the_state_folder_is_one_of_its_own():
    """As the sources write them: `{{ farm_state }}/bin`, `{self.state_dir}/log`, `Path(state) / "runs"`, `state ~
    '/etc/x'`."""
    written = re.compile(r"""\b(?:\w+_)?state(?:_dir)?\b(?:["']\])?\)?"""
                         r"""(?: ?\}\}?/| ~ '/| / "|(?<=join\(self\.state_dir), ")([.a-z][a-z.-]*[a-z])""")
    found = {name for path in SOURCES for name in written.findall(path.read_text(encoding="utf-8"))}
    assert {"bin", "runs", "lock", "etc", "store", "provisioned.json"} <= found
    assert found - state.OWN - {"lists"} == set()  # apt's own state folder has lists


def test_a_user_is_given_the_controllers_parts_and_a_second_time_nothing_is_left_to_give(tmp_path):
    farm, me = str(tmp_path / "farm"), os.geteuid()
    state.claim(farm)
    assert set(state.not_of(farm, me)) == set(state.CONTROLLER)
    state.hand_over(farm, me, -1)
    assert state.not_of(farm, me) == {}
    assert set(os.listdir(farm)) == {state.MARK, *state.CONTROLLER}


@pytest.fixture
def farm(public):
    """A state folder whose controller's parts are OTHER's, who may reach them, and beside it a folder of root's."""
    made, outside = public / "farm", public / "outside"
    outside.mkdir()
    (outside / "secret").write_text("root's")
    (outside / "secret").chmod(0o600)
    state.claim(str(made))
    state.hand_over(str(made), OTHER, OTHER)
    return made


def his(path):
    """Makes what the user OTHER has made."""
    os.lchown(path, OTHER, OTHER)
    return path


def owners(farm):
    return {path.lstat().st_uid for name in state.CONTROLLER for path in (farm / name, *(farm / name).rglob("*"))}


@needs_root
def test_another_user_is_given_all_that_is_in_them(farm):
    for name in ("store/sha256", "store/sha256/ab", "runs/1", "cache/go"):
        (farm / name).mkdir()
        his(farm / name)
    for name in ("store/sha256/ab/abc", "runs/1/plan.json", "cache/go/program"):
        (farm / name).write_text(name)
        his(farm / name).chmod(0o755)
    (farm / "runs/latest").symlink_to("1")
    his(farm / "runs/latest")
    for user in (0, OTHER, OTHER + 1, 0):
        state.hand_over(str(farm), user, -1)
        assert owners(farm) == {user}
        assert state.not_of(str(farm), user) == {}
    assert os.readlink(farm / "runs/latest") == "1"
    assert (farm / "cache/go/program").read_text() == "cache/go/program"
    assert {path.stat().st_uid for path in (farm, farm / state.MARK)} == {0}


PLANTED = {
    "link to a file": lambda path, secret: path.symlink_to(secret),
    "link to a folder": lambda path, secret: path.symlink_to(secret.parent),
    "second name of a file of root's": lambda path, secret: os.link(secret, path),
    "pipe": lambda path, secret: os.mkfifo(path),
    "file of root's": lambda path, secret: path.write_text("as a second name whose first one is gone"),
}


@needs_root
@pytest.mark.timeout(20)
@pytest.mark.parametrize("to", [0, OTHER + 1])
@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("place", ["store", "store/partial", "lock", "runs"])
def test_nothing_that_may_be_somebody_elses_is_given_or_followed_later(farm, what, place, to):
    secret = farm.parent / "outside/secret"
    (farm / place).mkdir(exist_ok=True)
    his(farm / place)
    path = farm / place / "in-use"
    PLANTED[what](path, secret)
    state.hand_over(str(farm), to, -1)
    assert not os.path.lexists(path)
    for found in (secret.stat(), secret.parent.stat()):
        assert found.st_uid == 0
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("root's", 0o600)


@needs_root
def test_a_file_with_a_second_name_is_not_given_away_by_root_either(farm):
    secret = farm.parent / "outside/secret"
    state.hand_over(str(farm), 0, 0)
    os.link(secret, farm / "store/secret")
    state.hand_over(str(farm), OTHER, -1)
    assert (secret.stat().st_uid, (farm / "store/secret").exists()) == (0, False)


@needs_root
def test_a_link_to_the_latest_run_leads_nowhere_else(farm):
    (farm / "runs/latest").symlink_to("/etc")
    his(farm / "runs/latest")
    state.hand_over(str(farm), 0, 0)
    assert not os.path.lexists(farm / "runs/latest")


@needs_root
def test_rights_that_others_had_are_gone(farm):
    for name, mode in (("store/open", 0o777), ("store/program", 0o6777)):
        (farm / name).mkdir() if name.endswith("open") else (farm / name).touch()
        his(farm / name).chmod(mode)
    state.hand_over(str(farm), 0, 0)
    assert {(farm / name).stat().st_mode & 0o7777 for name in ("store/open", "store/program")} == {0o755}


@needs_root
def test_another_file_system_below_is_refused(farm):
    inner = farm / "store/sha256"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(inner)], check=True)
    try:
        (inner / "x").touch()
        with pytest.raises(FarmError, match=rf"{inner} is another file system"):
            state.hand_over(str(farm), 0, 0)
        assert inner.stat().st_uid == 0
    finally:
        subprocess.run(["umount", str(inner)], check=True)
    state.hand_over(str(farm), 0, 0)
    assert owners(farm) == {0}


@needs_root
def test_folders_in_folders_without_end_are_refused_in_words(farm):
    home = os.getcwd()
    os.chdir(farm / "store")
    try:
        for _time in range(1500):
            os.mkdir("d")
            os.chown("d", OTHER, OTHER)
            os.chdir("d")
    finally:
        os.chdir(home)
    with pytest.raises(FarmError, match="is more than 200 folders deep"):
        state.hand_over(str(farm), 0, 0)
    subprocess.run(["rm", "-rf", str(farm / "store/d")], check=True)


SWAPPING = """
import os, sys
os.setgid(4711); os.setuid(4711)
part, outside = sys.argv[1:]
steps = (
    lambda: os.mkdir(f"{part}/d"), lambda: open(f"{part}/d/secret", "x").close(),
    lambda: os.rename(f"{part}/d", f"{part}/aside"), lambda: os.symlink(outside, f"{part}/d"),
    lambda: os.unlink(f"{part}/d"), lambda: os.rename(f"{part}/aside", f"{part}/d"),
    lambda: os.unlink(f"{part}/d/secret"), lambda: os.symlink(f"{outside}/secret", f"{part}/d/secret"),
    lambda: os.unlink(f"{part}/d/secret"),
)
print("up", flush=True)
while True:
    for step in steps:
        try:
            step()
        except OSError:
            pass
"""


@needs_root
@pytest.mark.timeout(60)
def test_whatever_its_owner_exchanges_meanwhile_nothing_outside_is_given_away(farm):
    outside, part = farm.parent / "outside", farm / "store"
    outside.chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", SWAPPING, str(part), str(outside)], stdout=subprocess.PIPE) as other:
        try:
            other.stdout.readline()
            for _time in range(500):
                state.hand_over(str(farm), OTHER + 1, -1)
                assert {(outside / name).stat().st_uid for name in (".", "secret")} == {0}
                state.hand_over(str(farm), OTHER, OTHER)
        finally:
            other.kill()
    assert {(outside / name).stat().st_uid for name in (".", "secret")} == {0}


@needs_root
def test_a_part_that_root_laid_elsewhere_is_given_there(farm):
    elsewhere = farm.parent / "outside/store"
    (farm / "store").rename(elsewhere)
    (farm / "store").symlink_to(elsewhere)
    his(farm / "store")
    (elsewhere / "x").touch()
    his(elsewhere / "x")
    state.hand_over(str(farm), 0, 0)
    assert {path.lstat().st_uid for path in (farm / "store", elsewhere, elsewhere / "x")} == {0}


@needs_root
@pytest.mark.parametrize(("spoil", "said"), [
    (lambda farm: os.chown(farm, OTHER, -1), f"belongs to user {OTHER}"),
    (lambda farm: farm.chmod(0o757), "is writable for everyone"),
])
def test_a_state_folder_that_is_another_users_is_not_taken(farm, spoil, said):
    spoil(farm)
    with pytest.raises(FarmError, match=said):
        state.claim(str(farm))


@needs_root
def test_they_are_not_taken_from_a_user_whose_run_is_at_work(tmp_path):
    farm = str(tmp_path / "farm")
    state.claim(farm)
    state.hand_over(farm, OTHER, -1)
    holder = tmp_path / "farm/holder.json"
    with subprocess.Popen(["sleep", "600"]) as other:
        holder.write_text(json.dumps({"pid": other.pid, "started": started(other.pid)}))
        with pytest.raises(Busy, match=f"is held by process {other.pid}, of another user"):
            state.hand_over(farm, 0, 0)
        other.kill()
    state.hand_over(farm, 0, 0)
    assert state.not_of(farm, 0) == {}


@needs_root
def test_they_are_taken_by_the_run_that_has_the_farm(tmp_path):
    farm = str(tmp_path / "farm")
    state.claim(farm)
    state.hand_over(farm, OTHER, -1)
    (tmp_path / "farm/holder.json").write_text(json.dumps({"pid": os.getpid(), "started": started(os.getpid())}))
    state.hand_over(farm, 0, 0)
    assert state.not_of(farm, 0) == {}


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
@pytest.mark.timeout(20)
def test_who_is_at_work_is_looked_up_in_no_pipe_and_through_no_link(tmp_path, plant):
    (tmp_path / "lock").mkdir()
    for name in ("holder.json", "lock/in-use"):
        plant(tmp_path / name)
    assert state.at_work(str(tmp_path)) == ""
    assert state.holder(str(tmp_path)) is None


def test_who_has_ended_holds_nothing_though_nobody_asks_how(tmp_path):
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays in the list of processes
        with open(f"/proc/{child.pid}/stat", encoding="utf-8") as file:
            ticks = file.read().rsplit(")", 1)[1].split()[19]
        assert not state.Holder(child.pid, ticks).alive


def acl(*entries):
    """The extended attribute of an ACL: (tag, rights, user), acl(5)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, rights, who) for tag, rights, who in entries)


NOBODY = 0xFFFFFFFF  # of entries that name nobody
OWNERS = ((1, 7, NOBODY),)
ENDS = ((4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY))


@needs_root
@pytest.mark.parametrize(("kind", "rights", "refused"), [
    ("access", 7, "is writable for others"), ("access", 5, ""),
    ("default", 7, "has an ACL that lets others write"), ("default", 5, ""),
])
def test_a_state_folder_in_which_an_acl_lets_another_user_write_is_refused(tmp_path, kind, rights, refused):
    os.setxattr(tmp_path, f"system.posix_acl_{kind}", acl(*OWNERS, (2, rights, OTHER), *ENDS))
    if refused:
        with pytest.raises(FarmError, match=refused):
            state.claim(str(tmp_path))
        assert os.listdir(tmp_path) == []
    else:
        state.claim(str(tmp_path))


@needs_root
def test_what_a_state_folder_would_inherit_lets_nobody_write_in_it(tmp_path):
    """Under a default ACL a mask has no effect."""
    os.setxattr(tmp_path, "system.posix_acl_default", acl(*OWNERS, (2, 7, OTHER), *ENDS))
    state.claim(str(tmp_path / "farm"))
    state.claim(str(tmp_path / "farm"))
    os.mkdir(tmp_path / "farm/jobs")
    assert "system.posix_acl_access" not in os.listxattr(tmp_path / "farm/jobs")


@needs_root
@pytest.mark.parametrize(("group", "refused"), [(0, False), (OTHER, True)])
def test_a_state_folder_that_a_group_may_write_is_refused(tmp_path, group, refused):
    os.chown(tmp_path, 0, group)
    tmp_path.chmod(0o2775)
    if refused:
        with pytest.raises(FarmError, match=f"is writable for others, by its group {OTHER}"):
            state.claim(str(tmp_path))
    else:
        state.claim(str(tmp_path))


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_state_folder_that_everybody_can_exchange_is_refused(tmp_path, mode):
    (tmp_path / "above").mkdir()
    (tmp_path / "above").chmod(mode)
    (tmp_path / "link").symlink_to("above/farm")
    for path in ("above/farm", "above/inner/farm", "link"):
        if mode == 0o777:
            with pytest.raises(FarmError, match=r"everyone may write to .*above, so anyone could replace"):
                state.refuse_foreign(str(tmp_path / path))
    if mode == 0o1777:
        state.claim(str(tmp_path / "above/farm"))


@needs_root
@pytest.mark.parametrize("path", ["theirs/farm", "theirs/inner/farm", "link"])
def test_root_keeps_no_state_folder_where_another_user_can_replace_it(public, monkeypatch, path):
    (public / "theirs").mkdir()
    os.chown(public / "theirs", OTHER, OTHER)
    (public / "link").symlink_to("theirs/farm")
    monkeypatch.delenv("SUDO_UID", raising=False)
    with pytest.raises(FarmError, match=f"theirs belongs to user {OTHER}, who could replace"):
        state.claim(str(public / path))
    monkeypatch.setenv("SUDO_UID", str(OTHER))
    state.claim(str(public / "theirs/farm"))


@needs_root
def test_root_follows_no_link_that_another_user_can_replace(public):
    """A link of root's leads to theirs, and theirs to where it is safe, for now."""
    (public / "theirs").mkdir()
    (public / "safe").mkdir()
    (public / "theirs/link").symlink_to("../safe")
    (public / "link").symlink_to(public / "theirs/link")
    state.claim(str(public / "link/farm"))
    os.chown(public / "theirs", OTHER, OTHER)
    with pytest.raises(FarmError, match=f"theirs belongs to user {OTHER}, who could replace"):
        state.refuse_foreign(str(public / "link/farm"))
    state.refuse_foreign(str(public / "safe/farm"))


@needs_root
@pytest.mark.parametrize(("mode", "group", "rights", "refused"), [
    (0o2775, OTHER, 0, True), (0o3775, OTHER, 0, False), (0o2755, OTHER, 0, False), (0o2775, 0, 0, False),
    (0o755, 0, 7, True), (0o755, 0, 5, False)])
def test_root_keeps_no_state_folder_where_a_group_can_replace_it(public, monkeypatch, mode, group, rights, refused):
    (public / "shared").mkdir()
    os.chown(public / "shared", 0, group)
    (public / "shared").chmod(mode)
    if rights:
        os.setxattr(public / "shared", "system.posix_acl_access", acl(*OWNERS, (2, rights, OTHER), *ENDS))
    monkeypatch.delenv("SUDO_GID", raising=False)
    if refused:
        with pytest.raises(FarmError, match=r"shared is writable for others, by its group .* they could replace"):
            state.claim(str(public / "shared/farm"))
        assert not (public / "shared/farm").exists()
    else:
        state.claim(str(public / "shared/farm"))
    if group and refused:
        monkeypatch.setenv("SUDO_GID", str(group))
        state.claim(str(public / "shared/farm"))


@pytest.mark.parametrize("below", ["", "/a", "/a/b"])
@pytest.mark.parametrize(("make", "said"), [
    (Path.touch, "farm exists and is not a folder"), (os.mkfifo, "farm exists and is not a folder"),
    (lambda path: path.symlink_to("nowhere"), "farm is a link to nowhere, which does not exist"),
])
def test_a_state_folder_that_cannot_be_made_is_refused_in_words_before_anything_is_done(tmp_path, make, said, below):
    make(tmp_path / "farm")
    with pytest.raises(FarmError, match=said):
        state.refuse_foreign(f"{tmp_path}/farm{below}")
    state.refuse_foreign(f"{tmp_path}/new{below}")


def test_nobody_else_enters_the_folder_of_secrets(tmp_path: Path) -> None:
    (tmp_path / "farm").mkdir()
    state.hand_over(str(tmp_path / "farm"), os.geteuid(), -1)
    assert (tmp_path / "farm/secrets").stat().st_mode & 0o777 == 0o700
