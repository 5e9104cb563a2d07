"""Real nodes over ssh, containers that are held to shares of a core: how much faster several are than one, and what a
lost one costs.

    python tests/bench/fleet.py [--images 24] [--work 4000000] [--bake]

Nodes: a and b with half a core, c with a quarter, d with 0.12; a registry with TLS and a password; this machine is the
controller. Each image is one step that counts to --work, on its own platform (about a second of a core for each
million). To reach: a and b at least 1.9 times as fast as a alone; all four at least 0.9 of the ideal, which is the work
over the cores of all; if b is lost in the middle, what the ideal is then, what its units had run, and 30 s. --bake runs
`docker buildx bake` on a and b as one builder: it uses the first. Needs root; everything is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import CACHE, PROJECT, STATE, load

sys.path.insert(0, str(PROJECT))
from tests.integration.fleet_hosts import Fleet

CORES = {"node-a": 0.5, "node-b": 0.5, "node-c": 0.25, "node-d": 0.12}
WORK = STATE.with_name(STATE.name + "-fleet")
BUILDX = CACHE / "buildx-v0.38.2" / "buildx"
RECIPE = "description: {name}\nhome: https://example.org\nlicense: MIT\nplatforms: [linux/amd64]\n"
SHELL = ("inputs:\n  busybox: {debian: [busybox-static], for: build}\n",
         "FROM unpacked-busybox AS from\nFROM scratch\nCOPY --from=from /usr/bin/busybox /\n")
STEP = ('FROM shell\nRUN ["/busybox", "sh", "-c", "i=0; while [ $i -lt {work} ]; do i=$((i+1)); done; : {mark}; '
        'echo {name} > /done"]\n')


@dataclass
class Bench:
    fleet: Fleet
    images: int
    work: int
    namespace: str = ""  # of the last build

    def provision(self) -> float:
        began = time.monotonic()
        self._play("playbooks/provision.yml")
        return time.monotonic() - began

    def catalog(self, mark: str) -> Path:
        """The images, whose steps no node has done yet. The shell's lock is made once."""
        root = WORK / "images"
        for name, extra, text in (("shell", *SHELL), *(
                (f"work{number:02d}", "", STEP.format(work=self.work, mark=mark, name=number))
                for number in range(self.images))):
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "image.yml").write_text(RECIPE.format(name=name) + extra)
            (folder / "Dockerfile").write_text(text)
        if not (root / "shell/lock.jsonl").exists():
            self._play("playbooks/lock.yml", farm_catalog=[str(root)])
        return root

    def build(self, mark: str, nodes: str, lose: str = "", after: float = 0.0) -> tuple[float, dict[str, Any]]:
        """Builds everything on some nodes: seconds, and the summary. `lose` is killed after so many seconds."""
        self.namespace = mark
        variables = {"farm_catalog": [str(self.catalog(mark))], "farm_namespace": mark}
        self._play("build.yml", nodes=nodes, farm_images=["shell"], **variables)
        began = time.monotonic()
        with self._started("build.yml", nodes, variables) as process:
            if lose:
                try:
                    process.wait(after)
                except subprocess.TimeoutExpired:
                    self.fleet[lose].kill()
            said = process.communicate()[0]
        seconds = time.monotonic() - began
        if process.returncode:
            sys.exit(f"{said[-4000:]}\nbuild.yml failed")
        return seconds, dict(json.loads((WORK / "farm/runs/latest/summary.json").read_text()))

    def bake(self, mark: str) -> float:
        """Seconds of `docker buildx bake`, with a builder that has a and b."""
        if not BUILDX.exists():
            subprocess.run(["go", "install", "github.com/docker/buildx/cmd/buildx@v0.38.2"], check=True,
                           env={**os.environ, "GOBIN": str(BUILDX.parent)})
        registry, home = f"{self.fleet['registry'].address}:5000", WORK / "docker"
        home.mkdir(exist_ok=True)
        secrets = WORK / "farm/secrets"
        login = subprocess.run(["base64", "-w0"], input=f"farm:{(secrets / 'registry-password').read_text().strip()}",
                               text=True, check=True, stdout=subprocess.PIPE).stdout
        (home / "config.json").write_text(json.dumps({"auths": {registry: {"auth": login}}}))
        environment = {**os.environ, "BUILDX_CONFIG": str(home / "buildx"), "DOCKER_CONFIG": str(home)}
        shutil.rmtree(home / "buildx", ignore_errors=True)
        for number, name in enumerate(("node-a", "node-b")):
            pid = self.fleet[name].container.attrs["State"]["Pid"]
            subprocess.run([BUILDX, "create", "--name=bench", *(["--append"] if number else []), "--driver=remote",
                            f"unix:///proc/{pid}/root/var/lib/desimages/buildkitd.sock"], check=True, env=environment,
                           stdout=subprocess.DEVNULL)
        root, units = self.catalog(mark), json.loads((WORK / "farm/runs/latest/summary.json").read_text())["units"]
        shell = next(state["digest"] for unit, state in units.items() if unit.startswith("shell"))
        targets = {f"work{number:02d}": {
            "context": str(root / f"work{number:02d}"), "platforms": ["linux/amd64"],
            "contexts": {"shell": f"docker-image://{registry}/{self.namespace}/shell@{shell}"},
            "output": [f"type=image,push=true,name={registry}/{mark}/work{number:02d}"],
            "attest": ["type=provenance,disabled=true"]} for number in range(self.images)}
        (WORK / "bake.json").write_text(json.dumps({"group": {"default": {"targets": list(targets)}},
                                                    "target": targets}))
        began = time.monotonic()
        subprocess.run([BUILDX, "bake", "--builder=bench", "--progress=quiet", "-f", WORK / "bake.json"], check=True,
                       env=environment, cwd=WORK)
        return time.monotonic() - began

    def _play(self, playbook: str, nodes: str = "nodes", **variables: Any) -> None:
        with self._started(playbook, nodes, variables) as process:
            said = process.communicate()[0]
        if process.returncode:
            sys.exit(f"{said[-4000:]}\n{playbook} failed")

    def _started(self, playbook: str, nodes: str, variables: dict[str, Any]) -> subprocess.Popen[str]:
        values = {"farm_controller_state": str(WORK / "farm"), "buildkitd_cache": str(CACHE), **variables,
                  "farm_registry": f"{self.fleet['registry'].address}:5000"}
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=WORK, delete=False) as extra:
            json.dump(values, extra)
        return subprocess.Popen(
            ["ansible-playbook", playbook, "-i", self.fleet.inventory, "-e", f"@{extra.name}", "--limit",
             f"localhost,registries,{nodes}"], cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                 "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})


def seconds_of(summary: dict[str, Any]) -> float:
    """What the solves of a run took on their nodes, in seconds of a whole core."""
    return sum(CORES[name] * share["seconds"] for name, share in summary["nodes"].items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--work", type=int, default=4_000_000)
    parser.add_argument("--bake", action="store_true")
    arguments = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    fleet = Fleet.start(WORK / "hosts", [*CORES, "registry"], cpus=CORES,
                        groups={"nodes": list(CORES), "registries": ["registry"]})
    try:
        report(Bench(fleet, arguments.images, arguments.work), arguments.bake)
    finally:
        fleet.stop()
        shutil.rmtree(WORK)


def report(bench: Bench, bake: bool) -> None:
    def row(what: str, *cells: object) -> None:
        print("  ".join(map(str, (f"{what + ':':<24}", *cells, load()))), flush=True)

    a, b, *_slow = CORES
    row("provisioned", f"{bench.provision():.1f} s")
    one, found = bench.build("one", a)
    work = seconds_of(found)
    print(f"{bench.images} images, {work:.0f} s of a core in all; ideal: that over the cores")
    row("a", f"{one:.1f} s, ideal {work / CORES[a]:.1f}")
    two, _found = bench.build("two", f"{a},{b}")
    row("a and b", f"{two:.1f} s, ideal {work / (CORES[a] + CORES[b]):.1f}",
        f"{one / two:.2f} times as fast as a, to reach 1.9")
    four, _found = bench.build("four", ",".join(CORES))
    ideal = work / sum(CORES.values())
    row("a, b, c, d", f"{four:.1f} s, ideal {ideal:.1f}", f"{ideal / four:.2f} of the ideal, to reach 0.9")
    lost, _found = bench.build("lost", f"{a},{b}", lose=b, after=two / 2)
    ideal = two / 2 * (1 + (CORES[a] + CORES[b]) / CORES[a])  # a does alone what was left
    row("a and b, b lost", f"{lost:.1f} s, ideal {ideal:.1f}", f"{lost - ideal:+.1f} s, to reach a unit and 30 s")
    if bake:
        bench.fleet[b].start()
        row("bake on a and b", f"{bench.bake('bake'):.1f} s")


if __name__ == "__main__":
    main()
