"""Short builds in a row: how many of them say something of an error although they succeed.

    python tests/bench/short.py [--runs 100]

Each run builds one image of one COPY for one platform, whose file was changed before.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from common import PROJECT, REGISTRY, STATE, Farm, load

WORDS = re.compile(r"\[?(ERROR|WARNING|fatal)\b|Traceback|KeyboardInterrupt|dead state", re.I)
RECIPE = "description: short\nlicense: MIT\nplatforms: [linux/amd64]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    farm = Farm()
    farm.provision()
    folder = Path(f"{STATE}-work/short")
    image = folder / "images/short"
    image.mkdir(parents=True, exist_ok=True)
    (image / "image.yml").write_text(RECIPE)
    (image / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    extra = folder / "extra.json"
    extra.write_text(json.dumps({"farm_state": str(STATE), "farm_registry": REGISTRY,
                                 "farm_catalog": [str(folder / "images")], "farm_namespace": "short"}))
    words = [str(Path(sys.executable).parent / "ansible-playbook"), "build.yml", "-e", f"@{extra}"]
    bad, began = 0, time.perf_counter()
    for number in range(arguments.runs):
        (image / "file").write_text(f"{time.time_ns()}\n")
        done = subprocess.run(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        said = [line for line in done.stdout.splitlines() if WORDS.search(line)]
        if done.returncode or said or "Units: 1 built" not in done.stdout:
            bad += 1
            print(f"run {number + 1}: exit code {done.returncode}: {' / '.join(said[:3]) or done.stdout[-300:]}",
                  flush=True)
    seconds = (time.perf_counter() - began) / arguments.runs
    print(f"{arguments.runs} short builds, {bad} of them with a word of an error; {seconds:.2f} s each; {load()}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
