"""The farm beside `docker buildx bake` on the same Dockerfiles, BuildKit and registry, in one run, inputs fetched
beforehand.

    python tests/bench/bake.py [--catalog synthetic|real] [--images debian,base] [--platforms linux/amd64]
        [--rounds N] [--writes N]

Three cases: nothing built yet, nothing changed, one file of an image changed (of `base` in the real catalog). The
farm's time is that of the whole `ansible-playbook build.yml`. To reach: nothing changed in 6 s, and in 0.5 of bake's
time on the synthetic catalog; from nothing at most 1.3 of bake's time on the synthetic catalog, 1.05 on the real one;
no byte pushed where nothing changed.

bake gets what the farm gives BuildKit: the same contexts, options and output, images as linked targets. Per image it is
one target.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common import CACHE, PROJECT, STATE, Cost, Farm, load, synthetic, table

# isort: split
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.module_utils.staging import Contents, lay_out
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe, Sources
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

VERSION = "v0.38.2"
CASES = ("nothing built yet", "nothing changed", "one file changed")
REACH = {("synthetic", CASES[0]): 1.3, ("synthetic", CASES[1]): 0.5, ("real", CASES[0]): 1.05}
SLOW = 3000  # writes a second, each flushed: a disk on which bake takes half a minute for the synthetic catalog
WORK = STATE.with_name(STATE.name + "-work")


@dataclass
class Bake:
    """`docker buildx bake` of what the farm built last; `namespace` is where its images go, `archive` that of the
    farm's."""

    farm: Farm
    namespace: str
    archive: str
    environment: dict[str, str] = field(default_factory=dict)
    # a run hands over sources and whole locks only of the images that it builds
    sources: dict[str, Sources] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = CACHE / f"buildx-{VERSION}" / "buildx"
        if not self.program.exists():
            where = {**os.environ, "GOBIN": str(self.program.parent)}
            subprocess.run(["go", "install", f"github.com/docker/buildx/cmd/buildx@{VERSION}"], check=True, env=where)
        self.environment = {**os.environ, "BUILDX_CONFIG": str(WORK / "buildx"), "DOCKER_CONFIG": str(WORK / "docker")}
        shutil.rmtree(WORK / "buildx", ignore_errors=True)
        self.farm.cost([self.program, "create", "--name=bench", "--driver=remote", self.farm.socket],
                       env=self.environment)

    def lay_out(self) -> None:
        """Contexts and docker-bake.json as of now; takes no part in bake's time."""
        shutil.rmtree(WORK / "contexts", ignore_errors=True)
        planned = Run.latest(str(self.farm.state)).load(Planned)
        self.sources |= planned.sources
        self.recipes |= {name: planned.plan.recipes[name] for name in planned.sources}
        plan = Plan(planned.plan.units, {**planned.plan.recipes, **self.recipes})
        wanted = plan.closure(planned.wanted, planned.build)
        names = dict.fromkeys(key.name for key in wanted)
        targets = {name: self._target(plan, [key for key in wanted if key.name == name], planned.build)
                   for name in names}
        (WORK / "docker-bake.json").write_text(json.dumps({"group": {"default": {"targets": list(names)}},
                                                           "target": targets}, indent=1))

    def _target(self, plan: Plan, keys: list[Key], build: Platform) -> dict[str, object]:
        units = [plan.units[key] for key in keys]
        parents = {parent.name: {str(p): "sha256:0" for p in (*plan.recipes[keys[0].image].platforms, build)}
                   for unit in units for parent in unit.parents}
        made = solve.make(units, plan, self.sources[keys[0].image], build=build, registry=self.farm.registry,
                          repository=f"{self.archive}/{keys[0].image}", digests=parents,
                          unpacked={name: self._unpacked(plan, units[0], name, build) for name in units[0].unpacked})
        contents = Contents(shared=f"{self.farm.state}/store")
        trees = made.trees()
        folders = {name: lay_out(WORK / "contexts" / keys[0].name / name, tree, contents)
                   for name, tree in trees.items()}
        kinds = {kind: {name.partition(":")[2]: value for name, value in made.options.items()
                        if name.startswith(kind + ":")}
                 for kind in ("build-arg", "label", "context")}
        contexts = {name: folders.get(value.removeprefix("local:"), value) for name, value in kinds["context"].items()
                    if name.partition("::")[0] not in parents}
        output = {**made.output, "name": f"{self.farm.registry}/{self.namespace}/{keys[0].name}:latest"}
        for name in ("push-by-digest", "name-canonical"):  # bake pushes tags
            del output[name]
        return {
            "context": folders[solve.MAIN], "dockerfile": f"{folders[made.options['dockerfilekey']]}/Dockerfile",
            "platforms": [str(key.platform) for key in keys],
            "args": kinds["build-arg"], "labels": kinds["label"],
            "contexts": {**contexts, **{name: f"target:{name}" for name in parents}},
            "network": "none", "attest": ["type=provenance,disabled=true"],
            "output": [",".join(solve.csv(f"{name}={value}") for name, value in output.items())],
            **({"target": keys[0].target} if keys[0].target else {}),
        }

    def _unpacked(self, plan: Plan, unit: Unit, name: str, build: Platform) -> str:
        """The archive has it since the farm's own build."""
        lock = plan.recipes[unit.key.image].lock
        archive = Archive(Registry(self.farm.registry), self.archive, Store(self.farm.state / "store"))
        return archive.unpacked(name, lock.of(name, str(build)), build, lock.epoch, self.farm.trust(self.archive))

    def run(self) -> Cost:
        words = [self.program, "bake", "--builder=bench", f"--file={WORK}/docker-bake.json", "--progress=plain",
                 f"--allow=fs.read={WORK}"]
        return self.farm.cost(words, env=self.environment)


