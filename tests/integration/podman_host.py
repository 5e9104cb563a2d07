"""A Podman for tests alone: Debian 13's, in a root of its own on this machine, without systemd."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import docker

from . import debian_host
from .docker_host import CGROUPS, ROOT, run, until

PACKAGES = ("ca-certificates", "catatonit", "crun", "podman")
# This machine may have no controllers in cgroup v2, which crun wants for any limit.
SETTINGS = "[containers]\npids_limit = 0\n"
# In a mount namespace of its own, with that root for its root: crun enters containers by their mount namespaces.
START = """set -eu
mount --make-rprivate /
mount --bind root root
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mount --bind "$1" root/sys/fs/cgroup
mount --rbind /dev root/dev
mkdir -p data root/var/lib/containers root/old
mount --bind data root/var/lib/containers
cd root
pivot_root . old
umount -l /old
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    podman --cgroup-manager=cgroupfs system service --time=0 unix:///podman.sock
"""


@dataclass(frozen=True)
class PodmanHost:
    """`folder` is short: a unix socket's path holds 107 bytes."""

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls) -> PodmanHost:
        tar = debian_host.root_tar(packages=PACKAGES, name="podman")
        folder = Path(tempfile.mkdtemp(prefix="podman-", dir="/var/tmp"))
        folder.chmod(0o755)
        run("mkdir", f"{folder}/root")
        run("tar", "--extract", f"--file={tar}", f"--directory={folder}/root")
        run("sh", "-c", f"mkdir -p {folder}/root/etc/containers; cat > {folder}/root/etc/containers/containers.conf",
            stdin=SETTINGS.encode())
        unified = CGROUPS / "unified"
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*ROOT, "unshare", "--mount", "sh", "-c", START, "sh", str(unified if unified.is_dir() else CGROUPS)],
                cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        made = cls(folder, process)
        try:
            until("Podman answers", 60, lambda: process.poll() is not None or made.answers())
            assert process.poll() is None, f"it ended with {process.returncode}"
        except AssertionError as error:
            said = (folder / "log").read_text()[-3000:]
            made.stop()
            raise AssertionError(f"{error}\n{said}") from None
        return made

    @property
    def socket(self) -> str:
        return f"{self.folder}/root/podman.sock"

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=f"unix://{self.socket}", timeout=300)

    def answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except (docker.errors.DockerException, OSError):
            return False

    def stop(self) -> None:
        """Its containers and its folder are gone."""
        if self.process.poll() is None:
            for container in self.client().containers.list(all=True):
                container.remove(force=True, v=True)
            run("kill", f"-{signal.SIGTERM.value}", "--", f"-{os.getpgid(self.process.pid)}")
            self.process.wait(60)
        deadline = time.monotonic() + 20  # its mounts go with the last process in their namespace
        while subprocess.run([*ROOT, "rm", "-rf", str(self.folder)], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, f"{self.folder} stays"
            time.sleep(0.5)
