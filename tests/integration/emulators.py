"""Lets this machine's kernel run programs of other architectures, also in containers.

The emulators are Debian 13's: with Debian 12's (7.2), 23 of 150 `buildkitd --version` on arm/v7 never ended, as the
child of a program with several threads waits for a lock that nobody gives back; with 10.0 none.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import debian_host
from .docker_host import run

BINFMT = Path("/proc/sys/fs/binfmt_misc")
NAMES = {"armel": "arm", "armhf": "arm", "arm64": "aarch64", "s390x": "s390x"}  # Debian's architecture -> qemu's
KEPT = f"""
mkdir keep
mv usr/share/qemu/binfmt.d {" ".join(f"usr/bin/qemu-{name}" for name in sorted(set(NAMES.values())))} keep/
find . -mindepth 1 -maxdepth 1 ! -name keep -exec rm -rf {{}} +"""


def register(architectures: Iterable[str], prefix: str) -> list[str]:
    """Makes handlers for these architectures, and returns their names: they begin with `prefix`, so that nobody else's
    are changed."""
    names = sorted({NAMES[architecture] for architecture in architectures})
    if not names:
        return []
    if not (BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "none", str(BINFMT))
    packed = debian_host.root_tar(packages=("qemu-user",), more=("--variant=extract",), finish=KEPT, name="emulators")
    for name in names:
        with tempfile.TemporaryDirectory() as folder, tarfile.open(packed) as tar:
            # by its name, it knows that the kernel tells it how the program was called
            program = Path(folder) / f"{name}-binfmt-P"
            program.write_bytes(_read(tar, f"./keep/qemu-{name}"))
            program.chmod(0o755)
            *line, _interpreter, flags = _read(tar, f"./keep/binfmt.d/qemu-{name}.conf").decode().strip().split(":")
            assert "F" in flags, flags  # the kernel keeps the program open, so its file may go
            line[1] = f"{prefix}-{name}"
            run("tee", str(BINFMT / "register"), stdin=":".join([*line, str(program), flags]).encode())
    return [f"{prefix}-{name}" for name in names]


def unregister(names: Iterable[str]) -> None:
    for name in names:
        if (BINFMT / name).exists():
            run("tee", str(BINFMT / name), stdin=b"-1")


def _read(tar: tarfile.TarFile, path: str) -> bytes:
    found = tar.extractfile(path)
    assert found, path
    return found.read()
