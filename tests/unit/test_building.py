"""Handing out batches: a real runner, and units whose files nobody has, so that each fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.module_utils.schedule import Scheduler, State
from ansible_collections.desimages.farm.plugins.plugin_utils import building
from ansible_collections.desimages.farm.plugins.plugin_utils.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.run import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.store import Store

from .conftest import Catalog
from .test_runner import Local

NOWHERE = "127.0.0.1:9"


@pytest.fixture
def builder(empty: Catalog, tmp_path: Path) -> Iterator[building.Builder]:
    for number in range(6):
        empty.image(f"image{number}", "FROM scratch\nCOPY . /\n")
    recipes, plan = load_catalog([str(empty.root)]), empty.plan()
    sources = {name: read_sources(recipe) for name, recipe in recipes.items()}
    local = Local(tmp_path)
    farm = building.Farm(Registry(NOWHERE), "desimages", str(tmp_path), str(local.socket), "/nowhere/buildctl", 2)
    yield building.Builder(farm, Run.begin(str(tmp_path)), local.node, plan, sources, Scheduler(plan, list(plan.units), {}, AMD64), {},
                           print, print, Archive(farm.registry, farm.namespace, Store(tmp_path / "store")), {})
    local.engine.close()


def test_what_a_node_had_no_slot_for_comes_again(builder: building.Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "WAIT", 0.0)  # a turn starts what it can, and does not wait for a slot
    said: list[str] = []
    builder.say = said.append
    builder.build()
    assert {outcome.state for outcome in builder.scheduler.outcomes.values()} == {State.FAILED}
    began = [line for line in said if line.endswith("building on here")]
    assert len(began) == 18  # each batch of two platforms, and then each of them alone
    assert builder.count > len(began)
    assert not list((tmp_path / "jobs").iterdir())


def test_a_builder_whose_ansible_playbook_is_gone_builds_no_more(builder: building.Builder) -> None:
    builder.parent = -1
    with pytest.raises(FarmError, match="ansible-playbook is gone"):
        builder.build()
    assert {outcome.state for outcome in builder.scheduler.outcomes.values()} == {State.LEFT}
    assert builder.count == 0
