"""A recipe whose versions are moved to the newest ones, and then locked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.lock import versions
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locked, Locker
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import LOCK, RECIPE
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe

from . import test_lock_go
from .conftest import Catalog
from .test_lock_go import needs_go, publish

proxy = test_lock_go.proxy  # a fixture
RECIPE_TEXT = """\
# for whoever reads it
inputs:
  app: {go: example.com/Big/app, version: v1.2.0, package: ./cmd/app}   # the program
  lib:
    go: example.com/lib
    version: "v1.0.0"    # with quotes
  file: {url: "http://127.0.0.1:9/a"}
  own: {go: ./own}
"""
DOCKERFILE = "FROM scratch\nCOPY --from=inputs /app /lib /file /\n"


@pytest.fixture
def catalog(empty: Catalog) -> Catalog:
    empty.image("web", DOCKERFILE, RECIPE_TEXT)
    empty.image("deb", "FROM scratch\nCOPY --from=inputs /a /a\n", "inputs:\n  a: {debian: [abc]}\n")
    empty.write("web/own/go.mod", "module example.com/own\n\ngo 1.21\n")
    return empty


@pytest.fixture
def recipes(catalog: Catalog) -> dict[str, Recipe]:
    return dict(load_catalog([str(catalog.root)], need_locks=False))


@pytest.fixture
def locker(proxy: Path, tmp_path: Path) -> Locker:
    return Locker(Origins({"go": f"file://{proxy}"}, here=Machine(), snapshots=False), tmp_path / "state")


@pytest.mark.parametrize(("names", "inputs"), [
    (["web"], {"app", "lib"}),
    (["web.lib"], {"lib"}),
    (["web.lib", "web.app"], {"app", "lib"}),
])
def test_an_image_means_all_inputs_whose_version_its_recipe_has(recipes, names, inputs):
    assert versions.chosen(recipes, names) == {"web": inputs}


def test_all_names_that_mean_nothing_are_told_at_once(recipes):
    with pytest.raises(BadInput) as raised:
        versions.chosen(recipes, ["wep", "web.libs", "web.file", "web.own", "deb"])
    assert len(raised.value.problems) == 5
    for text, said in zip(raised.value.problems, ("did you mean 'web'", "did you mean 'lib'", "no version to move",
                                                  "upgrade it in ./own", "lock it"), strict=True):
        assert said in text


def test_an_image_that_is_not_locked_cannot_be_moved(recipes):
    with pytest.raises(BadInput, match="leaves out"):
        versions.refuse_unchosen(["web"], [recipes["deb"]])


@needs_go
def test_only_the_versions_change_in_the_recipe(recipes, locker, proxy):
    before = (Path(recipes["web"].folder) / RECIPE).read_text()
    publish(proxy, "example.com/Big/app", "v1.3.0", {})
    found = versions.moved(locker, recipes["web"], {"app", "lib"})
    assert found.after == before.replace("v1.2.0", "v1.3.0").replace('"v1.0.0"', '"v1.1.0"')
    assert found.lines == ("image.yml: app: example.com/Big/app v1.2.0 -> v1.3.0",
                           "image.yml: lib: example.com/lib v1.0.0 -> v1.1.0")
    assert [found.recipe.input(name).spec["version"] for name in ("app", "lib")] == ["v1.3.0", "v1.1.0"]
    assert found.recipe.input("file") == recipes["web"].input("file")
    assert (Path(recipes["web"].folder) / RECIPE).read_text() == before, "it is written with the lock"


@needs_go
def test_nothing_changes_if_nothing_is_newer(recipes, locker):
    found = versions.moved(locker, recipes["web"], {"app"})
    assert (found.changed, found.lines, found.recipe) == (False, (), recipes["web"])


@needs_go
def test_the_recipe_stays_as_it_was_if_its_lock_cannot_be_written(recipes, locker, proxy, tmp_path):
    path = Path(recipes["web"].folder) / RECIPE
    before = path.read_text()
    publish(proxy, "example.com/Big/app", "v1.3.0", {})
    found = versions.moved(locker, recipes["web"], {"app"})
    (path.parent / LOCK).mkdir()  # so that nothing can be written there
    (path.parent / LOCK / "x").touch()
    with pytest.raises(OSError):
        found.write(Locked("web", str(path.parent), recipes["web"].lock, {}, changed=True))
    assert path.read_text() == before
    shutil.rmtree(path.parent / LOCK)


@needs_go
def test_a_version_that_cannot_be_asked_for_moves_nothing(recipes, locker, proxy):
    shutil.rmtree(proxy / "example.com" / "lib")
    with pytest.raises(FarmError, match=r"example\.com/lib"):
        versions.moved(locker, recipes["web"], {"app", "lib"})
