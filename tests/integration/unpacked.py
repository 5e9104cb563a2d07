"""An image's files laid out in a folder, and its programs run there, under an emulator where they are foreign."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .conftest import Chain, sh
from .docker_host import run

NATIVE = "linux/arm64" if os.uname().machine == "aarch64" else "linux/amd64"
DIRECT = (NATIVE, "linux/386") if NATIVE == "linux/amd64" else (NATIVE,)  # what the kernel runs without help
EMULATORS = {  # platform -> qemu-user's name for it, and what else it is told
    "linux/amd64": ("x86_64",),
    "linux/386": ("i386",),
    "linux/arm64": ("aarch64",),
    "linux/arm/v7": ("arm",),
    "linux/arm/v6": ("arm", "-cpu", "arm1176"),
    "linux/s390x": ("s390x",),
    "linux/ppc64le": ("ppc64le",),
    "linux/riscv64": ("riscv64",),
}


@dataclass(frozen=True)
class Unpacked:
    """An image laid out in a folder, with its owners and modes."""

    root: Path

    @classmethod
    def of(cls, chain: Chain, image: str, platform: str, folder: Path) -> Unpacked:
        sh("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{chain.reference(image, platform)}",
           f"dir:{folder}/image")
        root = folder / "root"
        root.mkdir()
        for layer in json.loads((folder / "image/manifest.json").read_text())["layers"]:
            run("tar", "--extract", "--zstd", "--preserve-permissions", "--numeric-owner", f"--directory={root}",
                f"--file={folder}/image/{layer['digest'].removeprefix('sha256:')}")
        return cls(root)

    def find(self, *words: str) -> list[str]:
        """What find(1) prints of it, line by line; as root, who sees all of it."""
        return run("find", str(self.root), *words).splitlines()

    def run(self, platform: str, *words: str, user: int = 0) -> str:
        """Runs one program in it, under the emulator where it is not this machine's own, which is not told to the
        kernel."""
        emulator, *options = EMULATORS[platform]
        front = []
        if platform not in DIRECT:
            program = shutil.which(f"qemu-{emulator}-static") or shutil.which(f"qemu-{emulator}")  # Debian 12, 13
            assert program, f"no emulator for {platform}: apt install qemu-user-static"
            run("cp", program, str(self.root / "emulator"))
            front = ["/emulator", *options]
        return run("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "chroot", f"--userspec={user}:{user}",
                   str(self.root), *front, *words)
