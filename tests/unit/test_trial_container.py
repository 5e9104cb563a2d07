"""What a trial sees of a container, and asks of its engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import (
    proc,
    trial_container,
)


@pytest.mark.parametrize(
    ("path", "log"),
    [("/data/access.log", True), ("/data/access.log.1", True), ("/data/log/access", True), ("/data/logs/a.txt", True),
     ("/data/access.log-20260101", True), ("/data/access.log.2.gz", True), ("/data/access.logic", False),
     ("/data/log.db", False), ("/data/catalog", False), ("/data/blog/post.txt", False)],
)
def test_what_looks_like_a_log_is_known_by_its_name(path: str, log: bool) -> None:
    assert bool(trial_container.LOG.search(path)) == log


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes and enters a PID namespace")
def test_what_an_image_started_is_its_own_and_what_the_engine_started_beside_it_is_not() -> None:
    service = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "sleep 611 & exec sleep 612"]
    with subprocess.Popen(service) as outer:
        try:
            _until(lambda: _commands(outer.pid) >= {"sleep 611", "sleep 612"})
            own = next(pid for pid, command in _below(outer.pid).items() if command == "sleep 612")
            with subprocess.Popen(["nsenter", f"--pid=/proc/{own}/ns/pid", "sleep", "613"]) as check:
                _until(lambda: "sleep 613" in _commands(check.pid))
                assert sorted(trial_container.processes(own).values()) == ["sleep 611", "sleep 612"]
                assert trial_container.processes(own)[own] == "sleep 612"
                check.kill()
        finally:
            outer.kill()
    assert trial_container.processes(1 << 30) == {}


WRAPPER = "/usr/libexec/qemu-binfmt/ppc64le-binfmt-P /usr/sbin/nginx nginx -c /a"


@pytest.mark.parametrize(
    ("command", "parents", "shown"),
    [("nginx: worker process", "nginx -c /a", "nginx: worker process"), ("nginx -c /a", "nginx -c /a", "nginx -c /a"),
     (WRAPPER, None, "nginx -c /a"), (WRAPPER, WRAPPER, "nginx: nginx -c /a"),
     (WRAPPER.replace("nginx -c", "dbus -c"), WRAPPER, "dbus -c /a"),
     ("/usr/bin/qemu-aarch64-static /usr/sbin/nginx -c /a", None, "/usr/sbin/nginx -c /a")],
)
def test_an_emulated_command_is_shown_as_a_native_one(command: str, parents: str | None, shown: str) -> None:
    assert trial_container._emulated(command, parents) == shown


def _below(pid: int) -> dict[int, str]:
    machine = proc.Proc()
    return {each: machine.command(each) for each in machine.pids() if pid in machine.ancestors(each)}


def _commands(pid: int) -> set[str]:
    return set(_below(pid).values())


def _until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Api:
    """What Podman's own interface answers; `error` is raised instead."""

    base_url = "http+docker://localhost"

    def __init__(self, status: int = 200, said: str = "", error: OSError | None = None) -> None:
        self.status_code, self.said, self.error, self.asked = status, said, error, ""

    def get(self, url: str, timeout: float) -> Any:
        self.asked = url
        if self.error:
            raise self.error
        return self

    def json(self) -> dict[str, str]:
        return {"Status": self.said}


@pytest.mark.parametrize(
    ("podman", "test", "api", "status"),
    [
        (False, ["CMD", "x"], Api(said="unhealthy"), "starting"),  # Docker checks by itself
        (True, ["CMD", "x"], Api(said="healthy"), "healthy"),
        (True, ["CMD", "x"], Api(409), "starting"),
        (True, ["CMD", "x"], Api(error=OSError("read timed out")), "unhealthy"),
        (True, None, Api(said="healthy"), "starting"),
    ],
)
def test_podman_is_told_to_check_now(podman: bool, test: list[str] | None, api: Api, status: str) -> None:
    container = SimpleNamespace(id="c1", attrs={"State": {"Health": {"Status": "starting"}},
                                                "Config": {"Healthcheck": {"Test": test} if test else None}})
    found = trial_container.health(SimpleNamespace(api=api), container, podman=podman, seconds=1)
    assert found == status
    assert api.asked == ("http+docker://localhost/v4.0.0/libpod/containers/c1/healthcheck" if podman and test else "")


def test_an_engine_that_is_gone_is_no_unhealthy_service() -> None:
    container = SimpleNamespace(id="c1", attrs={"State": {}, "Config": {"Healthcheck": {"Test": ["CMD", "x"]}}})
    with pytest.raises(ConnectionRefusedError):
        trial_container.health(SimpleNamespace(api=Api(error=ConnectionRefusedError())), container, podman=True,
                               seconds=1)


@pytest.mark.parametrize(("said", "podman"), [
    ({"Components": [{"Name": "Podman Engine"}]}, True), ({"Components": [{"Name": "Engine"}]}, False), ({}, False),
])
def test_podman_is_known_by_its_name(said: dict[str, Any], podman: bool) -> None:
    assert trial_container.is_podman(SimpleNamespace(version=lambda: said)) is podman


