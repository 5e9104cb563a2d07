"""Makes and removes the scenario's host: container.py create|restart|destroy FOLDER, as root. FOLDER holds `key.pub`,
and then `container.json`."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import tarfile
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "collections"), str(PROJECT)]

from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import client_settings  # noqa: E402

from tests.integration.docker_host import DockerHost, run, until  # noqa: E402

NAME = "clean"
PACKAGES = ("dbus", "openssh-server", "python3", "systemd", "systemd-sysv")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
CAPABILITIES = ["NET_ADMIN", "SYS_ADMIN"]  # what buildkitd and systemd need, beside Docker's own


def apt_settings() -> str:
    """How this machine's apt fetches. The container has its network, not its environment."""
    found = {name: value for name, value in client_settings.apt_settings().items() if "Detect" not in name}
    for scheme, proxy in urllib.request.getproxies().items():
        if scheme in ("http", "https"):
            found.setdefault(f"Acquire::{scheme}::Proxy", proxy)
    return "".join(f'{name} "{value}";\n' for name, value in found.items())


def settings(key: str, ssh: int) -> bytes:
    """What is laid into the container before anything is installed there."""
    files = {
        "root/.ssh/authorized_keys": key,
        "etc/ssh/sshd_config.d/scenario.conf": f"ListenAddress 127.0.0.1:{ssh}\n",
        "etc/apt/apt.conf.d/90scenario": apt_settings(),
    }
    for path in [Path("/etc/apt/auth.conf"), *Path("/etc/apt/auth.conf.d").glob("*.conf"), CERTIFICATES]:
        if path.is_file():
            files[str(path.relative_to("/"))] = path.read_text()
    folders = {str(folder) for path in files for folder in Path(path).parents if str(folder) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(folders):
            info = tarfile.TarInfo(path)
            info.type, info.mode = tarfile.DIRTYPE, 0o700 if path.startswith("root") else 0o755
            tar.addfile(info)
        for path, text in files.items():
            info, data = tarfile.TarInfo(path), text.encode()
            info.size, info.mode = len(data), 0o600 if path.startswith("root") or "auth.conf" in path else 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ports(count: int) -> list[int]:
    """Free ones, on loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def bootstrap(folder: Path, key: str, ssh: int) -> Path:
    """Debian 13 as a tar, from the machine's own mirror."""
    (folder / "settings.tar").write_bytes(settings(key, ssh))
    sources = [f"deb [signed-by={KEYRING}] {base} trixie main"
               for base in client_settings.apt_bases(client_settings.DEBIAN)[:1]]
    assert sources, "the sources of this machine's apt name no Debian archive"
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}",
        f"--setup-hook=tar-in {folder}/settings.tar /",
        "trixie", str(folder / "root.tar"), *sources)
    return folder / "root.tar"


def create(folder: Path) -> None:
    ssh, registry = ports(2)
    dockerd = DockerHost.start(outlive=True)
    (folder / "dockerd").write_text(str(dockerd.folder))  # for `destroy`, whatever happens from here on
    root = bootstrap(dockerd.folder, (folder / "key.pub").read_text(), ssh)
    client = dockerd.client()
    client.api.import_image_from_file(str(root), repository=NAME)
    root.unlink()
    unified = Path("/sys/fs/cgroup/unified")  # where cgroup v1 is mounted too
    container = client.containers.create(
        NAME, ["/sbin/init"], name=NAME, network_mode="host", cgroupns="host", cap_add=CAPABILITIES,
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        environment={"container": "docker"}, stop_signal="SIGRTMIN+3",
        tmpfs={"/run": "", "/run/lock": "", "/tmp": "exec"},
        # overlay does not lie on overlay
        volumes=[f"{unified if unified.is_dir() else unified.parent}:/sys/fs/cgroup:rw", "farm:/srv/desimages:rw"],
    )
    (folder / "container.json").write_text(json.dumps({"ssh": ssh, "registry": registry,
                                                       "dockerd": str(dockerd.folder)}))
    container.start()
    wait(dockerd, ssh)


def wait(dockerd: DockerHost, ssh: int) -> None:
    """Until systemd has started all it starts, and sshd answers."""
    container = dockerd.client().containers.get(NAME)
    state = ""

    def started() -> bool:
        nonlocal state
        state = container.exec_run(["systemctl", "is-system-running"]).output.decode().strip()
        return state in ("running", "degraded")

    until("systemd has started", 60, started)
    assert state == "running", container.exec_run(["systemctl", "--failed", "--no-legend"]).output.decode()
    with socket.create_connection(("127.0.0.1", ssh), timeout=10) as connection:
        assert connection.recv(4) == b"SSH-"


def restart(folder: Path) -> None:
    found = json.loads((folder / "container.json").read_text())
    dockerd = DockerHost(Path(found["dockerd"]))
    dockerd.client().containers.get(NAME).restart(timeout=30)
    wait(dockerd, found["ssh"])


def destroy(folder: Path) -> None:
    if (folder / "dockerd").exists():
        DockerHost(Path((folder / "dockerd").read_text())).stop()
        print("removed")
    for name in ("dockerd", "container.json", "key", "key.pub"):
        (folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    os.umask(0o022)
    {"create": create, "restart": restart, "destroy": destroy}[sys.argv[1]](Path(sys.argv[2]))
