"""A farm of several hosts builds what one machine builds, and two controllers may share it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import PROJECT, REGISTRY, STATE, Farm, children
from .rack import ALL, Rack, built, digests
from .small import Small

# The package that has the usual collections; a connection through Docker is in one of them.
COLLECTIONS = "ansible==14.5.0 --hash=sha256:245623ccc2d31d0f6f4bdb63168d550cad305fb032cc43d96e8f61ce8ab0ba84\n"


def test_two_nodes_build_what_one_machine_builds(rack: Rack, farm: Farm, small: Small) -> None:
    own = rack.farm.on(small.root, farm_namespace="same")
    found = rack.summary(own.run())
    assert built(found) == ALL
    assert set(found["nodes"]) == {"one", "two"}
    here = farm.on(small.root, farm_namespace="same").run()
    assert here.rc == 0, here.text[-4000:]
    assert digests(found) == {unit["unit"]: unit["digest"] for unit in here.task("Index")["units"]}
    again = own.run()
    assert (again.rc, again.changed) == (0, 0), again.text[-4000:]


@pytest.mark.full
@pytest.mark.faults
def test_a_second_controller_waits_for_the_nodes_and_cancels_nothing(rack: Rack, small: Small, tmp_path: Path) -> None:
    place = rack.farm.place["farm_controller_state"]
    own = rack.slow(small, "two-controllers")
    second = own.on(small.root, farm_namespace="second", farm_secrets=f"{place}/secrets",
                    farm_controller_state=str(tmp_path / "second"))
    with rack.while_one_builds(own) as (going, _host):
        other = second.run()
        rack.same(going.result())
    assert other.rc == 0, other.text[-4000:]
    assert other.built == ALL
    assert "works for another controller" in other.text


@pytest.mark.full
def test_a_limit_says_who_builds_and_a_run_without_nodes_ends_well_if_all_is_there(rack: Rack, small: Small,
                                                                                   tmp_path: Path) -> None:
    """The controller is in no limit here. The registry's host is used as it is unless it is in the limit."""
    own = rack.farm.on(small.root, farm_namespace="limit")
    found = rack.summary(own.run("build.yml", "--limit one"))
    assert (built(found), set(found["nodes"])) == (ALL, {"one"})
    small.edit("other/other.txt", "other", "changed")
    nobody = own.run("build.yml", "--limit registry")
    assert nobody.rc == 2 and "no host of this run is a node" in nobody.text, nobody.text[-4000:]
    for node in rack.nodes:
        node.kill()
    try:
        lost = own.run()
        assert lost.rc == 2 and "no node could build: one: " in lost.text, lost.text[-4000:]
        there = own.run("build.yml", farm_images=["box"])
        assert (there.rc, there.changed) == (0, 0), there.text[-4000:]
        assert {name: bool(share["out"]) for name, share in rack.summary(there)["nodes"].items()} == {
            "one": True, "two": True}
        look = own.run("playbooks/status.yml", farm_status_json=str(tmp_path / "status.json"))
    finally:
        for node in rack.nodes:
            node.start()
    assert look.rc == 0, look.text[-4000:]
    shown = json.loads((tmp_path / "status.json").read_text())
    assert {host["host"]: host["state"] for host in shown["hosts"]} == {"one": "away", "two": "away",
                                                                        "registry": "there"}
    assert "one is away: " in look.text and shown["hosts"][0]["last_run"]["units"] == 12
    assert 390 < shown["registry"]["certificate_days"] == shown["hosts"][2]["certificate_days"]


@pytest.mark.full
def test_a_node_is_reached_through_docker(
        rack: Rack, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text(COLLECTIONS)
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python",
                    "--require-hashes", f"--requirement={tmp_path}/requirements.txt", f"--dest={tmp_path}"], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path, [name for name in wheel.namelist()
                                    if name.startswith("ansible_collections/community/") and "/docs/" not in name
                                    and name.split("/")[2] in ("docker", "library_inventory_filtering_v1")])
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", f"{PROJECT}/collections:{tmp_path}")
    known = yaml.safe_load(rack.fleet.inventory.read_text())
    known["all"]["hosts"]["two"] = {"ansible_connection": "community.docker.docker", "ansible_user": "root",
                                    "ansible_docker_extra_args": f"--host={rack['two'].dockerd.address}"}
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/hosts.yml").write_text(yaml.safe_dump(known))
    own = Farm(rack.farm.folder, {}, tmp_path / "inventory", rack.farm.place).on(small.root, farm_namespace="docker")
    provisioned = own.run("playbooks/provision.yml")
    assert (provisioned.rc, provisioned.changed) == (0, 0), provisioned.text[-4000:]
    assert built(rack.summary(own.run("build.yml", "--limit two"))) == ALL
    assert set(rack.summary(own.run("build.yml", farm_images=["box"], farm_rebuild=True))["nodes"]) == {"one", "two"}


