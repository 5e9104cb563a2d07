"""What goes with an image, and what stays."""

from __future__ import annotations

import json

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import RECORD
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.removal import find, remove

from .faulty import Faulty, Reply, digest, to

IDS = {"box": "1" * 64, "child": "2" * 64}


@pytest.fixture
def held(faulty: Faulty) -> Faulty:
    """box <- child, one unit each, with an artifact, an index, and packages unpacked for box."""
    tags: dict[str, list[str]] = {"ns/archive": []}
    for image, above in (("box", {}), ("child", {"box": IDS["box"]})):
        unit = faulty.image(f"ns/{image}", f"b-{IDS[image]}")
        index = {"manifests": [{"mediaType": oci.MANIFEST, "digest": unit, "size": 1}]}
        faulty.hold(f"ns/{image}", "latest", json.dumps(index).encode(), oci.INDEX)
        record = json.dumps({"image": image, "parents": above, "build_parents": {}})
        artifact = faulty.image("ns/archive", "x", annotations={oci.TITLE: f"{image} linux/amd64", RECORD: record})
        faulty.hold("ns/archive", f"a-{IDS[image]}", faulty.manifests["ns/archive", artifact][0])
        tags[f"ns/{image}"] = [f"b-{IDS[image]}", "latest"]
        tags["ns/archive"].append(f"a-{IDS[image]}")
    faulty.image("ns/archive", "u-1", annotations={oci.TITLE: "box busybox"})
    tags["ns/archive"].append("u-1")
    for name, found in tags.items():
        faulty.answers[f"GET /v2/{name}/tags"] = [Reply(200, body=json.dumps({"tags": found}).encode())] * 2
    return faulty


def names(held: Faulty, repository: str, *tags: str) -> list[str]:
    return [digest(held.manifests[repository, tag][0]) for tag in tags]


def test_all_of_an_image_goes_and_what_was_built_on_it_is_told(held: Faulty) -> None:
    found = find(to(held), "ns", ["box"], {})
    assert found.manifests["ns/box"] == names(held, "ns/box", "latest", f"b-{IDS['box']}"), "the index first"
    assert sorted(found.tags["ns/archive"]) == [f"a-{IDS['box']}", "u-1"]
    assert found.children == {"child"}
    assert found.unknown == []
    held.answers["DELETE"] = [Reply(202)] * 9
    remove(to(held), found)
    deleted = [asked.path.rpartition("/")[2] for asked in held.asked if asked.method == "DELETE"]
    assert deleted == [*found.manifests["ns/box"], *found.manifests["ns/archive"]]


def test_an_artifact_that_another_image_names_too_stays(held: Faulty) -> None:
    record = json.dumps({"image": "child"})
    held.image("ns/archive", "u-1", annotations={oci.TITLE: "box busybox", RECORD: record})
    held.manifests["ns/archive", f"a-{IDS['child']}"] = held.manifests["ns/archive", "u-1"]
    assert sorted(find(to(held), "ns", ["box"], {}).tags["ns/archive"]) == [f"a-{IDS['box']}"]


def test_an_image_that_is_not_there_is_no_change(held: Faulty) -> None:
    assert not find(to(held), "ns", ["none"], {})


def test_what_a_damaged_tag_names_is_taken_from_the_registrys_host(held: Faulty) -> None:
    del held.manifests["ns/box", f"b-{IDS['box']}"]
    held.answers[f"HEAD .*/a-{IDS['box']}"] = held.answers[f"GET .*/a-{IDS['box']}"] = [Reply(500)] * 99
    unknown = ["ns/archive:a-" + IDS["box"], "ns/box:b-" + IDS["box"]]
    assert sorted(find(to(held), "ns", ["box"], {}).unknown) == unknown
    found = find(to(held), "ns", ["box"], dict(zip(unknown, ("sha256:1", "sha256:2"), strict=True)))
    assert found.unknown == []
    assert "sha256:2" in found.manifests["ns/box"] and "sha256:1" in found.manifests["ns/archive"]


def test_a_registry_that_goes_away_is_no_empty_one(held: Faulty) -> None:
    held.answers["GET /v2/$"] = [Reply(503)] * 9
    held.answers["HEAD"] = [Reply(503)] * 9
    with pytest.raises(Unreachable):
        find(to(held), "ns", ["box"], {})


@pytest.mark.parametrize("images", [[], ["archive"], ["Box"], ["../x"], [""], ["box", "a b", "archive"]])
def test_names_that_are_no_images_are_refused(faulty: Faulty, images: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        find(to(faulty), "ns", images, {})
    assert len(error.value.problems) == max(len([name for name in images if name != "box"]), 1)
    assert faulty.asked == []
