"""Real hosts over ssh become nodes: side by side, each for itself, from a controller that is none of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import COMPILED, PROJECT, Farm, Result
from .fleet_hosts import Fleet

PORT = 5931
STATE = "/var/lib/desimages"
GONE = "ls: cannot access '/etc/systemd/system/desimages*': No such file or directory\n"


# Everything on a host that decides what it does. What dpkg, apt, ssh and systemd keep for themselves is not the farm's.
FILES = r"""find / -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /run \
    -o -path /var/lib/dpkg -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /root/.ansible \
    -o -path /var/backups \) -prune -o -printf '%p %y %m %u %l\n' | sort"""
OWNED = r"""dpkg-query -W -f '${Package}\n' | xargs dpkg -L | sort -u; ls -d /etc/alternatives/* /etc/rc*.d/* \
    /usr/bin/* /etc/systemd/system/*.wants/*"""  # packages, and what their scripts make


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, and a small one, with something that listens where the registry should be. Hosts that were made before
    (fleet_hosts.py create FOLDER node1 node2 small) can be named in the environment; they stay."""
    if folder := os.environ.get("DESIMAGES_TEST_FLEET"):
        with listening(Fleet(Path(folder))):
            yield Fleet(Path(folder))
        return
    made = Fleet.start(tmp_path_factory.mktemp("fleet"), ["node1", "node2", "small"], cpus={"small": 0.5},
                       memory={"small": "512m"})
    (made.folder / "before").write_text(made["node1"].run("sh", "-c", FILES))
    try:
        with listening(made):
            yield made
    finally:
        made.stop()


@contextmanager
def listening(fleet: Fleet) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-m", "http.server", "--bind", fleet.controller, str(PORT)],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.kill()


@pytest.fixture(scope="module")
def nodes(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Farm:
    """The controller, whose own files are in a folder of the test. Check mode sees fresh hosts, and changes none."""
    folder = tmp_path_factory.mktemp("controller")
    place = {"farm_controller_state": f"{folder}/farm", "farm_registry": f"controller:{PORT}",
             "buildkitd_cache": COMPILED}
    return Farm(folder, {}, fleet.inventory.parent, place)


@pytest.fixture(scope="module")
def provisioned(nodes: Farm) -> Result:
    checked = nodes.run("playbooks/provision.yml", "--check")
    assert checked.rc == 0, checked.text[-4000:]
    done = nodes.run("playbooks/provision.yml")
    assert done.rc == 0, done.text[-4000:]
    return done


def node(fleet: Fleet, name: str) -> dict[str, Any]:
    return dict(json.loads(fleet[name].run("cat", f"{STATE}/etc/node.json")))


def told(done: Result, host: str) -> str:
    """What a host's failure says."""
    (found,) = [event["event_data"]["res"] for event in done.events
                if event["event"] == "runner_on_failed" and event["event_data"]["host"] == host]
    return str(found["msg"])


def connections(done: Result, host: str) -> int:
    """How many tasks of a run went to a host."""
    here = {"assert", "debug", "set_fact", "group_by", "include_tasks", "include_role", "validate_argument_spec",
            "begin"}
    return len([event for event in done.events if event["event"] == "runner_on_ok"
                and event["event_data"]["host"] == host
                and event["event_data"]["task_action"].rpartition(".")[2] not in here
                and not event["event_data"]["res"].get("_ansible_delegated_vars")])


def test_a_second_run_changes_nothing_and_opens_few_connections(nodes: Farm, provisioned: Result) -> None:
    again = nodes.run("playbooks/provision.yml")
    assert again.rc == 0, again.text[-4000:]
    assert again.changed == 0, again.text[-4000:]
    assert connections(again, "node2") <= 12


def test_each_node_is_a_machine_of_its_own_that_runs_what_was_tried(fleet: Fleet, provisioned: Result) -> None:
    found = {host.name: node(fleet, host.name) for host in fleet}
    assert len({one["id"] for one in found.values()}) == 3
    assert len({one["engine"] for one in found.values()}) == 1
    for one in found.values():
        assert one["native"] == ["linux/amd64", "linux/386"]
    assert found["small"]["cores"] == 0.5 < found["node1"]["cores"]
    assert found["small"]["memory"] == 512 << 20 < found["node1"]["memory"]
    assert "max-parallelism = 1\n" in fleet["small"].run("cat", f"{STATE}/etc/buildkitd.toml")


def shown(fleet: Fleet, host: str, unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit, as systemd knows them."""
    text = fleet[host].run("systemctl", "show", unit, "-p", ",".join(names))
    return dict(line.partition("=")[::2] for line in text.splitlines())


def test_a_host_stays_usable_while_it_builds(fleet: Fleet, provisioned: Result) -> None:
    """What systemd was told: a container's own limits have no effect here."""
    assert shown(fleet, "small", "desimages_buildkitd.slice", "MemoryMax", "CPUWeight", "IOWeight") == {
        "MemoryMax": str(416 << 20), "CPUWeight": "20", "IOWeight": "20"}
    found = shown(fleet, "small", "desimages-buildkitd", "Slice", "OOMScoreAdjust", "OOMPolicy", "Delegate",
                  "ProtectSystem", "RequiresMountsFor", "CapabilityBoundingSet")
    assert STATE in found.pop("RequiresMountsFor").split()
    allowed = found.pop("CapabilityBoundingSet").split()
    assert "cap_sys_admin" in allowed and not {"cap_sys_module", "cap_sys_time", "cap_sys_boot"} & set(allowed)
    assert found == {"Slice": "desimages_buildkitd.slice", "OOMScoreAdjust": "500", "OOMPolicy": "continue",
                     "Delegate": "yes", "ProtectSystem": "strict"}
    toml = fleet["small"].run("cat", f"{STATE}/etc/buildkitd.toml")
    assert 'defaultCgroupParent = "/desimages_buildkitd.slice"' in toml, "where steps would not be limited"


def test_sizes_follow_the_disk_and_not_what_is_free_of_it(fleet: Fleet, provisioned: Result) -> None:
    """So a second run changes nothing."""
    size = int(fleet["node1"].run("stat", "-f", "-c", "%b", STATE)) * int(fleet["node1"].run("stat", "-fc%S", STATE))
    toml = fleet["node1"].run("cat", f"{STATE}/etc/buildkitd.toml")
    assert f'reservedSpace = "{min(10000, size // 5 // 10**6)}MB"' in toml and 'maxUsedSpace = "60%"' in toml


SOCKET = "/srv/full/x.sock"
LISTEN = f"import socket, time; s = socket.socket(socket.AF_UNIX); s.bind({SOCKET!r}); s.listen(); time.sleep(999)"


def test_each_host_is_refused_with_all_its_reasons_and_the_others_go_on(
        nodes: Farm, fleet: Fleet, provisioned: Result, tmp_path: Path) -> None:
    """One is well, one is off, one has two names, one has its farm where no overlayfs can be, and one has a small disk,
    a wrong clock, and another process on its socket."""
    known = yaml.safe_load(fleet.inventory.read_text())
    hosts = known["all"]["hosts"]
    small = fleet["small"]
    small.run("sh", "-euc", "mkdir /srv/full; mount -t tmpfs -o size=100m none /srv/full; apt-get update -qq; "
              "apt-get install -yqq --no-install-recommends faketime; "
              "printf '#!/bin/sh\nexec faketime -f -3h python3 \"$@\"\n' > /srv/late; chmod 755 /srv/late")
    small.container.exec_run(["python3", "-c", LISTEN], detach=True)
    hosts["small"] |= {"farm_state": "/srv/full/farm", "buildkitd_socket": SOCKET,
                       "ansible_python_interpreter": "/srv/late"}
    hosts["off"] = {**hosts["node1"], "ansible_host": fleet.controller, "ansible_port": 1}
    hosts["twin"] = dict(hosts["node2"])
    hosts["layered"] = {**hosts["node1"], "farm_state": "/srv/farm"}  # the container's root is an overlay itself
    known["nodes"]["hosts"] |= {"off": {}, "twin": {}, "layered": {}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(known))
    done = Farm(nodes.folder, {}, tmp_path, nodes.place).run("playbooks/provision.yml")
    assert done.rc != 0
    assert set(done.stats["failures"]) == {"layered", "node2", "small", "twin"} and set(done.stats["dark"]) == {"off"}
    assert done.stats["changed"].get("node1", 0) == 0
    for text in ("small cannot be a node", "MB of disk left, and a node needs 2.0 GB", "min behind the controller",
                 f"socket {SOCKET} is in use by process"):
        assert text in told(done, "small"), told(done, "small")
    assert "overlayfs cannot be used in /srv" in told(done, "layered")
    for host in ("node2", "twin"):
        assert "node2 and twin are one machine" in told(done, host)
    assert small.run("ls", "-A", "/srv/full") == "x.sock\n"


@pytest.mark.full
def test_a_release_archive_is_used_instead_of_compiling(
        nodes: Farm, fleet: Fleet, provisioned: Result, tmp_path: Path) -> None:
    """It gives the same bytes, as the engine id says. One with another sha256 is refused, for its hosts alone."""
    compiled = next(path.parent for path in Path(COMPILED).glob("go/*/buildkitd") if path.read_bytes()[18] == 62)
    archive = tmp_path / "buildkit.tar.gz"
    subprocess.run(["tar", "-C", str(compiled), "--transform=s,^,bin/,", "-I", "gzip -1", "-cf", str(archive),
                    "buildctl", "buildkitd"], check=True)
    right = {"source": str(archive), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    known = yaml.safe_load(fleet.inventory.read_text())
    known["all"]["hosts"]["node1"]["buildkitd_archives"] = {"linux/amd64": {**right, "sha256": "0" * 64}}
    known["all"]["hosts"]["node2"]["buildkitd_archives"] = {"linux/amd64": right}
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/hosts.yml").write_text(yaml.safe_dump(known))
    place = {**nodes.place, "buildkitd_cache": str(tmp_path / "cache")}
    done = Farm(nodes.folder, {}, tmp_path / "inventory", place).run(
        "playbooks/provision.yml", "--limit", "node1,node2,localhost")
    assert set(done.stats["failures"]) == {"node1"}, done.text[-4000:]
    assert "the inventory says 0000" in told(done, "node1")
    assert f"of {archive}" in done.text
    assert sorted(path.name for path in tmp_path.glob("cache/*/*")) == [
        f"{right['sha256']}-amd64"], "nothing was compiled"


@pytest.mark.full
def test_a_node_that_cannot_reach_the_registry_is_told_so(nodes: Farm, fleet: Fleet, provisioned: Result) -> None:
    node1 = fleet["node1"]
    node1.netns("iptables", "-w", "-A", "OUTPUT", "-p", "tcp", "-d", fleet.controller, "--dport", str(PORT), "-j",
                "REJECT")
    try:
        done = nodes.run("playbooks/provision.yml", "--limit", "node1,localhost")
        assert done.rc != 0
        assert f"the registry controller:{PORT} cannot be reached from here" in told(done, "node1")
    finally:
        node1.heal()


@pytest.mark.full
def test_a_node_is_taken_out_and_left_as_it_was(nodes: Farm, fleet: Fleet, provisioned: Result) -> None:
    """Debian's packages stay, and nothing else; then it is made a node again, with another id."""
    before = node(fleet, "node1")
    done = nodes.run("playbooks/clean.yml", "--limit", "node1")
    assert done.rc == 0, done.text[-4000:]
    host = fleet["node1"]
    assert host.run("ls", "-A", STATE) == ""
    assert host.run("sh", "-c", "ls -d /etc/systemd/system/desimages*; pgrep -a buildkitd; true") in ("", GONE)
    assert host.run("systemctl", "--failed", "--no-legend") == ""
    found, owned = host.run("sh", "-c", FILES).splitlines(), set(host.run("sh", "-c", OWNED).splitlines())
    was = (fleet.folder / "before").read_text().splitlines()
    assert [line for line in sorted(set(found) - set(was)) if line.split(" ")[0] not in owned] == []
    assert [line for line in sorted(set(was) - set(found)) if line.split(" ")[0] not in owned] == []
    assert nodes.run("playbooks/provision.yml", "--limit", "node1,localhost").rc == 0
    after = node(fleet, "node1")
    assert after == {**before, "id": after["id"], "speed": after["speed"]}
    assert after["id"] != before["id"]


SUDO = """apt-get update -qq; apt-get install -yqq --no-install-recommends sudo; useradd --create-home pi;
echo pi:it\\'s%secret | chpasswd; echo 'pi ALL=(ALL) ALL' >/etc/sudoers.d/pi; chmod 440 /etc/sudoers.d/pi;
cp -r /root/.ssh /home/pi/; chown -R pi /home/pi/.ssh; mkdir -p /srv/python
ln -sf /usr/bin/python3 /srv/python/its-own"""


@pytest.mark.full
def test_hosts_are_reached_as_people_reach_theirs(
        nodes: Farm, fleet: Fleet, provisioned: Result, tmp_path: Path) -> None:
    """One through a jump host, as a user whose sudo asks for a password, with another Python. Beside it one
    with a wrong password for sudo, and one with a wrong key."""
    for name in ("node2", "small"):
        fleet[name].run("sh", "-euc", SUDO)
    known = yaml.safe_load(fleet.inventory.read_text())
    hosts = known["all"]["hosts"]
    jump = (f"-o ProxyCommand='ssh -i {fleet.folder}/key -o UserKnownHostsFile={fleet.folder}/known_hosts "
            f"-W %h:%p root@{fleet['node1'].address}'")
    pi = {"ansible_user": "pi", "ansible_become_password": "it's%secret"}
    hosts["node2"] |= {**pi, "ansible_python_interpreter": "/srv/python/its-own",
                       "ansible_ssh_common_args": f"{hosts['node2']['ansible_ssh_common_args']} {jump}"}
    hosts["small"] |= {**pi, "ansible_become_password": "wrong"}
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    hosts["foreign"] = {**hosts["node1"], "ansible_ssh_private_key_file": str(tmp_path / "other"),
                        "ansible_ssh_extra_args": "-o ControlPath=none"}  # not in through node1's open connection
    known["nodes"]["hosts"] |= {"foreign": {}}
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/hosts.yml").write_text(yaml.safe_dump(known))
    done = Farm(nodes.folder, {}, tmp_path / "inventory", nodes.place).run("playbooks/provision.yml")
    dark = {event["event_data"]["host"]: str(event["event_data"]["res"]["msg"]) for event in done.events
            if event["event"] in ("runner_on_unreachable", "runner_on_failed")}
    assert set(dark) == {"small", "foreign"}, done.text[-4000:]
    assert "Permission denied (publickey" in dark["foreign"]
    assert "password" in dark["small"].lower(), dark
    assert done.stats["ok"]["node2"] > 20, done.text[-4000:]


@pytest.mark.full
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="runs as another user: needs root")
def test_the_controller_may_be_an_ordinary_user_without_sudo(fleet: Fleet, provisioned: Result) -> None:
    """What the user compiles, keeps and holds is in a folder of their own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # pytest's own are closed to other users
        home = Path(folder)
        shutil.copytree(f"{COMPILED}/go", home / "cache/go")
        (home / "inventory").mkdir()
        (home / "inventory/hosts.yml").write_text(fleet.inventory.read_text().replace(f"{fleet.folder}/", f"{home}/"))
        for name in ("key", "known_hosts"):
            shutil.copy(fleet.folder / name, home)
        for path in (home, *home.rglob("*")):
            shutil.chown(path, "nobody")
        words = ["setpriv", "--reuid=nobody", "--clear-groups", "--inh-caps=+dac_read_search",
                 "--ambient-caps=+dac_read_search", "--", str(Path(sys.executable).parent / "ansible-playbook"),
                 "-i", f"{home}/inventory", str(PROJECT / "playbooks/provision.yml"), "--limit=node2,localhost",
                 f"-efarm_controller_state={home}/farm", f"-ebuildkitd_cache={home}/cache",
                 f"-efarm_registry=controller:{PORT}", "-eansible_become_flags=--non-interactive"]
        own = {"HOME": str(home), "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(words, env={**os.environ, **own}, capture_output=True, text=True, check=False, cwd=home)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert (home / "farm").owner() == (home / "farm/store").owner() == "nobody"
