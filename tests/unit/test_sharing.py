"""How testers share images: each is run once, by a machine of its platform where there is one, and what a lost tester
had goes to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import sharing, trials

AMD64, ARM64, S390X = "linux/amd64", "linux/arm64", "linux/s390x"
PI, SERVER = {ARM64: "native"}, {AMD64: "native", ARM64: "emulated", S390X: "emulated"}


def units(**platforms: str) -> dict[str, str]:
    return {f"{name} {platform}": platform for name, platform in platforms.items()}


def test_a_platform_is_emulated_only_if_nobody_runs_it() -> None:
    state = sharing.of(units(a=ARM64, b=AMD64, c=S390X), {"pi": PI, "server": SERVER})
    assert state.claim("server") == "b linux/amd64"
    assert state.claim("server") == "c linux/s390x"
    assert state.claim("server") == ""
    assert state.claim("pi") == "a linux/arm64"
    state.lose("pi", "gone")
    assert state.claim("server") == "a linux/arm64"


def test_what_few_can_run_comes_first() -> None:
    state = sharing.of(units(a=AMD64, b="linux/386"), {"old": {"linux/386": "native", AMD64: "native"},
                                                       "new": {AMD64: "native"}})
    assert state.claim("old") == "b linux/386"
    assert [state.claim("new"), state.claim("old")] == ["a linux/amd64", ""]


def test_what_a_tester_cannot_check_another_tries_and_the_last_word_counts() -> None:
    state = sharing.of(units(a=ARM64), {"pi": PI, "pi2": PI, "server": SERVER})
    assert state.claim("pi") == "a linux/arm64"
    assert not state.end("a linux/arm64", "pi", good=False)
    assert state.claim("pi") == state.claim("server") == ""
    assert state.claim("pi2") == "a linux/arm64"
    assert not state.end("a linux/arm64", "pi2", good=False)
    assert state.claim("server") == "a linux/arm64"
    assert state.end("a linux/arm64", "server", good=False)
    assert not any(state.awaits(name, patient=True) for name in state.testers)


def test_a_tester_waits_for_what_others_may_lose_and_for_nothing_else() -> None:
    state = sharing.of(units(a=ARM64, b=S390X), {"pi": PI, "server": SERVER, "z": {S390X: "native"}})
    assert state.awaits("server", patient=True)  # the others have not come yet
    assert not state.awaits("server", patient=False)
    state.joined += ["pi", "server"]
    assert state.awaits("server", patient=False)
    unit = state.claim("pi")
    assert state.awaits("server", patient=False) and not state.awaits("pi", patient=False)
    state.end(unit, "pi", good=True)
    assert not state.awaits("server", patient=False)
    state.lose("z", "gone")
    assert state.claim("server") == "b linux/s390x"


class Machine:
    """Runs images without a machine. `fails` and `dies` are how names of units begin; `sick` is what it says of
    itself."""

    def __init__(self, name: str, *, fails: str | tuple[str, ...] = "", dies: str = "", sick: str = "",
                 before: Callable[[], None] = lambda: None) -> None:
        self.name, self.fails, self.dies, self.sick, self.before = name, fails, dies, sick, before
        self.ran: list[str] = []

    def run(self, subject: Any) -> dict[str, Any]:
        self.before()
        self.ran.append(subject["unit"])
        if self.dies and subject["unit"].startswith(self.dies):
            raise Unreachable(f"no route to {self.name}")
        if self.fails and subject["unit"].startswith(self.fails):
            return {"failed": True, "msg": f"no room on {self.name}", "invocation": {}}
        time.sleep(0.01)
        return {"ran_by": "native", "findings": [], "facts": {"metrics": "{{{"}, "seconds": 0.1}


def together(folder: Path, wanted: dict[str, str], runs: dict[str, dict[str, str]], *testers: Machine
             ) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What each tester returned, and what was said."""
    subjects = [{"unit": unit, "promises": {"metrics": "http://a/"}} for unit in wanted]
    found: dict[str, dict[str, Any]] = {}
    said: list[str] = []

    def work(tester: Machine) -> None:
        board = trials.board(str(folder), "t", wanted, runs)
        found[tester.name] = trials.work(board, tester.name, subjects, tester.run, lambda: tester.sick, said.append)

    threads = [threading.Thread(target=work, args=(tester,)) for tester in testers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return found, said


def checked(found: dict[str, dict[str, Any]]) -> list[str]:
    return sorted(result["unit"] for done in found.values() for result in done["results"])


def test_several_testers_run_each_image_once(tmp_path: Path) -> None:
    wanted = units(**{f"i{number}": AMD64 for number in range(40)})
    testers = [Machine(name) for name in ("x", "y", "z")]
    found, _said = together(tmp_path, wanted, {one.name: {AMD64: "native"} for one in testers}, *testers)
    assert checked(found) == sorted(wanted) == sorted(unit for one in testers for unit in one.ran)
    assert all(one.ran for one in testers)
    assert found["x"]["results"][0]["findings"][0]["check"] == "metrics"


def test_the_images_of_a_lost_tester_are_run_by_another(tmp_path: Path) -> None:
    wanted = units(a=ARM64, b=ARM64, c=AMD64)
    pi, server = Machine("pi", dies="b"), Machine("server")
    found, said = together(tmp_path, wanted, {"pi": PI, "server": SERVER}, pi, server)
    assert found["pi"]["lost"] == "no route to pi" and "pi is lost: no route to pi" in said
    assert checked(found) == sorted(wanted)
    assert pi.ran == ["a linux/arm64", "b linux/arm64"] and server.ran == ["c linux/amd64", "b linux/arm64"]


def test_a_tester_whose_engine_ends_is_lost_and_one_image_that_fails_is_not_its_fault(tmp_path: Path) -> None:
    wanted = units(a=AMD64, b=AMD64)
    came = threading.Event()
    bad = Machine("bad", fails=("a", "b"), sick="the engine does not answer", before=came.set)
    found, _said = together(tmp_path, wanted, dict.fromkeys(("bad", "good"), {AMD64: "native"}), bad,
                            Machine("good", before=lambda: came.wait(10)))
    assert found["bad"]["lost"] == "the engine does not answer"
    assert found["good"]["lost"] == "" and checked(found) == sorted(wanted)
    (tmp_path / "other").mkdir()
    found, _said = together(tmp_path / "other", wanted, {"alone": {AMD64: "native"}}, Machine("alone", fails="a"))
    assert [(one["unit"], bool(one.get("failed"))) for one in found["alone"]["results"]] == [
        ("a linux/amd64", True), ("b linux/amd64", False)]
    assert found["alone"]["lost"] == "" and "invocation" not in found["alone"]["results"][0]


def test_what_nobody_is_left_for_is_awaited_by_nobody(tmp_path: Path) -> None:
    found, _said = together(tmp_path, units(a=ARM64, b=ARM64), {"pi": PI, "server": {AMD64: "native"}},
                            Machine("pi", dies="a"), Machine("server"))
    assert checked(found) == [] and found["server"] == {"results": [], "lost": ""}


def test_a_worker_that_is_stopped_keeps_nobody_waiting(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    wanted = units(a=AMD64)
    board = trials.board(str(tmp_path), "t", wanted, dict.fromkeys(("x", "y"), {AMD64: "native"}))
    subjects = [{"unit": unit, "promises": {}} for unit in wanted]
    with pytest.raises(KeyboardInterrupt):
        trials.work(board, "x", subjects, Machine("x", before=stop).run, str, lambda _text: None)
    done = trials.work(board, "y", subjects, lambda _one: {"facts": {}}, str, lambda _text: None)
    assert [one["unit"] for one in done["results"]] == ["a linux/amd64"]


def test_what_a_tester_says_of_itself_may_fail_too(tmp_path: Path) -> None:
    def looks() -> str:
        raise FarmError("no answer within 120 s")

    board = trials.board(str(tmp_path), "t", units(a=AMD64), {"x": {AMD64: "native"}})
    done = trials.work(board, "x", [{"unit": "a linux/amd64", "promises": {}}], Machine("x", fails="a").run, looks,
                       lambda _text: None)
    assert done == {"results": [], "lost": "no answer within 120 s"}


def test_what_an_image_says_commands_no_terminal(tmp_path: Path) -> None:
    said: list[str] = []
    words = "\x1b[31mlisten\x1b[0m: \x1b]0;title\x07 \x1b[2Jin use\nthe end"
    finding = {"check": "starts", "subject": "service", "words": words, "by_hand": "docker run a"}
    board = trials.board(str(tmp_path), "t", units(a=AMD64), {"x": {AMD64: "native"}})
    done = trials.work(board, "x", [{"unit": "a linux/amd64", "promises": {}}],
                       lambda _one: {"findings": [finding], "facts": {}, "ran_by": "native"}, str, said.append)
    (one,) = done["results"][0]["findings"]
    assert "\x1b" not in one["words"] and "\x07" not in one["words"]
    assert one["words"].startswith("listen: ") and one["words"].endswith("in use\nthe end")


@pytest.mark.parametrize("answer", [
    {"findings": "none"}, {"findings": [{"check": "starts"}]}, {"findings": ["starts"]}, {"facts": []},
    {"facts": {"metrics": 5}}, {"ran_by": "somebody"}, {"msg": ["x"], "failed": True}, {"emulator": {}},
    {"seconds": 1e300},
])
def test_a_tester_whose_answer_does_not_fit_is_lost(tmp_path: Path, answer: dict[str, Any]) -> None:
    board = trials.board(str(tmp_path), "t", units(a=AMD64), {"x": {AMD64: "native"}})
    done = trials.work(board, "x", [{"unit": "a linux/amd64", "promises": {"metrics": ""}}], lambda _one: answer, str,
                       lambda _text: None)
    assert done["results"] == [] and "does not fit the question" in done["lost"]
