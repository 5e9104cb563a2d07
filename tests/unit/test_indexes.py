"""What enters an index is what the bytes are, and names are checked before anything starts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, ARMV6, ARMV7, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.lists import Lists
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import indexes, oci, tags
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Outcome, State

from .conftest import Catalog
from .faulty import Faulty, to

GOOD: dict[str, Any] = {
    "registry": "127.0.0.1:5000",
    "name": "team/app",
    "tags": ["v1", "latest"],
    "fixed_tags": ["v1"],
    "manifests": {"linux/amd64": "v1-amd64", "linux/arm64": "sha256:" + "0" * 64},
    "annotations": {"a": "b"},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tags": ["ver#1"], "fixed_tags": []}, ["tags is 'ver#1'"]),
        ({"tags": ["x/../y", "v1"]}, ["tags is 'x/../y'"]),
        ({"tags": ["v1+b", "v 1", "v1"]}, ["tags is 'v1+b'", "tags is 'v 1'"]),
        ({"tags": [], "fixed_tags": []}, ["tags is empty"]),
        ({"fixed_tags": ["v2"]}, ["fixed_tags: 'v2' is not in tags"]),
        ({"name": "Team/App"}, ["name is 'Team/App'"]),
        ({"name": "../x", "registry": "http://a"}, ["registry is 'http://a'", "name is '../x'"]),
        (
            {"manifests": {"linux/amd46": "v1", "linux/arm64": "a@b"}},
            ["manifests: linux/arm64 is 'a@b'", "'linux/amd46' is not a platform"],
        ),
        ({"manifests": {"linux/amd64": "sha256:12"}}, ["manifests: linux/amd64 is 'sha256:12'"]),
        ({"manifests": {"linux/amd64": 7}}, ["manifests: linux/amd64 is 7"]),
        ({"manifests": {}}, ["manifests is empty"]),
        ({"annotations": {"a": 1, "b": "\ud800", "": "x"}}, ["a is 1", "'b' is '\\ud800'", "'' is 'x'"]),
        ({"manifests": dict.fromkeys(("linux", "linux/amd64/", "Linux/amd64", "linux/arm/v7/x", "plan10/386"), "v1")},
         ["'linux' is", "'linux/amd64/' is", "'Linux/amd64' is", "'linux/arm/v7/x' is", "'plan10/386' is"]),
        ({"manifests": {"windows/amd64": "v1", "linux/loong64": "v2", "linux/arm64/v9": "v3"}}, []),
        ({}, []),
    ],
)
def test_all_mistakes_of_a_manifest_list_are_told_at_once(change: dict[str, Any], said: list[str]) -> None:
    found = indexes.mistakes({**GOOD, **change})
    assert len(found) == len(said)
    assert all(words in text for words, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("platform", "architecture", "variant", "said"),
    [
        (ARMV6, "arm", "v7", "linux/arm/v6: x is for linux/arm/v7"),
        (AMD64, "amd64", "v3", "linux/amd64: x is for linux/amd64/v3"),
        (ARM64, "arm64", "v9.1", "linux/arm64: x is for linux/arm64/v9.1"),
        (ARMV7, "arm64", "v8", "linux/arm/v7: x is for linux/arm64/v8"),
        (ARMV6, "arm", "v5", ""),
        (ARMV6, "arm", "", ""),
        (ARMV7, "arm", "v6", ""),
        (ARM64, "arm64", "v8", ""),
        (AMD64, "amd64", "baseline", ""),
        (Platform("linux", "arm64", "v9.1"), "arm64", "v9", ""),
        (Platform("linux", "arm", "v8"), "arm", "v9", "linux/arm/v8: x is for linux/arm/v9"),
        (Platform("linux", "riscv64", "rva23"), "riscv64", "", ""),
    ],
)
def test_an_index_names_nothing_that_its_platform_cannot_run(
    faulty: Faulty, platform: Platform, architecture: str, variant: str, said: str
) -> None:
    made = faulty.image("a/b", "x", architecture, variant)
    if not said:
        assert [one.digest for one in indexes.describe(to(faulty), "a/b", {platform: "x"})] == [made]
        return
    with pytest.raises(FarmError, match=said):
        indexes.describe(to(faulty), "a/b", {platform: "x"})


def built(registry: Faulty, tag: str, *platforms: tuple[str, str]) -> list[str]:
    """An index as `docker buildx build --push` leaves it under a tag, with what it attests of each image; the digests
    of the images."""
    images, children, attestations = [], list[dict[str, Any]](), list[dict[str, Any]]()
    for architecture, variant in platforms:
        images.append(registry.image("a/b", f"{tag}-{architecture}{variant}", architecture, variant))
        said = registry.image("a/b", f"{tag}-said-{architecture}{variant}", "unknown", what="provenance")
        for digest, into, more in ((images[-1], children, {"platform": {
                "os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}}),
                (said, attestations, {"platform": oci.UNKNOWN, "annotations": {
                    "vnd.docker.reference.type": "attestation-manifest", oci.ATTESTED: images[-1]}})):
            size = len(registry.manifests["a/b", digest][0])
            into.append({"mediaType": oci.MANIFEST, "digest": digest, "size": size, **more})
    value = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [*children, *attestations]}
    registry.hold("a/b", tag, json.dumps(value).encode(), oci.INDEX)
    return images


@pytest.mark.parametrize("attestations", [False, True])
def test_what_several_machines_pushed_with_buildx_becomes_one_index(faulty: Faulty, attestations: bool) -> None:
    (amd64,), (armv7,) = built(faulty, "x", ("amd64", "")), built(faulty, "y", ("arm", "v7"))
    plain = faulty.image("a/b", "z", "riscv64")
    names = {ARMV7: "y", AMD64: "x", Platform("linux", "riscv64"): "z"}
    chosen = indexes.choose(to(faulty), "a/b", names, attestations=attestations)
    assert chosen.names == {ARMV7: armv7, AMD64: amd64, Platform("linux", "riscv64"): "z"}
    word = "with" if attestations else "without"
    assert chosen.taken == (
        f"linux/arm/v7: y is an index, {armv7} was taken out of it, {word} its attestations (1)",
        f"linux/amd64: x is an index, {amd64} was taken out of it, {word} its attestations (1)")
    manifests = indexes.describe(to(faulty), "a/b", chosen.names)
    value = json.loads(oci.index(manifests, {}, chosen.attestations))
    images, others = value["manifests"][:3], value["manifests"][3:]
    assert [one["digest"] for one in images] == [amd64, armv7, plain]
    assert [(one["platform"], one["annotations"]["vnd.docker.reference.digest"]) for one in others] == [
        (oci.UNKNOWN, armv7), (oci.UNKNOWN, amd64)] * attestations


def test_the_manifest_of_a_platform_is_the_best_that_runs_there(faulty: Faulty) -> None:
    v5, v6, _v7, arm64 = built(faulty, "x", ("arm", "v5"), ("arm", "v6"), ("arm", "v7"), ("arm64", "v8"))
    found = indexes.choose(to(faulty), "a/b", {ARMV6: "x", ARM64: "x"}, attestations=False)
    assert found.names == {ARMV6: v6, ARM64: arm64}
    found = indexes.choose(to(faulty), "a/b", {Platform("linux", "arm", "v5"): "x"}, attestations=False)
    assert list(found.names.values()) == [v5]


Part = dict[str, Any]


def entry(registry: Faulty, tag: str, platform: Part | None = None, kind: str = oci.MANIFEST, **more: object) -> Part:
    """An entry of an index, for an image of some platform."""
    said = platform or {}
    made = registry.image("a/b", tag, str(said.get("architecture", "amd64")), str(said.get("variant", "")))
    return {"mediaType": kind, "digest": made, "size": len(registry.manifests["a/b", made][0]),
            **({"platform": platform} if platform else {}), **more}


def held(registry: Faulty, tag: str, *entries: Part, kind: str = oci.INDEX) -> None:
    value = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    registry.hold("a/b", tag, json.dumps(value).encode(), kind)


HERE = {"os": "linux", "architecture": "amd64"}


def test_an_image_is_taken_rather_than_an_artifact_that_says_no_platform(faulty: Faulty) -> None:
    """Such as a signature, or a list of what an image is made of."""
    artifact, image = entry(faulty, "sbom", platform=None), entry(faulty, "image", HERE)
    for number, entries in enumerate(([artifact, image], [image, artifact])):
        held(faulty, f"x{number}", *entries)
        found = indexes.choose(to(faulty), "a/b", {AMD64: f"x{number}"}, attestations=True)
        assert (found.names, found.attestations) == ({AMD64: image["digest"]}, ())
    held(faulty, "alone", {**image, "platform": None, "annotations": None})
    assert indexes.choose(to(faulty), "a/b", {AMD64: "alone"}, attestations=False).names == {AMD64: image["digest"]}


def test_nothing_is_guessed_where_an_index_has_several_for_a_platform(faulty: Faulty) -> None:
    windows = {"os": "windows", "architecture": "amd64"}
    old, new = (entry(faulty, f"w{build}", {**windows, "os.version": f"10.0.{build}.1"}) for build in (17763, 20348))
    one, two = entry(faulty, "one"), entry(faulty, "two")
    held(faulty, "windows", old, new)
    held(faulty, "unsaid", one, two)
    held(faulty, "twice", entry(faulty, "same", HERE), entry(faulty, "same", HERE))
    with pytest.raises(FarmError) as error:
        indexes.choose(to(faulty), "a/b", {Platform("windows", "amd64"): "windows", AMD64: "unsaid", ARM64: "twice"},
                       attestations=False)
    assert error.value.message.splitlines()[1:] == [
        "windows/amd64: windows is an index with several for it: give the digest of one of "
        f"{old['digest']} 10.0.17763.1, {new['digest']} 10.0.20348.1",
        "linux/amd64: unsaid is an index with several for it: give the digest of one of "
        f"{one['digest']}, {two['digest']}",
        "linux/arm64: twice is an index without it; it has linux/amd64, linux/amd64"]
    assert indexes.choose(to(faulty), "a/b", {AMD64: "twice"}, attestations=False).names


def test_what_docker_itself_pushed_is_taken_as_what_oci_defines(faulty: Faulty) -> None:
    """A manifest list and manifests of Docker's second schema."""
    kind = oci.SINGLES[1]
    made = faulty.image("a/b", "docker", "arm64", mediaType=kind)
    size = len(faulty.manifests["a/b", made][0])
    child = {"mediaType": kind, "digest": made, "size": size,
             "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}
    held(faulty, "list", child, entry(faulty, "other", HERE), kind=oci.LISTS[1])
    found = indexes.choose(to(faulty), "a/b", {ARM64: "list"}, attestations=True)
    (manifest,) = indexes.describe(to(faulty), "a/b", found.names)
    assert (manifest.digest, manifest.size, manifest.media_type) == (made, size, kind)
    faulty.hold("a/b", "first", b'{"schemaVersion": 1, "fsLayers": []}')
    with pytest.raises(FarmError, match="linux/arm64: first is a manifest of Docker's first kind"):
        indexes.describe(to(faulty), "a/b", {ARM64: "first"})


def test_an_artifact_that_is_named_itself_is_for_the_platform_it_is_said_to_be(faulty: Faulty) -> None:
    faulty.blobs[oci.digest(b"{}")] = b"{}"
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": oci.digest(b"{}"), "size": 2}
    value = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "artifactType": "x/y", "config": config, "layers": []}
    made = faulty.hold("a/b", "artifact", json.dumps(value).encode())
    (found,) = indexes.describe(to(faulty), "a/b", {ARM64: "artifact"})
    assert (found.digest, found.platform) == (made, ARM64)


