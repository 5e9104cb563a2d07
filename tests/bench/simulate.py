"""The scheduler's own code on a simulated clock: unlike nodes, failures, nodes that are lost and come back.

    python tests/bench/simulate.py [--nodes 100] [--units 10000] [--seeds 3] [--large]

To reach: each unit built once or for a stated reason not (or it ends with 1), 0.95 of the ideal makespan, a decision
below 1 ms. The ideal is the larger of the work over the speed of all nodes that may do it (for each set of nodes, while
they are there), and the longest chain of units on the fastest nodes. It knows how long each unit will take; the
scheduler does not. `with again` is the ratio to an ideal that also does again what faults destroyed: nobody can foresee
that a node is lost or that a finished batch cannot be pushed. `--large` adds 1,000 nodes, which takes some minutes.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from multiprocessing import get_context

from common import PROJECT, load, table

sys.path.insert(0, str(PROJECT))


def simulate(nodes: int, units: int, seed: int, what: str) -> tuple[list[str], list[str]]:
    """A row of the table, and what was wrong. The memory is what the process grew by, the simulated fleet included."""
    from tests.unit.simulated import Simulation

    gc.disable()  # else some decisions take some ms more; nothing that is made here needs it
    began, before = time.perf_counter(), _peak()
    run = Simulation(nodes, units, seed, 1.0 if what == "faults" else 0.0, known=what != "new").run()
    memory = _peak() - before
    states = run.scheduler.outcomes.values()
    good = sum(outcome.state.value == "built" for outcome in states)
    others = max((max(times), name) for name, times in run.others.items())
    ideal = run.ideal()
    row = [f"{len(run.machines)}", f"{len(states)}", str(seed), what, f"{good}", f"{len(states) - good}",
           f"{sum(run.excused.values())}", f"{run.now:.0f}", f"{ideal:.0f}", f"{ideal / run.now:.3f}",
           f"{run.ideal(again=True) / run.now:.3f}",
           f"{len(run.decided)}", f"{1e6 * sum(run.decided) / len(run.decided):.0f}", f"{1e3 * max(run.decided):.2f}",
           f"{len(run.decided) / sum(run.decided):.0f}", f"{1e3 * others[0]:.0f} ({others[1]})", f"{memory:.0f}",
           f"{time.perf_counter() - began:.0f}", load()]
    return row, [f"seed {seed}: {problem}" for problem in run.problems()]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3, help="how many runs of each kind")
    parser.add_argument("--large", action="store_true", help="1,000 nodes as well")
    arguments = parser.parse_args()
    runs = [(arguments.nodes, seed, what) for what in ("calm", "faults", "new")
            for seed in range(1, arguments.seeds + 1)] + [(1_000, 1, "faults")] * arguments.large
    rows, wrong = [], []
    for nodes, seed, what in runs:
        with get_context("spawn").Pool(1) as pool:  # a process for each, for its memory
            row, problems = pool.apply(simulate, (nodes, arguments.units, seed, what))
        rows.append(row)
        wrong += problems
    print("The scheduler on a simulated clock (to reach: 0.95 of the ideal, decisions below 1 ms). calm: no faults;\n"
          "faults: units, nodes and the registry fail, nodes are lost and return; new: calm, and nothing known before")
    print(table(["nodes", "units", "seed", "", "built", "failed", "again, with a reason", "s", "ideal", "ratio",
                 "with again", "decisions", "us mean", "ms worst", "a second", "ms, worst other", "MB", "took s",
                 "machine"], rows))
    if wrong:
        sys.exit("\n".join(["built twice without a reason, or lost:", *wrong]))


if __name__ == "__main__":
    main()
