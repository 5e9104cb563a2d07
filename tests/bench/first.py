"""`make build` as its first user sees it: a fresh clone, nothing on the machine, every cache of its own and empty.
Prints each part's time.

    python tests/bench/first.py [--images debian,base,static] [--keep]

To reach: 35 minutes on two cores. Of the machine it uses what make would install first (git, make, Python, Debian
packages) and its clients' settings; pip's and Go's caches, the farm and BuildKit's state are new. What is not committed
is not in the clone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

from common import PROJECT, STATE, as_root, load, table

REGISTRY = os.environ.get("DESIMAGES_BENCH_THIRD_REGISTRY", "127.0.0.1:5995")
PLACE = STATE.with_name(STATE.name + "-first")  # clone, caches and farm


def make(target: str, *variables: str) -> tuple[float, str]:
    """Seconds of a make in the clone, and what it said."""
    settings = " ".join(f"-e {variable}" for variable in (f"farm_state={PLACE}/farm", f"farm_registry={REGISTRY}",
                                                          *variables))
    caches = {"PIP_CACHE_DIR": "pip", "GOCACHE": "go-build", "GOMODCACHE": "go-mod", "GOPATH": "go"}
    environment = {**os.environ, **{name: str(PLACE / "caches" / folder) for name, folder in caches.items()}}
    began = time.monotonic()
    with subprocess.Popen(["make", target, f"ARGS={settings}"], cwd=PLACE / "clone", env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if target == "build":
                print(f"    {time.monotonic() - began:6.1f}  {line}", end="", flush=True)
    if process.returncode:
        sys.exit(f"{said[-4000:]}\nmake {target} failed")
    return time.monotonic() - began, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="", help="separated by commas; their parents come along; by "
                        "default the usual ones")
    parser.add_argument("--keep", action="store_true", help="keep clone, caches and farm, to look at them")
    arguments = parser.parse_args()
    if (PLACE / "clone/Makefile").exists():
        make("clean")
    subprocess.run(as_root("rm", "-rf", str(PLACE)), check=True)
    (PLACE / "caches").mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(PLACE / "clone")], check=True)
    chosen = [f"farm_images={arguments.images}"] if arguments.images else []
    print(f"make build, {load()}:", flush=True)
    seconds, said = make("build", *chosen)
    parts = re.search(r"Time: ([\d:]+): (.*)", said)
    assert parts, "a first build says how long it took"
    again, once_more = make("build", *chosen)
    changed = re.search(r"changed=(\d+)", once_more)
    rows = [["make build", f"{seconds:.0f} s"], ["of that the playbook", parts[1]]]
    rows += [[name, took] for name, took in (part.removeprefix("of that ").rsplit(" ", 1)
                                             for part in parts[2].strip().split(", "))]
    print(table(["part", "took"], [*rows, ["make build again", f"{again:.1f} s"]]))
    print(f"again: changed={changed[1] if changed else '?'}; to reach: 2100 s, took {seconds:.0f} s; {load()}")
    if not arguments.keep:
        make("clean")
        shutil.rmtree(PLACE)


if __name__ == "__main__":
    main()
