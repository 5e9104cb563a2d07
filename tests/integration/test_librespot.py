"""The image librespot, found and asked as Spotify's own programs do. What only Spotify's servers could show, a song, is
not shown."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog

from . import services
from .conftest import Chain, Farm
from .containers import ask, await_health, listening, logs, start
from .docker_host import run, until
from .neighbours import SPEAKER, browse, neighbour
from .services import FOREIGN
from .unpacked import NATIVE

pytestmark = pytest.mark.catalog


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    return services.build(farm, "librespot")


@pytest.fixture(scope="module")
def image(built: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return services.bring_all(docker, built, tmp_path_factory.mktemp("brought"), "librespot")["librespot"]


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_librespot_starts_on_its_platform(built: Chain, scratch: Path, platform: str) -> None:
    services.starts(built, scratch, "librespot", platform, ["/usr/bin/librespot", "--version"], r"^librespot 0\.8\.0")


def test_it_is_found_from_another_host_and_says_who_it_is(docker: Any, image: str) -> None:
    with neighbour(docker, image) as (holder, other):
        speaker = start(docker, image, network=f"container:{holder.id}", environment={
            "LIBRESPOT_NAME": "Kitchen", "LIBRESPOT_ZEROCONF_PORT": "10043"})
        until("it listens", 30, lambda: "10043/tcp" in listening(speaker))
        found = browse(["ip", "netns", "exec", other], "_spotify-connect._tcp.local.", "Kitchen")
        assert (found["addresses"], found["port"]) == ([SPEAKER], 10043)
        assert found["properties"]["CPath"] == "/"
        asked = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
        info = json.loads(run("ip", "netns", "exec", other, sys.executable, "-c", asked,
                              f"http://{SPEAKER}:{found['port']}{found['properties']['CPath']}?action=getInfo"))
        assert (info["status"], info["remoteName"], info["brandDisplayName"]) == (101, "Kitchen", "librespot")
        # no login without the right key: this one is refused, and it lives on
        refused = ask(speaker, 10043, "/?action=addUser")
        assert refused.status in (400, 404, 405) or '"status":101' not in refused.text
        speaker.stop(timeout=20)
        speaker.reload()
        assert speaker.attrs["State"]["ExitCode"] == 0


def test_it_keeps_its_contract(docker: Any, image: str) -> None:
    contract = load_catalog(["desimages.farm"])["librespot"].contract
    with neighbour(docker, image) as (holder, _other):
        container = start(docker, image, network=f"container:{holder.id}", volumes=["librespot-contract:/data"])
        await_health(container)
        until("it listens", 10, lambda: set(contract.ports.values()) <= listening(container))
        info = ask(container, 10042, "/?action=getInfo")
        assert (info.status, json.loads(info.text)["remoteName"]) == (200, "Desimages")
        out, err = logs(container)
        assert any("Using StdoutSink (pipe) with format: S16" in line for line in [*out, *err])
        pipe = Path(docker.volumes.get("librespot-contract").attrs["Mountpoint"]) / "audio"
        mode = int(run("stat", "-c", "%f", str(pipe)), 16)
        assert stat.S_ISFIFO(mode) and stat.S_IMODE(mode) == 0o660
        pid = str(container.attrs["State"]["Pid"])
        run("kill", "-STOP", pid)
        await_health(container, "unhealthy")
        run("kill", "-CONT", pid)
        await_health(container)
        container.stop(timeout=20)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0
