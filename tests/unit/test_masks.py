"""Whatever mask a host or a person has, what the farm makes there is for nobody else to write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.modules import (
    engine,
    go_build,
    packages,
    probe,
    state_folder,
    supervised,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction

from .modules import result


@pytest.fixture(params=[0o000, 0o077], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def current() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found


@pytest.mark.parametrize("module", [engine, go_build, packages, probe, state_folder, supervised],
                         ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_module_that_root_runs_has_a_mask_of_its_own(mask: int, module: Any) -> None:
    assert result(module.main)["failed"], "its arguments are missing"
    assert current() == 0o022


class Looks(FarmAction):
    """An action that tells its mask."""

    DOCUMENTATION = "options: {}"

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return {"mask": current()}


def test_an_action_has_the_persons_mask_and_takes_from_others_the_right_to_write(mask: int) -> None:
    task = SimpleNamespace(args={}, async_val=0, check_mode=False, diff=False, environment=None, delegate_to=None)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="x"))
    action = Looks(task, connection, SimpleNamespace(check_mode=False), None, None, None)
    assert action.run(task_vars={})["mask"] == mask | 0o002
