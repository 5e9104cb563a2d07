"""Damage in the registry: found, told whose it is, and mended to the same digests."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import REGISTRY, STATE, Farm
from .docker_host import run
from .small import Small, units
from .test_faults import _forget

STORAGE = STATE / "registry/docker/registry/v2"


def data(digest: str) -> Path:
    return STORAGE / "blobs/sha256" / digest[7:9] / digest[7:] / "data"


def change(digest: str) -> None:
    """Other bytes of the same number, as a bad disk gives them."""
    run("sh", "-c", f"printf '\\377' | dd of={data(digest)} bs=1 seek=0 conv=notrunc status=none")


def flat(text: str) -> str:
    """Without the line breaks of Ansible's warnings."""
    return re.sub(r"\s+", " ", text)


def lose(digest: str) -> None:
    run("rm", str(data(digest)))


class Held:
    """What the registry has of a farm's namespace."""

    def __init__(self, farm: Farm) -> None:
        self.registry, self.namespace = Registry(REGISTRY, pauses=()), farm.defaults["farm_namespace"]

    def manifest(self, repository: str, name: str) -> dict[str, Any]:
        found = self.registry.manifest(f"{self.namespace}/{repository}", name)
        assert found
        return dict(json.loads(found))

    def layer(self, repository: str, digest: str) -> str:
        """The digest of the last layer of an image: the one that it brought."""
        return str(self.manifest(repository, digest)["layers"][-1]["digest"])

    def tags(self, repository: str) -> list[str]:
        return self.registry.tags(f"{self.namespace}/{repository}")

    def digest(self, repository: str, name: str) -> str:
        found = self.registry.digest(f"{self.namespace}/{repository}", name)
        assert found
        return found[0]

    def artifact(self, unit: str) -> str:
        """The tag of a unit's artifact."""
        tags = [tag for tag in self.tags("archive") if tag.startswith("a-")]
        return next(tag for tag in tags if self.manifest("archive", tag)["annotations"][oci.TITLE] == unit)


def test_what_a_healthy_registry_holds_is_read_whole(own: Farm, tmp_path: Path) -> None:
    assert own.run().rc == 0
    done = own.run("playbooks/check.yml", farm_check_json=str(tmp_path / "check.json"))
    assert (done.rc, done.changed) == (0, 0), done.text[-3000:]
    found = json.loads((tmp_path / "check.json").read_text())
    assert found["damages"] == []
    assert found["read"]["manifests"] >= 12 + 12 + 4 + 1, "units, artifacts, indexes, and unpacked packages"
    assert found["read"]["size"] > 1_000_000


def test_damage_is_found_told_and_mended(own: Farm, tmp_path: Path) -> None:
    assert own.run().rc == 0
    held = Held(own)
    before = {image: own.index(image) for image in ("box", "child", "grand", "other")}
    layer = held.manifest("box", before["box"]["linux/arm64"])["layers"][0]["digest"]
    config = held.manifest("child", before["child"]["linux/amd64"])["config"]["digest"]
    artifact = held.manifest("archive", held.artifact("box linux/amd64"))
    files = {one["annotations"][oci.TITLE]: one["digest"] for one in artifact["layers"]}
    package = next(digest for path, digest in files.items() if path.endswith(".deb"))
    change(layer)
    lose(config)
    change(package)
    lose(files["context/etc/motd"])
    done = own.run("playbooks/check.yml", farm_check_json=str(tmp_path / "check.json"))
    assert done.rc != 0
    found = {one["digest"]: one for one in json.loads((tmp_path / "check.json").read_text())["damages"]}
    assert set(found) == {layer, config, package, files["context/etc/motd"]}
    assert found[layer]["problem"] == "damaged"
    assert "box linux/arm64" in found[layer]["units"]
    assert any(path.endswith(".deb") for path in found[package]["files"])
    assert "context/etc/motd" in str(found[files["context/etc/motd"]]["files"])
    assert layer in done.text and "farm_repair=true" in done.text

    check = own.run("playbooks/check.yml", "--check", farm_repair=True)
    assert check.rc == 0, check.text[-3000:]
    mended = own.run("playbooks/check.yml", farm_repair=True)
    assert mended.rc == 0, mended.text[-3000:]
    assert mended.built == {"box linux/arm64", "child linux/amd64"}
    assert own.run("playbooks/check.yml").rc == 0
    assert {image: own.index(image) for image in before} == before
    again = own.run()
    assert (again.rc, again.changed) == (0, 0)


def test_manifests_of_every_kind_are_mended_to_the_same_digests(own: Farm) -> None:
    assert own.run().rc == 0
    held = Held(own)
    before = {image: own.index(image) for image in ("box", "child", "grand", "other")}
    (unpacked_tag,) = (tag for tag in held.tags("archive") if tag.startswith("u-"))
    names = {"box": "latest", "other": "latest", "archive": unpacked_tag}
    box, other, unpacked = (held.digest(repository, name) for repository, name in names.items())
    artifact = held.digest("archive", held.artifact("child linux/arm64"))
    change(box)  # an index that is no JSON any more: its registry fails
    lose(other)
    change(artifact)
    lose(unpacked)
    change(before["grand"]["linux/arm/v6"])
    lose(before["box"]["linux/amd64"])
    done = own.run("playbooks/check.yml", farm_repair=True)
    print(done.text)
    assert done.rc == 0, done.text[-3000:]
    assert done.built == {"box linux/amd64", "grand linux/arm/v6"}
    assert {image: own.index(image) for image in before} == before
    assert [held.digest(repository, name) for repository, name in names.items()] == [box, other, unpacked]
    assert own.run("playbooks/check.yml").rc == 0


