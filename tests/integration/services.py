"""Images of services, used as people use them: what the tests of each share."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates

from .conftest import PROJECT, Chain, Farm
from .containers import await_health, bring, get, listening, logs, start
from .docker_host import run
from .unpacked import EMULATORS, NATIVE, Unpacked

FOREIGN = "linux/arm/v6"
PASSWORD = "correct horse"


def build(farm: Farm, *names: str) -> Chain:
    """The images, built for this machine and for the smallest one."""
    done = farm.run(farm_images=list(names), farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert done.rc == 0, done.text[-4000:]
    return Chain(farm, (done, done))


def bring_all(docker: Any, built: Chain, folder: Path, *names: str) -> dict[str, str]:
    """Image -> its id in Docker."""
    for name in names:
        (folder / name).mkdir()
    return {name: bring(docker, built.reference(name, NATIVE), folder / name) for name in names}


def put(folder: Path, files: dict[str, str]) -> None:
    """Writes files that user 2000 can read."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run("chmod", "-R", "a+rX", str(folder))


def authority(folder: Path, *names: str) -> tuple[certificates.Pair, Path]:
    """A certificate for names, and the file of the CA that signed it."""
    now = datetime.now(timezone.utc)
    ca = certificates.new_authority(now, "test")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_text(ca.pem)
    return certificates.new_server(ca, names, now), folder / "ca.pem"


def example(image: str, word: str) -> str:
    """The fenced block on an image's page that has no language, and a word."""
    parts = re.split(r"^```(.*)\n", (PROJECT / "images" / image / "README.md").read_text(), flags=re.M)
    (found,) = (text for language, text in zip(parts[1::4], parts[2::4]) if not language and word in text)
    return found


def starts(built: Chain, scratch: Path, image: str, platform: str, words: list[str], says: str) -> None:
    """An image's program runs on a platform."""
    assert platform in EMULATORS
    assert re.search(says, Unpacked.of(built, image, platform, scratch).run(platform, *words, user=2000), re.M)


def keeps_its_contract(docker: Any, image: str, found: str) -> None:
    """A service of one Go program; `found` is its id in Docker."""
    contract = load_catalog(["desimages.farm"])[image].contract
    container = start(docker, found, list(contract.command), volumes=[f"{image}-contract:/data"],
                      dns=["127.0.0.1"])
    await_health(container)
    pid = container.attrs["State"]["Pid"]
    process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
    assert process["Uid"].split() == ["2000"] * 4
    assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    assert len(container.top()["Processes"]) == 1
    there = listening(container)
    assert set(contract.ports.values()) <= there
    # what is not promised is for the container itself
    assert {place for place in there - set(contract.ports.values()) if not place.startswith("127.0.0.1:")} == set()
    status, metrics = get(container, contract.metrics)
    assert status == 200
    assert re.search(r"^go_goroutines \d", metrics, re.M)

    run("kill", "-STOP", str(pid))
    await_health(container, "unhealthy")
    run("kill", "-CONT", str(pid))
    await_health(container)

    began = time.monotonic()
    container.stop(timeout=20)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    out, err = logs(container)
    assert err == []
    assert out
