"""Images in the hands of Docker: brought there, run as their contract says, and asked from within their network, where
nobody else is."""

from __future__ import annotations

import json
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .conftest import sh
from .docker_host import run, until

SECOND = 10**9  # as Docker counts
CLIENT = """
import http.client, json, socket, ssl, sys
asked = json.loads(sys.argv[1])
try:
    stream, tls = socket.create_connection(("127.0.0.1", asked["port"]), 10), ""
    if asked["ca"]:
        context = ssl.create_default_context(cafile=asked["ca"])
        context.maximum_version = ssl.TLSVersion[asked["newest"]]
        stream = context.wrap_socket(stream, server_hostname=asked["host"])
        tls = stream.version()
    client = http.client.HTTPConnection(asked["host"])
    client.sock = stream
    client.request("GET", asked["path"], headers=asked["headers"])
    got = client.getresponse()
    print(json.dumps({"status": got.status, "headers": {name.lower(): value for name, value in got.getheaders()},
                      "text": got.read().decode(errors="replace"), "tls": tls}))
except OSError as error:
    print(json.dumps({"error": str(error)}))
"""


@dataclass(frozen=True)
class Answer:
    """What a server said; `error` is set where it said nothing."""

    status: int = 0
    headers: dict[str, str] | None = None
    text: str = ""
    tls: str = ""
    error: str = ""


def bring(docker: Any, reference: str, folder: Path) -> str:
    """Gives Docker an image, and returns its id: the digest of its configuration."""
    if int(docker.version()["Version"].partition(".")[0]) >= 23:
        return str(docker.images.pull(reference).id)
    # Debian 12's Docker reads zstd neither from a registry nor from a file.
    sh("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}", f"dir:{folder}/pulled")
    manifest = json.loads((folder / "pulled/manifest.json").read_text())
    names = [part["digest"].removeprefix("sha256:") for part in (manifest["config"], *manifest["layers"])]
    for name in names[1:]:
        sh("zstd", "-q", "-d", f"{folder}/pulled/{name}", "-o", f"{folder}/pulled/{name}.tar")
    (folder / "pulled/manifest.json").write_text(json.dumps([{"Config": names[0], "RepoTags": None,
                                                              "Layers": [f"{name}.tar" for name in names[1:]]}]))
    with tarfile.open(folder / "image.tar", "w") as tar:
        tar.add(folder / "pulled", ".")
    with (folder / "image.tar").open("rb") as file:
        (image,) = docker.images.load(file)
    assert image.id == f"sha256:{names[0]}"
    return str(image.id)


def start(docker: Any, image: str, command: list[str] | None = None, *, network: str = "none", **options: Any) -> Any:
    """A container that may do no more than its contract says. Its health is asked each second."""
    container = docker.containers.create(
        image, command, read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"], network_mode=network,
        healthcheck={"interval": SECOND, "timeout": 3 * SECOND, "start_period": SECOND, "retries": 1}, **options)
    container.start()
    container.reload()
    return container


def await_health(container: Any, wanted: str = "healthy") -> None:
    def found() -> bool:
        container.reload()
        assert container.status == "running", container.logs().decode()
        return bool(container.attrs["State"]["Health"]["Status"] == wanted)

    until(f"the container is {wanted}", 60, found)


def logs(container: Any) -> tuple[list[str], list[str]]:
    """The lines on stdout, and those on stderr."""
    out, err = (container.logs(**{name: True, other: False}).decode().splitlines()
                for name, other in (("stdout", "stderr"), ("stderr", "stdout")))
    return out, err


def requests(container: Any, port: int) -> list[dict[str, Any]]:
    """What a server with one worker, which logs requests as JSON, has logged of all that was asked before. It logs a
    request only when it has answered, so a client may be done before the line is there."""
    mark = f"/mark{time.monotonic_ns()}"
    ask(container, port, mark)
    until("the last request is logged", 30, lambda: any(mark in line for line in logs(container)[0]))
    return [json.loads(line) for line in logs(container)[0] if mark not in line]


def await_line(container: Any, text: str) -> None:
    """Waits for a text in a line of the log on stdout of a container that runs."""
    until(f"the log says {text!r}", 30, lambda: any(text in line for line in logs(container)[0]))


def within(container: Any, *words: str) -> list[str]:
    """The words that run a program of this machine in the container's network."""
    return ["nsenter", f"--net=/proc/{container.attrs['State']['Pid']}/ns/net", *words]


def inside(container: Any, *words: str) -> str:
    """Runs a program of this machine in the container's network, where nobody else is."""
    return run(*within(container, *words))


def ask(container: Any, port: int, path: str = "/", *, host: str = "localhost", ca: Path | None = None,
        newest: str = "TLSv1_3", headers: dict[str, str] | None = None) -> Answer:
    """What a server says to a GET; with a `ca`, over TLS."""
    asked = {"port": port, "path": path, "host": host, "ca": str(ca or ""), "newest": newest, "headers": headers or {}}
    return Answer(**json.loads(inside(container, sys.executable, "-c", CLIENT, json.dumps(asked))))


def get(container: Any, url: str) -> tuple[int, str]:
    """Status and text of a http URL with a port."""
    port, _slash, path = url.rpartition(":")[2].partition("/")
    answer = ask(container, int(port), f"/{path}")
    assert not answer.error, answer.error
    return answer.status, answer.text


def listening(container: Any) -> set[str]:
    """Where somebody listens in the container's network, by port and protocol: `5000/tcp`, or with the address where it
    is loopback's, `127.0.0.1:10000/tcp`. https://docs.kernel.org/networking/proc_net_tcp.html"""
    found = set()
    for protocol, state in (("tcp", "0A"), ("udp", "07")):
        for version in ("", "6"):
            table = Path(f"/proc/{container.attrs['State']['Pid']}/net/{protocol}{version}").read_text()
            for line in table.splitlines()[1:]:
                _number, local, _remote, status = line.split()[:4]
                address, port = local.split(":")
                if status == state:
                    front = "127.0.0.1:" if address == "0100007F" else ""
                    found.add(f"{front}{int(port, 16)}/{protocol}")
    return found