@pytest.mark.parametrize("data", [
    {"mediaType": oci.INDEX, "manifests": None}, {"mediaType": oci.INDEX, "manifests": []},
    {"mediaType": oci.LISTS[1], "manifests": None, "annotations": None},
])
def test_an_index_of_nothing_has_no_platform(faulty: Faulty, data: Part) -> None:
    faulty.hold("a/b", "x", json.dumps(data).encode(), oci.INDEX)
    with pytest.raises(FarmError, match="linux/amd64: x is an index without it; it has nothing"):
        indexes.choose(to(faulty), "a/b", {AMD64: "x"}, attestations=False)


def test_indexes_that_lack_their_platforms_are_told_at_once(faulty: Faulty) -> None:
    built(faulty, "x", ("amd64", ""), ("arm", "v7"))
    faulty.hold("a/b", "empty", json.dumps({"mediaType": oci.INDEX, "manifests": []}).encode(), oci.INDEX)
    with pytest.raises(FarmError) as error:
        indexes.choose(to(faulty), "a/b", {ARM64: "x", ARMV6: "x", AMD64: "empty"}, attestations=False)
    assert error.value.message.splitlines()[1:] == [
        "linux/arm64: x is an index without it; it has linux/amd64, linux/arm/v7",
        "linux/arm/v6: x is an index without it; it has linux/amd64, linux/arm/v7",
        "linux/amd64: empty is an index without it; it has nothing"]


