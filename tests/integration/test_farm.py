"""The farm as a thing that runs on a host: shown, stopped, started again; with emulators where a node asks for them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc
from ansible_collections.desimages.farm.plugins.module_utils.supervision import PATH
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import REGISTRY, STATE, Chain, Farm
from .docker_host import run
from .small import PLATFORMS
from .unpacked import NATIVE, Unpacked

HANDLERS = Path("/proc/sys/fs/binfmt_misc")
FOREIGN = "linux/s390x" if NATIVE == "linux/amd64" else "linux/amd64"
HANDLER = {"linux/s390x": "qemu-s390x", "linux/amd64": "qemu-x86_64"}[FOREIGN]


def log_is_there(log: str) -> bool:
    """A folder, or where systemd keeps it the command that shows it."""
    words = log.split()
    return bool(run(*words, "--lines=1").strip()) if words[0] == "journalctl" else Path(log).exists()


def status(farm: Farm, folder: Path) -> dict[str, Any]:
    """What `playbooks/status.yml` says of this machine."""
    (folder / "status.json").unlink(missing_ok=True)
    done = farm.run("playbooks/status.yml", farm_status_json=str(folder / "status.json"))
    assert (done.rc, done.changed) == (0, 0), done.text[-3000:]
    found = json.loads((folder / "status.json").read_text())
    (host,) = found["hosts"]
    assert host["host"] in done.text and host["engine"][7:19] in done.text
    return {**host, **found["registry"]}


def test_a_stopped_farm_is_shown_so_and_runs_again_with_the_next_build(own: Farm, tmp_path: Path) -> None:
    assert own.run().rc == 0
    before = status(own, tmp_path)
    assert {service["service"]: service["state"] for service in before["services"]} == {"buildkitd": "runs",
                                                                                        "registry": "runs"}
    assert all(service["version"] and log_is_there(service["log"]) for service in before["services"])
    assert {part["part"] for part in before["disk"]} >= {"registry", "buildkit", "store", "(all)", "(free)"}
    assert (before["groups"], before["state"]) == (["nodes", "registries"], "there")
    assert before["native"][0] == "linux/amd64" and before["runc"] and before["buildkit"] and before["cores"]
    assert before["free"] > before["cache"] > 0 and before["certificate_days"] is None
    assert set(before["last_run"]["images"]) == {"box", "child", "grand", "other"}
    shown = {(row["image"].rpartition("/")[2], row["platform"]) for row in before["images"]}
    assert shown == {(image, platform) for image in ("box", "child", "grand", "other") for platform in PLATFORMS}

    assert own.run("playbooks/stop.yml", "--check").changed == 2
    assert status(own, tmp_path)["services"][0]["state"] == "runs"
    assert own.run("playbooks/stop.yml").changed == 2
    stopped = status(own, tmp_path)
    assert {service["state"] for service in stopped["services"]} == {"stopped"}
    assert "cannot be reached" in stopped["problems"][0]
    assert own.run("playbooks/stop.yml").changed == 0

    again = own.run()
    assert (again.rc, again.states()) == (0, {}), again.text[-3000:]
    after = status(own, tmp_path)
    assert {service["state"] for service in after["services"]} == {"runs"}
    assert after["images"] == before["images"]


@pytest.mark.full
def test_a_runc_that_is_gone_is_noticed_and_another_one_is_found(own: Farm, tmp_path: Path) -> None:
    def at(path: str) -> bool:
        return f'binary = "{path}"' in run("cat", str(STATE / "etc/buildkitd.toml"))

    found, copied = str(shutil.which("runc", path=PATH)), tmp_path / "runc"
    shutil.copy(found, copied)
    first = own.run(farm_images=["other"], buildkitd_runc=str(copied))
    assert first.rc == 0, first.text[-3000:]
    assert at(str(copied))
    shutil.copy(found, tmp_path / "newer")
    (tmp_path / "newer").rename(copied)
    assert own.run(farm_images=["other"], buildkitd_runc=str(copied)).changed == 0, "its owner upgraded it"
    copied.unlink()
    gone = own.run(farm_images=["other"], buildkitd_runc=str(copied))
    assert gone.rc != 0
    assert gone.task("Roles | Show why")["msg"] == [f"{copied}, which buildkitd runs, is missing or not executable"]
    said = gone.task("Preflight | Look for runc")["msg"]
    assert f"cannot use the runc in buildkitd_runc: {copied} cannot be run" in said
    again = own.run(farm_images=["other"])
    assert again.rc == 0, again.text[-3000:]
    assert at(found)
    assert own.run(farm_images=["other"]).changed == 0


@pytest.fixture
def stranger() -> Iterator[tuple[int, str]]:
    """A process that is none of the farm's, and the address on which it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(["sleep", "600"], pass_fds=[listener.fileno()])
    yield process.pid, address
    process.kill()
    process.wait()


def test_buildkit_has_sockets_in_its_state_folder_alone(farm: Farm) -> None:
    """Two farms on one machine, and the machine's own BuildKit, do not take each other's."""
    (pid,) = [pid for pid in Proc().pids() if Proc().command(pid).startswith(f"{STATE}/bin/buildkitd ")]
    own = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    listens = {line[7] for line in lines if len(line) > 7 and f"socket:[{line[6]}]" in own}
    assert listens == {f"{STATE}/buildkitd.sock", f"{STATE}/otel.sock"}


def test_a_registry_is_not_started_on_a_port_that_a_stranger_holds(farm: Farm, stranger: tuple[int, str]) -> None:
    pid, address = stranger
    files = [STATE / "etc/registry.yml", STATE / "services/registry/service.json"]
    before = [run("cat", str(path)) for path in files]
    done = farm.run("playbooks/provision.yml", registry_address=address)
    assert done.rc != 0
    said = done.task("Run | Run the registry")["msg"]
    assert f"registry cannot start: port {address} is in use by process {pid}: sleep 600" in said
    assert [run("cat", str(path)) for path in files] == before
    assert Registry(REGISTRY).answers(), "the one that there is goes on"


@pytest.fixture
def emulated(farm: Farm) -> Iterator[Farm]:
    """The farm, whose kernel has afterwards the handlers that it had."""
    before = {path.name for path in HANDLERS.glob("qemu-*")}
    yield farm
    for path in HANDLERS.glob("qemu-*"):
        if path.name not in before:
            run("sh", "-c", f"echo -1 > {path}")
    assert farm.run("playbooks/provision.yml").rc == 0


@pytest.mark.full
def test_a_node_that_asks_for_it_runs_foreign_programs(emulated: Farm, chain: Chain, scratch: Path) -> None:
    debian = Unpacked.of(chain, "debian", FOREIGN, scratch)
    words = ("chroot", str(debian.root), "/usr/bin/dpkg", "--print-architecture")
    if not (HANDLERS / HANDLER).exists():
        with pytest.raises(AssertionError, match="ended with"):
            run(*words)
    first = emulated.run("playbooks/provision.yml", binfmt_platforms=[FOREIGN])
    assert first.rc == 0, first.text[-3000:]
    assert run(*words).strip() == FOREIGN.rpartition("/")[2]
    assert emulated.run("playbooks/provision.yml", binfmt_platforms=[FOREIGN]).changed == 0
