"""The small functions of the modules and plugins that provision, look and clean."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess

import pytest
from ansible_collections.desimages.farm.plugins.filter.table import table
from ansible_collections.desimages.farm.plugins.module_utils import files, gobuild, state
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.module_utils.supervisors import definition_of
from ansible_collections.desimages.farm.plugins.modules import (
    binfmt,
    go_build,
    installed,
    node,
    state_folder,
    supervised,
)
from ansible_collections.desimages.farm.plugins.modules.binfmt import description, handler
from ansible_collections.desimages.farm.plugins.modules.farm_info import duration
from ansible_collections.desimages.farm.plugins.modules.state_folder import disk_usage

from .modules import module_of, result


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("enabled\ninterpreter /usr/bin/x\nflags: PF\n", (True, "PF")),
        ("disabled\ninterpreter /usr/bin/x\nflags: \n", (False, "")),
        ("", (False, "")),
    ],
)
def test_a_handler_is_read_as_the_kernel_prints_it(text, found):
    assert handler(text) == found


def test_a_handler_is_described_by_the_first_folder_that_has_it(tmp_path):
    folders = [tmp_path / name for name in ("etc", "usr")]
    for folder in folders:
        folder.mkdir()
        (folder / "qemu-arm.conf").write_text(f"# of {folder.name}\n:qemu-arm:M::magic:mask:/{folder.name}:PF\n")
    (folders[1] / "qemu-sh4.conf").write_text(":qemu-sh4:M::magic:mask:/usr:PF\n")
    assert description("qemu-arm", folders) == ":qemu-arm:M::magic:mask:/etc:PF"
    assert description("qemu-sh4", folders) == ":qemu-sh4:M::magic:mask:/usr:PF"
    assert description("qemu-s390x", folders) == ""


@pytest.mark.parametrize(("known", "described", "said"), [
    ("disabled\ninterpreter /hers\nflags: P\n", "", "has the flags 'P', without F"),
    ("", ":qemu-arm:M::magic:mask:/hers:P\n", "without the flag F"),
])
def test_a_handler_that_works_in_no_container_is_not_even_switched_on(tmp_path, monkeypatch, known, described, said):
    monkeypatch.setattr(binfmt, "FOLDER", str(tmp_path))
    monkeypatch.setattr(binfmt.description, "__defaults__", ((str(tmp_path / "binfmt.d"),),))
    files.write(str(tmp_path / "binfmt.d/qemu-arm.conf"), described)
    files.write(str(tmp_path / "register"), "")
    if known:
        files.write(str(tmp_path / "qemu-arm"), known)
    found = result(binfmt.main, handlers=["qemu-arm"])
    assert found["failed"] and said in found["msg"]
    assert (tmp_path / "register").read_text() == ""
    assert not known or (tmp_path / "qemu-arm").read_text() == known


MOUNTS = """21 1 254:0 / / rw - ext4 /dev/vda rw
30 21 0:40 / /var/farm rw - tmpfs none rw
31 30 0:41 / /var/farm/a\\040b rw - overlay overlay rw
32 31 0:42 / /var/farm/a\\040b/c rw - overlay overlay rw
33 21 0:43 / /var/farm2/x rw - overlay overlay rw
"""


def test_what_was_mounted_last_is_unmounted_first_and_the_folder_itself_is_not():
    assert state.mounts_below("/var/farm", MOUNTS) == ["/var/farm/a b/c", "/var/farm/a b"]


@pytest.mark.parametrize("name", ["a\u2028b", "a\u2003b", "a\x85b", "a\x0bb", "a\udcffb"])
def test_a_mount_of_any_name_is_read(name):
    others = f"34 21 0:44 / /home/her/{name} rw - fuse x rw\n"
    assert state.mounts_below("/var/farm", MOUNTS + others) == ["/var/farm/a b/c", "/var/farm/a b"]
    mounted = f"34 21 0:44 / /var/farm/{name} rw - fuse x rw\n"
    assert state.mounts_below("/var/farm", mounted) == [f"/var/farm/{name}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_is_mounted_under_any_name_is_unmounted(tmp_path):
    farm = tmp_path / "farm"
    state.claim(str(farm))
    places = [farm / name for name in ("a\u2028b", "a\udcffb", "a b")]
    for place in places:
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    try:
        assert state_folder.absent(module_of(farm))["changed"]
        assert not farm.exists()
    finally:
        for place in filter(os.path.ismount, places):
            subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_disk_that_the_owner_gave_to_a_folder_of_the_farm_is_emptied_and_stays_mounted(tmp_path):
    """As the guide says: `mount the disk there`. It was unmounted with all that the farm had written to it, and when it
    came back at the next boot, its folder was no state folder any more."""
    farm, disk = tmp_path / "farm", tmp_path / "farm/registry"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        (disk / "lost+found").mkdir()
        state.claim(str(farm))  # a disk that was mounted before the farm came
        inner = disk / "docker/inner"
        inner.mkdir(parents=True)
        (disk / "docker/data").write_bytes(bytes(8192))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(inner)], check=True)
        (inner / "x").touch()
        (farm / "store").mkdir()
        found = state_folder.absent(module_of(farm))
        assert found["changed"] and found["parts"]["registry"] >= 8192
        assert os.path.ismount(disk) and os.listdir(disk) == ["lost+found"] and os.listdir(farm) == ["registry"]
        assert not state_folder.absent(module_of(farm))["changed"]
        (disk / "letters").touch()
        with pytest.raises(FarmError, match="is not the state folder of a farm"):
            state_folder.absent(module_of(farm))
        with pytest.raises(FarmError, match="is not empty and not a farm's state folder: it has registry"):
            state.claim(str(farm))
    finally:
        for place in filter(os.path.ismount, (disk / "docker/inner", disk)):
            subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_farm_on_a_disk_that_can_have_no_more_files_is_removed(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=3,mode=755", "tmpfs", str(tmp_path)], check=True)
    try:
        state.claim(str(tmp_path))
        (tmp_path / "registry").mkdir()
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "x").touch()
        assert state_folder.absent(module_of(tmp_path))["changed"]
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_where_a_folder_of_the_farm_was_laid_by_a_link_stays_and_is_told(tmp_path):
    farm, large = tmp_path / "farm", tmp_path / "large"
    state.claim(str(farm))
    large.mkdir()
    (large / "data").touch()
    (farm / "store").symlink_to(large)
    assert state_folder.absent(module_of(farm))["left"] == {"store": str(large)}
    assert not farm.exists() and (large / "data").exists()


def test_a_file_with_two_names_is_counted_once(tmp_path):
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    single = disk_usage(str(tmp_path), tmp_path.stat().st_dev, set())
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert disk_usage(str(tmp_path), tmp_path.stat().st_dev, set()) == single >= 100_000


@pytest.mark.parametrize(("seconds", "text"),
                         [(5, "5s"), (60, "1m"), (7380, "2h 3m"), (90_060, "1d 1h 1m"), (86_400, "1d")])
def test_a_duration_is_short(seconds, text):
    assert duration(seconds) == text


def test_a_table_is_aligned_and_shows_sizes_and_digests_as_people_read_them():
    rows = [{"image": "base", "size": 22_400_000, "digest": "sha256:" + "a" * 64},
            {"image": "registry", "size": 999, "digest": ""}]
    assert table(rows, sizes=["size"], short=["digest"]) == [
        "image        size  digest",
        "base      22.4 MB  aaaaaaaaaaaa",
        "registry    999 B",
    ]


def test_an_empty_table_has_no_lines():
    assert table([]) == []


def test_a_state_folder_in_which_a_lock_step_is_at_work_is_not_removed(tmp_path):
    farm = tmp_path / "farm"
    state.claim(str(farm))
    (farm / "lock").mkdir()
    module = module_of(farm)
    with (farm / "lock/in-use").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="is held by a lock step"):
            state_folder.absent(module)
    assert (farm / state.MARK).exists()
    assert state_folder.absent(module)["changed"]
    assert not farm.exists()


@pytest.mark.parametrize("check", [True, False])
def test_a_service_whose_port_a_stranger_holds_is_refused_before_anything_is_made(tmp_path, check):
    params = {"name": "sleeper", "state_dir": str(tmp_path / "farm"), "supervisor": "runit"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = f"127.0.0.1:{listener.getsockname()[1]}"
        stranger = subprocess.Popen(["sleep", "600"], pass_fds=[listener.fileno()])
    try:
        found = result(supervised.main, check=check, **params, command=["/bin/sleep", "600"],
                       claims={"ports": [port], "data": [str(tmp_path / "data")]})
        assert found.get("failed"), found
        assert f"sleeper cannot start: port {port} is in use by process {stranger.pid}: sleep 600" in found["msg"]
        assert list(tmp_path.iterdir()) == []
    finally:
        stranger.kill()
        stranger.wait()
        result(supervised.main, **params, state="stopped")


@pytest.mark.skipif(not shutil.which("runsv"), reason="runit is not installed")
def test_what_may_be_secret_is_shown_nowhere(tmp_path):
    farm = tmp_path / "farm"
    params = {"name": "sleeper", "state_dir": str(farm), "supervisor": "runit", "command": ["/bin/sleep", "600"],
              "_ansible_inject_invocation": True, "_ansible_diff": True,
              "environment": {"TOKEN": "hunter2", "GOGC": "400"},
              "secret_files": {str(farm / "etc/key"): "hunter3"},
              "files": {str(farm / "etc/pem"): "-----BEGIN PRIVATE KEY-----hunter4", str(farm / "etc/plain"): "one"}}
    try:
        answers = [result(supervised.main, check=True, **params), result(supervised.main, **params)]
        assert not answers[1].get("failed"), answers[1]
        assert {path.name for path in (farm / "etc").iterdir()} == {"key", "pem", "plain"}
        assert {path.stat().st_mode & 0o777 for path in (farm / "etc").iterdir()} == {0o600}
        assert not (farm / "services/sleeper/environment").stat().st_mode & 0o077
        params["environment"] = {"TOKEN": "hunter5", "NEW": "hunter6"}
        params["secret_files"][str(farm / "etc/key")] = "hunter7"
        params["files"][str(farm / "etc/plain")] = "two"
        answers += [result(supervised.main, check=True, **params), result(supervised.main, **params)]
        for answer in answers[2:]:
            assert answer["reasons"] == ["environment changed", "files changed"]
            diff = {each["before_header"]: (each["before"], each["after"]) for each in answer["diff"]}
            assert diff[str(farm / "services/sleeper/environment")] == ("GOGC\nTOKEN\n", "NEW\nTOKEN (changed)\n")
            assert diff[str(farm / "etc/plain")] == ("one", "two")
            assert str(farm / "etc/key") in diff
        for wrong in ({"environment": {"TOKEN": "hunter8\0"}}, {"limits": {"nofile": "x"}}):
            answers.append(result(supervised.main, **{**params, **wrong}))
        assert answers[-1]["failed"] and answers[-2]["failed"]
        assert re.findall(r"hunter\d", json.dumps(answers)) == []
        assert all("environment" in answer["invocation"]["module_args"] for answer in answers)
    finally:
        result(supervised.main, **{**params, "state": "absent"})
    assert not list((farm / "etc").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, and removes what is another user's")
@pytest.mark.timeout(60)
def test_a_state_folder_is_removed_with_all_that_lies_in_it_and_nothing_else(tmp_path):
    farm, outside = tmp_path / "farm", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    state.claim(str(farm))
    state.hand_over(str(farm), 4711, -1)
    for name in ("store", "runs"):
        (farm / name / "link").symlink_to(outside)
        os.mkfifo(farm / name / "pipe")
    for mounted in (farm / "store/a/b", farm / "store/a/b/c"):
        mounted.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mounted)], check=True)
        (mounted / "x").touch()
    home = os.getcwd()
    os.chdir(farm / "store")
    for _time in range(1500):  # more than a path has room for
        os.mkdir("deep")
        os.chdir("deep")
    os.chdir(home)
    module = module_of(farm)
    found = state_folder.absent(module)
    assert found["changed"] and found["parts"]["store"] > 0
    assert not farm.exists() and (outside / "kept").exists()


@pytest.mark.parametrize("check", [True, False])
def test_check_mode_refuses_a_folder_that_is_not_the_farms_as_the_run_would(tmp_path, monkeypatch, check):
    """Of another machine than the controller, as of that one."""
    (tmp_path / "letters").touch()
    monkeypatch.setattr(node.fitness, "mistakes", lambda _needs: [])
    folder = str(tmp_path)
    asked = [(node.main, {"state_dir": folder, "platform": "linux/amd64"}),
             (node.main, {"state_dir": folder, "platform": "linux/amd64", "record": True}),
             (installed.main, {"folder": f"{folder}/bin", "programs": {}}),
             (supervised.main, {"name": "sleeper", "state_dir": folder, "supervisor": "runit",
                                "command": ["/bin/sleep", "600"]}),
             (state_folder.main, {"path": folder, "state": "present", "owner": os.geteuid()})]
    for main, params in asked:
        assert "it has letters" in result(main, check=check, **params).get("msg", ""), main.__module__
    assert os.listdir(tmp_path) == ["letters"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_state_folder_of_another_users_is_not_removed(tmp_path):
    farm = tmp_path / "farm"
    state.claim(str(farm))
    os.chown(farm, 4711, -1)
    with pytest.raises(FarmError, match="belongs to user 4711"):
        state_folder.absent(module_of(farm))
    assert (farm / state.MARK).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_link_on_the_way_to_a_mount_is_not_followed(tmp_path):
    farm, outside = tmp_path / "farm", tmp_path / "outside/b"
    farm.mkdir()
    outside.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(outside)], check=True)
    folder = os.open(farm, os.O_RDONLY)
    try:
        (farm / "a").symlink_to(outside.parent)
        with pytest.raises(OSError, match="it is not a folder"):
            state_folder.unmount(folder, "a/b")
        assert os.path.ismount(outside)
        (farm / "b").symlink_to(outside)
        with pytest.raises(OSError, match="Invalid argument"):
            state_folder.unmount(folder, "b")
        assert os.path.ismount(outside)
    finally:
        os.close(folder)
        subprocess.run(["umount", str(outside)], check=True)


def test_a_handler_is_no_path_to_write_to():
    found = result(binfmt.main, handlers=["../../../../etc/passwd"], check=True)
    assert found["failed"] and "handlers: '../../../../etc/passwd' is not a valid name" in found["msg"]


def a_program(source):
    """The parameters of go_build for a wrapper in a new folder, and the program's key in the cache."""
    source.mkdir()
    (source / "go.mod").write_text("module x\n")
    params = {"source": str(source), "packages": {"a": "x/a"}, "platform": "linux/amd64", "toolchain": "go1.26.8"}
    program = gobuild.Program((("a", "x/a"),), (("go.mod", files.sha256_of(str(source / "go.mod"))),),
                              Platform.parse("linux/amd64"), "go1.26.8")
    return params, program.key