def test_an_index_whose_entry_is_for_another_platform_than_it_says_is_refused(faulty: Faulty) -> None:
    (made,) = built(faulty, "z", ("arm", "v7"))
    held(faulty, "liar", {"mediaType": oci.MANIFEST, "digest": made, "size": 1, "platform": HERE})
    chosen = indexes.choose(to(faulty), "a/b", {AMD64: "liar"}, attestations=False)
    with pytest.raises(FarmError, match=f"linux/amd64: {made} is for linux/arm/v7"):
        indexes.describe(to(faulty), "a/b", chosen.names)


def test_an_index_inside_an_index_is_not_taken_for_an_image(faulty: Faulty) -> None:
    built(faulty, "inner", ("amd64", ""))
    data = faulty.manifests["a/b", "inner"][0]
    child = {"mediaType": oci.INDEX, "digest": oci.digest(data), "size": len(data)}
    faulty.hold("a/b", "outer", json.dumps({"mediaType": oci.INDEX, "manifests": [child]}).encode(), oci.INDEX)
    chosen = indexes.choose(to(faulty), "a/b", {AMD64: "outer"}, attestations=False)
    with pytest.raises(FarmError, match="is itself an index"):
        indexes.describe(to(faulty), "a/b", chosen.names)


def test_an_index_says_which_windows_a_manifest_is_for(faulty: Faulty) -> None:
    faulty.image("a/b", "w", "amd64")
    config = json.dumps({"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.2113"}).encode()
    data = json.dumps({"schemaVersion": 2, "mediaType": oci.MANIFEST, "layers": [], "config": {
        "mediaType": indexes.CONFIGS[0], "digest": oci.digest(config), "size": len(config)}}).encode()
    faulty.blobs[oci.digest(config)] = config
    faulty.hold("a/b", "w", data)
    found = indexes.describe(to(faulty), "a/b", {Platform("windows", "amd64"): "w"})
    assert json.loads(oci.index(found, {}))["manifests"][0]["platform"] == {
        "os": "windows", "architecture": "amd64", "os.version": "10.0.20348.2113"}


