"""Supervised services: how they are described, written down, compared, and who holds what they claim."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import files, readiness, supervision, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.proc import (
    Proc,
    decode_address,
    parse_tcp,
    same_address,
)
from ansible_collections.desimages.farm.plugins.module_utils.service_files import runit_files, systemd_files
from ansible_collections.desimages.farm.plugins.module_utils.supervision import (
    PATH,
    Ready,
    Service,
    Text,
    definition,
    differences,
    encode,
    own_files,
)
from ansible_collections.desimages.farm.plugins.module_utils.wellness import Host

SYSTEMD = "/lib/systemd/systemd"
needs_runit = pytest.mark.skipif(not shutil.which("runsv"), reason="runit is not installed")


def service(**changed):
    params = {"name": "registry", "state_dir": "/var/lib/farm", "command": ["/usr/bin/registry", "serve"], **changed}
    return Service.from_params(params)


def test_a_new_program_under_the_same_name_starts_the_service_again(tmp_path):
    path = tmp_path / "program"
    path.write_text("1")
    old = definition(service(), supervisors.program(str(path)), "runit")
    fresh = tmp_path / "new"
    fresh.write_text("2")
    fresh.rename(path)
    assert differences(old, definition(service(), supervisors.program(str(path)), "runit")) == ["program changed"]


AWKWARD = {
    "A": "it's $x `id` \"q\" \\ \\n %n", "EMPTY": "",
    "KEY": "-----BEGIN\n\tab \n# no comment\n; nor this\n\nEND-----\n", "SPACES": " a  ",
    "TAIL": "\\", "UTF": "ä\u20ac",
}


def test_a_runit_service_keeps_awkward_words_and_gets_its_environment_and_no_other(tmp_path):
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    words = [sys.executable, "-I", "-c", show, "a'b c", "$HOME", "", "a\\nb"]
    one = service(state_dir=str(tmp_path), command=words, environment=AWKWARD, limits={"nofile": 99}, directory="/tmp")
    os.makedirs(one.folder)
    for path, text in runit_files(one).items():
        if not path.startswith(one.log_folder) and "/log/" not in path:
            files.write(path, *text)
    others = {**os.environ, "OTHERS": "x"}
    said = subprocess.run([f"{one.folder}/run"], capture_output=True, text=True, check=True, env=others).stdout
    fixed = {"PATH": PATH, "HOME": "/", "LANG": "C.UTF-8", "DESIMAGES_SERVICE": one.folder}
    assert json.loads(said) == [["a'b c", "$HOME", "", "a\\nb"], {**fixed, **AWKWARD}]


MANAGER = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/user /run/systemd/system
export XDG_RUNTIME_DIR=/run/user HOME="$1"
"$2" --user & for try in $(seq 100); do test -S /run/user/systemd/private && break; sleep 0.1; done
systemctl --user start probe.service
systemctl --user show probe.service
"""


