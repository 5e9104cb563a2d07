"""A test's host that is a whole virtual machine: an arm64 board with Debian 13's own kernel and systemd, emulated by
qemu-system. Its container holds the emulator alone, so that it is killed and paused as others are. What the board's
kernel runs is found by trial, as on a person's.

In the board's folder `/pi` there is a second host, Debian 12 of armhf: the 32-bit Raspberry Pi OS, which often has a
64-bit kernel. Its sshd listens on port `PI_PORT`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from . import debian_host, emulators, foreign_host
from .docker_host import DockerHost, run

ARCHITECTURES = ("arm64",)
PACKAGES = ("dbus", "initramfs-tools", "iproute2", "linux-image-cloud-arm64", "openssh-server", "python3", "systemd",
            "systemd-sysv", "zstd")
PI_PORT = 2222
SPACE = "14G"  # of its disk; what is not written takes no space
# How the machine is put together: its one cable is a port of the bridge in which the container's is.
INIT = """
until [ -e /sys/class/net/eth0 ]; do usleep 100000; done
/bin/ip tuntap add vm mode tap # busybox has one of its own
/bin/ip link add wire type bridge
for link in eth0 vm; do /bin/ip link set $link master wire up; done
/bin/ip link set wire up
exec qemu-system-aarch64 -M virt -cpu cortex-a72 -accel tcg,thread=multi -smp 2 -m 3072 -nographic -no-reboot \\
    -kernel /vm/kernel -initrd /vm/initrd -append "root=/dev/vda rw net.ifnames=0 console=ttyAMA0" \\
    -drive if=none,id=disk,file=/vm/disk,format=raw,cache=unsafe -device virtio-blk-device,drive=disk \\
    -netdev tap,id=net,ifname=vm,script=no,downscript=no -device virtio-net-device,netdev=net,mac=$MAC \\
    -device virtio-rng-device
"""
NETWORK = "[Match]\nType=ether\n[Network]\nAddress={address}/24\n"
PI = f"""
[Unit]
After=network.target
[Service]
RootDirectory=/pi
MountAPIVFS=yes
ExecStart=/bin/sh -euc "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -p {PI_PORT}"
[Install]
WantedBy=multi-user.target
"""
WANTED = {"pi.service": "/etc/systemd/system", "systemd-networkd.service": "/usr/lib/systemd/system"}


def load(dockerd: DockerHost, name: str, prefix: str) -> None:
    """Lets a dockerd have the emulator as an image, and makes this machine's copy of the board's root file system.
    `prefix`: see emulators.register."""
    tar = debian_host.root_tar(
        packages=("busybox-static", "iproute2", "qemu-system-arm"), name="machine",
        more=("--variant=extract", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"))
    debian_host.load(dockerd, name, tar)
    handlers = emulators.register([name], prefix)
    try:
        _root(name)
    finally:
        emulators.unregister(handlers)


def _root(architecture: str) -> Path:
    return debian_host.root_tar(architecture=architecture, packages=PACKAGES,
                                more=("--variant=minbase", "--skip=check/qemu"))


def options(folder: Path, number: int) -> dict[str, Any]:
    """How its container runs. `folder`: what `make` made."""
    return {"command": ["/usr/bin/busybox", "sh", "-euc", INIT], "cap_add": ["NET_ADMIN"], "volumes": [f"{folder}:/vm"],
            "devices": ["/dev/net/tun"], "environment": {"MAC": f"52:54:00:00:00:{number:02x}"}}


def make(folder: Path, architecture: str, name: str, addresses: dict[str, str], files: dict[str, str]) -> None:
    """Makes `folder` with its disk, kernel and initrd. `files` (path -> content) are in both roots, and both have the
    same host key: to make keys takes the emulator minutes."""
    known = "".join(f"{address} {host}\n" for host, address in addresses.items())
    files = {**files, debian_host.MAKES_KEYS: "", "etc/hosts": f"127.0.0.1 localhost\n{known}",
             "etc/hostname": f"{name}\n", "etc/systemd/system/pi.service": PI,
             "etc/systemd/network/10-test.network": NETWORK.format(address=addresses[name])}
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{made}/key")
        for end in ("", ".pub"):
            files[f"{foreign_host.KEY}{end}".lstrip("/")] = run("cat", f"{made}/key{end}")
        (Path(made) / "files").write_bytes(debian_host.archive(files))
        for root, tar in (("root", _root(architecture)), ("root/pi", foreign_host.root_tar("armhf"))):
            run("mkdir", f"{made}/{root}")
            for packed in (tar, f"{made}/files"):
                run("tar", "--extract", "--numeric-owner", f"--file={packed}", f"--directory={made}/{root}")
            run("chmod", "600", f"{made}/{root}{foreign_host.KEY}")
        for unit, place in WANTED.items():
            run("ln", "-sf", f"{place}/{unit}", f"{made}/root/etc/systemd/system/multi-user.target.wants/{unit}")
        run("sh", "-euc", 'cp "$1"/root/boot/vmlinuz-* "$2/kernel"; cp "$1"/root/boot/initrd.img-* "$2/initrd"', "sh",
            made, str(folder))
        run("mke2fs", "-q", "-t", "ext4", "-d", f"{made}/root", str(folder / "disk"), SPACE)
        run("rm", "-rf", f"{made}/root")