def test_a_template_that_gives_no_tag_for_some_image_is_refused_before_anything_is_built() -> None:
    tags.check(["{suite}-{date}-{id}", "latest"], {"a": ("trixie", 1), "b": ("trixie", 0)})
    tags.check([], {"a": ("trixie", 1), "b": ("trixie", 0)})  # a repair tags nothing
    with pytest.raises(BadInput) as error:
        tags.check(["{suite}-{date}", "{suite}"], {"a": ("trixie", 1), "b": ("trixie", 0), "c": ("trixie", 1)})
    assert error.value.problems == ["farm_tags gives b no tag, because it has no Debian packages, and so no suite "
                                    "and no date: add a tag such as latest or {id}"]
    with pytest.raises(BadInput) as error:
        tags.check(["{suite}-{date}", "{suite}", "latest"], {"a": ("trixie", 1), "b": ("x" * 125, 1)})
    assert len(error.value.problems) == 2
    assert "farm_tags: '{suite}-{date}' gives 'xxx" in error.value.problems[0]


def test_an_index_says_of_its_manifests_what_they_are(faulty: Faulty) -> None:
    made = faulty.image("a/b", "v1")
    faulty.said.update({"Content-Type": "text/plain"})
    (found,) = indexes.describe(to(faulty), "a/b", {AMD64: "v1"})
    assert found == oci.Manifest(made, len(faulty.manifests["a/b", "v1"][0]), oci.MANIFEST, AMD64)


