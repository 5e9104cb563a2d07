"""The images snapserver and snapclient: what a player writes into the one comes out of the other."""

from __future__ import annotations

import array
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from . import services
from .conftest import Chain, Farm
from .containers import await_health, get, inside, logs, start
from .docker_host import run, until
from .unpacked import NATIVE

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
RATE, SECONDS = 48000, 4
FRAME = 4  # bytes: two samples of 16 bits
WINDOW = RATE // 20 * FRAME  # bytes of 50 ms
CALL = """
import sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:1780/jsonrpc", sys.argv[1].encode())
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    done = farm.run(farm_images=["snapserver", "snapclient"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert done.rc == 0, done.text[-4000:]
    return Chain(farm, (done, done))


@pytest.fixture(scope="module")
def images(built: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Image -> its id in Docker."""
    return services.bring_all(docker, built, tmp_path_factory.mktemp("brought"), "snapserver", "snapclient")


def sweep() -> bytes:
    """A tone that rises from 200 Hz to 3 kHz on the left and falls on the right: no part of it is like another."""
    samples = array.array("h")
    for number in range(RATE * SECONDS):
        second = number / RATE
        rising = 2 * math.pi * (200 * second + 2800 / SECONDS * second**2 / 2)
        falling = 2 * math.pi * (3000 * second - 2800 / SECONDS * second**2 / 2)
        samples.extend((round(12000 * math.sin(rising)), round(12000 * math.sin(falling))))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def call(server: Any, method: str, **parameters: str) -> Any:
    """Calls a method of the server's, over HTTP."""
    asked = {"id": 1, "jsonrpc": "2.0", "method": method, **({"params": parameters} if parameters else {})}
    said = json.loads(inside(server, sys.executable, "-c", CALL, json.dumps(asked)))
    assert "error" not in said, said
    return said["result"]


def clients(server: Any) -> dict[str, Any]:
    """What the server knows of each client."""
    groups = call(server, "Server.GetStatus")["server"]["groups"]
    return {client["id"]: client for group in groups for client in group["clients"]}


def heard(client: Any) -> bytes:
    """What a client has written into /data/heard."""
    (source,) = (mount["Source"] for mount in client.attrs["Mounts"] if mount["Destination"] == "/data")
    run("chmod", "a+rx", str(Path(source).parent.parent), str(Path(source).parent), source)
    return Path(source, "heard").read_bytes()


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
@pytest.mark.parametrize("image", ["snapserver", "snapclient"])
def test_both_start_on_their_platform(built: Chain, scratch: Path, image: str, platform: str) -> None:
    services.starts(built, scratch, image, platform, [f"/usr/bin/{image}", "--version"], rf"^{image} v0\.\d+")


def test_a_tone_through_server_and_client_is_the_same_tone(docker: Any, images: dict[str, str], shared: Path) -> None:
    tone = sweep()
    services.put(shared, {})
    (shared / "tone").write_bytes(tone)
    server = start(docker, images["snapserver"], volumes=["snap-data:/data", "snap-audio:/audio"])
    await_health(server)
    client = start(docker, images["snapclient"], [
        "--host", "127.0.0.1", "--hostID", "kitchen", "--player", "file:filename=/data/heard", "--mixer", "none",
    ], network=f"container:{server.id}", volumes=["snap-heard:/data"])
    until("the client is connected", 60, lambda: clients(server).get("kitchen", {}).get("connected", False))
    assert call(server, "Server.GetStatus")["server"]["streams"][0]["status"] == "idle"

    # a player: another container with the same volume
    player = docker.containers.create(
        images["snapserver"], ["-c", "cat /tone > /audio/default"], entrypoint="sh", read_only=True, cap_drop=["ALL"],
        network_mode="none", volumes=["snap-audio:/audio", f"{shared}/tone:/tone:ro"])
    began = time.monotonic()
    player.start()
    assert player.wait(timeout=60)["StatusCode"] == 0, player.logs()
    assert time.monotonic() - began > SECONDS / 2  # it was taken as fast as it is played
    last = tone[-WINDOW * 20:]
    until("its last second is heard", 60, lambda: any(
        last[at:at + WINDOW] in heard(client) for at in range(0, len(last), WINDOW)))
    client.stop(timeout=20)

    found = [heard(client).find(tone[at:at + WINDOW]) for at in range(0, len(tone), WINDOW)]
    there = [place for place in found if place >= 0]
    assert len(there) > len(found) * 0.7, found  # a sample more or less, to keep in time, spoils a window
    assert there == sorted(there)
    played = (there[-1] - there[0]) / FRAME / RATE
    assert abs(played - SECONDS) < 1, played
    client.reload()
    assert client.attrs["State"]["ExitCode"] == 0
    server.stop(timeout=20)
    out, err = logs(server)
    assert err == []
    assert out


def test_what_a_client_is_called_is_kept(docker: Any, images: dict[str, str]) -> None:
    volumes = ["snap-kept:/data", "snap-kept-audio:/audio"]
    server = start(docker, images["snapserver"], volumes=volumes)
    await_health(server)
    client = start(docker, images["snapclient"], [
        "--host", "127.0.0.1", "--hostID", "attic", "--player", "file:filename=null", "--mixer", "none",
    ], network=f"container:{server.id}")
    until("the client is connected", 60, lambda: clients(server).get("attic", {}).get("connected", False))
    call(server, "Client.SetName", id="attic", name="Under the roof")
    client.stop(timeout=20)
    until("the client has left", 60, lambda: not clients(server)["attic"]["connected"])
    server.stop(timeout=20)
    server.reload()
    assert server.attrs["State"]["ExitCode"] == 0

    again = start(docker, images["snapserver"], volumes=volumes)
    await_health(again)
    assert clients(again)["attic"]["config"]["name"] == "Under the roof"
    status, page = get(again, ":1780/")
    assert status == 200
    assert "Snapweb" in page
    again.stop(timeout=20)


def test_a_client_without_a_server_waits_and_says_so(docker: Any, images: dict[str, str]) -> None:
    client = start(docker, images["snapclient"],
                   ["--host", "127.0.0.1", "--player", "file:filename=null", "--mixer", "none"])
    until("it says that nobody answers", 30, lambda: any("Connection refused" in line for line in logs(client)[0]))
    client.reload()
    assert client.status == "running"
    began = time.monotonic()
    client.stop(timeout=20)
    assert time.monotonic() - began < 10