@pytest.mark.parametrize(("config", "signal"), [
    ({}, "SIGTERM"), ({"StopSignal": None}, "SIGTERM"), ({"StopSignal": "SIGQUIT"}, "SIGQUIT"),
    ({"StopSignal": 2}, "SIGINT"), ({"StopSignal": "15"}, "SIGTERM"), ({"StopSignal": "37"}, "37"),
    ({"StopSignal": "SIGRTMIN+3"}, "SIGRTMIN+3"), ({"StopSignal": "9" * 5000}, "9" * 5000),
])
def test_the_signal_that_asks_a_container_to_end_has_a_name(config: dict[str, Any], signal: str) -> None:
    assert trial_container.stop_signal(SimpleNamespace(attrs={"Config": config})) == signal


def test_a_process_that_has_ended_is_sent_nothing_whatever_the_engine_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _number: sent.append(pid))
    for pid in (0, -1, 7):
        trial_container.send(pid)
    assert sent == [7]


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes others")
def test_a_process_has_each_user_that_it_may_become() -> None:
    program = "import os, time; os.setresuid(2000, 2000, 0); print('x', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline()
            assert trial_container.users_of(process.pid) == [2000, 2000, 0, 2000]
        finally:
            process.kill()
    assert trial_container.users_of(1 << 30) == []


def test_a_log_that_goes_away_while_folders_are_looked_through_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                                                       ) -> None:
    for name in ("gone.log", "there.log"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(os.path, "islink", lambda path: path.endswith("gone.log") and os.unlink(path))
    assert trial_container.logs_in(os.getpid(), str(tmp_path)) == [f"{tmp_path}/there.log"]


@pytest.mark.parametrize(("path", "log"), [
    ("/data/access.log", True), ("/data/access.log.1.gz", True), ("/data/a.LOG", True), ("/data/error_log", True),
    ("/data/app-log-20260101.txt", True), ("/data/a.log.old", True), ("/data/logs/today", True),
    ("/data/catalog", False), ("/data/db/000012.log", False), ("/data/db/LOG", False),
    ("/data/log.py", False), ("/data/a.logic", False),
])
def test_a_log_is_known_by_its_name_and_a_journal_of_a_database_is_none(tmp_path: Path, path: str, log: bool) -> None:
    place = tmp_path / path[1:]
    place.parent.mkdir(parents=True)
    place.write_text("x")
    assert trial_container.logs_in(os.getpid(), str(tmp_path)) == ([str(place)] if log else [])


def test_links_lead_to_folders_of_their_own_root(tmp_path: Path) -> None:
    """/var/run is a link to /run in most images, and this machine has a /run too."""
    (tmp_path / "var").mkdir()
    (tmp_path / "run").mkdir()
    for name, target in (("var/run", "/run"), ("var/lock", "../run/lock"), ("round", "round"), ("out", "../../run")):
        (tmp_path / name).symlink_to(target)
    root = str(tmp_path)
    assert [trial_container.within(root, path) for path in (
        "/var/run/x", "/var/lock", "/run", "/out/./x", "/var/../run/", "/round/x", "/")] == [
        "/run/x", "/run/lock", "/run", "/run/x", "/run", "/round/x", ""]


class Refused(Exception):
    """What the SDK raises."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status_code = status


def test_what_a_killed_trial_left_is_removed_and_nothing_else() -> None:
    removed: list[str] = []

    def remove(name: str) -> None:
        removed.append(name)
        raise Refused(404 if len(removed) % 2 else 409)  # somebody else was faster

    def thing(name: str, **more: Any) -> Any:
        return SimpleNamespace(name=name, remove=lambda **_options: remove(name), **more)

    mine, other = trial_container.new_mark(), "1-1-0123456789ab"  # the number is another process's by now
    gone = f"{1 << 30}-5-0123456789ab"
    containers = [thing(mark, labels={trial_container.LABEL: mark}) for mark in (mine, other, gone, "somebody's")]
    volumes = [thing(f"desimages-{mark}-ab12") for mark in (mine, other, gone)]
    volumes += [thing(gone), thing("desimages-data")]
    images = [{"Id": f"image of {mark}", "Labels": {trial_container.LABEL: mark}} for mark in (mine, gone)]
    images.append({"Id": "somebody's", "Labels": None})
    listed: list[dict[str, str]] = []
    engine = SimpleNamespace(
        containers=SimpleNamespace(list=lambda all, filters, ignore_removed: listed.append(filters) or containers),
        volumes=SimpleNamespace(list=lambda: volumes),
        api=SimpleNamespace(images=lambda all, filters: listed.append(filters) or images),
        images=SimpleNamespace(remove=lambda name, force: remove(name)))
    trial_container.remove_orphans(engine)
    assert removed == [other, gone, f"desimages-{other}-ab12", f"desimages-{gone}-ab12", f"image of {gone}"]
    assert listed == 2 * [{"label": trial_container.LABEL}]


def test_what_an_engine_cannot_remove_for_another_reason_is_told() -> None:
    with pytest.raises(Refused), trial_container.unless_gone():
        raise Refused(500)


def test_a_process_that_never_began_is_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine has the number 0 for it, and a signal to 0 would reach everything beside this process."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(pid))
    for pid in (0, -1, 41):
        trial_container.send(pid)
    assert sent == [41]


def test_a_log_that_is_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gone.log", "there.log"):
        (tmp_path / name).write_text("x")

    def size(path: str) -> int:
        if "gone" in path:
            raise FileNotFoundError(path)
        return 1

    monkeypatch.setattr(os.path, "getsize", size)
    assert trial_container.logs_in(os.getpid(), str(tmp_path)) == [f"{tmp_path}/there.log"]
