"""What units are made of is brought in image by image: one image's trouble costs that image's units alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import NoSpace, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.inputs import Fetch, place
from ansible_collections.desimages.farm.plugins.plugin_utils.build.mender import unpacked
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, make
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import Catalog
from .entries import deb


class Shelf:
    """An archive that takes everything."""

    def recall(self, entries: list) -> list:
        return []

    def keep(self, files: object) -> int:
        return len(list(files))  # type: ignore[call-overload]


@pytest.fixture
def fetch(chain: Catalog, tmp_path: Path) -> Fetch:
    chain.write("static/a", "a\n")
    recipes = load_catalog([str(chain.root)])
    sources = {name: read_sources(recipe) for name, recipe in recipes.items()}
    made = Fetch(make(recipes, sources, "e", "desimages"), sources, [AMD64],
                 {"state": str(tmp_path / "state"), "origins": {}, "registry": "127.0.0.1:1",
                  "namespace": "desimages", "secrets": "", "signing_key": "", "trusted_keys": []}, lambda line: None)
    made.archive = Shelf()  # type: ignore[assignment]
    return made


def test_a_file_that_somebody_edits_meanwhile_costs_only_its_image(fetch: Fetch, chain: Catalog) -> None:
    chain.write("debian/etc/motd", "changed\n")
    refused = fetch.all(fetch.plan.units)
    assert {key.image for key in refused} == {"debian"}
    assert all("was changed during the run" in error for error in refused.values())
    assert {key.image for key in fetch.trees} == {"static", "base", "builder", "app"}


def test_a_file_that_is_gone_costs_only_its_image(fetch: Fetch, chain: Catalog) -> None:
    (chain.root / "static/a").unlink()
    assert {key.image for key in fetch.all(fetch.plan.units)} == {"static"}


@pytest.mark.parametrize("error", [NoSpace("full"), Unreachable("the registry cannot be reached")])
def test_what_would_stop_every_image_stops_at_once(fetch: Fetch, error: Exception) -> None:
    asked = []

    def keep(files: object) -> int:
        asked.append(files)
        raise error

    fetch.archive.keep = keep  # type: ignore[method-assign,assignment]
    with pytest.raises(type(error)):
        fetch.all(fetch.plan.units)
    assert len(asked) == 1


def test_without_a_registry_everything_is_to_be_archived_and_nobody_waits_for_it(fetch: Fetch) -> None:
    fetch.archive = Archive(Registry("127.0.0.1:1"), "desimages", fetch.store)
    before = time.monotonic()
    assert fetch.lacks(fetch.plan.units)
    assert time.monotonic() - before < 10  # seconds; a run is patient for three minutes
    assert not fetch.lacks([])


def test_inputs_are_brought_for_the_build_platforms_of_the_nodes_that_are_there(chain: Catalog, fetch: Fetch) -> None:
    """A repair puts back what was unpacked for others as well."""
    seeds = {platform: deb("apt", given="seed", platform=str(platform), sha256=str(platform)[-1] * 64)
             for platform in (AMD64, ARM64)}
    made_for = {"seed": {"packages": ["apt"], "essential": False, "for": "build", "suites": ["trixie"]}}
    chain.image("own", "FROM --platform=$BUILDPLATFORM unpacked-seed AS made\nFROM scratch\nCOPY --from=made / /\n",
                "inputs:\n  seed: {debian: [apt], for: build}\n")
    chain.write("own/lock.jsonl", lockfile.dump(Lock(tuple(seeds.values()), "20261123T112238Z", made_for=made_for)))
    plan = chain.plan()
    unit = plan.units[Key("own", "", ARM64)]
    for builds in ([AMD64], [ARM64], [ARM64, AMD64]):
        fetch.plan, fetch.builds = plan, builds
        assert fetch._entries(unit) == [seeds[build] for build in builds]
    assert sorted(unpacked(plan).values()) == [("own", "seed", AMD64), ("own", "seed", ARM64)]


def test_a_file_is_named_by_its_line_in_the_lock(fetch: Fetch) -> None:
    recipe = fetch.plan.recipes["debian"]
    entry = deb("libc6")
    assert place(recipe, entry) == ""
    object.__setattr__(entry, "line", 7)
    assert place(recipe, entry) == "images/debian/lock.jsonl:7: "
