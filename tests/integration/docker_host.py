"""A Docker for tests alone: dockerd with a folder and a socket of its own, that leaves the machine's network as it
is."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docker

ROOT = [] if os.getuid() == 0 else ["sudo"]
CGROUPS = Path("/sys/fs/cgroup")


def run(*words: str, stdin: bytes | None = None) -> str:
    """Runs a program as root and returns its output; a failure shows what it said."""
    done = subprocess.run([*ROOT, *words], input=stdin, capture_output=True, check=False)
    said = done.stdout.decode(errors="replace")
    errors = done.stderr.decode(errors="replace")[-4000:]
    assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}: {said[-2000:]}{errors}"
    return said


def until(what: str, seconds: float, found: Callable[[], bool]) -> None:
    """Asks again and again."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


@dataclass(frozen=True)
class DockerHost:
    """What a started dockerd needs to be found again. The path is short: a unix socket's holds 107 bytes."""

    folder: Path

    @classmethod
    def start(cls, *, outlive: bool = False, apart: bool = False) -> DockerHost:
        """`outlive`: it goes on when this process has ended. `apart`: in a network of its own, so that the ports that
        its containers publish are nobody else's."""
        made = cls(Path(tempfile.mkdtemp(prefix="dockerd-", dir="/var/tmp")))
        made.folder.chmod(0o755)
        words = [
            "dockerd", f"--data-root={made.folder}/data", f"--exec-root={made.folder}/exec",
            f"--pidfile={made.folder}/pid", f"--host={made.address}",
            "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", f"--group={os.getgid()}",
            "--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{made.folder.name}",
            # where the machine runs a containerd, that one is used
            "--containerd-namespace=desimages-test", "--containerd-plugins-namespace=desimages-test-plugins",
        ]
        if apart:
            network = 'ip link set lo up && ip route add 224.0.0.0/4 dev lo && exec "$@"'  # the route: for multicast
            words = ["unshare", "--net", "sh", "-c", network, "sh", *words]
        with made.log.open("w") as log:
            process = subprocess.Popen([*ROOT, *([] if outlive else ["setpriv", "--pdeathsig=TERM"]), *words],
                                       stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=outlive,
                                       env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
        try:
            until("dockerd answers", 60, lambda: process.poll() is not None or made.answers())
            assert process.poll() is None, f"dockerd ended with {process.returncode}"
        except AssertionError as error:
            said = made.log.read_text()[-3000:]
            made.stop()
            raise AssertionError(f"{error}\n{said}") from None
        return made

    @property
    def address(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.address, timeout=300)

    def answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except (docker.errors.DockerException, OSError):
            return False

    def pid(self) -> int:
        """0 where it does not run, or where the number is another process's by now."""
        try:
            pid = int((self.folder / "pid").read_text())
            return pid if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
        except (OSError, ValueError):
            return 0

    def stop(self) -> None:
        """Its containers end with it, and its folder is gone."""
        if pid := self.pid():
            for container in self.client().containers.list(all=True):
                container.remove(force=True, v=True)
            run("kill", f"-{signal.SIGTERM.value}", str(pid))
            until("dockerd ends", 60, lambda: not self.pid())
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{self.folder}/"):
                run("umount", line.split()[4])
        for hierarchy in (CGROUPS, *CGROUPS.iterdir()):  # version 2, version 1
            if (hierarchy / self.folder.name).is_dir():
                run("find", str(hierarchy / self.folder.name), "-depth", "-type", "d", "-delete")
        run("rm", "-rf", str(self.folder))
