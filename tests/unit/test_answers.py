"""What a node answers that is not, or no longer, ours: it ends the node's part in a run, and no other node's."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.build.link import LONGEST
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import FINISHED, LARGEST, SLOWEST, Node
from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import MOST, slots, speed

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
    *(json.dumps([{**GOOD, "elapsed": 0.5}]).replace("0.5", number) for number in ("1e999", "1" + 400 * "0", "-1e30")),
    json.dumps([{**GOOD, "other": "x" * LARGEST}]), json.dumps([{**GOOD, "rest": "1"}]),
    "[" * 100_000, "{}", "null", "",
])
def test_a_wrong_answer_is_refused(answer: str) -> None:
    with pytest.raises(FarmError, match=r"^pi: the runner"):
        node(answer).turn([], ["a"], [], 0, 1)


def test_a_text_that_cannot_be_written_is_made_one_that_can() -> None:
    (state,) = node(json.dumps([{**GOOD, "error": "\ud800!"}])).turn([], ["a"], [], 0, 1)
    assert state["error"] == "?!"


def test_only_what_was_asked_for_is_passed_on() -> None:
    assert node(json.dumps([{**GOOD, "other": "x"}])).turn([], ["a"], [], 0, 1) == [GOOD]


@pytest.mark.parametrize("number", ["1e999", "1" + 400 * "0"])
def test_a_node_that_says_that_it_has_more_than_there_is_gets_no_work(number: str) -> None:
    found = {"machine": "x86_64", "node": {"cores": 0.5, "memory": 1 << 30}, "finished": [], "apart": ""}
    with pytest.raises(FarmError, match="^pi: the runner's answer is not JSON"):
        node(json.dumps(found).replace("0.5", number)).prepare()


def test_a_node_cannot_have_all_slots_of_the_world() -> None:
    assert slots({"cores": 1e17, "memory": 1 << 59}) == MOST


@pytest.mark.parametrize(("found", "its_slots", "guess"), [
    ({}, 4, 1.0),
    ({"speed": 0.05, "cores": 1.0}, 2, 0.05),
    ({"speed": 1.2, "cores": 0.12}, 1, 0.288),  # a slot has a quarter of what it has elsewhere
    ({"speed": 1.2, "cores": 8.0}, 4, 1.2),
    ({"speed": 1e9, "cores": 1.0}, 2, 1.0),
    ({"speed": float("nan"), "cores": 1.0}, 2, 1.0),
    ({"speed": 1.0, "cores": -1.0}, 2, 1.0),
])
def test_the_first_guess_of_a_nodes_speed_is_what_was_measured(
        found: dict[str, Any], its_slots: int, guess: float) -> None:
    assert speed(found, its_slots) == pytest.approx(guess)


def test_the_largest_answer_fits_into_a_line_for_the_broker() -> None:
    """A character that is replaced becomes the longest."""
    answer = json.dumps([{**GOOD, "notes": ["\x7f" * (LARGEST - 500)]}], ensure_ascii=False)
    node = Node("pi", lambda command, stdin, seconds: (0, answer, ""), lambda: "python3", "/x")
    assert LARGEST < len(json.dumps(node.turn([], [GOOD["id"]], [], 0, 1))) < LONGEST


def test_a_node_that_names_more_jobs_than_a_run_leaves_is_refused() -> None:
    found = {"machine": "x86_64", "node": {}, "finished": (FINISHED + 1) * [{"id": "a", "digest": "b"}], "apart": ""}
    with pytest.raises(FarmError, match="does not fit the question"):
        node(json.dumps(found)).prepare()


def test_much_that_is_sent_may_take_longer() -> None:
    given: list[tuple[int, float]] = []

    def execute(command: str, stdin: str, seconds: float) -> tuple[int, str, str]:
        given.append((len(stdin), seconds))
        return 0, "[]", ""

    slow = Node("pi", execute, lambda: sys.executable, "/farm")
    for size in (0, 2 << 20):  # the second takes 17 s at 1 Mbit/s, if nothing else is sent
        slow.turn([{"id": "a", "files": "x" * size}], [], [], 5, 1)
    (small, before), (large, after) = given
    assert after - before == pytest.approx((large - small) / SLOWEST) and after > 100


def test_what_people_see_of_a_node_commands_no_terminal() -> None:
    said = {**GOOD, "error": "\x1b[31mred\x1b[0m\n\tof \u20ac \x1b]0;title\x07\u202e",
            "tail": ["\x1b[2J"], "log": "\x1b[31mx"}
    (state,) = node(json.dumps([said])).turn([], ["a"], [], 0, 1)
    gone = "\ufffd"
    assert state["error"] == f"red\n\tof \u20ac {gone}]0;title{gone}{gone}"
    assert (state["tail"], state["log"]) == ([f"{gone}[2J"], "\x1b[31mx")


@pytest.mark.parametrize("code", [137, 143])
def test_a_runner_that_was_killed_is_tried_again(code: int) -> None:
    with pytest.raises(Unreachable, match=f"killed by signal {code - 128}"):
        node("", code).turn([], ["a"], [], 0, 1)
