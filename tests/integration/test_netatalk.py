"""The image netatalk: Debian's own clients log in, enumerate and read, and a client that logs in as Macs do writes what
is there after a restart."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import PROJECT, Chain, Farm
from .containers import await_health, bring, inside, start
from .docker_host import run
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
PASSWORD = "it's: a secret"
USERS = f"alice:{PASSWORD}\nbob:other\n"
PORT = "5480"

# Debian's clients, on top of the image, which has their libraries.
CLIENT = {
    "image.yml": """\
description: Debian's clients of AFP
license: GPL-2.0-or-later
inputs:
  tests: {debian: [netatalk-tests], dependencies: false}
platforms: [linux/amd64, linux/arm64]
""",
    "Dockerfile": """\
FROM --platform=$BUILDPLATFORM packages-extract AS packages
RUN --mount=type=bind,from=inputs,source=/tests,target=/debs \\
    for deb in /debs/*.deb; do dpkg-deb -x $deb /packages; done
FROM netatalk
COPY --from=packages /packages/usr/bin/ /usr/bin/
USER 2000:2000
""",
}
# They send passwords in the clear, or none, which the image's own configuration does not take.
CLEAR = "uam list = uams_dhx2_passwd.so uams_passwd.so uams_guest.so\nguest account = desimages"

# A client as a Mac is one: it logs in by DHX2, and then reads and writes a file. Apple Filing Protocol Reference, and
# for DHX2 the Apple Filing Protocol Programming Guide. Prints what it got, or the error that the server gave.
MAC = r"""
import hashlib, json, secrets, socket, struct, sys
from cryptography.hazmat.decrepit.ciphers.algorithms import CAST5
from cryptography.hazmat.primitives.ciphers import Cipher, modes

user, password, share, name, wrote = sys.argv[1:]
stream = socket.create_connection(("127.0.0.1", 5480), 30)
number = 0


def receive(size):
    got = b""
    while len(got) < size:
        part = stream.recv(size - len(got))
        if not part:
            raise EOFError
        got += part
    return got


def ask(payload, command=2, offset=0):
    # error and answer of one request; what the server asks meanwhile, whether somebody is there, needs no answer
    global number
    number += 1
    stream.sendall(struct.pack(">BBHIII", 0, command, number, offset, len(payload), 0) + payload)
    while True:
        flags, _command, told, error, size, _zero = struct.unpack(">BBHiII", receive(16))
        data = receive(size)
        if flags == 1 and told == number:
            return error, data


def pascal(text):
    return bytes([len(text.encode())]) + text.encode()


def cast(key, vector):
    return Cipher(CAST5(key), modes.CBC(vector))


def login():
    error, data = ask(b"\x12" + pascal("AFP3.4") + pascal("DHX2") + pascal(user))
    if error != -5001:
        return error
    session, generator, size = struct.unpack(">HIH", data[:8])
    prime, theirs = (int.from_bytes(data[8 + at:8 + at + size], "big") for at in (0, size))
    mine = secrets.randbits(8 * size - 8)
    key = hashlib.md5(pow(theirs, mine, prime).to_bytes(size, "big")).digest()
    nonce = secrets.token_bytes(16)
    to_server, to_client = b"LWallace", b"CJalbert"
    sealed = cast(key, to_server).encryptor().update(nonce)
    ours = pow(generator, mine, prime).to_bytes(size, "big")
    error, data = ask(b"\x13\x00" + struct.pack(">H", session) + ours + sealed)
    if error != -5001:
        return error
    opened = cast(key, to_client).decryptor().update(data[2:34])
    wanted = (int.from_bytes(nonce, "big") + 1) % 2**128
    assert int.from_bytes(opened[:16], "big") == wanted, "the server does not have the key"
    answer = ((int.from_bytes(opened[16:], "big") + 1) % 2**128).to_bytes(16, "big")
    sealed = cast(key, to_server).encryptor().update(answer + password.encode().ljust(256, b"\0"))
    return ask(b"\x13\x00" + data[:2] + sealed)[0]


def well(answer):
    error, data = answer
    assert error == 0, error
    return data


ask(b"", 4)
error = login()
if error:
    print(json.dumps({"error": error}))
    sys.exit()
data = well(ask(b"\x10\x00"))
shares, at = [], 5
for _share in range(data[4]):
    shares.append(data[at + 2:at + 2 + data[at + 1]].decode())
    at += 2 + data[at + 1]
volume = well(ask(b"\x18\x00" + struct.pack(">H", 1 << 5) + pascal(share)))[2:4]
place = volume + struct.pack(">I", 2)  # the share's own folder
if wrote:
    well(ask(b"\x07\x80" + place + b"\x02" + pascal(name)))
fork = well(ask(b"\x1a\x00" + place + struct.pack(">HH", 0, 3) + b"\x02" + pascal(name)))[2:4]
if wrote:
    well(ask(b"\x3d\x00" + fork + struct.pack(">QQ", 0, len(wrote)) + wrote.encode(), 6, 20))
error, data = ask(b"\x3c\x00" + fork + struct.pack(">QQ", 0, 100000))
assert error in (0, -5009), error  # or the end of the file
well(ask(b"\x04\x00" + fork))
well(ask(b"\x14\x00"))
print(json.dumps({"shares": sorted(shares), "read": data.decode()}))
"""
NOBODY = -5023  # kFPUserNotAuth


@pytest.fixture(scope="module")
def images(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The image, and Debian's clients for it as `afp-client`, in a catalog beside it."""
    folder = tmp_path_factory.mktemp("catalog") / "images"
    (folder / "afp-client").mkdir(parents=True)
    for name, text in CLIENT.items():
        (folder / "afp-client" / name).write_text(text)
    both = farm.on(PROJECT / "images", folder)
    locked = both.run("playbooks/lock.yml", farm_images=["afp-client"])
    assert locked.rc == 0, locked.text[-4000:]
    built = both.run(farm_images=["netatalk", "afp-client"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    return Chain(both, (built, built))


@pytest.fixture(scope="module")
def image(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return bring(docker, images.reference("netatalk", NATIVE), tmp_path_factory.mktemp("netatalk"))


@pytest.fixture(scope="module")
def client(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return bring(docker, images.reference("afp-client", NATIVE), tmp_path_factory.mktemp("afp-client"))


def serve(docker: Any, image: str, users: str = USERS, volume: str = "afp", **options: Any) -> Any:
    container = start(docker, image, tmpfs={"/tmp": ""}, volumes=[f"{volume}:/data", *options.pop("volumes", [])],
                      cap_add=["SETUID", "SETGID"], environment={"USERS": users}, **options)
    await_health(container)
    return container


@pytest.fixture(scope="module")
def served(docker: Any, image: str) -> Iterator[Any]:
    container = serve(docker, image)
    yield container
    container.remove(force=True)


@pytest.fixture(scope="module")
def clear(docker: Any, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that Debian's clients can log in to."""
    folder = Path("/var/tmp") / tmp_path_factory.mktemp("clear").name
    folder.mkdir(mode=0o755)
    text = (PROJECT / "images/netatalk/config/afp.conf").read_text()
    (folder / "afp.conf").write_text(text.replace("uam list = uams_dhx2_passwd.so", CLEAR))
    assert CLEAR in (folder / "afp.conf").read_text()
    container = serve(docker, image, volume="afp-clear", volumes=[f"{folder}/afp.conf:/config/afp.conf:ro"])
    yield container
    container.remove(force=True)
    shutil.rmtree(folder)


def debian(docker: Any, client: str, server: Any, *words: str, password: str = "other") -> tuple[int, str]:
    """One of Debian's clients in the server's network: its exit code, and what it says. In the clear a password has at
    most eight bytes."""
    program, *options = words
    container = docker.containers.create(
        client, ["-7", "-h", "127.0.0.1", "-p", PORT, "-u", "bob", "-w", password, *options],
        entrypoint=[f"/usr/bin/{program}"], read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"],
        network_mode=f"container:{server.id}", healthcheck={"test": ["NONE"]})
    container.start()
    code = container.wait(timeout=300)["StatusCode"]
    said = container.logs().decode(errors="replace")
    container.remove()
    return code, said


def mac(server: Any, name: str, wrote: str = "", *, share: str = "share", user: str = "alice",
        password: str = PASSWORD) -> dict[str, Any]:
    return dict(json.loads(inside(server, sys.executable, "-c", MAC, user, password, share, name, wrote)))


# It removes a folder by a number that it was told before. Numbers are in memory here, and a folder may get another one.
BY_NUMBER = {"FPEnumerate:test41"}


def test_debians_clients_log_in_enumerate_and_read(docker: Any, client: str, clear: Any) -> None:
    code, said = debian(docker, client, clear, "afp_logintest", "-C")
    assert code == 0, said
    assert re.search(r"Clear text login.*PASSED", said), said

    for part in ("FPEnumerate", "FPEnumerateExt2", "FPRead", "FPReadExt", "FPWrite", "FPGetExtAttr"):
        _code, said = debian(docker, client, clear, "afp_spectest", "-C", "-s", "share", "-f", f"{part}_test")
        failed = set(re.findall(r"^(\S+): .* - (?:FAILED|NOT TESTED)", said, re.M))
        assert failed <= BY_NUMBER, said
        assert re.search(r"Passed: +[1-9]", said), said

    clear.exec_run(["sh", "-c", "mkdir /data/share/folder && echo kept > /data/share/folder/here"], user="2000:2000")
    code, said = debian(docker, client, clear, "afparg", "-s", "share", "-f", "FPEnumerate", "folder")
    assert code == 0, said
    assert re.search(r"^here$", said, re.M), said


def test_debians_client_is_refused_with_a_wrong_password(docker: Any, client: str, clear: Any) -> None:
    code, said = debian(docker, client, clear, "afparg", "-s", "share", "-f", "FPEnumerate", "", password="wrong")
    assert code != 0, said


def test_what_is_written_to_the_time_machine_share_is_there_after_a_restart(docker: Any, image: str) -> None:
    container = serve(docker, image, volume="afp-kept")
    wrote = "what a Mac wrote " * 500
    found = mac(container, "backup", wrote, share="timemachine")
    assert found == {"shares": ["share", "timemachine"], "read": wrote}
    _code, owner = container.exec_run(["stat", "-c", "%u:%g", "/data/timemachine/backup"], user="2000:2000")
    assert owner.decode().strip() == "2000:2000"
    _code, uuids = container.exec_run(["cat", "/data/.netatalk/afp_voluuid.conf"], user="2000:2000")
    assert b"timemachine" in uuids

    began = time.monotonic()
    container.stop(timeout=30)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    assert container.logs(stdout=True, stderr=False)
    container.remove()

    container = serve(docker, image, volume="afp-kept")
    assert mac(container, "backup", share="timemachine", user="bob", password="other")["read"] == wrote
    assert container.exec_run(["cat", "/data/.netatalk/afp_voluuid.conf"], user="2000:2000")[1] == uuids
    container.remove(force=True)


@pytest.mark.parametrize(("user", "password"), [
    ("alice", "wrong"), ("alice", "other"), ("alice", ""), ("carol", "other"), ("desimages", ""), ("root", ""),
])
def test_nobody_is_let_in_without_the_password(served: Any, user: str, password: str) -> None:
    assert mac(served, "none", user=user, password=password) == {"error": NOBODY}


def test_passwords_in_the_clear_are_not_taken(docker: Any, client: str, served: Any) -> None:
    code, said = debian(docker, client, served, "afparg", "-s", "share", "-f", "FPEnumerate", "")
    assert code != 0, said


def test_who_is_not_a_user_any_more_is_refused(docker: Any, image: str) -> None:
    container = serve(docker, image, "alice:changed\n")
    assert mac(container, "file", "text", password="changed")["read"] == "text"
    assert mac(container, "file") == mac(container, "file", user="bob", password="other") == {"error": NOBODY}
    container.remove(force=True)


def test_its_processes_have_two_rights_and_no_others(served: Any) -> None:
    rights = 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID
    for pid, words in served.top(ps_args="-eo pid,args")["Processes"]:
        assert re.search(r"/entry|afpd", words), words
        process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
        assert int(process["CapBnd"], 16) == rights
        assert int(process["CapPrm"], 16) | rights == rights
        assert process["NoNewPrivs"] == "1"


def test_a_server_that_hangs_is_unhealthy(docker: Any, image: str) -> None:
    container = serve(docker, image)
    pids = [pid for pid, _words in container.top(ps_args="-eo pid,args")["Processes"]]
    run("kill", "-STOP", *pids)
    await_health(container, "unhealthy")
    run("kill", "-CONT", *pids)
    await_health(container)
    container.remove(force=True)


@pytest.mark.parametrize(("options", "says"), [
    ({"environment": {"USERS": ""}}, "netatalk: there are no users: set USERS_FILE, or USERS, to lines of NAME:PASSW"),
    ({"environment": {"USERS": "alice:x\nBob:x"}}, "netatalk: USERS: line 2 must be NAME:PASSWORD"),
    ({"environment": {"USERS": "a:x"}, "user": "2000:2000"}, "netatalk: it is user 2000: afpd must be root"),
    ({"environment": {"USERS": "a:x"}, "cap_add": []}, "it needs the capabilities SETUID and SETGID"),
])
def test_what_it_cannot_run_with_it_refuses_and_says_why(docker: Any, image: str, options: dict[str, Any],
                                                         says: str) -> None:
    container = start(docker, image, tmpfs={"/tmp": ""}, **{"cap_add": ["SETUID", "SETGID"], **options})
    assert container.wait(timeout=30)["StatusCode"] == 2
    assert says in container.logs(stdout=False, stderr=True).decode()


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_programs_find_their_libraries(images: Chain, scratch: Path, platform: str) -> None:
    netatalk = Unpacked.of(images, "netatalk", platform, scratch)
    assert re.search(r"afpd 4\.\d+\.\d+", netatalk.run(platform, "/usr/sbin/afpd", "-v", user=2000))
    assert netatalk.run(platform, "/usr/bin/dpkg", "--audit") == ""
