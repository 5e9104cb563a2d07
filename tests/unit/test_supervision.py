"""What a service is made of: the parameters, and the files that runit and systemd get, to the byte."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import supervision
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.service_files import (
    runit_files,
    systemd_files,
    unit_word,
)
from ansible_collections.desimages.farm.plugins.module_utils.supervision import (
    Claims,
    Ready,
    Service,
    Share,
    Text,
    definition,
    differences,
    digest,
    encode,
    environment_file,
    own_files,
    parse_port,
)

LEAST: dict[str, Any] = {"name": "a", "state_dir": "/s/"}
WHOLE: dict[str, Any] = {
    "name": "registry-2", "state_dir": "/srv/it's %n", "command": ["/bin/x", "$a", "100%", "b c"],
    "after": ["/bin/after", "$b", "it's"], "needs": ["/n"],
    "environment": {"B": "1", "A": 'q"$`\\'}, "directory": "/d %i",
    "user": "nobody", "limits": {"nproc": "7", "nofile": 9, "core": None}, "files": {"/etc/b": "1", "/etc/a": "2"},
    "secret_files": {"/etc/c": "3"}, "delegate": True, "stop_timeout": "5",
    "ready": {"http": "http://127.0.0.1/", "unix": "/u", "command": ["true"], "timeout": "3"},
    "claims": {"ports": ["127.0.0.1:1"], "sockets": ["/u"], "data": ["/d"]},
    "share": {"memory": "1G", "weight": 20, "oom": 500}, "confined": "builder",
}


def test_a_service_has_what_its_parameters_say_and_else_the_usual() -> None:
    assert Service.from_params(LEAST) == Service(
        "a", "/s", (), (), (), (), "/", "", (), (), (), Ready("", "", "", (), 30), Claims((), (), ()), False, 30,
        Share("", 0, 0), "no", 10_000_000, 5)
    assert Service.from_params({**LEAST, "state_dir": "/x/"}).state_dir == "/x"
    assert Service.from_params({**LEAST, **dict.fromkeys(set(WHOLE) - set(LEAST))}) == Service("a", "/s")
    assert Service.from_params(WHOLE) == Service(
        "registry-2", "/srv/it's %n", ("/bin/x", "$a", "100%", "b c"), ("/bin/after", "$b", "it's"), ("/n",),
        (("A", 'q"$`\\'), ("B", "1")), "/d %i", "nobody", (("nofile", 9), ("nproc", 7)),
        (("/etc/a", "2"), ("/etc/b", "1")), (("/etc/c", "3"),), Ready("http://127.0.0.1/", "", "/u", ("true",), 3),
        Claims(("127.0.0.1:1",), ("/u",), ("/d",)), True, 5,
        Share("1G", 20, 500), "builder")


def service(**changed: Any) -> Service:
    return Service.from_params({"name": "registry", "state_dir": "/var/lib/farm",
                                "command": ["/usr/bin/registry", "serve"], **changed})


def test_all_mistakes_of_a_description_are_told_at_once() -> None:
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
        ({"secret_files": {"/etc/x": "new"}}, ["files changed"]),
        ({"user": "nobody"}, ["user changed"]),
        ({"limits": {"nofile": 10}}, ["limits changed"]),
        ({"share": {"weight": 20}}, ["share changed"]),
        ({"confined": "server"}, ["confined changed"]),
        ({"ready": {"unix": "/x"}}, []),
    ],
)
def test_a_service_is_started_again_only_for_what_decides_how_it_runs(
        changed: dict[str, Any], reason: list[str]) -> None:
    program = {"path": "/usr/bin/registry", "size": 1}
    old, new = (definition(one, program, "runit") for one in (service(), service(**changed)))
    assert differences(old, new) == reason


@pytest.mark.parametrize(("changed", "said"), [
    ({"name": "Registry"}, "name: 'Registry' must have only lower case letters"),
    ({"state_dir": "farm"}, "state_dir: 'farm' is not an absolute path"),
    ({"command": ["registry"]}, "command[0]: 'registry' is not an absolute path"),
    ({"command": ["/bin/x", "a\nb"]}, "command and after must not have line breaks or NUL: 'a\\nb'"),
    ({"environment": {"A-B": "c"}}, "'A-B' is not a valid name of a variable"),
    ({"environment": {"A": "c\0"}}, "the value of A has a control character"),
    ({"environment": {"A": "c\r\n"}}, "the value of A has a control character"),
    ({"secret_files": {"etc/x": ""}}, "secret_files: 'etc/x' is not an absolute path"),
    ({"files": {"/x": ""}, "secret_files": {"/x": ""}}, "/x is both in files and in secret_files"),
    ({"needs": ["runc"]}, "needs: 'runc' is not an absolute path"),
    ({"files": {"etc/x": ""}}, "files: 'etc/x' is not an absolute path"),
    ({"limits": {"memory": 1}}, "limits: 'memory' is not known; allowed: core, nofile, nproc"),
    ({"share": {"memory": "1 GB"}}, "share.memory: '1 GB' is not a size, such as 900M or 3G"),
    ({"share": {"memory": "50%"}}, "share.memory: '50%' is not a size"),
    ({"share": {"weight": 10001}}, "share.weight: 10001 is not 0 to 10000"),
    ({"share": {"oom": -1001}}, "share.oom: -1001 is not -1000 to 1000"),
    ({"confined": "yes"}, "confined: 'yes' is not known; allowed: no, builder, server"),
    ({"claims": {"ports": ["localhost:5000"]}}, "with a numeric address"),
    ({"claims": {"sockets": ["/" + "x" * 107]}}, "has 108 bytes; a unix socket's path has at most 107"),
    ({"name": "a\n"}, "name: 'a\\n' must have only lower case letters, digits and dashes"),
    ({"name": "1a"}, "name: '1a' must have"),
    ({"directory": "/a\nb"}, "directory: '/a\\nb' is not an absolute path"),
    ({"after": ["x"]}, "after[0]: 'x' is not an absolute path"),
    ({"after": ["/x", "a\0"]}, "command and after must not have line breaks or NUL: 'a\\x00'"),
    ({"claims": {"sockets": ["x"]}}, "claims.sockets: 'x' is not an absolute path"),
    ({"claims": {"data": ["x"]}}, "claims.data: 'x' is not an absolute path"),
    ({"claims": {"sockets": ["/" + "\u00e4" * 54]}}, "has 109 bytes; a unix socket's path has at most 107"),
    ({"claims": {"ports": ["127.0.0.1:0"]}}, "claims.ports: '127.0.0.1:0' is not ADDRESS:PORT"),
    ({"claims": {"ports": ["127.0.0.1:65536"]}}, "claims.ports: '127.0.0.1:65536' is not ADDRESS:PORT"),
    ({"environment": {"1A": ""}}, "environment: '1A' is not a valid name of a variable"),
    ({"environment": {"A": "\x1b"}}, "the value of A has a control character"),
    ({"environment": {"A": "\x7f"}}, "the value of A has a control character"),
])
def test_each_mistake_is_told_with_what_it_is_in(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as error:
        Service.from_params({**LEAST, **changed})
    (problem,) = error.value.problems
    assert problem.startswith(said) or said in problem.partition(": ")[2]
    assert f"in the service {changed.get('name', 'a')}:" in str(error.value)


@pytest.mark.parametrize("changed", [
    {"claims": {"sockets": ["/" + "x" * 106], "ports": ["127.0.0.1:65535", "[::1]:1"]}},
    {"environment": {"_A1": "a\tb\nc \u00e4"}}, {"name": "a-1"}, {"limits": {"core": 0, "nofile": 1, "nproc": 1}},
])
def test_what_is_just_within_the_limits_is_taken(changed: dict[str, Any]) -> None:
    Service.from_params({**LEAST, **changed})


def test_all_paths_that_are_in_two_lists_are_told_in_order() -> None:
    with pytest.raises(BadInput) as error:
        Service.from_params({**LEAST, "files": dict.fromkeys(("/a", "/b", "/c", "/d", "/e", "/f"), ""),
                             "secret_files": dict.fromkeys(("/x", "/f", "/e", "/d", "/c", "/b"), "")})
    assert error.value.problems == [f"/{name} is both in files and in secret_files" for name in "bcdef"]


@pytest.mark.parametrize(("text", "found"), [
    ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:5000", ("::1", 5000)), ("[fe80::1]:65535", ("fe80::1", 65535))])
def test_ports_are_read(text: str, found: tuple[str, int]) -> None:
    assert parse_port(text) == found


@pytest.mark.parametrize(("claims", "any_"), [
    (Claims(), False), (Claims(ports=("127.0.0.1:1",)), True), (Claims(sockets=("/u",)), True),
    (Claims(data=("/d",)), True),
])
def test_a_service_claims_something_where_any_list_has_an_entry(claims: Claims, any_: bool) -> None:
    assert bool(claims) is any_


def sha256(text: str) -> str:
    return {"1": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
            "2": "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
            "3": "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"}[text]


def test_a_description_that_is_kept_stays_the_same() -> None:
    """Another one starts every service of every farm anew: that takes a new number of its format."""
    service = Service.from_params({**WHOLE, "environment": {"A": "1"}})
    found = definition(service, {"path": "/bin/x"}, "runit")
    assert found == {
        "format": 2, "supervisor": "runit", "name": "registry-2", "state_dir": "/srv/it's %n",
        "program": {"path": "/bin/x"},
        "command": ["/bin/x", "$a", "100%", "b c"], "after": ["/bin/after", "$b", "it's"],
        "needs": ["/n"], "environment": {"A": sha256("1")},
        "directory": "/d %i", "user": "nobody", "limits": {"nofile": 9, "nproc": 7},
        "files": {"/etc/a": sha256("2"), "/etc/b": sha256("1"), "/etc/c": sha256("3")},
        "claims": {"ports": ["127.0.0.1:1"], "sockets": ["/u"], "data": ["/d"]}, "delegate": True,
        "share": {"memory": "1G", "weight": 20, "oom": 500}, "confined": "builder", "stop_timeout": 5,
        "log": {"size": 10_000_000, "files": 5}}
    assert not {"needs", "share", "confined"} & definition(Service.from_params(LEAST), {}, "runit").keys()
    assert encode({"b": [1], "a": {}}) == '{\n "a": {},\n "b": [\n  1\n ]\n}\n'
    assert digest("1") == sha256("1")[:16]


@pytest.mark.parametrize(("old", "new", "found"), [
    ({}, {"a": 1}, ["it does not exist yet"]),
    ({"a": 1}, {"a": 1}, []),
    ({"z": 1, "b": 1, "c": 1}, {"z": 1, "b": 2, "a": 1}, ["a changed", "b changed", "c changed"]),
])
def test_descriptions_differ_by_key(old: dict[str, int], new: dict[str, int], found: list[str]) -> None:
    assert differences(old, new) == found


RUN = """#!/bin/sh
# registry-2 of the farm in /srv/it's %n. Written by desimages.farm.supervised: changes are lost.
exec 2>&1
umask 022
cd '/d %i' || exit 111
echo 500 >/proc/self/oom_score_adj
exec 'nice' '-n' '5' 'ionice' '-t' '-c' '2' '-n' '7' \
'env' '-i' '/bin/sh' '-c' 'set -a; . "$0"; set +a; unset PWD OLDPWD; exec "$@"' \
'/srv/it'\\''s %n/services/registry-2/environment' \
'chpst' '-o' '9' '-p' '7' '-u' 'nobody' '/bin/x' '$a' '100%' 'b c'
"""
LOG = """#!/bin/sh
exec env 'DESIMAGES_SERVICE=/srv/it'\\''s %n/services/registry-2' svlogd -tt '/srv/it'\\''s %n/log/registry-2'
"""
FINISH = """#!/bin/sh
exec '/bin/after' '$b' 'it'\\''s'
"""
ENVIRONMENT = r"""PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME="/"
LANG="C.UTF-8"
A="q\"\$\`\\"
B="1"
DESIMAGES_SERVICE="/srv/it's %n/services/registry-2"
"""


def test_runit_gets_scripts_of_words_that_stay_as_they_are() -> None:
    folder = "/srv/it's %n/services/registry-2"
    assert runit_files(Service.from_params(WHOLE)) == {
        f"{folder}/finish": Text(FINISH, 0o700),
        f"{folder}/run": Text(RUN, 0o700),
        f"{folder}/environment": Text(ENVIRONMENT, 0o600),
        f"{folder}/log/run": Text(LOG, 0o700),
        "/srv/it's %n/log/registry-2/config": Text("s10000000\nn5\n", 0o644)}


def test_runit_changes_nothing_of_a_service_that_asks_for_nothing() -> None:
    folder = "/s/services/a"
    files = runit_files(Service.from_params({**LEAST, "command": ["/bin/x"]}))
    assert sorted(files) == ["/s/log/a/config", f"{folder}/environment", f"{folder}/log/run", f"{folder}/run"]
    assert files[f"{folder}/run"].text.endswith(" '/s/services/a/environment' '/bin/x'\n")
    limited = runit_files(Service.from_params({**LEAST, "command": ["/bin/x"], "limits": {"core": 0}}))
    assert limited[f"{folder}/run"].text.endswith(" 'chpst' '-c' '0' '/bin/x'\n")


UNIT = r"""# Written by desimages.farm.supervised for the farm in /srv/it's %n: changes are lost.
[Unit]
Description=registry-2 of the image farm in /srv/it's %%n
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0
RequiresMountsFor="/srv/it's %%n"
RequiresMountsFor="/d"

