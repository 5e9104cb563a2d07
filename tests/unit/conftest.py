"""Small catalogs made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.plan import Plan, Sources, make
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.contexts import read_sources

RECIPE = "description: {name}\nhome: https://example.org\nlicense: MIT\nplatforms: [linux/amd64, linux/arm64]\n"
DEFAULTS = "platforms: [linux/amd64, linux/arm64]\nbuild_platforms: [linux/amd64, linux/arm64]\nsuites: [trixie]\n"

CHAIN = {  # an image's folder -> its Dockerfile
    "debian": "FROM scratch\nCOPY etc /etc\n",
    "static": "FROM --platform=$BUILDPLATFORM debian AS made\nRUN true\nFROM scratch\nCOPY --from=made /a /a\n",
    "base": "FROM debian\nCOPY --from=static /a /a\n",
    "builder": "FROM debian AS go\nRUN true\nFROM debian AS c\nRUN false\n",
    "app": "FROM --platform=$BUILDPLATFORM builder-go AS build\nRUN make\nFROM static\nCOPY --from=build /out /\n",
}


class Catalog:
    """A catalog in a folder of its own; `write()` changes a file, `plan()` reads it all anew."""

    def __init__(self, root: Path) -> None:
        self.root = root / "images"
        self.write("defaults.yml", DEFAULTS)

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def image(self, name: str, dockerfile: str, extra: str = "") -> None:
        self.write(f"{name}/image.yml", RECIPE.format(name=name) + extra)
        self.write(f"{name}/Dockerfile", dockerfile)

    def plan(self, engine: str = "sha256:e") -> Plan:
        recipes = load_catalog([str(self.root)])
        return make(recipes, {name: read_sources(recipe) for name, recipe in recipes.items()}, engine, "desimages")

    def sources(self, name: str) -> Sources:
        """The files of an image."""
        return read_sources(load_catalog([str(self.root)])[name])

    def problems(self) -> list[str]:
        """What is wrong with the catalog, which is bad."""
        with pytest.raises(BadInput) as found:
            self.plan()
        return found.value.problems


@pytest.fixture
def empty(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path)


@pytest.fixture
def chain(empty: Catalog) -> Catalog:
    for name, dockerfile in CHAIN.items():
        empty.image(name, dockerfile, "targets: [go, c]\n" if name == "builder" else "")
    empty.write("debian/etc/motd", "hello\n")
    empty.write("app/README.md", "about\n")
    return empty
