"""What the benches share: a farm of their own, synthetic catalogs, and the machine's load beside every figure.

The farm lives in DESIMAGES_BENCH_STATE and is kept from one bench to the next: compiled and fetched once. Its
services stop when a bench ends. To remove it:

    python tests/bench/common.py clean

Where it is not run as root, what BuildKit and the registry use of the processors is not counted.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "collections"))

STATE = Path(os.environ.get("DESIMAGES_BENCH_STATE", "/var/tmp/desimages-bench"))
REGISTRY = os.environ.get("DESIMAGES_BENCH_REGISTRY", "127.0.0.1:5991")
CACHE = PROJECT / ".cache" / "bench"
PLATFORMS = ("linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/s390x", "linux/ppc64le",
             "linux/riscv64")
STOP, CLEAN = "playbooks/stop.yml", "playbooks/clean.yml"
_stopping: set[Path] = set()  # state folders of the farms that stop when the bench ends
RECIPE = "description: {name}\nhome: https://example.org\nlicense: MIT\nplatforms: all\n"


def load() -> str:
    """The load average of the last minute, and what it is to be compared with."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def as_root(*words: str) -> list[str]:
    return list(words) if os.geteuid() == 0 else ["sudo", *words]


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds on the clock until it ended, and of processors (its own, BuildKit's and the registry's)
    until these rest."""

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.cpu:.1f} s of processors), {load()}"


@dataclass
class Requests:
    """What a registry was asked: requests by method, and by how much its data grew (bytes)."""

    methods: dict[str, int] = field(default_factory=dict)
    grown: int = 0

    def __str__(self) -> str:
        wrote = sum(number for method, number in self.methods.items() if method not in ("GET", "HEAD"))
        return f"{sum(self.methods.values())} requests, {wrote} of them writing, {self.grown} bytes pushed"


@dataclass
class Farm:
    """A farm for benches: state folder, registry, the variables of every run."""

    state: Path = STATE
    registry: str = REGISTRY
    project: Path = PROJECT
    variables: dict[str, Any] = field(default_factory=dict)
    writes: int = 0  # to the disk, that BuildKit and the registry may each make in a second; 0 is no limit

    def trust(self, namespace: str) -> Any:
        """Whom this farm believes: its own signing key."""
        from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
        from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

        given = {"state": str(self.state), "secrets": "", "signing_key": "", "trusted_keys": [], "namespace": namespace}
        return Trust.of(Registry(self.registry), given, check=False)

    @property
    def socket(self) -> str:
        return f"unix://{self.state}/buildkitd.sock"

    def cost(self, words: Sequence[str | Path], **options: Any) -> Cost:
        """Runs a command that uses this farm. A failure shows what it said and ends the bench."""
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what detaches itself, as jobs do, is counted too
        own, services = _descendants(), self._services()
        began = time.perf_counter()
        done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              **options)
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"{done.stdout[-4000:]}\n{words[0]} failed")
        self.settle()
        return Cost(seconds, _descendants() - own
                    + sum(used - services.get(pid, 0) for pid, used in self._services().items()))

    def _services(self) -> dict[str, float]:
        """Process -> seconds of processors that BuildKit and the registry, and what they started, have used (runit's;
        systemd is not asked)."""
        found = {}
        for path in self.state.glob("services/*/supervise/pid"):
            pid = path.read_text().strip()
            stat = Path("/proc") / (pid or "-") / "stat"
            if stat.exists():
                found[pid] = sum(map(int, stat.read_text().rsplit(")", 1)[1].split()[11:15])) / os.sysconf("SC_CLK_TCK")
        return found

    def play(self, playbook: str, *arguments: str, **variables: Any) -> Cost:
        """Runs a playbook as a person does. When the bench ends, the farm's services stop; its data stays for the next
        bench."""
        if playbook not in (STOP, CLEAN) and self.state not in _stopping:
            _stopping.add(self.state)
            atexit.register(self._stop)
        values = {"farm_state": str(self.state), "farm_registry": self.registry, "buildkitd_cache": str(CACHE),
                  **self.variables, **variables}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as extra:
            json.dump(values, extra)
            extra.flush()
            environment = {**os.environ, "ANSIBLE_CONFIG": str(self.project / "ansible.cfg"),
                           "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            return self.cost(["ansible-playbook", playbook, "-e", f"@{extra.name}", *arguments], cwd=self.project,
                             env=environment)

    def _stop(self) -> None:
        if self.state.exists():  # repeat.py removes one of its farms
            replace(self, project=PROJECT).play(STOP)

    def provision(self) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"farm in {self.state}, registry {self.registry}: provisioned in {self.play('playbooks/provision.yml')}",
              flush=True)

    def fresh(self) -> None:
        """A BuildKit that has only just started and knows of no build."""
        subprocess.run(as_root(f"{self.state}/bin/buildctl", "--addr", self.socket, "prune", "--all"), check=True,
                       stdout=subprocess.DEVNULL)
        self.settle()
        self.play(STOP)
        self.play("playbooks/provision.yml")
        if self.writes:
            self._limit()
        self.settle()

    @property
    def can_slow(self) -> bool:
        """Whether `writes` can be held to: as root, with cgroup v1."""
        return os.geteuid() == 0 and Path("/sys/fs/cgroup/blkio").is_dir()

    def _limit(self) -> None:
        """Puts each service, as long as it runs, into a group of cgroup v1's blkio controller.

        A disk without a cache of its own takes some thousand flushed writes a second; that of a cloud machine ten times
        as many.
        """
        device = self.state.stat().st_dev
        for service in ("buildkitd", "registry"):
            group = Path("/sys/fs/cgroup/blkio") / f"{self.state.name}-{service}"
            try:
                group.mkdir(exist_ok=True)
                limit = f"{os.major(device)}:{os.minor(device)} {self.writes}"
                (group / "blkio.throttle.write_iops_device").write_text(limit)
                pid = self.state / "services" / service / "supervise" / "pid"
                (group / "cgroup.procs").write_text(pid.read_text())
            except OSError as error:
                sys.exit("--writes needs root, cgroup v1, runit, and the state folder on a disk without partitions: "
                         f"{error}")

    def settle(self) -> None:
        """Waits until BuildKit and the registry rest for 4 seconds: BuildKit writes its history some time after a build
        has ended."""
        still = 0
        for _try in range(60):
            before = sum(self._services().values())
            time.sleep(0.5)
            still = still + 1 if sum(self._services().values()) - before < 0.05 else 0
            if still == 8:
                return

    def count(self, run: Callable[[], object]) -> Requests:
        """What the registry is asked while something runs, from its log (runit's; nothing where systemd keeps it)."""
        # where it says what it was asked
        verbose = replace(self, variables={**self.variables, "registry_log_level": "info"})
        verbose.play("playbooks/provision.yml")
        time.sleep(0.2)  # the log is written by another process
        moment, before = datetime.now(timezone.utc).strftime("%Y-%m-%d_%H:%M:%S.%f")[:-1], size(self.state / "registry")
        run()
        time.sleep(0.2)
        methods: dict[str, int] = {}
        logs = self.state / "log" / "registry"
        for path in (*logs.glob("current"), *logs.glob("@*")):
            for line in path.read_text(errors="replace").splitlines():
                asked = re.search(r"response completed.* http\.request\.method=(\w+)", line)
                if asked and line[: len(moment)] >= moment:
                    methods[asked.group(1)] = methods.get(asked.group(1), 0) + 1
        return Requests(methods, size(self.state / "registry") - before)


def _descendants() -> float:
    """Seconds of processors of all descendants that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def size(folder: Path) -> int:
    """Bytes in the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def synthetic(root: Path, images: int, parent_every: int = 0) -> Path:
    """A catalog of `images` images for all eight platforms, each FROM scratch and one COPY.

    With `parent_every` = n, every nth image starts from an earlier one instead.
    """
    shutil.rmtree(root, ignore_errors=True)
    for number in range(images):
        name = f"image{number:05d}"
        folder = root / name
        folder.mkdir(parents=True)
        parent = f"image{number // 2:05d}" if parent_every and number % parent_every == parent_every - 1 else "scratch"
        (folder / "image.yml").write_text(RECIPE.format(name=name))
        (folder / "Dockerfile").write_text(f"FROM {parent}\nCOPY file /{name}\n")
        (folder / "file").write_text(f"{name}\n" * 50)
    return root


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    numbers = [all(_number(row[column]) for row in cells[1:]) for column in range(len(header))]
    lines = ["  ".join(f"{cell:>{width}}" if right else f"{cell:<{width}}"
                       for cell, width, right in zip(row, widths, numbers)).rstrip()
             for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _number(text: str) -> bool:
    return re.fullmatch(r"-?|[\d.,]+( (MB|s|x))?", text) is not None


if __name__ == "__main__":
    if sys.argv[1:] != ["clean"]:
        sys.exit(__doc__)
    print(f"removed {STATE}: {Farm().play(CLEAN)}")
    subprocess.run(as_root("rm", "-rf", f"{STATE}-work"), check=True)
