"""Handing out batches: a real runner, and units whose files nobody has or whose buildctl is a script, so that each
fails."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.builder import Builder, Farm
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.schedule import Scheduler, State, Worker
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import policy
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import Catalog
from .test_runner import Local

NOWHERE = "127.0.0.1:9"
BUILDCTL = """#!/bin/sh
for word in "$@"; do case $word in --source-policy-file=*) cp "${word#*=}" "$0.$$" ;; esac; done
exit 1
"""


@pytest.fixture
def builder(empty: Catalog, tmp_path: Path) -> Iterator[Builder]:
    for number in range(6):
        empty.image(f"image{number}", "FROM scratch\nCOPY . /\n")
    recipes, plan = load_catalog([str(empty.root)]), empty.plan()
    sources = {name: read_sources(recipe) for name, recipe in recipes.items()}
    local = Local(tmp_path)
    farm = Farm(Registry(NOWHERE), "desimages", str(tmp_path), str(local.socket), "/nowhere/buildctl", 2)
    scheduler = Scheduler(plan, list(plan.units), {})
    scheduler.join(Worker(local.node.name, (AMD64,), slots=2), 0)
    yield Builder(farm, Run.begin(str(tmp_path), os.getpid()), local.node, plan, sources,
                  scheduler, {},
                  print, print, Archive(farm.registry, farm.namespace, Store(tmp_path / "store")), {})
    local.engine.close()


def test_what_a_node_had_no_slot_for_comes_again(builder: Builder, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Builder.__module__}.WAIT", 0.0)  # a turn starts what it can, and does not wait for a slot
    said: list[str] = []
    builder.say = said.append
    builder.build()
    assert {outcome.state for outcome in builder.scheduler.outcomes.values()} == {State.FAILED}
    began = [line for line in said if line.endswith("building on here")]
    assert len(began) == 18  # each batch of two platforms, and then each of them alone
    assert builder.count > len(began)
    assert not list((tmp_path / "jobs").iterdir())


def test_a_builder_whose_ansible_playbook_is_gone_builds_no_more(builder: Builder) -> None:
    builder.parent = -1
    with pytest.raises(FarmError, match="ansible-playbook is gone"):
        builder.build()
    assert {outcome.state for outcome in builder.scheduler.outcomes.values()} == {State.LEFT}
    assert builder.count == 0


def test_a_unit_that_this_node_cannot_build_does_not_keep_the_run_waiting(builder: Builder, empty: Catalog) -> None:
    empty.image("own", "FROM scratch\nRUN [\"/x\"]\n")
    key = Key("own", "", ARM64)
    builder.scheduler = Scheduler(empty.plan(), [key], {})
    builder.scheduler.join(Worker(builder.node.name, (AMD64,)), 0)
    builder.build()
    assert builder.scheduler.outcomes[key].error.startswith("cannot be built: no node that is there runs linux/arm64")


def test_every_build_that_a_node_starts_has_the_source_policy(builder: Builder, empty: Catalog,
                                                              tmp_path: Path) -> None:
    for path in empty.root.glob("*/*"):
        kept = builder.archive.store.path(sha256_of(str(path)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
    buildctl = tmp_path / "buildctl"
    buildctl.write_text(BUILDCTL)
    buildctl.chmod(0o755)
    builder.farm = replace(builder.farm, buildctl=str(buildctl))
    builder.build()
    found = [json.loads(path.read_text()) for path in tmp_path.glob("buildctl.*")]
    assert found == [policy(NOWHERE, "desimages")] * 18  # as above


def test_a_batch_that_ended_unseen_began_when_it_did(builder: Builder,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    spec = builder._begin(builder.scheduler.claim(builder.node.name, 0, 1)[0])
    ended = {"id": spec["id"], "state": "failed", "full": True, "elapsed": 1.0, "age": 3.0, "log": ""}
    monkeypatch.setattr(builder.node, "turn", lambda *arguments: [ended])
    builder.began -= 10
    builder._look([spec], [])
    (timing,) = builder.timings
    assert timing["began"] == pytest.approx(7, abs=0.5)
    assert timing["ended"] == pytest.approx(8, abs=0.5)