def test_an_index_takes_no_manifest_of_another_platform_and_no_rubbish(faulty: Faulty) -> None:
    faulty.image("a/b", "v1")
    faulty.hold("a/b", "rubbish", b"<html>")
    with pytest.raises(FarmError) as error:
        indexes.describe(to(faulty), "a/b", {ARM64: "v1", AMD64: "rubbish"})
    assert "linux/arm64: v1 is for linux/amd64" in str(error.value)
    assert "linux/amd64: rubbish is not JSON" in str(error.value)


def test_an_index_that_is_pushed_was_read_whatever_the_registry_told_of_its_units(
    faulty: Faulty, chain: Catalog
) -> None:
    plan = chain.plan()
    keys = [key for key in plan.units if key.image == "debian"]
    digests = {key: faulty.image("desimages/debian", key.platform.slug, key.platform.architecture) for key in keys}
    outcomes = {key: Outcome(State.EXISTS, digests[key]) for key in keys}
    planned = Planned(plan, {}, keys, {}, [AMD64], [], False, {}, {}, 0.0)
    lies = dict.fromkeys(digests.values(), (1, "text/plain"))
    for moved in (["desimages/debian:latest"], []):
        lists = Lists(to(faulty), planned, outcomes, lies, "desimages", ["latest"])
        lists.finish()
        assert (lists.problems, lists.moved) == ({}, moved)
    value = json.loads(faulty.manifests["desimages/debian", "latest"][0])
    for child in value["manifests"]:
        assert child["mediaType"] == oci.MANIFEST
        assert child["size"] == len(faulty.manifests["desimages/debian", child["digest"]][0])


def test_the_tags_of_an_image_that_breaks_its_contract_stay_and_others_move(faulty: Faulty, chain: Catalog) -> None:
    plan = chain.plan()
    keys = [key for key in plan.units if key.image in ("debian", "base")]
    digests = {key: faulty.image(f"desimages/{key.image}", key.platform.slug, key.platform.architecture)
               for key in keys}
    outcomes = {key: Outcome(State.EXISTS, digests[key]) for key in keys}
    planned = Planned(plan, {}, keys, {}, [AMD64], [], False, {}, {}, 0.0)
    sizes = dict.fromkeys(digests.values(), (1, "text/plain"))
    would = Lists(to(faulty), planned, outcomes, sizes, "desimages", ["latest"], check=True)
    would.finish()
    assert would.moving == {"debian", "base"}
    lists = Lists(to(faulty), planned, outcomes, sizes, "desimages", ["latest"], held={"base": "  it does not stop"})
    lists.finish()
    assert lists.moved == ["desimages/debian:latest"] and lists.moving == {"debian"}
    assert lists.problems == {"base": "the tags of base stay where they are, because it breaks its contract:\n"
                                      "  it does not stop"}
    assert ("desimages/base", "latest") not in faulty.manifests
    again = Lists(to(faulty), planned, outcomes, sizes, "desimages", ["latest"], check=True)
    again.finish()
    assert again.moving == {"base"}
