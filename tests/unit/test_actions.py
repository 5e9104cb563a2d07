"""What every action of the farm does with its arguments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction

CONNECTION = SimpleNamespace(_shell=SimpleNamespace(tmpdir="x"))


class Lays(FarmAction):
    """An action with a path that it needs, and one that it does not need."""

    DOCUMENTATION = ("options: {to: {type: path, required: true}, secrets: {type: path, default: ''}, "
                     "names: {type: list, elements: str, default: []}}")

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return arguments


def run(**given: str) -> dict[str, Any]:
    task = SimpleNamespace(args=given, async_val=0, check_mode=False, diff=False, environment=None, delegate_to=None)
    return Lays(task, CONNECTION, SimpleNamespace(check_mode=False), None, None, None).run(task_vars={})


@pytest.mark.parametrize("path", ["", " "])
def test_a_path_that_is_needed_must_not_be_empty(path: str) -> None:
    with pytest.raises(AnsibleActionFail, match="^to is empty: give a path$"):
        run(to=path)


def test_an_empty_text_is_no_list_of_one_empty_name() -> None:
    """`-e farm_images=` chooses as if it was left out."""
    assert run(to="/there", names="")["names"] == []
    assert run(to="/there", names="a,b")["names"] == ["a", "b"]


def test_a_list_as_a_text_may_have_spaces_and_a_last_comma() -> None:
    assert run(to="/there", names="a, b,")["names"] == ["a", "b"]


def test_a_path_that_is_not_needed_may_be_empty() -> None:
    assert run(to="/there")["secrets"] == ""
