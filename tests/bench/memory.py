"""What the controller and the sessions of many nodes have in memory, while a build of 10,000 units runs.

    python tests/bench/memory.py [--nodes 100] [--images 1250] [--seconds 60]

Every node has a BuildKit of its own and an address to which the controller has an ssh connection of its own; all of
them are in one container, the registry (with TLS and a password) in another. That takes some 80 MB of this machine's
memory for each node, and provisioning them 11 s of its processors. To reach: 2 GB. What is counted is the
proportional set size (PSS) of ansible-playbook, its forks and their ssh: memory that n processes share counts 1/n for
each. The build is ended after --seconds of building, or when it is done. Needs root; everything is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from common import CACHE, PROJECT, STATE, load, synthetic, table

sys.path.insert(0, str(PROJECT))
from tests.integration.fleet_hosts import Fleet

PROVISIONED = 8  # hosts at the same time
WORK = STATE.with_name(STATE.name + "-memory")


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found, parents = [], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        found.append(parent)
        waiting += [child for child, its in parents.items() if its == parent]
    return found


def pss(pid: int) -> int:
    """Bytes; 0 of a process that has ended."""
    try:
        return 1024 * int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1])
    except (OSError, TypeError):
        return 0


def measure(process: subprocess.Popen[bytes], progress: Path, seconds: float) -> list[list[object]]:
    """The moments at which most was used: before anything is built, and while it is."""
    most: dict[str, list[object]] = {}
    totals: dict[str, int] = {}
    earlier = progress.resolve()
    began, ends = time.monotonic(), float("inf")
    while process.poll() is None and time.monotonic() < ends:
        now = progress.resolve()
        building = now not in (earlier, progress) and ": built in " in (now.read_text() if now.exists() else "")
        if building:
            ends = min(ends, time.monotonic() + seconds)
        phase = "building" if building else "before"
        used = sorted(map(pss, tree(process.pid)))
        if sum(used) > totals.get(phase, 0):
            totals[phase] = sum(used)
            most[phase] = [phase, f"{time.monotonic() - began:.0f}", len(used), f"{sum(used) / 1e6:.0f}",
                           f"{used[-1] / 1e6:.0f}", f"{used[len(used) // 2] / 1e6:.1f}", load()]
        time.sleep(1)
    return list(most.values())


def hosts(fleet: Fleet, nodes: int) -> Path:
    """An inventory of so many nodes on one host, which gets an address for each."""
    node = fleet["node"]
    reached = yaml.safe_load(fleet.inventory.read_text())
    node.run("sh", "-c", "echo MaxStartups 1000 > /etc/ssh/sshd_config.d/many.conf && systemctl reload ssh")
    network, found = node.address.rpartition(".")[0], reached["all"]["hosts"].pop("node")
    for number in range(nodes):
        address = f"{network}.{100 + number}"
        node.netns("ip", "address", "add", f"{address}/24", "dev", "eth0")
        reached["all"]["hosts"][f"node{number:03d}"] = {
            **found, "ansible_host": address, "farm_state": f"/var/lib/desimages/{number:03d}",
            "ansible_ssh_common_args": f"{found['ansible_ssh_common_args']} -o HostKeyAlias={node.address}"}
    reached["nodes"]["hosts"] = {name: {} for name in reached["all"]["hosts"] if name.startswith("node")}
    fleet.inventory.write_text(yaml.safe_dump(reached, sort_keys=False))
    return fleet.inventory


def wrong(said: Path) -> str:
    """What a playbook said from its first error on; the recap of a hundred hosts tells nothing."""
    _before, error, rest = said.read_text().partition("[ERROR]")
    return (error + rest)[:4000]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--images", type=int, default=1250)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    synthetic(WORK / "images", arguments.images, parent_every=5)
    fleet = Fleet.start(WORK / "hosts", ["node", "registry"],
                        groups={"nodes": ["node"], "registries": ["registry"]})
    try:
        inventory = hosts(fleet, arguments.nodes)
        (WORK / "extra.json").write_text(json.dumps({
            "farm_controller_state": str(WORK / "farm"), "farm_registry": f"{fleet['registry'].address}:5000",
            "buildkitd_cache": str(CACHE), "farm_catalog": [str(WORK / "images")]}))

        def play(playbook: str, limit: str = "all", forks: int = arguments.nodes + 2) -> subprocess.Popen[bytes]:
            with (WORK / "said").open("wb") as said:
                return subprocess.Popen(
                    ["ansible-playbook", playbook, "-i", inventory, "-e", f"@{WORK}/extra.json", "--forks",
                     str(forks), "--limit", limit], cwd=PROJECT, stdout=said, stderr=said,
                    env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                         "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})

        began = time.monotonic()
        one = "registry,node000"  # which installs packages, so that the others need not wait for each other's apt
        # some hosts at a time: with a hundred, a small machine reads its programs from the disk again and again
        if play("playbooks/provision.yml", one).wait() or play("playbooks/provision.yml", forks=PROVISIONED).wait():
            sys.exit(f"{wrong(WORK / 'said')}\nplaybooks/provision.yml failed")
        print(f"provisioned in {time.monotonic() - began:.0f} s, {load()}", flush=True)
        process = play("build.yml")
        try:
            rows = measure(process, WORK / "farm/runs/latest/progress.log", arguments.seconds)
            print(f"{arguments.nodes} nodes, {8 * arguments.images} units")
            print(table(["", "s", "processes", "MB", "largest MB", "median MB", "machine"], rows), flush=True)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
        if "building" not in (row[0] for row in rows):
            sys.exit(f"{wrong(WORK / 'said')}\nbuild.yml built nothing")
    finally:
        fleet.stop()
        shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
