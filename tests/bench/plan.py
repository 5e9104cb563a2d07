"""Plan time and memory of synthetic catalogs of 1,000 and 10,000 units, without the registry's answers.

    python tests/bench/plan.py [--profile]

To reach: 10,000 units in 2 s and 300 MB, growth linear.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import PLATFORMS, load, synthetic, table

SIZES = (1_000, 10_000)


def measure(root: str, profiled: bool) -> dict[str, float]:
    """Plans one catalog in this process: seconds of each part, and the process's peak memory in MB."""
    from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
    from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
    from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
    from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import make
    from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select

    before = _peak()
    profile = cProfile.Profile()
    if profiled:
        profile.enable()
    cpu = time.process_time()
    times = [time.perf_counter()]
    recipes = load_catalog([root])
    times.append(time.perf_counter())
    sources = {name: read_sources(recipe) for name, recipe in recipes.items()}
    times.append(time.perf_counter())
    plan = make(recipes, sources, "sha256:engine", "bench")
    times.append(time.perf_counter())
    select(plan, [Platform.parse("linux/amd64")], [], [], "")
    times.append(time.perf_counter())
    cpu = time.process_time() - cpu
    if profiled:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    parts = [later - earlier for earlier, later in zip(times, times[1:])]
    return {"units": len(plan.units), "read": parts[0], "hash": parts[1], "plan": parts[2],
            "choose": parts[3], "all": sum(parts), "cpu": cpu, "start": before, "peak": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="show where the time of the largest catalog goes")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.profile)))
        return
    found, rows = [], []
    with tempfile.TemporaryDirectory(prefix="desimages-bench-") as folder:
        for size in SIZES:
            root = synthetic(Path(folder) / str(size), size // len(PLATFORMS), parent_every=3)
            words = [sys.executable, __file__, "--measure",
                     str(root)] + (["--profile"] if arguments.profile and size == SIZES[-1] else [])
            one = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
            found.append(one)
            rows.append([f"{one['units']:.0f}",
                         *(f"{one[part]:.2f}" for part in ("read", "hash", "plan", "choose", "all", "cpu")),
                         *(f"{one[part]:.0f}" for part in ("start", "peak")), load()])
    print("Plan of a synthetic catalog, seconds and MB (to reach: 10,000 units in 2 s and 300 MB)")
    print(table(["units", "read", "hash", "plan", "choose", "all", "CPU", "MB at start", "MB peak", "machine"], rows))
    small, large = found
    print(f"growth: {large['units'] / small['units']:.1f} times the units, {large['cpu'] / small['cpu']:.1f} times the "
          f"CPU seconds, {(large['peak'] - large['start']) / (small['peak'] - small['start']):.1f} times the memory")


if __name__ == "__main__":
    main()
