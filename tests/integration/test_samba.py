"""The image samba: a share written and read by smbclient, and what a Mac asks before it takes a share for Time
Machine."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Chain, Farm
from .containers import await_health, bring, inside, start
from .docker_host import run
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
PASSWORD = "it's: a secret"
USERS = f"alice:{PASSWORD}\nbob:other\n"

# What a Mac asks when it opens a share: no specification of SMB has it, Samba's vfs_fruit(8) does. Prints, for each
# share, what the server says of itself, what its volume can, and its model; or why it does not let anybody in.
MAC = r"""
import json, struct, sys, uuid
from smbprotocol.connection import Connection
from smbprotocol.create_contexts import SMB2CreateContextRequest
from smbprotocol.exceptions import SMBException
from smbprotocol.open import (CreateDisposition, CreateOptions, DirectoryAccessMask, FileAttributes, ImpersonationLevel,
                              Open, ShareAccess)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect
user, password, *shares = sys.argv[1:]
connection = Connection(uuid.uuid4(), "127.0.0.1", 4450)
connection.connect()
found = {}
try:
    session = Session(connection, user, password, require_encryption=False)
    session.connect()
    for share in shares:
        tree = TreeConnect(session, rf"\\127.0.0.1\{share}")
        tree.connect()
        asked = SMB2CreateContextRequest()
        asked["buffer_name"] = b"AAPL"
        asked["buffer_data"] = struct.pack("<IIQQ", 1, 0, 7, 0)
        answers = Open(tree, "").create(
            ImpersonationLevel.Impersonation, DirectoryAccessMask.FILE_READ_ATTRIBUTES,
            FileAttributes.FILE_ATTRIBUTE_DIRECTORY, ShareAccess.FILE_SHARE_READ, CreateDisposition.FILE_OPEN,
            CreateOptions.FILE_DIRECTORY_FILE, create_contexts=[asked])
        (data,) = answers
        _command, _zero, bitmap, server, volume, _pad, size = struct.unpack("<IIQQQII", data[:40])
        found[share] = {"bitmap": bitmap, "server": server, "volume": volume,
                        "model": data[40:40 + size].decode("utf-16le")}
except SMBException as error:
    found = {"error": str(error)}
connection.disconnect()
print(json.dumps(found))
"""
FULL_SYNC = 4  # of the volume: it makes sure that data are on the disk, without which Time Machine does not use it


@pytest.fixture(scope="module")
def images(farm: Farm) -> Chain:
    built = farm.run(farm_images=["samba"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    return Chain(farm, (built, built))


@pytest.fixture(scope="module")
def image(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return bring(docker, images.reference("samba", NATIVE), tmp_path_factory.mktemp("samba"))


def serve(docker: Any, image: str, users: str = USERS, **options: Any) -> Any:
    container = start(docker, image, tmpfs={"/tmp": ""}, volumes=["shares:/data", *options.pop("volumes", [])],
                      environment={"USERS": users}, **options)
    await_health(container)
    return container


@pytest.fixture(scope="module")
def served(docker: Any, image: str) -> Iterator[Any]:
    container = serve(docker, image)
    yield container
    container.remove(force=True)


def smbclient(container: Any, share: str, commands: str, login: str = f"alice%{PASSWORD}") -> tuple[int, str]:
    """Debian's own client, in the image: its exit code and what it says."""
    code, said = container.exec_run(["smbclient", "-s", "/config/smb.conf", "-p", "4450", "-U", login,
                                     f"//127.0.0.1/{share}", "-c", commands])
    return code, said.decode()


def succeeds(container: Any, share: str, commands: str, login: str = f"alice%{PASSWORD}") -> str:
    code, said = smbclient(container, share, commands, login)
    assert code == 0, said
    return said


