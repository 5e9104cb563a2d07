"""An image removed from the registry, with all that is kept of it, and nothing else."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import signature_tag

from .conftest import REGISTRY, STATE, Farm
from .small import Small, units
from .test_check import change


def kept(farm: Farm) -> dict[str, list[str]]:
    """The tags of each image, and of the archive."""
    names = ("box", "child", "grand", "other", "archive")
    return {name: Registry(REGISTRY).tags(f"{farm.defaults['farm_namespace']}/{name}") for name in names}


def test_an_image_that_is_removed_is_gone_and_its_children_stay_whole(own: Farm, small: Small) -> None:
    assert own.run().rc == 0
    before, namespace = kept(own), own.defaults["farm_namespace"]
    refused = own.run("playbooks/remove.yml", image="archive,Box")
    assert refused.rc != 0
    assert "'archive' is not an image" in refused.text and "'Box' must be" in refused.text.replace("\n", " ")
    check = own.run("playbooks/remove.yml", "--check", "--diff", image="child")
    assert (check.rc, check.changed) == (0, 1), check.text[-3000:]
    assert f"-{namespace}/child:latest sha256:" in check.text
    assert kept(own) == before

    done = own.run("playbooks/remove.yml", image="child,gone")
    assert (done.rc, done.changed) == (0, 1), done.text[-3000:]
    assert " of child. " in done.text and "the registry has nothing for gone" in done.text
    assert done.task("Remove")["children"] == ["grand"]
    assert done.task("Remove")["removed"] == check.task("Remove")["removed"]
    after = kept(own)
    assert after["child"] == []
    gone = {tag for tag in before["archive"] if tag not in after["archive"]}
    signed = {signature_tag(f"{namespace}/child", tag) for tag in before["child"] if tag.startswith(("b-", "c-"))}
    assert gone == {f"a-{tag[2:]}" for tag in before["child"] if tag.startswith("b-")} | signed
    assert {name: tags for name, tags in after.items() if name not in ("child", "archive")} == {
        name: tags for name, tags in before.items() if name not in ("child", "archive")
    }
    assert not list((STATE / "known" / REGISTRY / namespace / "child").glob("*.json"))
    assert own.run("playbooks/remove.yml", image="child").changed == 0
    assert own.run("playbooks/check.yml").rc == 0
    again = own.run(farm_images=["child"])
    assert (again.rc, again.built) == (0, units("child")), again.text[-3000:]


@pytest.mark.full
def test_an_image_whose_manifests_are_damaged_can_be_removed(own: Farm, small: Small) -> None:
    assert own.run(farm_images=["other"]).rc == 0
    for digest in own.index("other").values():
        change(digest)
    small.edit("other/other.txt", "other", "newer")
    assert own.run("playbooks/check.yml").rc != 0
    done = own.run("playbooks/remove.yml", image="other")
    assert done.rc == 0, done.text[-3000:]
    assert kept(own)["other"] == []
    assert own.run("playbooks/check.yml").rc == 0
    small.edit("other/other.txt", "newer", "other")
    again = own.run(farm_images=["other"])  # the same bytes: nothing damaged is in their place any more
    assert (again.rc, again.built) == (0, units("other")), again.text[-3000:]
    assert own.run("playbooks/check.yml").rc == 0
