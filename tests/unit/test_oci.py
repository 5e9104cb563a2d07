"""Indexes and tags."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, RegistryError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, ARMV6, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci, tags

MANIFESTS = [oci.Manifest(f"sha256:{number}", 7, "application/vnd.oci.image.manifest.v1+json", platform)
             for number, platform in enumerate((ARMV6, AMD64, ARM64))]


def test_the_same_manifests_in_any_order_give_the_same_bytes() -> None:
    assert oci.index(MANIFESTS, {"b": "1", "a": "2"}) == oci.index(MANIFESTS[::-1], {"a": "2", "b": "1"})


def test_an_index_has_what_the_specification_asks_for() -> None:
    value = json.loads(oci.index(MANIFESTS, {}))
    assert (value["schemaVersion"], value["mediaType"]) == (2, oci.INDEX)
    assert [child["platform"] for child in value["manifests"]] == [
        {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"},
        {"os": "linux", "architecture": "arm", "variant": "v6"}]
    assert set(value["manifests"][0]) == {"mediaType", "digest", "size", "platform"}
    assert "annotations" not in value


def test_platforms_that_the_farm_does_not_build_for_come_after_its_own() -> None:
    others = [oci.Manifest(f"sha256:{name}", 7, oci.MANIFEST, Platform(*name.split("/")))
              for name in ("windows/amd64", "linux/loong64")]
    value = json.loads(oci.index([*others, *MANIFESTS], {}))
    assert [oci.platform_name(child["platform"]) for child in value["manifests"]] == [
        "linux/amd64", "linux/arm64", "linux/arm/v6", "linux/loong64", "windows/amd64"]


def test_an_index_can_be_read_as_lines() -> None:
    assert oci.lines(oci.index(MANIFESTS[:1], {"c": "d", "a": "b"})) == ["linux/arm/v6 sha256:0", "a=b", "c=d"]
    assert oci.lines(None) == []


@pytest.mark.parametrize(("data", "found"), [
    (b"<html>", ["not an index"]),
    (b"[]", ["not an index"]),
    (b'{"layers": []}', ["not an index"]),
    (b'{"manifests": 7, "annotations": {"b": "c", "a": "b"}}', ["a=b", "b=c"]),
    (b'{"manifests": [{"digest": "x"}, 7]}', [" x", " 7"]),
    ('{"manifests": [], "annotations": {"a": "\u00e4\\u001b"}}'.encode(), [r"'a=\xe4\x1b'"]),
])
def test_whatever_a_tag_holds_can_be_shown_as_lines(data: bytes, found: list[str]) -> None:
    assert oci.lines(data) == found


def test_content_is_named_by_its_sha256() -> None:
    assert oci.digest(b"a") == "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


# https://github.com/opencontainers/image-spec/blob/main/media-types.md and
# https://distribution.github.io/distribution/spec/manifest-v2-2/
OCI_INDEX, OCI_MANIFEST = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.mark.parametrize(("value", "kind"), [
    ({"manifests": []}, OCI_INDEX),
    ({"manifests": [], "mediaType": OCI_INDEX}, OCI_INDEX),
    ({"manifests": [], "mediaType": DOCKER_LIST}, DOCKER_LIST),
    ({"manifests": [], "mediaType": OCI_MANIFEST}, ""),
    ({"manifests": {}}, ""),
    ({"config": {}, "layers": []}, OCI_MANIFEST),
    ({"config": {}, "layers": [], "mediaType": OCI_MANIFEST}, OCI_MANIFEST),
    ({"config": {}, "layers": [], "mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST),
    ({"config": {}, "layers": [], "mediaType": DOCKER_LIST}, ""),
    ({"config": {}, "layers": [], "mediaType": 7}, ""),
    ({"config": {}, "layers": {}}, ""),
    ({"config": [], "layers": []}, ""),
    ({"layers": []}, ""),
    ({"config": {}}, ""),
    ({}, ""),
    ([], ""),
])
def test_a_manifest_is_what_it_holds_and_says(value: object, kind: str) -> None:
    assert oci.media_type(json.dumps(value).encode()) == kind


@pytest.mark.parametrize(("data", "first"), [
    (b'{"schemaVersion": 1, "signatures": []}', True),
    (b'{"schemaVersion": 2}', False),
    (b"{}", False),
    (b"<html>", False),
])
def test_a_manifest_of_dockers_first_kind_is_known(data: bytes, first: bool) -> None:
    assert oci.signed(data) is first


def descriptor(text: str, **more: object) -> dict[str, Any]:
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return {"digest": digest, "size": len(text), "mediaType": "x/" + text, **more}


def test_a_manifest_is_read_with_what_it_is_made_of() -> None:
    config, first, last = (descriptor(text) for text in ("config", "first", "last"))
    last["annotations"] = {"org.opencontainers.image.title": "etc/motd", "other": "x"}
    found = oci.read(json.dumps({"config": config, "annotations": {"a": "b", "c": 7}, "layers": [
        first, descriptor("elsewhere", urls=["https://example.org/x"]), last]}).encode(), "r/a:b")
    assert (found.media_type, found.manifests, found.annotations) == (OCI_MANIFEST, (), {"a": "b"})
    assert found.config == oci.Descriptor(config["digest"], 6, "x/config")
    assert found.blobs == (found.config, oci.Descriptor(first["digest"], 5, "x/first"),
                           oci.Descriptor(last["digest"], 4, "x/last", annotations=last["annotations"]))


def test_an_index_is_read_with_its_platforms() -> None:
    children = [descriptor("a", platform={"os": "linux", "architecture": "arm", "variant": "v6", "features": []}),
                descriptor("", platform=None)]
    value = {"mediaType": DOCKER_LIST, "manifests": children, "annotations": {"a": "b"}}
    platform = {"os": "linux", "architecture": "arm", "variant": "v6"}
    assert oci.read(json.dumps(value).encode(), "r/a:b") == oci.Content(
        DOCKER_LIST, (oci.Descriptor(children[0]["digest"], 1, "x/a", platform),
                      oci.Descriptor(children[1]["digest"], 0, "x/")), annotations={"a": "b"})


@pytest.mark.parametrize(("value", "said"), [
    ("[]", "r/a:b is not a JSON object"),
    ("<html>", "r/a:b is not JSON: "),
    ("[" * 100_000, "r/a:b is not JSON: "),
    ({}, "r/a:b is neither a manifest nor an index that the farm knows: mediaType 'none'"),
    ({"manifests": [], "mediaType": "x/y"}, "r/a:b is neither a manifest nor an index that the farm knows: mediaType"
     " 'x/y'"),
    ({"schemaVersion": 1, "fsLayers": []}, "r/a:b is a manifest of Docker's first kind (schema 1), which is not"),
    ({"manifests": [descriptor("a", digest="sha512:" + "0" * 128)]}, "r/a:b names content by sha512, which the farm "
     "cannot check: it knows sha256 alone"),
    ('{"manifests": [], "annotations": {"a": "\\uD800"}}', "r/a:b has text that is not Unicode"),
    ({"manifests": [7]}, "r/a:b names content by '7', which is not a descriptor"),
    ({"config": {}, "layers": [7]}, "r/a:b names content with the digest 'None', the size 'None' and the media type"
     " 'None': one of these is not valid"),
    ({"config": descriptor("a"), "layers": [7]}, "r/a:b names content by '7', which is not a descriptor"),
    *(({"manifests": [descriptor("a", **{name: wrong})]}, f"{wrong!r}") for name, wrong in (
        ("digest", "sha256:1"), ("digest", "sha512:" + "0" * 64), ("size", -1), ("size", True), ("size", 1.5),
        ("mediaType", 7))),
])
def test_what_a_registry_cannot_mean_is_refused(value: object, said: str) -> None:
    with pytest.raises(RegistryError) as error:
        oci.read((value if isinstance(value, str) else json.dumps(value)).encode(), "r/a:b")
    assert said in str(error.value)


def test_tags_with_an_id_come_first_and_never_move() -> None:
    found, fixed = tags.render(["latest", "{suite}-{date}", "{suite}-{date}-{id}"], suite="trixie", epoch=1795432958,
                               digest="sha256:0123456789ab")
    assert found == ["trixie-20261123-01234567", "latest", "trixie-20261123"]
    assert fixed == ["trixie-20261123-01234567"]


def test_tags_of_one_platform_say_so() -> None:
    found, fixed = tags.render(["latest", "{id}"], suite="trixie", epoch=1, digest="sha256:01", suffix="arm-v6")
    assert (found, fixed) == (["01-arm-v6", "latest-arm-v6"], ["01-arm-v6"])


@pytest.mark.parametrize(("template", "found"), [
    ("{suite}-{date}", []), ("{suite}-{date}-{id}", ["01234567"]), ("v1-{date}", ["v1"]), ("{date}.{id}", ["01234567"]),
    ("v1-{suite}.{date}_{id}", ["v1_01234567"]), ("latest", ["latest"]),
])
def test_what_has_no_snapshot_is_of_no_suite_and_no_date(template: str, found: list[str]) -> None:
    made, fixed = tags.render([template, template], suite="trixie", epoch=0, digest="sha256:0123456789")
    assert (made, fixed) == (found, found if "{id}" in template else [])


def test_all_wrong_templates_are_named_at_once() -> None:
    with pytest.raises(BadInput) as found:
        tags.render(["{snapshot}", "{0}", "latest", "a{", "-{suite}"], suite="trixie", epoch=1, digest="sha256:0")
    known = "has an unknown field; allowed: date, id, suite"
    assert [problem.partition(", it must be")[0] for problem in found.value.problems] == [
        f"farm_tags: '{{snapshot}}' {known}", f"farm_tags: '{{0}}' {known}", f"farm_tags: 'a{{' {known}",
        "farm_tags: '-{suite}' gives '-trixie'"]
    assert "the inventory" in str(found.value)


@pytest.mark.parametrize(("templates", "wrong"), [
    (["{suite}-{date}-{id}", "latest"], 0),
    (["{suite}-" + "x" * 112], 0),  # and -riscv64, the longest name of a platform: 128
    (["{suite}-" + "x" * 114], 1),
    (["{arch}", "{suite}:{date}"], 2),
])
def test_templates_are_tried_before_there_is_any_image(templates: list[str], wrong: int) -> None:
    """Each mistake is told once, for however many images; the tag of each platform alone must fit too."""
    try:
        tags.check(templates, {"a": ("trixie", 1), "b": ("trixie", 2)})
        problems = []
    except BadInput as error:
        problems = error.problems
        assert "the inventory" in str(error)
    assert len(problems) == wrong
