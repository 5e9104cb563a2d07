"""What of a registry's content is damaged, whose it is, and what mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.repair import ELSEWHERE, OTHER, work
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.damage import Check, Damage, resolved
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import BELIEVED, signature_tag

from .conftest import Catalog
from .faulty import Faulty, Reply, digest, to

ID, ARCHIVE = "0" * 64, "ns/archive"
EMPTY = {"mediaType": "x", "digest": digest(b"{}"), "size": 2}
SIGNATURE = json.dumps({"schemaVersion": 2, "config": EMPTY, "layers": []}).encode()
FILE = b"a file of a context"


@pytest.fixture
def held(faulty: Faulty) -> Faulty:
    """An image for one platform: a unit, its artifact and its index."""
    unit = faulty.image("ns/box", f"b-{ID}")
    index = {"schemaVersion": 2, "manifests": [{"mediaType": oci.MANIFEST, "digest": unit, "size": 1}]}
    faulty.hold("ns/box", "latest", json.dumps(index).encode(), oci.INDEX)
    faulty.blobs.update({digest(FILE): FILE, digest(b"{}"): b"{}"})
    layer = {"mediaType": "x", "digest": digest(FILE), "size": len(FILE), "annotations": {oci.TITLE: "context/motd"}}
    artifact = {
        "schemaVersion": 2,
        "config": {"mediaType": "x", "digest": digest(b"{}"), "size": 2},
        "layers": [layer],
        "annotations": {oci.TITLE: "box linux/amd64"},
    }
    faulty.hold(ARCHIVE, f"a-{ID}", json.dumps(artifact).encode())
    return faulty


def look(held: Faulty, more: dict[str, list[str]] | None = None) -> list[Damage]:
    """A check of a registry that keeps lists."""
    tags = {"ns/box": [f"b-{ID}", "latest"], ARCHIVE: [f"a-{ID}"], **(more or {})}
    for name, tag in [(name, tag) for name, found in tags.items() for tag in found]:
        if BELIEVED.match(tag):
            held.hold(ARCHIVE, signature_tag(name, tag), SIGNATURE)
            tags[ARCHIVE] = [*tags[ARCHIVE], signature_tag(name, tag)]
    held.answers["GET /v2/_catalog"] = [Reply(200, body=json.dumps({"repositories": list(tags)}).encode())]
    for name, found in tags.items():
        held.answers[f"GET /v2/{name}/tags"] = [Reply(200, body=json.dumps({"tags": found}).encode())]
    return Check(to(held), "ns", {}, print).run([]).damages


def test_a_healthy_registry_has_no_damage_and_each_blob_is_read_once(held: Faulty) -> None:
    assert look(held) == []
    assert held.count("GET .*/blobs/") == 4, "config and layer of the unit, those of its artifact"


def test_a_layer_that_two_images_share_is_read_once_and_has_to_be_in_both(held: Faulty) -> None:
    data, kind = held.manifests["ns/box", f"b-{ID}"]
    held.hold("ns/other", f"b-{ID}", data, kind)
    layer = oci.read(data, "").blobs[-1].digest
    more = {"ns/other": [f"b-{ID}"]}
    assert look(held, more) == []
    assert (held.count(f"GET .*/blobs/{layer}"), held.count(f"HEAD .*/blobs/{layer}")) == (1, 2)
    held.answers[f"HEAD /v2/ns/other/blobs/{layer}"] = [Reply(404)]
    (found,) = look(held, more)
    assert (found.problem, found.digest, found.places) == ("gone", layer, ["ns/other"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda held: held.blobs.update({digest(FILE): FILE[::-1]}), "damaged"),
        (lambda held: held.blobs.update({digest(FILE): FILE + b"more"}), "damaged"),
        (lambda held: held.blobs.update({digest(FILE): b""}), "damaged"),
        (lambda held: held.blobs.pop(digest(FILE)), "gone"),
        (lambda held: held.answers.update({f"GET .*{digest(FILE)}": [Reply(404)] * 9}), "gone"),  # it only remembers it
        (lambda held: held.answers.update({f"GET .*{digest(FILE)}": [Reply(500)] * 9}), "unreadable"),
    ],
)
def test_a_damaged_file_is_told_with_its_unit_and_its_path(
    held: Faulty, change: Callable[[Faulty], object], problem: str
) -> None:
    change(held)
    (found,) = look(held)
    assert (found.kind, found.digest, found.problem, found.places) == ("blob", digest(FILE), problem, [ARCHIVE])
    assert (found.units, found.files) == (["box linux/amd64"], ["box linux/amd64: context/motd"])
    assert (
        f"{problem}: blob {digest(FILE)} in ns/archive; of box linux/amd64; as box linux/amd64: context/motd"
        in found.words
    )
    assert Check(to(held), "ns", {}, print).again([found]) == [found]


def test_a_damaged_layer_is_told_with_all_the_tags_that_reach_it(held: Faulty) -> None:
    unit = held.manifests["ns/box", f"b-{ID}"][0]
    layer = oci.read(unit, "").blobs[-1].digest
    held.blobs[layer] = b"?"
    (found,) = look(held)
    assert found.tags == [f"ns/box:b-{ID}", "ns/box:latest"]
    assert found.units == ["box linux/amd64"]
    held.blobs[layer] = b"layer of b-" + ID.encode()
    assert Check(to(held), "ns", {}, print).again([found]) == []


def test_a_damaged_manifest_is_told(held: Faulty) -> None:
    unit = digest(held.manifests["ns/box", f"b-{ID}"][0])
    held.manifests["ns/box", unit] = b"<html>", "text/html"
    (found,) = look(held)
    assert (found.kind, found.digest, found.problem) == ("manifest", unit, "damaged")


def test_an_artifact_is_mended_by_one_of_other_files(held: Faulty) -> None:
    """For other build platforms, say."""
    data, _kind = held.manifests[ARCHIVE, f"a-{ID}"]
    held.manifests[ARCHIVE, digest(data)] = b"<html>", "text/html"
    (found,) = look(held)
    assert (found.kind, found.digest, found.tags) == ("manifest", digest(data), [f"{ARCHIVE}:a-{ID}"])
    held.hold(ARCHIVE, f"a-{ID}", b"<html>", "text/html")
    assert Check(to(held), "ns", {}, print).again([found]) == [found]
    held.hold(ARCHIVE, f"a-{ID}", json.dumps({**json.loads(data), "layers": []}).encode())
    assert Check(to(held), "ns", {}, print).again([found]) == []


def test_a_manifest_that_cannot_be_had_by_its_tag_is_told_by_that(held: Faulty) -> None:
    held.answers["HEAD /v2/ns/box/manifests/latest"] = [Reply(500)] * 9
    del held.manifests[ARCHIVE, f"a-{ID}"]
    by_tag = {damage.tags[0]: damage for damage in look(held)}
    assert {tag: (one.digest, one.problem) for tag, one in by_tag.items()} == {
        "ns/box:latest": ("", "unreadable"),
        f"ns/archive:a-{ID}": ("", "gone"),
    }


def test_a_unit_without_an_artifact_is_told(held: Faulty) -> None:
    held.answers["GET /v2/ns/archive/tags"] = [Reply(200, body=b'{"tags": null}')]
    tags = [Reply(200, body=json.dumps({"tags": [f"b-{ID}"]}).encode())]
    held.answers["GET /v2/ns/box/tags"] = tags
    found, unsigned = Check(to(held), "ns", {ID: "box linux/amd64"}, print).run(["box"]).damages
    assert unsigned.words.startswith("gone: the manifest that ns/archive:s-")
    assert f"ns/box:b-{ID} has no signature" in unsigned.words
    assert (found.problem, found.tags, found.units) == ("gone", [f"ns/archive:a-{ID}"], ["box linux/amd64"])


def test_a_registry_that_goes_away_or_lets_nobody_read_is_no_damage(held: Faulty) -> None:
    held.answers.update({"GET /v2/$": [Reply(503)] * 9, "GET .*/blobs": [Reply(503)] * 9})
    with pytest.raises(Unreachable):
        look(held)
    held.answers.update({"GET /v2/$": [], "GET .*/blobs": [Reply(403)] * 9})
    with pytest.raises(RegistryError, match="HTTP 403"):
        look(held)


def test_what_its_host_knows_of_tags_makes_one_damage_of_several() -> None:
    by_tag = Damage("manifest", "", "unreadable", "", ["ns/box"], ["ns/box:latest", "ns/box:v1", "ns/box:old"])
    known = Damage("manifest", "sha256:1", "gone", "", ["ns/box"], ["ns/box:b-1"], ["box linux/amd64"])
    found = resolved([by_tag, known], {"ns/box:latest": "sha256:1", "ns/box:v1": "sha256:2"})
    assert [(one.digest, one.tags) for one in found] == [
        ("sha256:1", ["ns/box:b-1", "ns/box:latest"]),
        ("sha256:2", ["ns/box:v1"]),
        ("", ["ns/box:old"]),
    ]


# --- what mends it ---


@pytest.fixture
def plan(chain: Catalog) -> Plan:
    return chain.plan()


def tag(plan: Plan, kind: str, image: str, repository: str = "") -> str:
    return f"{repository or f'desimages/{image}'}:{kind}-{plan.units[Key(image, '', ARM64)].id}"


def blob(*tags: str, problem: str = "gone") -> Damage:
    places = sorted({name.rpartition(":")[0] for name in tags})
    return Damage("blob", "sha256:1", problem, "", places, list(tags))


HELD = "desimages/archive"


def test_a_layer_is_built_again_by_the_unit_that_brought_it(plan: Plan) -> None:
    found = work([blob(tag(plan, "b", "debian"), tag(plan, "b", "base"))], plan, AMD64, HELD, {}, own=True)
    assert found.units == [Key("debian", "", ARM64)]
    only = replace(blob(tag(plan, "b", "debian"), tag(plan, "b", "base")), places=["desimages/base"])
    assert work([only], plan, AMD64, HELD, {}, own=True).units == [Key("base", "", ARM64)]


def test_damaged_data_in_somebody_elses_registry_are_left(plan: Plan) -> None:
    damage = blob(tag(plan, "b", "debian"), problem="damaged")
    assert work([damage], plan, AMD64, HELD, {}, own=False).left == [(damage, ELSEWHERE)]
    gone = replace(damage, problem="gone")
    assert work([gone], plan, AMD64, HELD, {}, own=False).units == [Key("debian", "", ARM64)]


def test_what_another_state_of_the_tree_made_is_left(plan: Plan) -> None:
    old = blob(f"desimages/debian:b-{ID}")
    assert work([old], plan, AMD64, HELD, {}, own=True).left == [(old, OTHER)]
    artifact = replace(old, kind="manifest", places=[HELD], tags=[f"{HELD}:a-{ID}"])
    assert work([artifact], plan, AMD64, HELD, {}, own=True).left == [(artifact, OTHER)]


def test_the_archives_part_needs_no_build(plan: Plan) -> None:
    file, made = blob(tag(plan, "a", "debian", HELD)), blob(f"{HELD}:u-1")
    artifact = replace(file, kind="manifest", digest="sha256:2")
    found = work([file, artifact, made], plan, AMD64, HELD, {"u-1": ("debian", "rootfs", ARM64)}, own=True)
    assert found.units == found.left == []
    assert found.blobs == {"sha256:1": [Key("debian", "", ARM64)]}
    assert found.artifacts == [Key("debian", "", ARM64)]
    assert found.unpacked == [("debian", "rootfs", ARM64)]


def test_an_index_is_made_again(plan: Plan) -> None:
    damage = replace(blob("desimages/base:latest"), kind="manifest")
    assert work([damage], plan, AMD64, HELD, {}, own=True).indexes == {"base": [damage]}


def test_indexes_that_name_each_other_many_times_are_read_once_each(held: Faulty) -> None:
    """Forty of them, each named twice by the next, are a trillion ways to the one at the bottom; and two thousand are
    deeper than Python calls itself."""
    name, kind = "0" * 64, oci.MANIFEST
    for depth in range(2000):
        child = {"mediaType": kind, "digest": name if ":" in name else f"sha256:{name}", "size": 1}
        data = {"schemaVersion": 2, "manifests": [child] * (2 if depth < 40 else 1)}
        name, kind = held.hold("ns/box", "deep", json.dumps(data).encode(), oci.INDEX), oci.INDEX
    (found,) = look(held, {"ns/box": [f"b-{ID}", "deep"]})
    assert (found.digest, found.tags) == (f"sha256:{'0' * 64}", ["ns/box:deep"])