@pytest.mark.parametrize("manifest", ["[]", "{}", "null", '{"programs": {"a": 1}}', "[" * 50_000, "folder"])
def test_a_cache_of_programs_that_says_nonsense_has_nothing(tmp_path, manifest):
    params, key = a_program(tmp_path / "source")
    kept = tmp_path / "cache/go" / key
    (kept / "a").mkdir(parents=True)
    (kept / "manifest.json").write_text('{"programs": {"a": {"sha256": "0"}}}' if manifest == "folder" else manifest)
    assert result(go_build.main, cache=str(tmp_path / "cache"), check=True, **params)["changed"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("spoil", [
    lambda cache, kept: os.chown(cache, 4711, 4711), lambda cache, kept: os.chown(kept.parent, 4711, 4711),
    lambda cache, kept: os.chown(kept, 4711, 4711), lambda cache, kept: kept.chmod(0o777),
    lambda cache, kept: cache.parent.chmod(0o777),
])
def test_programs_that_another_user_laid_into_the_cache_are_not_taken(tmp_path, spoil):
    """The name of a program's folder is known beforehand."""
    params, key = a_program(tmp_path / "source")
    cache = tmp_path / "above/cache"
    kept = cache / "go" / key
    files.write(str(kept / "a"), "#!/bin/sh\n", 0o755)
    made = {"sha256": files.sha256_of(str(kept / "a")), "size": 10}
    files.write(str(kept / "manifest.json"), json.dumps({"programs": {"a": made}}))
    assert result(go_build.main, cache=str(cache), **params)["programs"]["a"]["path"] == str(kept / "a")
    spoil(cache, kept)
    found = result(go_build.main, cache=str(cache), **params)
    assert found["failed"] and "anyone who can write there decides what runs as root" in found["msg"]


def test_what_the_system_refuses_is_an_error_in_words(tmp_path):
    (tmp_path / ".desimages").touch()
    (tmp_path / "services/x/service.json").mkdir(parents=True)
    found = result(supervised.main, name="x", state_dir=str(tmp_path), command=["/bin/true"], supervisor="runit")
    assert found["failed"] and "Is a directory" in found["msg"]
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source/go.mod")
    found = result(go_build.main, source=str(tmp_path / "source"), packages={"a": "b"}, platform="linux/amd64",
                   toolchain="go1.26.8", cache=str(tmp_path))
    assert found["failed"] and "it is a FIFO" in found["msg"]


@pytest.mark.parametrize("text", ['{"files": 7}', '{"after": "rm"}', '{"environment": [1]}', "[" * 50_000, "7"])
def test_a_description_of_a_service_that_nobody_wrote_is_none(tmp_path, text):
    (tmp_path / "services/x").mkdir(parents=True)
    (tmp_path / "services/x/service.json").write_text(text)
    assert definition_of(str(tmp_path), "x") == ({}, "")