@pytest.mark.timeout(60)
@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(SYSTEMD), reason="needs root and a systemd")
def test_systemd_reads_the_same_environment_and_shows_it_to_nobody(tmp_path):
    show = f"import json, os; json.dump(dict(os.environ), open({str(tmp_path / 'out')!r}, 'w'))"
    command, environment = [sys.executable, "-I", "-c", show], {**AWKWARD, "SECRET": "hunter2"}
    one = service(state_dir=f"{tmp_path}/a %b", command=command, environment=environment)
    (_path, unit), (path, text) = systemd_files(one).items()
    once = unit.text.replace("Type=exec", "Type=oneshot").replace("Restart=always", "Restart=no")
    files.write(f"{tmp_path}/.config/systemd/user/probe.service", once, 0o644)
    files.write(path, *text)
    alone = ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "--kill-child"]
    words = ["sh", "-c", MANAGER, "sh", str(tmp_path), SYSTEMD]
    done = subprocess.run([*alone, *words], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out").read_text())
    assert {key: found.get(key) for key in AWKWARD} == AWKWARD
    assert (found["SECRET"], found["DESIMAGES_SERVICE"], found["HOME"]) == ("hunter2", one.folder, "/")
    assert "probe.service" in done.stdout and "hunter2" not in done.stdout


@pytest.mark.parametrize("files", [runit_files, systemd_files])
def test_a_secret_of_the_environment_is_in_one_file_that_only_root_reads(files):
    one = service(environment={"PASSWORD": "hunter2"}, files={"/etc/a": "a"}, secret_files={"/etc/b": "b"})
    found = {**files(one), **own_files(one, 7)}
    holders = [(path, text.mode) for path, text in found.items() if "hunter2" in text.text]
    assert holders == [(one.environment_file, 0o600)]
    assert (found["/etc/a"], found["/etc/b"]) == (Text("a", 0o640, 7), Text("b", 0o640, 7))
    assert {text.mode for text in own_files(one, -1).values()} == {0o600}
    assert "hunter2" not in encode(definition(one, {}, "runit"))


def test_a_unit_says_all_that_was_asked_for():
    one = service(limits={"nofile": 7}, user="nobody", environment={"A": "b c"}, delegate=True, stop_timeout=5,
                  state_dir="/srv/a %x")
    unit, environment = systemd_files(one).values()
    wanted = {"LimitNOFILE=7", "User=nobody", "Delegate=yes", "TimeoutStopSec=5", "Restart=always",
              "EnvironmentFile=/srv/a %%x/services/registry/environment"}
    assert wanted <= set(unit.text.splitlines())
    assert next(iter(systemd_files(one))) == f"{supervision.UNITS}/{one.unit}"
    assert 'A="b c"\n' in environment.text


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1389 0100007F:1388 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
"""


def test_only_listening_sockets_are_read():
    assert [(one.address, one.port, one.inode) for one in parse_tcp(TCP, "little")] == [("127.0.0.1", 5000, 4711)]


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
    process = subprocess.Popen(["python3", "-c", code, "x" * 10_000], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process.pid, f"127.0.0.1:{port}", str(path), str(folder)
    process.kill()
    process.wait()


def test_whoever_holds_a_claim_is_named_with_its_command_line(tmp_path, stranger):
    pid, port, path, folder = stranger
    one = service(state_dir=str(tmp_path / "farm"), claims={"ports": [port], "sockets": [path], "data": [folder]})
    found = supervisors.Runit(one, run, Proc()).strangers()
    assert [line.split(": ")[0] for line in found] == [
        f"folder {folder} is in use by process {pid}",
        f"port {port} is in use by process {pid}",
        f"socket {path} is in use by process {pid}",
    ]
    assert all("import os, socket, time" in line and len(line) < 600 for line in found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts something as another user")
def test_another_users_process_is_not_the_service_whatever_its_environment_says(tmp_path):
    """It would answer in the service's place, and nobody would notice."""
    one = service(state_dir=str(tmp_path / "farm"))
    mark = {**os.environ, supervision.MARKER: one.folder}
    for user, named in ((4711, True), (0, False)):
        code = "import socket, time; a = socket.create_server(('127.0.0.1', 0)); print(a.getsockname()[1], flush=True)"
        process = subprocess.Popen(["/usr/bin/python3", "-c", f"{code}; time.sleep(60)"], stdout=subprocess.PIPE,
                                   env=mark, user=user, cwd="/")
        try:
            port = f"127.0.0.1:{int(process.stdout.readline())}"
            claiming = service(state_dir=one.state_dir, claims={"ports": [port]})
            assert bool(supervisors.Runit(claiming, run, Proc()).strangers()) == named
        finally:
            process.kill()
            process.communicate()


def test_a_socket_of_any_name_hinders_nothing(tmp_path, monkeypatch):
    """Another user's may have a line break in it, which /proc/net/unix tells as it is."""
    monkeypatch.chdir(tmp_path)  # a socket's path has 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("x\n1 2 3 zz 5 6 7 8")
        listening.listen()
        one = service(state_dir=str(tmp_path / "farm"), claims={"sockets": [str(tmp_path / "a.sock")]})
        assert supervisors.Runit(one, run, Proc()).strangers() == []


@pytest.fixture
def sleeper(tmp_path):
    """A service that sleeps, under a real runsv."""
    one = service(name="sleeper", state_dir=str(tmp_path), command=["/bin/sleep", "1000"], stop_timeout=5)
    supervisor = supervisors.Runit(one, run, Proc())
    os.makedirs(one.log_folder)
    for path, text in supervisor.files().items():
        files.write(path, *text)
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


@needs_runit
def test_what_a_service_runs_has_to_be_there_and_may_be_upgraded(sleeper, tmp_path):
    until(lambda: sleeper.status().running)
    program = tmp_path / "runc"
    files.write(str(program), "#!/bin/sh\n", 0o755)
    one = service(name="sleeper", state_dir=str(tmp_path), command=["/bin/sleep", "1000"], needs=[str(program)])
    made = definition(one, supervisors.program(one.command[0]), "runit")
    files.write(f"{one.folder}/service.json", encode(made), 0o600)
    Host(str(tmp_path), "f", ["sleeper"], run).record()

    def reasons():
        return Host(str(tmp_path), "f", ["sleeper"], run).as_result()["reasons"]

    assert reasons() == []
    files.write(str(program), "#!/bin/sh\nexit 0\n", 0o755)
    assert reasons() == [], "its owner upgraded it"
    program.chmod(0o644)
    assert reasons() == [f"{program}, which sleeper runs, is missing or not executable"]
    program.unlink()
    assert reasons() == [f"{program}, which sleeper runs, is missing or not executable"]
    program.mkdir()
    assert reasons() == [f"{program}, which sleeper runs, is missing or not executable"]


def test_what_does_not_answer_in_time_says_why(tmp_path):
    assert "No such file" in readiness.wait(Ready(unix=str(tmp_path / "none"), timeout=0), run)
    assert "exited with 1" in readiness.wait(Ready(command=("false",), timeout=0), run)
    assert "Connection refused" in readiness.wait(Ready(http=f"http://127.0.0.1:{free_port()}/", timeout=0), run)


@pytest.mark.timeout(30)
def test_a_slow_start_is_waited_for_and_a_crash_again_and_again_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(readiness, "SETTLED", 0)
    answers, pids = iter(["no", "no", "no", ""]), iter(range(100, 200))
    assert readiness.wait(Ready(command=("x",), timeout=600), lambda _words: (0 if not next(answers) else 1, "", ""),
                          lambda: 100) == ""
    for pid in (pids.__next__, lambda: 0):
        assert "exited with 1" in readiness.wait(Ready(command=("false",), timeout=600), run, pid)


@pytest.mark.timeout(30)
def test_a_command_that_asks_for_ever_is_no_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(readiness, "LONGEST", 0.5)
    assert "did not end within 0.5 s" in readiness.wait(Ready(command=("sleep", "600"), timeout=0), run)


@pytest.mark.parametrize("text", ["[]", "5", "{", "null", '"x"'])
def test_a_description_that_makes_no_sense_is_none(tmp_path, text):
    files.write(str(tmp_path / "services/x/service.json"), text, 0o600)
    files.write(str(tmp_path / "provisioned.json"), text, 0o600)
    files.write(str(tmp_path / "engine.json"), text, 0o600)
    assert supervisors.definition_of(str(tmp_path), "x") == ({}, "")
    assert "x is missing" in Host(str(tmp_path), "f", ["x"], run).as_result()["reasons"]


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_file_is_replaced(tmp_path):
    path = str(tmp_path / "x")
    os.mkfifo(path, 0o600)
    assert supervisors.read(path) == ""
    assert supervisors.outdated({path: Text("a", 0o600)}) == [path]
    files.write(path, "a", 0o600)
    assert supervisors.read(path) == "a"


def test_a_file_is_for_its_group_before_it_has_its_name(tmp_path):
    path = str(tmp_path / "x")
    files.write(path, "a", 0o640, os.getegid())
    wanted = {path: Text("a", 0o640, os.getegid())}
    assert supervisors.outdated(wanted) == []
    for other in (Text("a", 0o640, os.getegid() + 1), Text("a", 0o600), Text("b", 0o640)):
        assert supervisors.outdated({path: other}) == [path]