[Service]
Type=exec
ExecStart="/bin/x" "$$a" "100%%" "b c"
ExecStopPost=+"/bin/after" "$$b" "it's"
EnvironmentFile=/srv/it's %%n/services/registry-2/environment
WorkingDirectory=/d %%i
User=nobody
LimitNOFILE=9
LimitNPROC=7
UMask=0022
Restart=always
RestartSec=1
KillMode=mixed
TimeoutStopSec=5
TasksMax=infinity
Delegate=yes
OOMPolicy=continue
Slice=desimages_c0ffee00_registry_2.slice
OOMScoreAdjust=500
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectKernelTunables=yes
RestrictRealtime=yes
CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_TIME CAP_SYSLOG CAP_WAKE_ALARM \
CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_SYS_PACCT CAP_SYS_TTY_CONFIG CAP_LEASE \
CAP_BLOCK_SUSPEND
ReadWritePaths="/d"
ReadWritePaths="/run"
ReadWritePaths="/"

[Install]
WantedBy=multi-user.target
""".replace("\\\n", "")
SLICE = """# Written by desimages.farm.supervised for the farm in /srv/it's %n: changes are lost.
[Unit]
Description=What registry-2 of the image farm in /srv/it's %%n may use

[Slice]
MemoryMax=1G
CPUWeight=20
IOWeight=20
"""
UNITS = supervision.UNITS
OPTIONAL = ("ExecStopPost=", "User=", "Limit", "Delegate=", "OOM", "Slice=", "Protect", "Restrict", "Capability",
            "Read", 'RequiresMountsFor="/d"')


def test_units_are_where_an_administrator_puts_them() -> None:
    assert UNITS == "/etc/systemd/system"  # as it is before a test gets another folder (conftest.py)


def test_systemd_gets_a_unit_of_words_that_stay_as_they_are() -> None:
    service = Service.from_params(WHOLE)
    assert systemd_files(service) == {
        f"{supervision.UNITS}/{service.unit}": Text(UNIT.replace("c0ffee00", service.unit.split("-")[1]), 0o644),
        f"{supervision.UNITS}/{service.slice}": Text(SLICE, 0o644),
        "/srv/it's %n/services/registry-2/environment": Text(ENVIRONMENT, 0o600)}


def test_systemd_changes_nothing_of_a_service_that_asks_for_nothing() -> None:
    service = Service.from_params({**LEAST, "command": ["/bin/x"], "state_dir": "/var/lib/desimages"})
    lines = systemd_files(service)[f"{supervision.UNITS}/desimages-a.service"].text.splitlines()
    usual = [line.partition("=")[0] for line in UNIT.splitlines() if not line.startswith(OPTIONAL)]
    assert [line.partition("=")[0] for line in lines[1:]] == usual[1:]
    core = Service.from_params({**LEAST, "limits": {"core": 0}})
    assert "LimitCORE=0" in next(iter(systemd_files(core).values())).text.splitlines()


def test_a_server_is_kept_from_everything_but_its_data() -> None:
    (unit, _environment) = systemd_files(service(confined="server", claims={"data": ["/data"]})).values()
    lines = unit.text.splitlines()
    assert {"NoNewPrivileges=yes", "CapabilityBoundingSet=", "PrivateDevices=yes", "ProtectSystem=strict",
            "SystemCallFilter=@system-service"} <= set(lines)
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == ['ReadWritePaths="/data"']


@pytest.mark.parametrize(("weight", "nicer"), [(0, False), (20, True), (99, True), (100, False), (500, False)])
def test_without_systemd_only_a_service_of_less_weight_is_nicer(weight: int, nicer: bool) -> None:
    run = runit_files(service(share={"weight": weight}))["/var/lib/farm/services/registry/run"].text
    assert ("'nice' '-n' '5' 'ionice'" in run) is nicer
    assert "oom_score_adj" not in run


def test_two_farms_on_one_machine_have_different_units() -> None:
    default, other = service(state_dir="/var/lib/desimages"), service()
    assert default.unit == "desimages-registry.service"
    assert re.fullmatch(r"desimages-[0-9a-f]{8}-registry\.service", other.unit)


@pytest.mark.parametrize(("word", "written"),
                         [("a", '"a"'), ('a"b', '"a\\"b"'), ("50%", '"50%%"'), ("a\\b", '"a\\\\b"')])
def test_a_unit_keeps_awkward_words_as_they_are(word: str, written: str) -> None:
    assert unit_word(word) == written


@pytest.mark.parametrize(("group", "mode"), [(-1, 0o600), (0, 0o640), (7, 0o640)])
def test_files_of_a_service_are_read_by_its_group_alone(group: int, mode: int) -> None:
    assert own_files(service(files={"/a": "1"}, secret_files={"/b": "2"}), group) == {
        "/a": Text("1", mode, group), "/b": Text("2", mode, group)}


def test_nobody_but_the_service_sets_whose_process_it_is() -> None:
    environment = {"DESIMAGES_SERVICE": "x", "PATH": "/p"}
    (text,) = environment_file(Service.from_params({**LEAST, "environment": environment})).values()
    assert text.group == -1, "of no group but root's own"
    assert text.text == 'PATH="/p"\nHOME="/"\nLANG="C.UTF-8"\nDESIMAGES_SERVICE="/s/services/a"\n'


def test_the_folder_of_a_socket_is_made_before_the_service_starts() -> None:
    """Below /run it is gone after a boot, and a confined service cannot make it."""
    line = 'ExecStartPre=+/bin/mkdir -p "/run/buildkit"'
    for socket, made in (("/run/buildkit/x.sock", [line]), ("/s/f/x.sock", [])):
        one = Service.from_params({"name": "x", "state_dir": "/s/f", "command": ["/bin/x"], "confined": "builder",
                                   "claims": {"sockets": [socket]}})
        lines = next(iter(systemd_files(one).values())).text.splitlines()
        assert [line for line in lines if line.startswith("ExecStartPre=")] == made
