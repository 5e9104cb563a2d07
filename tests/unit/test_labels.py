"""What an image says of itself: by its own recipe and catalog, and nothing that its parent says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Unit, make
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import LABEL

from .conftest import DEFAULTS, Catalog


@pytest.fixture
def foreign(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "foreign")


def unit(*catalogs: Catalog, image: str) -> Unit:
    recipes = load_catalog([str(catalog.root) for catalog in catalogs])
    plan = make(recipes, {name: read_sources(recipe) for name, recipe in recipes.items()}, "sha256:e", "ns")
    return plan.units[Key(image, "", AMD64)]


def said(found: Unit) -> dict[str, Any]:
    return {name.removeprefix(LABEL): text for name, text in found.labels.items()}


def test_the_images_of_another_catalog_are_not_said_to_be_ours(empty: Catalog, foreign: Catalog) -> None:
    foreign.image("theirs", "FROM scratch\nCOPY . /a\n")
    for defaults in (DEFAULTS, ""):
        foreign.write("defaults.yml", defaults or "{}")
        assert not {"vendor", "source"} & said(unit(foreign, image="theirs")).keys()
    foreign.write("defaults.yml", "vendor: Them\nsource: https://git.example.org/images\n")
    found = said(unit(foreign, image="theirs"))
    assert (found["vendor"], found["source"]) == ("Them", "https://git.example.org/images")
    assert (found["title"], "version" in found) == ("theirs", False)  # it is of no suite


def test_what_a_parent_says_of_itself_is_not_said_of_its_child(empty: Catalog, foreign: Catalog) -> None:
    """An image's configuration has its parent's labels, as far as it has none of that name."""
    empty.write("defaults.yml", f"{DEFAULTS}vendor: Us\nsource: https://git.example.org/ours\n")
    empty.image("ours", "FROM scratch\nCOPY . /a\n", "version: '1'\n")
    foreign.image("theirs", "FROM ours\nCOPY . /a\n")
    foreign.write("theirs/image.yml", "description: it\nlicense: MIT\nplatforms: [linux/amd64]\nversion: '2'\n")
    foreign.image("more", "FROM theirs\nCOPY . /a\n")
    foreign.write("more/image.yml", "description: it\nlicense: MIT\nplatforms: [linux/amd64]\n"
                                    "home: https://more.example.org\n")
    child, grandchild = unit(empty, foreign, image="theirs"), unit(empty, foreign, image="more")
    assert {name: text for name, text in said(child).items() if name in ("url", "vendor", "source", "version")} == {
        "url": "", "vendor": "", "source": "", "version": "2"}
    assert said(child)["base.name"] == "ns/ours"
    assert {name: text for name, text in said(grandchild).items() if name in ("url", "vendor", "version")} == {
        "url": "https://more.example.org", "vendor": "", "version": ""}
    assert all(child.annotations.values()) and f"{LABEL}url" not in child.annotations