@pytest.mark.full
def test_what_is_damaged_is_built_again_by_a_node_that_is_there(rack: Rack, small: Small, tmp_path: Path) -> None:
    """Here the controller is none. An input unpacked for a build platform that no node has now is put back too."""
    own = rack.farm.on(small.root, farm_namespace="repair")
    assert own.run().rc == 0
    places = "/var/lib/desimages/registry/docker/registry/v2/blobs/sha256"
    layers = {layer["digest"] for layer in manifest(rack, "repair/box")["layers"]}
    for digest in layers:
        rack["registry"].run("sh", "-c", f"echo damaged > {places}/{digest[7:9]}/{digest[7:]}/data")
    rack["two"].kill()
    try:
        told = own.run("playbooks/check.yml", "--limit one")
        assert told.rc == 2, told.text[-4000:]
        mended = own.run("playbooks/check.yml", farm_repair=True)
        assert mended.rc == 0, mended.text[-4000:]
    finally:
        rack["two"].start()
    assert own.run("playbooks/check.yml").rc == 0
    laid = own.run("playbooks/context.yml", "--limit two", image="child", to=str(tmp_path / "to"))
    assert laid.rc == 0 and (tmp_path / "to/child-arm64/buildctl.sh").exists(), laid.text[-4000:]
    wrong = own.run("playbooks/context.yml", image="child", to=str(tmp_path / "to"), build_platform="linux/s390x")
    assert wrong.rc == 2 and "child is not built on 'linux/s390x'; it is built on linux/amd64" in wrong.text


def manifest(rack: Rack, image: str) -> dict[str, Any]:
    """The manifest of an image for amd64."""
    digest = children(rack.registry().manifest(image, "latest"))["linux/amd64"]
    return dict(json.loads(rack.registry().manifest(image, digest)))


@pytest.mark.full
def test_what_one_machine_built_moves_to_the_fleet_and_nothing_is_built_again(
        rack: Rack, farm: Farm, small: Small) -> None:
    here, fleet = (each.on(small.root, farm_namespace="moved") for each in (farm, rack.farm))
    assert here.run().rc == 0
    assert rack.farm.on(small.root, farm_namespace="earlier").run(farm_images=["box"]).rc == 0
    old = {"farm_from": REGISTRY, "farm_from_state": str(STATE)}
    refused = fleet.run("playbooks/move.yml", **old)  # the fleet has built before, and so has a key of its own
    key = (STATE / "secrets/signing-key.pub").read_text().splitlines()[0]
    assert refused.rc == 2 and f"add {key} to farm_trusted_keys" in refused.text, refused.text[-4000:]
    fleet = fleet.on(small.root, farm_trusted_keys=[key])
    moved = fleet.run("playbooks/move.yml", **old)
    assert moved.rc == 0, moved.text[-4000:]
    found = moved.task("Copy what the old registry has")
    assert found["copied"] > 20 and found["present"] == 0 and found["kept"] == []
    then = fleet.run()
    assert (then.rc, then.changed) == (0, 0), then.text[-4000:]
    new = rack.registry()
    for image in ("box", "child"):  # as after a build of the fleet's own, and after a move that was stopped
        latest = new.digest(f"moved/{image}", "latest")
        assert latest
        new.delete_manifest(f"moved/{image}", latest[0])
    new.tag("moved/box", new.digest("moved/box", new.tags("moved/box")[0])[0], "latest")  # type: ignore[index]
    again = fleet.run("playbooks/move.yml", **old).task("Copy what the old registry has")
    assert again["kept"] == ["moved/box:latest"]
    assert again["changed"] and again["copied"] + again["present"] + 1 == found["copied"]
    assert not fleet.run("playbooks/move.yml", "--check", **old).task("Copy what the old registry has")["changed"]
