"""One foreign Debian root file system: our Dockerfile's stage beside mmdebstrap under qemu-user, the same packages, in
one run.

    python tests/bench/debian.py [--platform linux/arm64]

Everything is fetched and our seed stage is built beforehand; both have /tmp in memory, the same dpkg options, and end
with a tree, no archive. To reach: ours at least 15 times faster. Needs mmdebstrap, and root for a tmpfs and the
kernel's binfmt_misc, both undone at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import CACHE, STATE, Cost, Farm, as_root, load, table

# isort: split
from ansible_collections.desimages.farm.plugins.module_utils.platforms import DEBIAN, KERNEL, Platform
from ansible_collections.desimages.farm.plugins.module_utils.staging import Contents, lay_out
from ansible_collections.desimages.farm.plugins.plugin_utils.build import solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

WORK = STATE.with_name(STATE.name + "-debian")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
HANDLER = "desimages-bench"
STAGES = ("seed", "rootfs")  # of images/debian/Dockerfile
REACH = 15


class Ours:
    """The stages of images/debian/Dockerfile, built by buildctl with what build.yml gives BuildKit, without an image at
    the end."""

    def __init__(self, farm: Farm, platform: Platform) -> None:
        planned = Run.latest(str(farm.state)).load(Planned)
        plan: Plan = planned.plan
        self.farm, self.unit, build = farm, plan.units[Key("debian", "", platform)], planned.build
        self.recipe = plan.recipes["debian"]
        store = Store(farm.state / "store")
        archive = Archive(Registry(farm.registry), "desimages", store)
        lock, trust = self.recipe.lock, farm.trust("desimages")
        unpacked = {name: archive.unpacked(name, lock.of(name, str(build)), build, lock.epoch, trust)
                    for name in self.unit.unpacked}
        made = solve.make([self.unit], plan, planned.sources["debian"], build=build, registry=farm.registry,
                          repository="desimages/debian", digests={}, unpacked=unpacked)
        trees = made.trees()
        contents = Contents(shared=str(store.root))
        folders = {name: lay_out(WORK / "contexts" / name, tree, contents) for name, tree in trees.items()}
        words = [word for word in made.words(folders, "", "")
                 if not word.startswith(("--output=", "--source-policy-file=", "--metadata-file="))]
        self.words = [f"{farm.state}/bin/buildctl", f"--addr={farm.socket}", *words]
        self.entries = {entry for name in self.unit.inputs for entry in self.recipe.lock.of(name, str(platform))}

    def stage(self, name: str, *options: str) -> Cost:
        return self.farm.cost([*self.words, f"--opt=target={name}", *options])


def repository(entries: set[Entry], store: Path, suite: str) -> Path:
    """A local repository of the locked packages and no others."""
    folder = WORK / "repository"
    folder.mkdir()
    paragraphs = []
    for entry in sorted(entries, key=lambda entry: entry.key):
        name = Path(entry.path).name
        os.link(store / "sha256" / entry.sha256[:2] / entry.sha256, folder / name)
        control = subprocess.run(["dpkg-deb", "--field", folder / name], check=True, stdout=subprocess.PIPE,
                                 text=True).stdout
        paragraphs.append(f"{control.strip()}\nFilename: ./{name}\nSize: {entry.size}\nSHA256: {entry.sha256}\n")
    (folder / "Packages").write_text("\n".join(paragraphs))
    (folder / "Release").write_text(f"Codename: {suite}\nSuite: {suite}\n")
    return folder


@contextmanager
def emulator(machine: str) -> Iterator[None]:
    """Registers Debian's qemu-user-static for one machine, where the kernel has no handler for it; nothing is
    installed."""
    mounted = not (BINFMT / "register").exists()
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "none", str(BINFMT)], check=True)
    registered = not (BINFMT / f"qemu-{machine}").exists()
    try:
        if registered:
            folder = CACHE / "qemu"
            if not (folder / "usr").exists():
                folder.mkdir(parents=True, exist_ok=True)
                subprocess.run(["apt-get", "-q", "download", "qemu-user-static", "qemu-user"], cwd=folder, check=True,
                               stdout=subprocess.DEVNULL)
                for package in folder.glob("*.deb"):  # Debian 12 has the emulators in the first, 13 in the second
                    subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True)
            (BINFMT / "register").write_text(_rule(folder, machine))
        yield
    finally:
        if registered and (BINFMT / HANDLER).exists():
            (BINFMT / HANDLER).write_text("-1")
        if mounted and {path.name for path in BINFMT.iterdir()} == {"register", "status"}:
            subprocess.run(["umount", str(BINFMT)], check=True)


def _rule(folder: Path, machine: str) -> str:
    """The kernel's words for Debian's own description of a handler: F keeps it working in a chroot."""
    path = folder / "usr/share/qemu/binfmt.d" / f"qemu-{machine}.conf"  # Debian 13
    if not path.exists():
        path = folder / "usr/lib/binfmt.d" / path.name  # Debian 12
    _begin, _name, kind, offset, magic, mask, interpreter, _flags = path.read_text().strip().split(":")
    return f":{HANDLER}:{kind}:{offset}:{magic}:{mask}:{folder}{interpreter}:PF"


@contextmanager
def memory(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g,mode=1777,exec,dev", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", default="linux/arm64")
    arguments = parser.parse_args()
    if os.geteuid():
        os.execvp("sudo", as_root(sys.executable, *sys.argv))
    if not shutil.which("mmdebstrap"):
        sys.exit("needs mmdebstrap: apt install mmdebstrap")
    platform = Platform.parse(arguments.platform)
    machine = {**{there: name for name, there in KERNEL.items()}, Platform("linux", "arm", "v7"): "arm",
               Platform("linux", "arm", "v6"): "arm"}[platform]
    farm = Farm(variables={"farm_images": ["debian"], "farm_platforms": [str(platform)]})
    print(f"fetched, and built once: {farm.play('build.yml')}", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    try:
        ours = Ours(farm, platform)
        print(f"seed, unless BuildKit has it: {ours.stage(STAGES[0])}", flush=True)
        source = repository(ours.entries, farm.state / "store", ours.recipe.suites[0])
        packages = ",".join(ours.recipe.input("rootfs").spec["packages"])  # type: ignore[arg-type]
        slim = next(Path(ours.recipe.folder).glob("rootfs/etc/dpkg/dpkg.cfg.d/*"))
        costs = [ours.stage(STAGES[1], f"--opt=no-cache={STAGES[1]}")]
        print(f"ours: {costs[0]}", flush=True)
        with emulator(machine), memory(WORK / "memory") as tmp:
            words = ["mmdebstrap", "--mode=root", "--variant=essential", "--format=directory", "--skip=check/qemu",
                     f"--architectures={DEBIAN[platform]}",
                     f"--include={packages}", f"--dpkgopt={slim}", ours.recipe.suites[0], str(tmp / "tree"),
                     f"deb [trusted=yes] copy:{source} ./"]
            theirs = farm.cost(words, env={**os.environ, "TMPDIR": str(tmp), "SOURCE_DATE_EPOCH": str(ours.unit.epoch)})
            installed = len(list((tmp / "tree/var/lib/dpkg/info").glob("*.list")))
        print(f"mmdebstrap under qemu-user: {theirs}, {installed} packages of {len(ours.entries)}", flush=True)
        costs.append(ours.stage(STAGES[1], f"--opt=no-cache={STAGES[1]}"))
        print(f"ours again: {costs[1]}", flush=True)
    finally:
        shutil.rmtree(WORK)
    seconds = statistics.mean(cost.seconds for cost in costs)
    cpu = statistics.mean(cost.cpu for cost in costs)
    print(table(["root file system", "ours s", "mmdebstrap s", "ratio", "to reach", "ours CPU s", "mmdebstrap CPU s",
                 "ratio"],
                [[str(platform), f"{seconds:.1f}", f"{theirs.seconds:.1f}", f"{theirs.seconds / seconds:.1f}", REACH,
                  f"{cpu:.1f}", f"{theirs.cpu:.1f}", f"{theirs.cpu / cpu:.1f}"]]))
    print(f"ours: the mean of one run before and one after; {load()}")


if __name__ == "__main__":
    main()