def change(folder: Path, number: int) -> None:
    """Changes one file of an image: one of its context, or where it has none its Dockerfile."""
    file = folder / "file"
    if file.exists():
        file.write_text(f"change {number}\n" * 50)
    else:
        with (folder / "Dockerfile").open("a") as dockerfile:
            dockerfile.write(f"ENV BENCH={number}\n")


def compare(kind: str, catalog: Path, chosen: Mapping[str, list[str]], changed: str, rounds: int, writes: int) -> None:
    """One catalog: all cases for both sides, printed as a table. `chosen` has the farm's variables that choose."""
    costs: dict[tuple[str, str], list[Cost]] = {}
    disk = f"; BuildKit and the registry each write to the disk {writes} times a second at most" if writes else ""
    words = ", ".join(name for names in chosen.values() for name in names)
    print(f"{kind} catalog: {words or 'the usual images'}{disk}", flush=True)

    def take(case: str, side: str, run: Callable[[], Cost]) -> None:
        costs.setdefault((case, side), []).append(run())
        print(f"  {case}, {side}: {costs[(case, side)][-1]}", flush=True)

    for number in range(rounds):
        name = f"bench-{kind}-{int(time.time())}"
        farm = Farm(variables={"farm_catalog": [str(catalog)], **chosen, "farm_namespace": f"{name}-farm"},
                    writes=writes)
        build = partial(farm.play, "build.yml")
        farm.fresh()
        take(CASES[0], "farm", build)
        bake = Bake(farm, f"{name}-bake", f"{name}-farm")
        bake.lay_out()
        farm.fresh()
        take(CASES[0], "bake", bake.run)
        take(CASES[1], "farm", build)
        take(CASES[1], "bake", bake.run)
        change(catalog / changed, number)
        take(CASES[2], "farm", build)
        bake.lay_out()
        take(CASES[2], "bake", bake.run)
    asked = {"farm": farm.count(partial(farm.play, "build.yml", registry_log_level="info")),
             "bake": farm.count(bake.run)}
    rows = []
    for case in CASES:
        wall = [statistics.median(cost.seconds for cost in costs[(case, side)]) for side in ("farm", "bake")]
        cpu = [statistics.median(cost.cpu for cost in costs[(case, side)]) for side in ("farm", "bake")]
        rows.append([case, *(f"{number:.1f}" for number in wall), f"{wall[0] / wall[1]:.2f}",
                     f"{REACH.get((kind, case), '-')}", *(f"{number:.1f}" for number in cpu), f"{cpu[0] / cpu[1]:.2f}"])
    print(table(["case", "farm s", "bake s", "ratio", "to reach", "farm CPU s", "bake CPU s", "ratio"], rows))
    print(f"median of {rounds}; CPU: the program's own, BuildKit's and the registry's, until these rest; {load()}")
    print("\n".join(f"nothing changed, {side}: {requests}" for side, requests in asked.items()))
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", choices=["synthetic", "real"], action="append", help="default: both")
    parser.add_argument("--images", default="",
                        help="of the real catalog, separated by commas; their parents come along")
    parser.add_argument("--platforms", default="", help="of both catalogs, separated by commas")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--writes", type=int,
                        help="a slower disk: so many writes a second at most for BuildKit, and for the registry "
                             "(0: as it is); default: as it is, and where it can be slowed down, synthetic also "
                             f"at {SLOW}")
    arguments = parser.parse_args()
    farm = Farm()
    farm.provision()
    WORK.mkdir(exist_ok=True)
    chosen = {name: listed.split(",") for name, listed in
              (("farm_images", arguments.images), ("farm_platforms", arguments.platforms)) if listed}
    for kind in arguments.catalog or ["synthetic", "real"]:
        catalog = WORK / kind / "images"
        if kind == "synthetic":
            for writes in [0, *([SLOW] if farm.can_slow else [])] if arguments.writes is None else [arguments.writes]:
                every = {name: value for name, value in chosen.items() if name != "farm_images"}
                compare(kind, synthetic(catalog, 27), every, "image00000", arguments.rounds, writes)
            continue
        shutil.rmtree(catalog, ignore_errors=True)
        shutil.copytree(PROJECT / "images", catalog)
        fetch = Farm(variables={"farm_catalog": [str(catalog)], **chosen})
        print(f"inputs fetched and all built once: {fetch.play('build.yml')}", flush=True)
        compare(kind, catalog, chosen, "base", arguments.rounds, arguments.writes or 0)


if __name__ == "__main__":
    main()
