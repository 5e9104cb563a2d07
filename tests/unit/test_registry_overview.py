"""What a registry holds, as status shows it."""

from __future__ import annotations

import json

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.overview import Overview, overview, sort_tags

from .faulty import Faulty, Reply, to

UNIT = "b-" + "0" * 64


def seen(held: Faulty, **tags: list[str]) -> Overview:
    """An overview of a registry that lists these repositories of `ns` and others."""
    names = ["other/box", "ns/archive", *(f"ns/{name}" for name in tags)]
    held.answers["GET /v2/_catalog"] = [Reply(200, body=json.dumps({"repositories": names}).encode())]
    for name, found in tags.items():
        held.answers[f"GET /v2/ns/{name}/tags"] = [Reply(200, body=json.dumps({"tags": found}).encode())]
    return overview(to(held), "ns")


@pytest.fixture
def box(faulty: Faulty) -> tuple[str, str]:
    """An image for two platforms; their digests."""
    found = faulty.image("ns/box", UNIT), faulty.image("ns/box", "b-" + "1" * 64, "arm")
    platforms = [{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm", "variant": "v6"}]
    index = {"schemaVersion": 2, "manifests": [{"mediaType": oci.MANIFEST, "digest": digest, "size": 1, "platform": one}
                                               for digest, one in zip(found, platforms)]}
    faulty.hold("ns/box", "latest", json.dumps(index).encode(), oci.INDEX)
    return found


def test_an_image_is_a_row_for_each_platform_with_the_bytes_of_its_layers(faulty: Faulty, box: tuple[str, str]) -> None:
    common = {"image": "ns/box", "tag": "latest", "tags": 2, "units": 1}
    size = len(f"layer of {UNIT}")
    assert seen(faulty, box=["latest", "zebra", UNIT]) == Overview([
        {**common, "platform": "linux/amd64", "digest": box[0], "size": size},
        {**common, "platform": "linux/arm/v6", "digest": box[1], "size": size},
    ])
    assert not faulty.count("GET .*/blobs/"), "what an index says is enough"


def test_an_image_of_one_platform_says_itself_what_it_is_for(faulty: Faulty) -> None:
    digest = faulty.image("ns/one", "v1", "riscv64")
    (row,) = seen(faulty, one=["v0", "v1"]).images
    assert (row["tag"], row["platform"], row["digest"]) == ("v1", "linux/riscv64", digest)


def test_the_newest_tag_is_the_one_that_was_created_last_and_not_the_last_by_name(faulty: Faulty) -> None:
    for tag, created in (("v10", "2026-11-30T00:00:00Z"), ("v9", "2026-10-01T00:00:00Z"), ("zebra", "")):
        faulty.image("ns/one", tag, annotations={"org.opencontainers.image.created": created} if created else {})
    (row,) = seen(faulty, one=["v10", "v9", "zebra", "gone"]).images
    assert row["tag"] == "v10"


def test_after_builds_of_single_platforms_each_of_them_is_shown(faulty: Faulty) -> None:
    for architecture in ("amd64", "riscv64"):
        faulty.image("ns/one", f"latest-{architecture}", architecture)
    found = seen(faulty, one=["latest-amd64", "latest-riscv64", "latest-of-mine"]).images
    assert [(row["tag"], row["platform"]) for row in found] == [
        ("latest-amd64", "linux/amd64"), ("latest-riscv64", "linux/riscv64")]


def test_what_is_attested_of_an_image_is_none(faulty: Faulty) -> None:
    image, said = faulty.image("ns/one", "a"), faulty.image("ns/one", "b", "unknown")
    children = [{"mediaType": oci.MANIFEST, "digest": image, "size": 1,
                 "platform": {"os": "linux", "architecture": "amd64"}},
                {"mediaType": oci.MANIFEST, "digest": said, "size": 1, "platform": oci.UNKNOWN,
                 "annotations": dict([oci.ATTESTATION, (oci.ATTESTED, image)])}]
    faulty.hold("ns/one", "latest", json.dumps({"schemaVersion": 2, "manifests": children}).encode(), oci.INDEX)
    assert [row["platform"] for row in seen(faulty, one=["latest"]).images] == ["linux/amd64"]


def test_an_image_with_nothing_but_units_is_one_row_and_one_without_tags_is_none(faulty: Faulty) -> None:
    (row,) = seen(faulty, units=[UNIT], empty=[]).images
    assert row == {"image": "ns/units", "tag": "", "tags": 0, "units": 1, "platform": "", "digest": "", "size": 0}


def test_damage_of_one_image_is_told_and_the_others_are_shown(faulty: Faulty, box: tuple[str, str]) -> None:
    del faulty.manifests["ns/box", box[1]]
    faulty.image("ns/one", "latest")
    faulty.hold("ns/text", "latest", b"no manifest")
    found = seen(faulty, box=["latest"], gone=["latest"], one=["latest"], text=["latest"])
    assert [row["image"] for row in found.images] == ["ns/one"]
    assert [problem.partition(": ")[0] for problem in found.problems] == ["ns/box", "ns/gone", "ns/text"]
    assert box[1] in found.problems[0] and "playbooks/check.yml" in found.problems[0]


def test_a_registry_that_is_not_there_is_a_problem_and_no_error() -> None:
    found = overview(Registry("127.0.0.1:9", pauses=()), "ns")
    assert found.images == []
    # urllib3 names an object of its own first
    assert "http://127.0.0.1:9 cannot be reached: Failed to establish" in found.problems[0]


def test_what_the_farm_tags_for_itself_counts_as_units_and_not_as_tags() -> None:
    found = ["latest", UNIT, "c-" + "1" * 64, "b-" + "2" * 64, "b-side", "trixie-20261123"]
    assert sort_tags(found) == (["b-side", "latest", "trixie-20261123"], 2)
