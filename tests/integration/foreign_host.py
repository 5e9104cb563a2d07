"""A test's host of another architecture, without a virtual machine: Debian 12 without systemd, whose programs run under
qemu-user. The kernel and runc are this machine's: runc cannot start under an emulator, so it is copied into the host's
tree with the libraries that it needs. Its packages are extracted, and what their scripts would have made is made by
hand: to run these scripts under an emulator takes many minutes.

The emulator is Debian 13's: with Debian 12's (7.2), 23 of 150 `buildkitd --version` on arm/v7 never ended, as the child
of a program with several threads waits for a lock that nobody gives back; with 10.0 none.

Such a host calls itself what it stands for (`uname -m`), and its BuildKit is compiled for it. But the kernel runs this
machine's programs there too, so its inventory says `farm_native`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import debian_host
from .docker_host import DockerHost, run

SUITE = "bookworm"  # mirrors have all of it, also of armel, which ends with trixie
PACKAGES = ("apt", "iproute2", "mount", "openssh-server", "passwd", "python3", "runit")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
FINISHED = """
for deb in var/cache/apt/archives/*.deb; do
    dpkg-deb --field "$deb" | sed '1a Status: install ok installed'
    echo
done > var/lib/dpkg/status
for name in passwd group; do cp usr/share/base-passwd/$name.master etc/$name; done
echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin' >> etc/passwd
cp usr/share/libc-bin/nsswitch.conf etc/
sed 's/^UsePAM yes/UsePAM no/' usr/share/openssh/sshd_config > etc/ssh/sshd_config
ln -s mawk usr/bin/awk
rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/*"""
KEY = "/etc/ssh/ssh_host_ed25519_key"  # alone: an emulator needs a minute for an RSA key
INIT = f"mkdir -p /run/sshd; [ -e {KEY} ] || ssh-keygen -q -t ed25519 -N '' -f {KEY}; exec /usr/sbin/sshd -D"
# The usual folders are links before anything is extracted, and afterwards dpkg knows what is there.
MMDEBSTRAP = ("--variant=extract", "--include=?essential", "--skip=check/qemu,cleanup/apt,essential/unlink",
              "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")


EMULATORS = """
mkdir keep
mv usr/share/qemu/binfmt.d usr/bin/qemu-arm usr/bin/qemu-s390x keep/
find . -mindepth 1 -maxdepth 1 ! -name keep -exec rm -rf {} +"""


@dataclass(frozen=True)
class Machine:
    """The emulator, as Debian names it, and the processor that it pretends to have."""

    emulator: str
    cpu: str = ""


MACHINES = {  # Debian's architecture -> machine
    "armel": Machine("arm", "arm1176"),  # as a Pi Zero: uname says armv6l
    "armhf": Machine("arm", "cortex-a7"),  # as a Pi 2: armv7l
    "s390x": Machine("s390x"),
}


def register(architectures: Sequence[str], prefix: str) -> list[str]:
    """Lets the kernel run programs of these architectures, also in containers; returns the names of its handlers. They
    begin with `prefix`, so that nobody else's are changed."""
    if not architectures:
        return []
    if not (BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "none", str(BINFMT))
    packed, made = debian_host.root_tar(more=("--variant=extract",), packages=("qemu-user",), finish=EMULATORS,
                                        name="emulators"), []
    for emulator in sorted({MACHINES[architecture].emulator for architecture in architectures}):
        name = f"{prefix}-{emulator}"
        with tempfile.TemporaryDirectory() as folder, tarfile.open(packed) as tar:
            # by its name, the emulator knows that the kernel passes on the name by which a program was called
            program = os.path.join(folder, f"{emulator}-binfmt-P")
            for path, inside in ((program, f"qemu-{emulator}"), (f"{folder}/conf", f"binfmt.d/qemu-{emulator}.conf")):
                found = tar.extractfile(f"./keep/{inside}")
                assert found, inside
                Path(path).write_bytes(found.read())
            Path(program).chmod(0o755)
            _, _, kind, offset, magic, mask, _, flags = Path(folder, "conf").read_text().strip().split(":")
            assert "F" in flags, flags  # the kernel keeps the program open; its file may go
            text = ":".join(["", name, kind, offset, magic, mask, program, flags])
            run("tee", str(BINFMT / "register"), stdin=text.encode())
        made.append(name)
    return made


def unregister(names: Sequence[str]) -> None:
    for name in names:
        if (BINFMT / name).exists():
            run("tee", str(BINFMT / name), stdin=b"-1")


def load(dockerd: DockerHost, architecture: str) -> str:
    """Lets a dockerd have its root file system as an image; returns the name."""
    root = debian_host.root_tar(SUITE, architecture, PACKAGES, MMDEBSTRAP, FINISHED)
    return debian_host.load(dockerd, architecture, root)


def options(architecture: str) -> dict[str, Any]:
    """How its container runs: with an init that ends processes whose parent has ended."""
    found = debian_host.options()
    found["environment"] = environment(architecture)
    return {**found, "init": True, "command": ["/bin/sh", "-euc", INIT], "stop_signal": "SIGTERM"}


def environment(architecture: str) -> dict[str, str]:
    cpu = MACHINES[architecture].cpu
    return {"QEMU_CPU": cpu} if cpu else {}


def ssh_settings(architecture: str) -> str:
    """Lines of sshd_config: a session, too, has the processor that the host pretends to have."""
    return "".join(f"SetEnv {name}={value}\n" for name, value in environment(architecture).items())


def runc() -> bytes:
    """A tar with this machine's runc and its libraries."""
    program = shutil.which("runc", path="/usr/local/sbin:/usr/sbin:/usr/bin")
    assert program, "this machine has no runc"
    needed = [program]
    with contextlib.suppress(AssertionError):  # a static one needs nothing, and ldd then fails
        needed += re.findall(r"(/\S+) \(0x", run("ldd", program))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for path in needed:  # /lib is a link there
            name = re.sub(r"^lib/", "usr/lib/", path.lstrip("/")) if path != program else "usr/local/sbin/runc"
            tar.add(path, arcname=name)
    return buffer.getvalue()
