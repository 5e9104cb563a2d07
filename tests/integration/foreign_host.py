"""A test's host of another architecture, without a virtual machine: Debian 12 without systemd, whose programs run under
qemu-user. The kernel and runc are this machine's: runc cannot start under an emulator, so it is copied into the host's
tree with the libraries that it needs. Its packages are extracted, and what their scripts would have made is made by
hand: to run these scripts under an emulator takes many minutes.

Such a host calls itself what it stands for (`uname -m`), and its BuildKit is compiled for it. But the kernel runs this
machine's programs there too, so its inventory says `farm_native`.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from . import debian_host
from .docker_host import DockerHost, run

SUITE = "bookworm"  # mirrors have all of it, also of armel, which ends with trixie
PACKAGES = ("apt", "iproute2", "mount", "openssh-server", "passwd", "python3", "runit", "usr-is-merged")
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

CPUS = {  # Debian's architecture -> the processor that the emulator pretends to have; '' is its usual one
    "armel": "arm1176",  # as a Pi Zero: uname says armv6l
    "armhf": "cortex-a7",  # as a Pi 2: armv7l
    "s390x": "",
}


def load(dockerd: DockerHost, architecture: str) -> str:
    """Lets a dockerd have its root file system as an image; returns the name."""
    return debian_host.load(dockerd, architecture, root_tar(architecture))


def root_tar(architecture: str) -> Path:
    return debian_host.root_tar(SUITE, architecture, PACKAGES, MMDEBSTRAP, FINISHED)


def options(architecture: str) -> dict[str, Any]:
    """How its container runs: with an init that ends processes whose parent has ended."""
    found = debian_host.options()
    found["environment"] = environment(architecture)
    return {**found, "init": True, "command": ["/bin/sh", "-euc", INIT], "stop_signal": "SIGTERM"}


def environment(architecture: str) -> dict[str, str]:
    cpu = CPUS.get(architecture)
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
