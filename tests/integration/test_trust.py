"""Only what the farm signed is believed, whoever can push to its registry."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.desimages.farm.plugins.plugin_utils.pki import signing
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import signature_tag

from .conftest import REGISTRY, STATE, Farm
from .small import Small, units


def unit_tags(farm: Farm, image: str) -> dict[str, str]:
    """The tags of an image's units -> digests."""
    repository, registry = f"{farm.defaults['farm_namespace']}/{image}", Registry(REGISTRY)
    found = {tag: registry.digest(repository, tag) for tag in registry.tags(repository) if tag[:2] in ("b-", "c-")}
    return {tag: held[0] for tag, held in found.items() if held}


def forge(farm: Farm, image: str) -> dict[str, str]:
    """Points the tags of an image's units at an image of somebody else; returns what they were."""
    registry, namespace = Registry(REGISTRY), farm.defaults["farm_namespace"]
    repository, before = f"{namespace}/{image}", unit_tags(farm, image)
    data = registry.manifest(repository, next(iter(before)))
    assert data
    value = {**json.loads(data), "annotations": {"by": "somebody else"}}
    for tag in before:
        registry.put_manifest(repository, tag, json.dumps(value).encode(), value["mediaType"])
    assert set(unit_tags(farm, image).values()).isdisjoint(before.values())
    return before


def test_a_forged_unit_is_told_and_replaced(own: Farm, small: Small) -> None:
    assert own.run().rc == 0
    before = forge(own, "child")
    check = own.run("build.yml", "--check", "--diff")
    assert check.rc == 0, check.text[-3000:]
    assert check.task("Plan")["unsigned"] == sorted(units("child"))
    assert "its tag is not signed by this farm" in check.text
    done = own.run()
    assert (done.rc, done.built) == (0, units("child")), done.text[-3000:]
    assert "which is not signed by this farm: now it is" in done.text
    assert unit_tags(own, "child") == before, "the same bytes again"
    summary = json.loads((STATE / "runs/latest/summary.json").read_text())
    assert {summary["units"][unit]["node"] for unit in units("child")} == {"localhost"}
    assert summary["units"]["box linux/amd64"]["node"] == ""
    again = own.run()
    assert (again.rc, again.changed) == (0, 0), again.text[-3000:]
    assert own.run("playbooks/check.yml").rc == 0


def test_another_controller_needs_the_key_and_a_person_can_adopt(own: Farm, small: Small, tmp_path: Path) -> None:
    assert own.run(farm_images=["child"]).rc == 0
    (STATE / "known/signatures.json").unlink()
    private = (STATE / "secrets" / signing.KEY).read_text()
    public = (STATE / "secrets" / signing.PUBLIC).read_text()
    with_key = own.run(farm_images=["child"], farm_secrets=str(tmp_path / "second"), farm_signing_key=private)
    assert (with_key.rc, with_key.changed) == (0, 0), with_key.text[-3000:]
    assert private.splitlines()[1] not in with_key.text
    other = {"farm_images": ["child"], "farm_secrets": str(tmp_path / "third")}
    check = own.run("build.yml", "--check", **other)
    assert check.planned == units("box", "child"), check.text[-3000:]
    rotated = own.run(**other, farm_trusted_keys=[public])
    assert (rotated.rc, rotated.changed) == (0, 0), rotated.text[-3000:]
    would = own.run("build.yml", "--check", **other, farm_adopt=True)
    assert (would.rc, would.planned) == (0, set()), would.text[-3000:]
    adopted = own.run(**other, farm_adopt=True)
    assert (adopted.rc, adopted.planned) == (0, set()), adopted.text[-3000:]
    tags = len(unit_tags(own, "box")) + len(unit_tags(own, "child")) + 1  # the packages of box, unpacked
    assert f"Adopted: signed {tags} tags without a check" in adopted.text
    assert own.run(**other).changed == 0


def test_a_signature_that_is_gone_is_told_and_made_again(own: Farm, small: Small) -> None:
    assert own.run(farm_images=["other"]).rc == 0
    registry, namespace = Registry(REGISTRY), own.defaults["farm_namespace"]
    tag = next(iter(unit_tags(own, "other")))
    held = registry.digest(f"{namespace}/archive", signature_tag(f"{namespace}/other", tag))
    assert held
    assert registry.delete_manifest(f"{namespace}/archive", held[0])
    told = own.run("playbooks/check.yml")
    assert told.rc != 0
    assert f"{namespace}/other:{tag} has no signature" in told.text
    mended = own.run("playbooks/check.yml", farm_repair=True)
    assert mended.rc == 0, mended.text[-3000:]
    (STATE / "known/signatures.json").unlink()
    assert own.run(farm_images=["other"]).changed == 0
