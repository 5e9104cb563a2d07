"""Supervised services: how they are described, written down, compared, and who holds what they claim."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import readiness, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc, decode_address, parse_tcp, parse_unix, same_address
from ansible_collections.desimages.farm.plugins.module_utils.supervision import (
    Ready,
    Service,
    definition,
    differences,
    parse_port,
    runit_files,
    systemd_files,
    unit_word,
)

needs_runit = pytest.mark.skipif(not shutil.which("runsv"), reason="runit is not installed")


def service(**changed):
    params = {"name": "registry", "state_dir": "/var/lib/farm", "command": ["/usr/bin/registry", "serve"], **changed}
    return Service.from_params(params)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Registry"}, "name: 'Registry'"),
        ({"state_dir": "farm"}, "state_dir: 'farm' is not an absolute path"),
        ({"command": ["registry"]}, "command[0]: 'registry' is not an absolute path"),
        ({"command": ["/bin/x", "a\nb"]}, "no line breaks"),
        ({"environment": {"A-B": "c"}}, "'A-B' is no name of a variable"),
        ({"files": {"etc/x": ""}}, "files: 'etc/x' is not an absolute path"),
        ({"limits": {"memory": 1}}, "'memory' is none of core, nofile, nproc"),
        ({"claims": {"ports": ["localhost:5000"]}}, "with a numeric address"),
        ({"claims": {"ports": ["127.0.0.1:70000"]}}, "'127.0.0.1:70000' is not ADDRESS:PORT"),
        ({"claims": {"sockets": ["/" + "x" * 107]}}, "has 108 bytes, a unix socket's path at most 107"),
    ],
)
def test_a_wrong_description_is_refused_with_what_is_allowed(changed, said):
    with pytest.raises(BadInput) as error:
        service(**changed)
    assert said in str(error.value)


def test_all_mistakes_of_a_description_are_told_at_once():
    with pytest.raises(BadInput) as error:
        service(name="A", directory="x", claims={"ports": ["5000"]})
    assert len(error.value.problems) == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, []),
        ({"command": ["/usr/bin/registry", "other"]}, ["command changed"]),
        ({"environment": {"A": "b"}}, ["environment changed"]),
        ({"files": {"/etc/x": "new"}}, ["files changed"]),
        ({"user": "nobody"}, ["user changed"]),
        ({"limits": {"nofile": 10}}, ["limits changed"]),
        ({"ready": {"unix": "/x"}}, []),
    ],
)
def test_a_service_is_started_again_only_for_what_decides_how_it_runs(changed, reason):
    program = {"path": "/usr/bin/registry", "size": 1}
    old, new = (definition(one, program, "runit") for one in (service(), service(**changed)))
    assert differences(old, new) == reason


def test_a_new_program_under_the_same_name_starts_the_service_again(tmp_path):
    path = tmp_path / "program"
    path.write_text("1")
    old = definition(service(), supervisors.program(str(path)), "runit")
    fresh = tmp_path / "new"
    fresh.write_text("2")
    fresh.rename(path)
    assert differences(old, definition(service(), supervisors.program(str(path)), "runit")) == ["program changed"]


def test_two_farms_on_one_machine_have_different_units():
    default, other = service(state_dir="/var/lib/desimages"), service()
    assert default.unit == "desimages-registry.service"
    assert re.fullmatch(r"desimages-[0-9a-f]{8}-registry\.service", other.unit)


def test_a_runit_service_keeps_awkward_words_as_they_are():
    one = service(command=["/bin/x", "a'b c", "$HOME", ""], environment={"A": "it's $x"}, limits={"nofile": 9}, user="nobody")
    run = runit_files(one)["/var/lib/farm/services/registry/run"][0]
    shell = run.splitlines()[-1].replace("exec ", "printf '%s\\n' ", 1)
    words = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    tail = ["DESIMAGES_SERVICE=/var/lib/farm/services/registry", "chpst", "-o", "9", "-u", "nobody", "/bin/x", "a'b c", "$HOME", ""]
    assert words[-10:] == tail
    assert "A=it's $x" in words


@pytest.mark.parametrize(("word", "written"), [("a", '"a"'), ('a"b', '"a\\"b"'), ("50%", '"50%%"'), ("a\\b", '"a\\\\b"')])
def test_a_unit_keeps_awkward_words_as_they_are(word, written):
    assert unit_word(word) == written


def test_a_unit_says_all_that_was_asked_for():
    one = service(limits={"nofile": 7}, user="nobody", environment={"A": "b c"}, delegate=True, stop_timeout=5)
    ((text, mode),) = systemd_files(one).values()
    wanted = {'Environment="A=b c"', "LimitNOFILE=7", "User=nobody", "Delegate=yes", "TimeoutStopSec=5", "Restart=always"}
    assert wanted <= set(text.splitlines())
    assert mode == 0o600, "an environment may hold a secret"


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1389 0100007F:1388 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
"""
UNIX = """Num       RefCount Protocol Flags    Type St Inode Path
0000: 00000002 00000000 00010000 0001 01 99 /run/a b.sock
0000: 00000002 00000000 00000000 0001 03 98 /run/other.sock
0000: 00000002 00000000 00010000 0001 01 97
"""


