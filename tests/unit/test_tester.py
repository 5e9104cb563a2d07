"""A tester's engine, and what modules leave on a tester. What they see of real images is in tests/integration."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.client import RemoteDisconnected
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import (
    abilities,
    files,
    state,
    trial_container,
    trial_image,
)
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, Unreachable
from ansible_collections.desimages.farm.plugins.modules import contract, tester
from requests import exceptions
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from .modules import result

PROJECT = Path(__file__).resolve().parents[2]
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: desimages.farm.tester
        tasks_from: run
      vars: {tester_state: "%s", tester_socket: ""}
"""
LISTEN = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
time.sleep(600)
"""
GONE = f"{1 << 30}-5-0123456789ab"  # the mark of a trial whose process has ended


class Engine:
    """An engine with images, and one container of a trial that was killed. It removes no image of a container."""

    def __init__(self, *images: str, left: str = "", held: str = "") -> None:
        self.there, self.used = list(images), {left, held}
        self.tags: dict[str, list[str]] = {}
        self.digests: dict[str, list[str]] = {}
        self.trials, self.asked = list[str](), list[dict[str, Any]]()
        self.images, self.volumes = self, SimpleNamespace(list=list)
        self.api = SimpleNamespace(images=self.all_images)
        self.containers = SimpleNamespace(list=lambda **_more: [SimpleNamespace(
            labels={trial_container.LABEL: GONE}, remove=lambda **_options: self.used.discard(left))] if left else [])

    def all_images(self, all: bool, filters: dict[str, str]) -> list[dict[str, Any]]:
        return [] if filters else [{"Id": name, "Labels": None} for name in self.there]

    def get(self, image: str) -> Any:
        if image not in self.there:
            raise contract.docker.errors.ImageNotFound(f"No such image: {image}")
        return SimpleNamespace(tags=self.tags.get(image, []), attrs={"RepoDigests": self.digests.get(image, [])})

    def remove(self, image: str, force: bool) -> None:
        if image in self.used:
            raise contract.docker.errors.APIError(f"conflict: unable to delete {image} (cannot be forced)")
        self.there.remove(image)

    def close(self) -> None:
        """Nothing to do."""


@pytest.fixture
def engine_socket(tmp_path: Path) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        yield str(tmp_path / "s")


@pytest.fixture
def run(tmp_path: Path, engine_socket: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Tries an image whose trial finds nothing on an engine, with the state folder `farm`."""
    def made(engine: Engine, keep: tuple[str, ...] = (), *, brought: Callable[[], None] = lambda: None,
             tried: Callable[[], None] = lambda: None, **more: Any) -> dict[str, Any]:
        def bring(*_given: Any, **_more: Any) -> str:
            engine.there += ["tried"] if "tried" not in engine.there else []
            brought()
            return "tried"

        def trial() -> None:
            engine.trials.append("tried")
            tried()

        monkeypatch.setattr(abilities, "run_by", lambda platform, folder: (abilities.NATIVE, ""))
        monkeypatch.setattr(contract, "load", bring)
        monkeypatch.setattr(contract, "Trial", lambda *_given, **_more: SimpleNamespace(
            run=trial, findings=[], facts={}))
        monkeypatch.setattr(contract.docker, "DockerClient", lambda **given: engine.asked.append(given) or engine)
        return result(contract.main, state_dir=str(tmp_path / "farm"), socket=engine_socket, unit="a", reference="a",
                      platform="linux/amd64", image={"url": "http://127.0.0.1:1", "config": {"digest": "tried"}},
                      promises={}, keep=list(keep), **more)

    return made


def test_a_persons_engine_keeps_its_images_and_gets_none(run: Callable[..., dict[str, Any]]) -> None:
    engine = Engine("theirs")
    found = run(engine)
    assert (found.get("msg"), found["ran_by"], engine.trials, engine.there) == (None, "native", ["tried"], ["theirs"])


@pytest.mark.parametrize(("error", "said"), [
    (exceptions.ConnectionError(ProtocolError("Connection aborted.", RemoteDisconnected("It closed"))), "It closed"),
    (exceptions.ReadTimeout(ReadTimeoutError(HTTPConnectionPool("localhost"), "/x", "It said nothing")),
     "It said nothing"),
    (contract.docker.errors.APIError("conflict: it is used"), "conflict: it is used"),
])
def test_an_engine_that_goes_away_is_named_in_words(run: Callable[..., dict[str, Any]], engine_socket: str,
                                                    error: Exception, said: str) -> None:
    def tried() -> None:
        raise error

    assert run(Engine(), tried=tried)["msg"] == f"the engine at {engine_socket} fails: {said}"