def test_a_file_is_written_read_and_there_after_a_restart(docker: Any, image: str) -> None:
    container = serve(docker, image)
    container.exec_run(["sh", "-c", "head -c 300000 /dev/urandom > /tmp/there"])
    succeeds(container, "share", "mkdir folder; cd folder; lcd /tmp; put there here; rename here kept")
    assert re.search(r"^\s+kept\s+\S*A\S*\s+300000 ", succeeds(container, "share", "cd folder; ls"), re.M)
    succeeds(container, "share", "cd folder; lcd /tmp; get kept back", "bob%other")
    assert container.exec_run(["cmp", "/tmp/there", "/tmp/back"])[0] == 0
    _code, owner = container.exec_run(["stat", "-c", "%u:%g %a", "/data/share/folder/kept"])
    assert owner.decode().strip() == "2000:2000 640"
    _code, sums = container.exec_run(["sha256sum", "/data/share/folder/kept"])

    began = time.monotonic()
    container.stop(timeout=30)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    assert container.logs(stdout=True, stderr=False)
    container.remove()

    container = serve(docker, image)
    assert container.exec_run(["sha256sum", "/data/share/folder/kept"])[1] == sums
    assert "kept" in succeeds(container, "share", "cd folder; ls")
    container.remove(force=True)


@pytest.mark.parametrize(("login", "says"), [
    ("alice%wrong", "NT_STATUS_LOGON_FAILURE"),
    ("alice%other", "NT_STATUS_LOGON_FAILURE"),
    ("alice%", "NT_STATUS_LOGON_FAILURE"),
    ("carol%other", "NT_STATUS_LOGON_FAILURE"),
    ("desimages%", "NT_STATUS_LOGON_FAILURE"),
    ("%", "NT_STATUS_ACCESS_DENIED"),
])
def test_nobody_is_let_in_without_the_password(served: Any, login: str, says: str) -> None:
    code, said = smbclient(served, "share", "ls", login)
    assert code == 1
    assert says in said


def test_who_is_not_a_user_any_more_is_refused(docker: Any, image: str) -> None:
    container = serve(docker, image, "alice:changed\n")
    succeeds(container, "share", "ls", "alice%changed")
    for login in (f"alice%{PASSWORD}", "bob%other"):
        assert "NT_STATUS_LOGON_FAILURE" in smbclient(container, "share", "ls", login)[1]
    container.remove(force=True)


def mac(container: Any, password: str, *shares: str) -> dict[str, Any]:
    return dict(json.loads(inside(container, sys.executable, "-c", MAC, "alice", password, *shares)))


def test_a_mac_is_told_which_share_is_for_time_machine(served: Any) -> None:
    found = mac(served, PASSWORD, "share", "timemachine")
    assert {share: bool(said["volume"] & FULL_SYNC) for share, said in found.items()} == {
        "share": False, "timemachine": True}
    assert {said["model"] for said in found.values()} == {"MacSamba"}
    assert "LOGON_FAILURE" in mac(served, "wrong", "share")["error"]


def test_its_processes_have_no_rights(served: Any) -> None:
    succeeds(served, "share", "ls")
    for pid, words in served.top(ps_args="-eo pid,args")["Processes"]:
        assert "smbd" in words or "/entry" in words, words
        process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
        assert process["Uid"].split() == ["2000"] * 4
        assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")


def test_a_server_that_hangs_is_unhealthy(docker: Any, image: str) -> None:
    container = serve(docker, image)
    pids = [pid for pid, _words in container.top(ps_args="-eo pid,args")["Processes"]]
    run("kill", "-STOP", *pids)
    await_health(container, "unhealthy")
    run("kill", "-CONT", *pids)
    await_health(container)
    container.remove(force=True)


@pytest.mark.parametrize(("users", "says"), [
    ("", "samba: there are no users: set USERS_FILE, or USERS, to lines of NAME:PASSWORD"),
    ("alice:x\nBob:x", "samba: USERS: line 2 must be NAME:PASSWORD"),
])
def test_without_users_it_does_not_start_and_says_why(docker: Any, image: str, users: str, says: str) -> None:
    container = start(docker, image, tmpfs={"/tmp": ""}, environment={"USERS": users})
    assert container.wait(timeout=30)["StatusCode"] == 2
    assert says in container.logs(stdout=False, stderr=True).decode()


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_programs_find_their_libraries(images: Chain, scratch: Path, platform: str) -> None:
    samba = Unpacked.of(images, "samba", platform, scratch)
    for program in ("/usr/sbin/smbd", "/usr/bin/smbclient", "/usr/bin/pdbedit"):
        assert re.search(r"Version 4\.\d+", samba.run(platform, program, "--version", user=2000))
    assert samba.run(platform, "/usr/bin/dpkg", "--audit") == ""
