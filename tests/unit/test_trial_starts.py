"""What a trial finds if images cannot be started, or end, and the commands that show it to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import trial, trial_run

from .test_trial import PROMISES


class Containers:
    """What a trial starts: each container ends with the code that `codes` has for its user, and cannot be started if
    that is a text."""

    def __init__(self, codes: dict[str, int | str]) -> None:
        self.codes, self.asked = codes, list[dict[str, Any]]()

    @contextmanager
    def started(self, **asked: Any) -> Iterator[Any]:
        self.asked.append(asked)
        code = self.codes.get(asked.get("user") or asked.get("relaxed") or "", 0)
        if isinstance(code, str):
            raise trial_run.NotStarted(code)
        state = {"Running": False, "ExitCode": code}
        yield SimpleNamespace(reload=lambda: None, attrs={"State": state}, logs=lambda tail: b"hello")


def tried(monkeypatch: pytest.MonkeyPatch, codes: dict[str, int | str], **promises: Any
          ) -> tuple[list[tuple[str, str]], Containers]:
    """The findings (check, words) of a trial, and what it started."""
    made = trial.Trial(None, "i", {**PROMISES, **promises}, refused=OSError, shown="image", emulated=False)
    containers = Containers(codes)
    monkeypatch.setattr(made._runs, "started", containers.started)
    monkeypatch.setattr(made._runs, "prepare", lambda: None)
    monkeypatch.setattr(made._runs, "tidy", lambda: None)
    made.run()
    return [(one["check"], one["words"]) for one in made.findings], containers


def test_a_command_writes_to_its_volumes_as_any_user(monkeypatch: pytest.MonkeyPatch) -> None:
    found, containers = tried(monkeypatch, {})
    assert found == []
    assert [(len(one.get("volumes", ())), one.get("tmpfs")) for one in containers.asked] == [(1, None), (0, ["/data"])]
    assert tried(monkeypatch, {"31337": 3})[0] == [("any-user", "as user 31337 it ended with 3: hello")]


def test_what_cannot_be_started_as_somebody_else_is_a_finding_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, {"": "no such file"})[0] == [("starts", "it cannot be started: no such file")]
    assert tried(monkeypatch, {"31337": "denied"})[0] == [("any-user", "as user 31337 it cannot be started: denied")]
    wrong = {"command": ["x"], "environment": {}, "says": "x"}
    found, _containers = tried(monkeypatch, {"": "no such file"}, command=[], refuses=[wrong])
    assert found == [("refuses", "with x it cannot be started: no such file")]


def test_a_service_that_cannot_be_started_another_way_is_told_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    relaxed: dict[str, int | str] = dict.fromkeys(trial.RELAXED, "not so")
    found, containers = tried(monkeypatch, {"": 5, **relaxed}, ports={"a": "1/tcp"})
    assert found == [("starts", "it ended with 5: hello")]
    assert [one["relaxed"] for one in containers.asked[1:]] == list(trial.RELAXED)


def test_a_service_that_ends_while_it_is_looked_at_has_that_finding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.Trial, "_up", lambda self, container: "")
    monkeypatch.setattr(trial.Trial, "_look", lambda self, container: self._found(False, "answers", "GET x", "refused"))
    found, containers = tried(monkeypatch, {"": 3}, ports={"web": "80/tcp"})
    assert found == [("starts", "it was healthy, and then it ended with 3: hello")]
    assert len(containers.asked) == 1


@pytest.mark.parametrize("status", [400, 500])
def test_an_image_that_the_engine_does_not_take_is_a_finding_and_a_fault_of_the_engine_is_none(status: int) -> None:
    class Refused(Exception):
        status_code, explanation = status, "no command specified"

    def create(*_words: Any, **_how: Any) -> None:
        raise Refused

    engine = SimpleNamespace(containers=SimpleNamespace(create=create), version=dict, volumes=SimpleNamespace(
        list=list), images=SimpleNamespace(get=lambda image: SimpleNamespace(attrs={"Config": {}})))
    made = trial.Trial(engine, "i", {**PROMISES, "ports": {"web": "80/tcp"}}, refused=Refused, shown="image",
                       emulated=False)
    if status == 400:
        made.run()
        assert [(one["check"], one["words"]) for one in made.findings] == [
            ("starts", "it cannot be started: no command specified")]
    else:
        with pytest.raises(Refused):
            made.run()


def test_a_contract_names_the_ports_that_it_asks_too() -> None:
    asked = {"http": "http://127.0.0.1:8181/ready", "command": [], "again": False}
    promises = {**PROMISES, "ports": {"dns": "53/udp"}, "health": {"tcp": "127.0.0.1:81", "within": 5},
                "metrics": "https://127.0.0.1/metrics", "multicast": True,
                "answers": [asked, {"http": "", "command": ["ask", "127.0.0.1:82"]}]}
    known = trial._known(promises)
    assert {"53/udp", "81/tcp", "443/tcp", "8181/tcp", "82/udp", "5353/udp"} <= known
    assert not {"53/tcp", "80/tcp"} & known
    assert "5353/udp" not in trial._known({**promises, "multicast": False})


def test_requests_are_shown_from_inside_of_the_images_network() -> None:
    runs = trial_run.Runs(None, "i", {**PROMISES, "command": []}, refused=OSError, shown="image", slower=1)
    run = ("docker run --rm --detach --read-only --cap-drop=ALL --security-opt=no-new-privileges --network=none "
           "--cap-add=SETUID --tmpfs=/run:mode=1777,uid=2000 --volume=/data '--env=A=b c' image")
    assert runs.asked_by_hand({"command": ["ask", "it's"]}) == f"docker exec \"$({run})\" ask 'it'\"'\"'s'"
    assert runs.asked_by_hand({"command": [], "http": "http://a/", "method": "POST", "body": "x y"}) == (
        f"nsenter -n -t \"$(docker inspect -f '{{{{.State.Pid}}}}' \"$({run})\")\" "
        "curl -sk --retry 9 --retry-all-errors -X POST --data-raw 'x y' http://a/")
