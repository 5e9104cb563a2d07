"""What a node answers that is not, or no longer, ours: it ends the node's part in a run, and no other node's."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node

GOOD: dict[str, Any] = {"id": "a", "state": "running", "elapsed": 1.0, "age": 1, "steps": 2, "done": 1,
                        "running": "RUN", "notes": ["x"], "tail": []}


def node(answer: str, code: int = 0) -> Node:
    return Node("pi", lambda command, stdin, seconds: (code, answer, "said"), lambda: sys.executable, "/farm")


def test_a_right_answer_is_taken() -> None:
    assert node(json.dumps([GOOD])).turn([], ["a"], [], 0, 1) == [GOOD]


@pytest.mark.parametrize("answer", [
    json.dumps([GOOD, GOOD]),
    *(json.dumps([{**GOOD, name: value}]) for name, value in (
        ("id", "b"), ("elapsed", "1"), ("steps", "3"), ("notes", 1), ("notes", [1]), ("log", 5), ("refused", {}),
        ("error", None), ("running", []), ("full", "yes"))),
    json.dumps([{**GOOD, "elapsed": float("inf")}]), json.dumps([{**GOOD, "age": float("nan")}]),
    "[" * 100_000, "{}", "null", "",
])
def test_a_wrong_answer_is_refused(answer: str) -> None:
    with pytest.raises(FarmError, match=r"^pi: the runner"):
        node(answer).turn([], ["a"], [], 0, 1)


def test_a_text_that_cannot_be_written_is_made_one_that_can() -> None:
    (state,) = node(json.dumps([{**GOOD, "error": "\ud800!"}])).turn([], ["a"], [], 0, 1)
    assert state["error"] == "?!"


@pytest.mark.parametrize("code", [137, 143])
def test_a_runner_that_was_killed_is_tried_again(code: int) -> None:
    with pytest.raises(Unreachable, match=f"killed by signal {code - 128}"):
        node("", code).turn([], ["a"], [], 0, 1)