def test_only_listening_sockets_are_read():
    assert [(one.address, one.port, one.inode) for one in parse_tcp(TCP, "little")] == [("127.0.0.1", 5000, 4711)]
    assert parse_unix(UNIX) == {"/run/a b.sock": 99}


@pytest.mark.parametrize(
    ("text", "order", "address"),
    [
        ("0100007F", "little", "127.0.0.1"),
        ("7F000001", "big", "127.0.0.1"),
        ("00000000000000000000000001000000", "little", "::1"),
        ("0000000000000000FFFF00000100007F", "little", "::ffff:127.0.0.1"),
    ],
)
def test_addresses_are_read_in_the_byte_order_of_the_machine(text, order, address):
    assert decode_address(text, order) == address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
    ],
)
def test_a_wildcard_collides_with_every_address(one, other, same):
    assert same_address(one, other) is same


def test_a_port_may_have_an_ipv6_address():
    assert parse_port("[::1]:5000") == ("::1", 5000)


def run(words):
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return found.returncode, found.stdout, found.stderr


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def stranger(tmp_path):
    """A process that holds a port, a unix socket and a folder."""
    port, path, folder = free_port(), tmp_path / "a.sock", tmp_path / "data"
    folder.mkdir()
    code = f"""
import os, socket, time
a = socket.socket(); a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); a.bind(("127.0.0.1", {port})); a.listen()
b = socket.socket(socket.AF_UNIX); b.bind({str(path)!r}); b.listen()
os.chdir({str(folder)!r}); print("up", flush=True); time.sleep(60)
"""
    process = subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process.pid, f"127.0.0.1:{port}", str(path), str(folder)
    process.kill()
    process.wait()


def test_whoever_holds_a_claim_is_named_with_its_command_line(tmp_path, stranger):
    pid, port, path, folder = stranger
    one = service(state_dir=str(tmp_path / "farm"), claims={"ports": [port], "sockets": [path], "data": [folder]})
    found = supervisors.Runit(one, run, Proc()).strangers()
    assert [line.split(": ")[0] for line in found] == [
        f"folder {folder} is held by process {pid}",
        f"port {port} is held by process {pid}",
        f"socket {path} is held by process {pid}",
    ]
    assert all("import os, socket, time" in line for line in found)


@pytest.fixture
def sleeper(tmp_path):
    """A service that sleeps, under a real runsv."""
    one = service(name="sleeper", state_dir=str(tmp_path), command=["/bin/sleep", "1000"], stop_timeout=5)
    supervisor = supervisors.Runit(one, run, Proc())
    os.makedirs(one.log_folder)
    for path, (text, mode) in supervisor.files().items():
        supervisors.write(path, text, mode)
    supervisor.start()
    yield supervisor
    supervisor.stop()


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_runit
def test_a_killed_service_comes_back(sleeper):
    until(lambda: sleeper.status().running)
    before = sleeper.status().pid
    os.kill(before, 9)
    until(lambda: sleeper.status().running and sleeper.status().pid != before)


@needs_runit
def test_a_service_whose_supervisor_was_killed_is_ended_before_it_starts_again(sleeper):
    until(lambda: sleeper.status().running)
    before = sleeper.status().pid
    os.kill(Proc().parent(before), 9)
    until(lambda: not sleeper.status().supervised)
    assert before in sleeper.mine()
    sleeper.start()
    until(lambda: sleeper.status().running)
    assert sleeper.status().pid != before
    assert before not in sleeper.mine()


@needs_runit
def test_a_stopped_service_leaves_no_process(sleeper):
    until(lambda: sleeper.status().running)
    sleeper.stop()
    assert sleeper.mine() == []
    assert not sleeper.status().supervised


def test_what_does_not_answer_in_time_says_why(tmp_path):
    assert "No such file" in readiness.wait(Ready(unix=str(tmp_path / "none"), timeout=0), run)
    assert "ended with 1" in readiness.wait(Ready(command=("false",), timeout=0), run)
    assert "Connection refused" in readiness.wait(Ready(http=f"http://127.0.0.1:{free_port()}/", timeout=0), run)
