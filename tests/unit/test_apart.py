"""Locks of images that descend from each other are for the same versions, or the lock step says so."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.apart import apart
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock

from .conftest import Catalog

INPUT = "inputs:\n  all: {{debian: [libc6]{more}}}\n"
TAKES = "COPY --from=inputs /all /\n"


def lock(*packages: str) -> Lock:
    """`libc6 1 linux/arm64` -> a lock."""
    entries = [Entry("all", "debian", "0" * 64, 1, platform, (("name", name), ("version", version)), "", "")
               for name, version, platform in map(str.split, packages)]
    return Lock(tuple(entries))


@pytest.fixture
def catalog(empty: Catalog) -> Catalog:
    empty.image("debian", f"FROM scratch\n{TAKES}", INPUT.format(more=""))
    empty.image("base", "FROM debian\n")
    empty.image("server", f"FROM base AS first\nFROM first\n{TAKES}", INPUT.format(more=""))
    empty.image("client", f"FROM base\n{TAKES}", INPUT.format(more=""))
    empty.image("program", "FROM base\nCOPY --from=build-inputs /all /\n", INPUT.format(more=", for: build"))
    return empty


@pytest.mark.parametrize(("debian", "server", "locked", "said"), [
    ("libc6 1 linux/arm64", "libc6 1 linux/arm64", "server", []),
    ("libc6 1 linux/arm64", "libc6 2 linux/arm64", "server", ["libc6 2, there 1 (linux/arm64)."]),
    ("libc6 1 linux/arm64", "libc6 2 linux/arm64", "debian", ["libc6 2, there 1 (linux/arm64)."]),
    ("libc6 1 linux/arm64", "libc6 2 linux/arm64", "client", []),
    ("libc6 1 linux/arm64", "libc6 2 linux/amd64", "server", []),
    ("libc6 1 linux/arm64,libc6 1 linux/amd64,a 1 linux/amd64",
     "libc6 2 linux/arm64,libc6 2 linux/amd64,a 3 linux/amd64,b 1 linux/amd64", "server",
     ["a 3, there 1 (linux/amd64); libc6 2, there 1 (linux/amd64, linux/arm64)."]),
])
def test_other_versions_than_those_of_an_ancestor_are_told(catalog: Catalog, debian: str, server: str, locked: str,
                                                           said: list[str]) -> None:
    recipes = load_catalog([str(catalog.root)], need_locks=False)
    locks = {**{name: recipe.lock for name, recipe in recipes.items()}, "debian": lock(*debian.split(",")),
             "server": lock(*server.split(",")), "program": lock("libc6 9 linux/arm64")}
    found = list(apart(recipes, locks, {locked}))
    assert [text.partition("descends: ")[2].partition(" debian-extract")[0] for text in found] == said
    assert all(text.startswith("server has packages in other versions than debian, from which it descends")
               and text.endswith("farm_images=debian,server") for text in found)