@pytest.mark.full
def test_links_that_a_killed_registry_left_empty_are_mended(own: Farm) -> None:
    """It makes them and then writes into them, and answers 500 for an empty one for ever."""
    assert own.run().rc == 0
    held = Held(own)
    before = {image: own.index(image) for image in ("box", "child", "grand", "other")}
    built = next(tag for tag in held.tags("box") if tag.startswith("b-"))
    layer = held.layer("other", before["other"]["linux/arm64"])
    root = STORAGE / "repositories" / held.namespace
    for link in (f"box/_manifests/tags/{built}/current/link",
                 f"other/_layers/sha256/{layer[7:]}/link",
                 f"other/_manifests/revisions/sha256/{before['other']['linux/amd64'][7:]}/link"):
        run("truncate", "--size=0", str(root / link))
    run("sh", "-c", f"kill -9 $(cat {STATE}/services/registry/supervise/pid)")  # it remembers layers
    assert own.run("playbooks/check.yml").rc != 0
    mended = own.run("playbooks/check.yml", farm_repair=True)
    assert mended.rc == 0, mended.text[-3000:]
    assert {image: own.index(image) for image in before} == before
    assert own.run("playbooks/check.yml").rc == 0
    again = own.run()
    assert (again.rc, again.changed) == (0, 0)
    run("truncate", "--size=0", str(root / "child/_manifests/tags/latest/current/link"))
    assert own.run("playbooks/check.yml", farm_repair=True).rc != 0, "which of its indexes it named nobody knows"
    assert own.run().rc == 0
    assert own.run("playbooks/check.yml").rc == 0
    assert {image: own.index(image) for image in before} == before


@pytest.fixture
def elsewhere(own: Farm, tmp_path: Path) -> Farm:
    """The farm as one whose registry is somebody else's."""
    here = yaml.safe_load((own.inventory / "hosts.yml").read_text())
    del here["registries"]
    (tmp_path / "hosts.yml").write_text(json.dumps(here))
    return replace(own, inventory=tmp_path / "hosts.yml")


@pytest.mark.full
def test_what_cannot_be_mended_is_told_and_left(own: Farm, elsewhere: Farm, small: Small) -> None:
    """Damaged data in somebody else's registry, and what another state of the tree made. What is gone is pushed."""
    assert own.run(farm_images=["box", "child", "other"]).rc == 0
    held = Held(own)
    layer = held.layer("box", own.index("box")["linux/amd64"])
    gone = held.layer("child", own.index("child")["linux/arm64"])  # all platforms have it
    old = held.layer("other", own.index("other")["linux/amd64"])
    small.edit("other/other.txt", "other", "newer")
    assert own.run(farm_images=["other"]).rc == 0
    change(layer)
    lose(old)
    run("rm", "-r", str(STORAGE / "repositories" / held.namespace / "child/_layers/sha256" / gone[7:]))
    _forget("registry")
    done = elsewhere.run("playbooks/check.yml", farm_repair=True)
    assert done.rc != 0
    assert done.built == {"child linux/amd64"}
    assert f"not repaired: damaged: blob {layer}" in flat(done.text) and "the owner of that registry" in done.text
    assert f"not repaired: gone: blob {old}" in flat(done.text) and "this tree does not make it" in done.text
    left = done.task("Check that everything is repaired")["damages"]
    assert {one["digest"] for one in left} == {layer, old}
    mended = own.run("playbooks/check.yml", farm_repair=True)
    assert mended.rc != 0
    assert mended.built == {"box linux/amd64"}
    assert {one["digest"] for one in mended.task("Check that everything is repaired")["damages"]} == {old}


def test_a_unit_that_comes_out_otherwise_is_told_and_is_no_repair(own: Farm, small: Small) -> None:
    random = "/usr/bin/busybox mkdir /out && /usr/bin/busybox head -c 8 /dev/urandom > /out/random"
    small.edit("box/Dockerfile", "/usr/bin/busybox mkdir /out", random)
    chosen = {"farm_images": ["box"], "farm_platforms": ["linux/amd64"]}
    assert own.run(**chosen).rc == 0
    held = Held(own)
    (tag,) = (tag for tag in held.tags("box") if tag.startswith("b-"))
    unit = held.digest("box", tag)
    again = own.run(**chosen, farm_rebuild=True)
    assert again.rc == 0, again.text[-3000:]
    assert again.built == {"box linux/amd64"}
    assert "NOT REPRODUCIBLE: box linux/amd64 was built as sha256:" in again.text
    assert json.loads((STATE / "runs/latest/summary.json").read_text())["differs"]["box linux/amd64"]["kept"] == unit
    assert held.digest("box", tag) == unit

    layer = held.layer("box", unit)
    lose(layer)
    run(str(STATE / "bin/buildctl"), f"--addr=unix://{STATE}/buildkitd.sock", "prune", "--all")
    done = own.run("playbooks/check.yml", farm_repair=True)
    assert done.rc != 0
    assert "not reproducible; the first one is kept" in done.text
    assert {one["digest"] for one in done.task("Check that everything is repaired")["damages"]} == {layer}


def test_chosen_images_are_built_again_to_the_same_digests(own: Farm) -> None:
    assert own.run(farm_rebuild=True).rc != 0, "nothing is chosen"
    assert own.run().rc == 0
    before = own.index("child")
    check = own.run("build.yml", "--check", farm_images=["child"], farm_rebuild=True)
    assert [unit["reasons"] for unit in check.task("Plan")["build"]] == [["rebuild asked for"]] * 3
    again = own.run(farm_images=["child"], farm_rebuild=True)
    assert again.rc == 0, again.text[-3000:]
    assert again.built == units("child")
    assert "Built again: 3 of 3 with the same digests as before" in again.text
    assert own.index("child") == before
    assert own.run().changed == 0
