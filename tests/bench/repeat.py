"""Every unit built again: from an empty BuildKit, from a clone with another umask and other mtimes. Prints how many
come out the same.

    python tests/bench/repeat.py [--images debian,base]

The bench's farm builds first, if it has not. Then a second farm (own state folder, BuildKit, socket and registry, so
that names, and with them labels, stay the same) builds the same from a copy of the tree. What was fetched is given to
it: fetching is not what is tried.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from common import PROJECT, STATE, Farm, as_root, load, table

# isort: split
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

REGISTRY = os.environ.get("DESIMAGES_BENCH_SECOND_REGISTRY", "127.0.0.1:5993")
AGAIN = STATE.with_name(STATE.name + "-again")
CLONE = STATE.with_name(STATE.name + "-clone")
NAMESPACE = "desimages"


def clone() -> None:
    """The tree as git sees it, uncommitted changes included: for its owner alone, with random mtimes."""
    shutil.rmtree(CLONE, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT,
                           check=True, stdout=subprocess.PIPE, text=True)
    dice = random.Random(20261124)
    for name in filter(None, names.stdout.split("\0")):
        source, target = PROJECT / name, CLONE / name
        if not source.is_symlink() and not source.is_file():
            continue  # deleted, and not committed yet
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(source, target, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod(0o700 if source.stat().st_mode & 0o100 else 0o600)
            time = dice.randrange(10**9, 2 * 10**9)
            os.utime(target, (time, time))


def units(state: Path) -> dict[Key, str]:
    """The units of the last run of a farm, with their ids: those of images that were chosen, and of all that they came
    from."""
    planned = Run.latest(str(state)).load(Planned)
    plan: Plan = planned.plan
    return {key: plan.units[key].id for key in plan.closure(planned.wanted, planned.build)}


def result(registry: Registry, key: Key, build_id: str) -> tuple[str, list[str]]:
    """Digest and diffIDs of a unit; ("", []) where it is not there."""
    repository = f"{NAMESPACE}/{key.image}"
    data = registry.manifest(repository, f"b-{build_id}")
    if data is None:
        return "", []
    config = json.loads(b"".join(registry.blob(repository, json.loads(data)["config"]["digest"])))
    return (registry.digest(repository, f"b-{build_id}") or ("",))[0], config["rootfs"]["diff_ids"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="", help="separated by commas; their parents come along; by "
                        "default the usual ones")
    parser.add_argument("--keep", action="store_true", help="keep the second farm, to look at it")
    arguments = parser.parse_args()
    choice = {"farm_images": [name for name in arguments.images.split(",") if name], "farm_namespace": NAMESPACE}
    first = Farm(variables=choice)
    print(f"first farm, {STATE}: {first.play('build.yml')}", flush=True)
    second = Farm(AGAIN, REGISTRY, CLONE, choice)
    remove = Farm(AGAIN, REGISTRY, variables=choice)
    if AGAIN.exists():
        remove.play("playbooks/clean.yml")
    clone()
    print(f"second farm, {AGAIN}: {second.play('playbooks/provision.yml')}", flush=True)
    for name in ("store", "relocked"):
        if (STATE / name).exists():
            subprocess.run(as_root("cp", "-al", str(STATE / name), str(AGAIN)), check=True)
    os.umask(0o077)
    print(f"all built again: {second.play('build.yml')}", flush=True)
    before, after = units(STATE), units(AGAIN)
    registries = Registry(first.registry), Registry(second.registry)
    same = {"build id": 0, "diffIDs": 0, "digest": 0}
    rows = []
    for key, build_id in before.items():
        one, two = result(registries[0], key, build_id), result(registries[1], key, after.get(key, ""))
        equal = {"build id": build_id == after.get(key), "diffIDs": one[1] == two[1] != [],
                 "digest": one[0] == two[0] != ""}
        same = {what: number + equal[what] for what, number in same.items()}
        if not all(equal.values()):
            rows.append([key, *("same" if value else "DIFFERENT" for value in equal.values()), one[0][:19],
                         two[0][:19]])
    if rows:
        print(table(["unit", *same, "first", "again"], rows))
    print(f"built again, of {len(before)} units: "
          + ", ".join(f"{what} the same {number} of {len(before)}" for what, number in same.items()) + f"; {load()}")
    if not arguments.keep:
        remove.play("playbooks/clean.yml")
        shutil.rmtree(CLONE)
    sys.exit(0 if not rows else 1)


if __name__ == "__main__":
    main()
