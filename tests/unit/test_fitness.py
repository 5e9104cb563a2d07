"""A host that cannot be a node is told everything that is wrong with it, each with what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import abilities, fitness
from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL
from ansible_collections.desimages.farm.plugins.modules import installed, node

from .modules import result

PROJECT = Path(__file__).resolve().parents[2]
OWN = str(KERNEL[os.uname().machine])
HOUR = 3600.0


@pytest.mark.parametrize(
    ("off", "said"),
    [(0.0, ""), (299.0, ""), (-299.0, ""), (-2 * HOUR, "2 h 0 min behind"), (3 * HOUR + 120, "3 h 2 min ahead of"),
     (-20_000 * HOUR, "833 days behind"), (301.0, "0 h 5 min ahead of")],
)
def test_a_clock_may_be_some_minutes_off(off: float, said: str) -> None:
    found = fitness.clock(1e9 + off, 1e9)
    assert (said in found and "timedatectl" in found) if said else found == ""


def test_disk_and_memory_are_told_in_words() -> None:
    assert fitness.disk("/srv/farm", 2 << 30, 2 << 30) == ""
    assert "/srv/farm has 300 MB of disk left, and a node needs 2.0 GB" in fitness.disk("/srv/farm", 300 << 20, 2 << 30)
    assert fitness.memory(430 << 20) == ""
    assert "it may use 256 MB of memory" in fitness.memory(256 << 20)


@pytest.mark.parametrize(("platform", "good"), [(OWN, True), ("", False), ("linux/mips", False)])
def test_an_architecture_that_nobody_builds_is_refused(platform: str, good: bool) -> None:
    assert (fitness.architecture("mips64", platform) == "") is good


def test_a_registry_must_have_a_name_here_and_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert fitness.reachable(f"127.0.0.1:{port}") == ""
        assert fitness.reachable(f"localhost:{port}") == ""
    gone = fitness.reachable(f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port} cannot be reached from here (127.0.0.1: Connection refused)" in gone
    unknown = fitness.reachable("registry.invalid:5000")
    assert "registry.invalid:5000 does not resolve here" in unknown and "/etc/hosts" in unknown
    assert "[::1]:1" in fitness.reachable("[::1]:1")


def test_a_host_that_does_not_run_its_own_buildkit_is_refused(tmp_path: Path) -> None:
    for platform, how in abilities.tried(str(tmp_path)).items():
        found = fitness.starts(str(tmp_path), str(platform))
        assert (f"programs for {platform} do not run here" in found) if how == abilities.NOT else found == ""
    assert fitness.starts(str(tmp_path), "linux/mips") == ""  # which has a line of its own


def test_farm_native_with_a_platform_of_other_machines_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abilities, "_run_by", lambda platform, folder: (abilities.NOT, ""))
    found = record(tmp_path)
    assert found["failed"] and f"programs for {OWN} do not run here" in found["msg"]
    assert not (tmp_path / "farm").exists()


def test_a_folder_that_cannot_be_written_to_is_told_once() -> None:
    found = result(node.main, state_dir="/proc/farm", platform=OWN)
    assert found["failed"] and found["msg"].count("nothing can be written in /proc (") == 1, found["msg"]


def test_who_is_not_root_is_told_that_only_root_makes_a_node(tmp_path: Path) -> None:
    """And not that the disk is mounted read-only."""
    (tmp_path / "sealed").mkdir(mode=0o555)
    mine = os.geteuid() != 0
    code = ("import sys; from ansible_collections.desimages.farm.plugins.module_utils import fitness; "
            "print(fitness.writable(sys.argv[1]))")
    other = [] if mine else ["setpriv", "--reuid=65534", "--inh-caps=+dac_read_search",
                             "--ambient-caps=+dac_read_search", "--"]  # this Python may be in root's home
    done = subprocess.run([*other, sys.executable, "-c", code, str(tmp_path / "sealed")], capture_output=True,
                          text=True, check=True, env={**os.environ, "PYTHONPATH": str(PROJECT / "collections")})
    user = os.geteuid() if mine else 65534
    assert done.stdout.startswith(f"user {user} may not write in {tmp_path}/sealed: only root can make a node")


def test_all_mistakes_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abilities, "memory", lambda: 1)
    monkeypatch.setattr(fitness, "DISK_NEW", 1 << 60)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(tmp_path / "x.sock"))
        stranger.listen()
        found = result(node.main, state_dir=str(tmp_path / "farm"), platform="", sockets=[str(tmp_path / "x.sock")],
                       clock=time.time() + 9000, registry="registry.invalid:5000")
    assert found["failed"]
    for text in ("architecture is", "of disk left", "of memory", "its clock is 2 h 29 min behind", "does not resolve"):
        assert text in found["msg"], found["msg"]
    assert not (tmp_path / "farm").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_a_file_system_without_nanoseconds_is_refused(coarse: Path, tmp_path: Path) -> None:
    assert fitness.times(str(tmp_path)) == ""
    found = record(coarse)
    assert found["failed"] and f"the file system of {coarse} keeps no nanoseconds" in found["msg"], found["msg"]
    assert "tune2fs -I 256" in found["msg"]
    assert {path.name for path in coarse.iterdir()} == {"lost+found"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root tries overlayfs")
def test_a_host_without_mount_is_told_so_beside_all_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unshare").symlink_to("/usr/bin/unshare")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = fitness.overlayfs(str(tmp_path))
    assert "because mount cannot be found: install the packages mount and util-linux" in said


def record(tmp_path: Path, **params: object) -> dict[str, object]:
    return result(node.main, state_dir=str(tmp_path / "farm"), platform=OWN, **params)


def test_a_host_is_given_an_id_once(tmp_path: Path) -> None:
    checked = record(tmp_path, check=True)
    assert checked["changed"] and checked["node"] == {} and not (tmp_path / "farm").exists()
    first = record(tmp_path)
    assert first["changed"] and len(first["node"]["id"]) == 32
    again = record(tmp_path)
    assert not again["changed"] and again["node"] == first["node"]
    assert again["real"] == str(tmp_path / "farm")


def test_what_a_host_runs_is_recorded_with_its_own_platform_first(tmp_path: Path) -> None:
    first = record(tmp_path, record=True, version="v1", engine="sha256:e")
    written = json.loads((tmp_path / "farm/etc/node.json").read_text())
    assert written == first["node"]
    assert set(written) == {"id", "native", "emulated", "cores", "memory", "speed", "version", "engine"}
    assert written["native"][0] == OWN and written["cores"] > 0 and written["memory"] > 1 << 20
    assert not record(tmp_path, record=True, version="v1", engine="sha256:e")["changed"]
    moved = record(tmp_path, record=True, version="v2", engine="sha256:e")
    assert moved["changed"] and moved["node"]["id"] == written["id"]
    assert moved["node"]["speed"] == written["speed"] > 0, "measured once"
    assert not set(written["native"]) & set(written["emulated"])


def test_farm_native_is_believed_with_the_platform_that_buildkit_is_for(tmp_path: Path) -> None:
    others = ["linux/s390x", OWN] if OWN != "linux/s390x" else ["linux/arm64", OWN]
    found = record(tmp_path, record=True, native=others)
    assert found["node"]["native"] == [OWN, others[0]]
    refused = record(tmp_path, record=True, native=others[:1])
    assert refused["failed"] and f"farm_native is {others[0]}, without {OWN}" in refused["msg"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 5}', '{"native": ["x"]}'])
def test_a_damaged_record_is_made_again(tmp_path: Path, text: str) -> None:
    first = record(tmp_path)
    (tmp_path / "farm/etc/node.json").write_text(text)
    found = record(tmp_path, record=True)
    assert found["node"]["native"][0] == OWN and found["node"]["id"] != first["node"]["id"]
    assert not record(tmp_path)["changed"]


# --- what was copied --------------------------------------------------------------------------------------------------

ONE, TWO = b"one", b"two"
SHA = {"one": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
       "two": "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"}


def look(folder: Path, **params: object) -> dict[str, object]:
    return result(installed.main, folder=str(folder), programs={name: {"sha256": sha} for name, sha in SHA.items()},
                  **params)


def test_a_program_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "farm/bin"
    assert look(folder, check=True) == {"changed": True, "missing": ["one", "two"], **_common(look(folder, check=True))}
    assert not folder.exists()
    assert look(folder)["missing"] == ["one", "two"]
    (folder / "one").write_bytes(ONE)
    (folder / "two").write_bytes(ONE)
    assert look(folder)["missing"] == ["two"]
    assert "two in" in str(look(folder, record=True)["msg"])
    (folder / "two").write_bytes(TWO)
    assert look(folder, record=True)["missing"] == []
    hashed: list[str] = []
    monkeypatch.setattr(installed.files, "sha256_of", hashed.append)
    found = look(folder)
    assert not found["changed"] and found["missing"] == [] and hashed == []
    (folder / "one").write_bytes(b"another")
    assert look(folder)["missing"] == ["one"] and hashed == [f"{folder}/one"]


def _common(found: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in found.items() if name not in ("changed", "missing")}
