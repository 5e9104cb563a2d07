"""Indexes and tags."""

from __future__ import annotations

import json

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, ARMV6
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


def test_an_index_can_be_read_as_lines() -> None:
    assert oci.lines(oci.index(MANIFESTS[:1], {"a": "b"})) == ["linux/arm/v6 sha256:0", "a=b"]
    assert oci.lines(None) == []


def test_tags_with_an_id_come_first_and_never_move() -> None:
    found, fixed = tags.render(["latest", "{suite}-{date}", "{suite}-{date}-{id}"], suite="trixie", epoch=1795432958,
                               digest="sha256:0123456789ab")
    assert found == ["trixie-20261123-01234567", "latest", "trixie-20261123"]
    assert fixed == ["trixie-20261123-01234567"]


def test_tags_of_one_platform_say_so() -> None:
    assert tags.render(["latest"], suite="trixie", epoch=0, digest="sha256:0", suffix="arm-v6")[0] == ["latest-arm-v6"]


def test_all_wrong_templates_are_named_at_once() -> None:
    with pytest.raises(BadInput) as found:
        tags.render(["{snapshot}", "{0}", "latest"], suite="trixie", epoch=0, digest="sha256:0")
    assert len(found.value.problems) == 2
