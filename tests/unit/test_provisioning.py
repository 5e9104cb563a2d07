"""The small functions of the modules and plugins that provision, look and clean."""

from __future__ import annotations

import fcntl
import socket
import subprocess
from types import SimpleNamespace

import pytest
from ansible_collections.desimages.farm.plugins.filter.table import table
from ansible_collections.desimages.farm.plugins.module_utils import state
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy
from ansible_collections.desimages.farm.plugins.modules import state_folder, supervised
from ansible_collections.desimages.farm.plugins.modules.binfmt import description, handler
from ansible_collections.desimages.farm.plugins.modules.farm_info import duration, sort_tags
from ansible_collections.desimages.farm.plugins.modules.state_folder import disk_usage, mounts_below

from .modules import result


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


MOUNTS = """21 1 254:0 / / rw - ext4 /dev/vda rw
30 21 0:40 / /var/farm rw - tmpfs none rw
31 30 0:41 / /var/farm/a\\040b rw - overlay overlay rw
32 31 0:42 / /var/farm/a\\040b/c rw - overlay overlay rw
33 21 0:43 / /var/farm2/x rw - overlay overlay rw
"""


def test_what_was_mounted_last_is_unmounted_first_and_the_folder_itself_is_not():
    assert mounts_below(MOUNTS, "/var/farm") == ["/var/farm/a b/c", "/var/farm/a b"]


def test_a_file_with_two_names_is_counted_once(tmp_path):
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    single = disk_usage(str(tmp_path), tmp_path.stat().st_dev, set())
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert disk_usage(str(tmp_path), tmp_path.stat().st_dev, set()) == single >= 100_000


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (60, "1m"), (7380, "2h 3m"), (90_060, "1d 1h 1m"), (86_400, "1d")])
def test_a_duration_is_short(seconds, text):
    assert duration(seconds) == text


def test_what_the_farm_tags_for_itself_counts_as_units_and_not_as_tags():
    found = ["latest", "b-" + "0" * 64, "c-" + "1" * 64, "b-" + "2" * 64, "b-side", "trixie-20261123"]
    assert sort_tags(found) == (["b-side", "latest", "trixie-20261123"], 2)


def test_a_table_is_aligned_and_shows_sizes_and_digests_as_people_read_them():
    rows = [{"image": "base", "size": 22_400_000, "digest": "sha256:" + "a" * 64}, {"image": "registry", "size": 999, "digest": ""}]
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
    module = SimpleNamespace(params={"path": str(farm)}, check_mode=False)
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
        found = result(supervised.main, check=check, **params, command=["/bin/sleep", "600"], claims={"ports": [port], "data": [str(tmp_path / "data")]})
        assert found.get("failed"), found
        assert f"sleeper cannot start: port {port} is held by process {stranger.pid}: sleep 600" in found["msg"]
        assert list(tmp_path.iterdir()) == []
    finally:
        stranger.kill()
        stranger.wait()
        result(supervised.main, **params, state="stopped")