def test_an_engine_of_the_farm_forgets_the_images_of_earlier_runs(run: Callable[..., dict[str, Any]]) -> None:
    """Also that of a container which a killed trial left running, and whatever somebody runs by hand."""
    engine = Engine("older", "left", "held", "kept", left="left", held="held")
    found = run(engine, keep=("kept", "tried"))
    assert found.get("msg") is None and engine.there == ["held", "kept", "tried"]


def test_what_a_killed_trial_unpacked_goes_and_nothing_else_in_the_folder(
        run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    place = tmp_path / "farm/tester"
    (place / "trial-old").mkdir(parents=True)
    (place / "trial-old/image.tar").write_text("large")
    (place / "data").mkdir()
    (tmp_path / "farm" / state.MARK).touch()
    assert run(Engine()).get("msg") is None
    assert sorted(path.name for path in place.iterdir()) == ["data", "lock"]


def test_the_image_of_a_killed_trial_goes_unless_a_person_has_named_it_meanwhile(
        run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("theirs")
    with monkeypatch.context() as killed:
        killed.setattr(contract.shutil, "rmtree", lambda path: None)
        killed.setattr(engine, "remove", lambda image, force: None)
        assert run(engine).get("msg") is None
    assert engine.there == ["theirs", "tried"]
    (left,) = (tmp_path / "farm/tester").glob("trial-*/image")
    for number, name in enumerate(("named", "gone", "held")):
        (left.parent.with_name(f"trial-{number}")).mkdir()
        (left.parent.with_name(f"trial-{number}") / "image").write_text(name)
    engine.there += ["named", "held"]
    engine.tags["named"] = ["mine:1"]
    engine.used.add("held")
    assert run(engine).get("msg") is None
    assert engine.there == ["theirs", "named", "held"]


@pytest.mark.parametrize("use", [
    lambda engine: engine.tags.update(tried=["mine:1"]), lambda engine: engine.digests.update(tried=["mine@sha256:1"]),
    lambda engine: engine.used.add("tried"),
])
def test_an_image_that_a_person_takes_into_use_while_it_is_tried_stays(
        run: Callable[..., dict[str, Any]], use: Callable[[Engine], None]) -> None:
    engine = Engine("theirs")
    assert run(engine, tried=lambda: use(engine)).get("msg") is None
    assert engine.there == ["theirs", "tried"]


def test_an_image_without_a_name_is_not_taken_for_one_that_was_pulled(run: Callable[..., dict[str, Any]]) -> None:
    engine = Engine("theirs")
    engine.digests["tried"] = ["<none>@sha256:1", "moby-dangling@sha256:1"]
    assert run(engine).get("msg") is None
    assert engine.there == ["theirs"]


@pytest.mark.parametrize("before", [(), ("tried",)])
def test_an_image_that_was_brought_just_before_a_kill_goes_unless_it_was_there(
        run: Callable[..., dict[str, Any]], before: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may have it before it tells its id."""
    def killed() -> None:
        raise KeyboardInterrupt

    engine = Engine("theirs", *before)
    with monkeypatch.context() as dead, pytest.raises(KeyboardInterrupt):
        dead.setattr(contract.shutil, "rmtree", lambda path: None)
        run(engine, brought=killed)
    assert engine.there == ["theirs", "tried"]
    assert run(engine).get("msg") is None
    assert engine.there == ["theirs", *before]


def test_only_one_image_is_tried_at_a_time(
        run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two controllers may share a tester, and each removes the other's images."""
    (tmp_path / "farm/tester").mkdir(parents=True)
    (tmp_path / "farm" / state.MARK).touch()
    monkeypatch.setattr(contract, "TURN", 0.1)
    engine = Engine("other's")
    with files.locked(str(tmp_path / "farm/tester/lock"), 1):
        found = run(engine, keep=("tried",))
    assert found["failed"] and "another process has held the lock" in found["msg"]
    assert (engine.trials, engine.there) == ([], ["other's"])


def test_a_host_whose_engine_is_a_persons_can_be_cleaned(
        run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Its state folder is marked as one, although nothing else of the farm is there."""
    assert run(Engine()).get("msg") is None
    assert (tmp_path / "farm" / state.MARK).exists()


def test_check_mode_makes_no_folder(run: Callable[..., dict[str, Any]], tmp_path: Path, engine_socket: str,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(Engine(), check=True)
    assert (found["ran_by"], found["changed"]) == ("not", False)
    monkeypatch.setattr(tester, "engine_name", lambda socket: "Docker 20.10.24")
    looked = result(tester.main, check=True, state_dir=str(tmp_path / "farm"), socket=engine_socket)
    assert looked["changed"] and "native" in looked["runs"].values()
    assert not (tmp_path / "farm").exists()
    made = [result(tester.main, state_dir=str(tmp_path / "farm"), socket=engine_socket) for _time in range(2)]
    assert [one["changed"] for one in made] == [True, False]
    assert sorted(path.name for path in (tmp_path / "farm").iterdir()) == [state.MARK, "tester"]


def test_a_folder_that_others_could_replace_is_no_place_for_what_root_runs(
        run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    found = run(Engine())
    assert found["failed"] and "anyone could replace" in found["msg"] and not (tmp_path / "farm").exists()


@pytest.mark.parametrize(("came", "said"), [
    ([b"con", b"fig"], ""), ([b"config", b"!" * 9], "has more than its 6 bytes"), ([b"confix"], "arrived as sha256:"),
    ([b"con"], "arrived as sha256:"),
])
def test_what_a_registry_sends_is_hashed_and_no_more_is_taken_than_was_asked_for(
        monkeypatch: pytest.MonkeyPatch, came: list[bytes], said: str) -> None:
    monkeypatch.setattr(trial_image, "pieces", lambda *_given: iter(came))
    blob = {"digest": f"sha256:{hashlib.sha256(b'config').hexdigest()}", "size": 6}
    into = io.BytesIO()
    with pytest.raises(HashMismatch, match=said) if said else nullcontext():
        trial_image._fetch({"url": "http://127.0.0.1:1", "repository": "a"}, blob, {}, into)
    assert len(into.getvalue()) <= 6


def test_the_engine_is_asked_which_version_of_its_interface_it_has(
        run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer engines refuse the one that Debian 12's SDK takes."""
    engine = Engine()
    run(engine)
    asked = SimpleNamespace(version=lambda: {"Version": "29.1.0"}, close=lambda: None)
    monkeypatch.setattr(tester.docker, "DockerClient", lambda **given: engine.asked.append(given) or asked)
    assert tester.engine_name("/s") == "Docker 29.1.0"
    assert [given["version"] for given in engine.asked] == ["auto", "auto"]


def test_an_engine_that_is_down_is_no_process(tmp_path: Path) -> None:
    with pytest.raises(FarmError, match="does not run among the processes of this host"):
        trial_container.engine_process(str(tmp_path / "nothing"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a PID namespace")
def test_an_engine_in_a_container_is_refused_as_its_processes_have_other_numbers_here(tmp_path: Path) -> None:
    path = str(tmp_path / "engine")
    words = [sys.executable, "-c", LISTEN, path]
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *words]) as outer:
        try:
            deadline = time.monotonic() + 20
            while not _listens(path):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with pytest.raises(FarmError, match="does not run among the processes of this host"):
                trial_container.engine_process(path)
        finally:
            outer.kill()


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(path) == 0


def test_the_engine_does_not_read_the_settings_of_the_hosts_own_docker(tmp_path: Path) -> None:
    """dockerd does not start if /etc/docker/daemon.json has an option that is also an argument."""
    (tmp_path / "play.yml").write_text(PLAY % (tmp_path / "farm"))
    own = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    words = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", "--check",
             "--diff", str(tmp_path / "play.yml")]
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), *words], cwd=PROJECT, text=True,
                          env={**os.environ, **own}, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    file = f"{tmp_path}/farm/etc/tester-dockerd.json"
    assert f"--config-file={file}" in done.stdout
    text = done.stdout.partition(f"+++ after: {file}\n")[2]
    (said,) = [line[1:] for line in text.partition("\n\n")[0].splitlines() if line.startswith("+")]
    told = json.loads(said)
    assert told["features"] == {"containerd-snapshotter": False}  # its images stay in its own folder
    # and its key too, which old versions make
    assert told.get("deprecated-key-path", f"{tmp_path}/farm/tester/key.json") == f"{tmp_path}/farm/tester/key.json"


def test_a_registry_that_fails_for_a_moment_does_not_end_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    data, slept = b"a layer", list[float]()
    blob = {"digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}
    failures = [Unreachable("it breaks off"), Unreachable("HTTP 502")]

    def pieces(*_given: Any) -> Iterator[bytes]:
        yield data[:3]
        if failures:
            raise failures.pop()
        yield data[3:]

    monkeypatch.setattr(trial_image, "pieces", pieces)
    monkeypatch.setattr(trial_image.time, "sleep", slept.append)
    into = io.BytesIO()
    trial_image._fetch({"url": "http://127.0.0.1:1", "repository": "a"}, blob, {}, into)
    assert (into.getvalue(), slept) == (data, [1, 2])
    failures += [Unreachable("HTTP 502")] * 99
    with pytest.raises(Unreachable):
        trial_image._fetch({"url": "http://127.0.0.1:1", "repository": "a"}, blob, {}, io.BytesIO())
    assert slept[2:] == [1, 2, 4, 8]
