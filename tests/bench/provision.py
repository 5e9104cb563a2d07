"""How long it takes until bare Debian hosts are nodes, and to see that they are: containers with systemd, over ssh.

    python tests/bench/provision.py [--hosts 1,3,10,30]

BuildKit is compiled beforehand, and packages come from this machine's mirror. To reach: one bare host is ready in 60 s,
and looked at again in 10 s; 30 hosts again in 150 s. `tasks` of the second run open a connection to a host: at most 12.
Needs root; everything is removed at the end. Many hosts need more of fs.inotify.max_user_instances than a kernel gives:
systemd in each of them uses some.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from common import CACHE, PROJECT, STATE, load

sys.path.insert(0, str(PROJECT))
from tests.integration.conftest import Farm, Result
from tests.integration.fleet_hosts import Fleet
from tests.integration.test_fleet_provision import connections

WORK = STATE.with_name(STATE.name + "-provision")
PORT = 5932
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
EACH = 8  # of these a host needs


def provision(farm: Farm) -> tuple[float, Result]:
    began = time.monotonic()
    done = farm.run("playbooks/provision.yml", "--forks", "40")
    seconds = time.monotonic() - began
    if done.rc:
        sys.exit(f"{done.text[-4000:]}\nplaybooks/provision.yml failed")
    return seconds, done


def measure(count: int) -> str:
    """So many hosts, bare, and again. The registry is anything that listens: these are nodes alone."""
    folder = WORK / f"hosts{count}"
    names = [f"node{number}" for number in range(count)]
    fleet = Fleet.start(folder, names)
    listener = [sys.executable, "-m", "http.server", "--bind", fleet.controller, str(PORT)]
    try:
        with subprocess.Popen(listener, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            farm = Farm(folder, {}, fleet.inventory, {
                "farm_controller_state": f"{folder}/farm", "farm_registry": f"controller:{PORT}",
                "buildkitd_cache": str(CACHE)})
            first, again = provision(farm)[0], provision(farm)
            server.kill()
    finally:
        fleet.stop()
    most = max(connections(again[1], name) for name in names)
    return (f"{count} hosts: bare {first:.1f} s, again {again[0]:.1f} s with {again[1].changed} changed and at most "
            f"{most} tasks that connect to a host; {load()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="1,3,10,30")
    counts = [int(word) for word in parser.parse_args().hosts.split(",")]
    if int(INOTIFY.read_text()) < EACH * max(counts):
        sys.exit(f"{max(counts)} hosts need sysctl fs.inotify.max_user_instances={EACH * max(counts)} or more")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        for count in counts:
            print(measure(count), flush=True)
    finally:
        shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
