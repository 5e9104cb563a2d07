"""What the controller and the sessions of many nodes have in memory, while a build of 10,000 units runs.

    python tests/bench/memory.py [--nodes 100] [--images 1250] [--seconds 60]

One node is real: the bench farm's BuildKit. The others refuse every connection; each has its fork of Ansible all the
same, which asks for work and tries to connect. To reach: 2 GB. What is counted is the proportional set size (PSS) of
ansible-playbook, its forks and their ssh: memory that n processes share counts 1/n for each. The build is ended after
--seconds of building, or when it is done.
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
import tempfile
import time
from pathlib import Path

from common import CACHE, PROJECT, STATE, Farm, load, synthetic, table

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--images", type=int, default=1250)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    farm = Farm()
    farm.provision()
    WORK.mkdir(exist_ok=True)
    synthetic(WORK / "images", arguments.images, parent_every=5)
    away = {f"node{number:03d}": {"ansible_host": "127.0.0.1", "ansible_port": 1}
            for number in range(1, arguments.nodes)}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (WORK / "hosts.json").write_text(json.dumps({
        "nodes": {"hosts": {"localhost": local, **away}}, "registries": {"hosts": {"localhost": None}}}))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as extra:
        json.dump({"farm_state": str(farm.state), "farm_registry": farm.registry, "buildkitd_cache": str(CACHE),
                   "farm_catalog": [str(WORK / "images")], "farm_namespace": f"memory{os.getpid()}"}, extra)
        extra.flush()
        process = subprocess.Popen(
            ["ansible-playbook", "build.yml", "-i", WORK / "hosts.json", "-e", f"@{extra.name}", "--forks",
             str(arguments.nodes)], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                 "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
        try:
            rows = measure(process, farm.state / "runs/latest/progress.log", arguments.seconds)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    print(f"{arguments.nodes} nodes, {8 * arguments.images} units")
    print(table(["", "s", "processes", "MB", "largest MB", "median MB", "machine"], rows))
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
