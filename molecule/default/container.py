"""Makes and removes the scenario's host: container.py create|restart|destroy FOLDER, as root. FOLDER holds `key.pub`,
and then `container.json`."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "collections"), str(PROJECT)]

from tests.integration import debian_host  # noqa: E402
from tests.integration.docker_host import DockerHost  # noqa: E402

NAME = "clean"


def ports(count: int) -> list[int]:
    """Free ones, on loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def create(folder: Path) -> None:
    ssh, registry = ports(2)
    dockerd = DockerHost.start(outlive=True)
    (folder / "dockerd").write_text(str(dockerd.folder))  # for `destroy`, whatever happens from here on
    options = debian_host.options()
    options["volumes"].append("farm:/srv/desimages:rw")  # overlay does not lie on overlay
    container = dockerd.client().containers.create(debian_host.load(dockerd, NAME), ["/sbin/init"], name=NAME,
                                                   network_mode="host", **options)
    key = (folder / "key.pub").read_text()
    container.put_archive("/", debian_host.archive({
        **debian_host.apt_files(), **debian_host.ssh_files(key, f"ListenAddress 127.0.0.1:{ssh}\n")}))
    (folder / "container.json").write_text(json.dumps({"ssh": ssh, "registry": registry,
                                                       "dockerd": str(dockerd.folder)}))
    container.start()
    wait(dockerd, ssh)


def wait(dockerd: DockerHost, ssh: int) -> None:
    """Until systemd has started all it starts, and sshd answers."""
    debian_host.started(dockerd.client().containers.get(NAME))
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
