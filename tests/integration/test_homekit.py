"""The images homekit-wiz and homekit-alsa: found, paired and used by a real HomeKit controller, with a lamp of the
test's own, and with a program in amixer's place: no machine without a sound card has a control."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import PROJECT, Chain, Farm, sh
from .containers import ask, await_health, await_line, bring, inside, logs, start, within
from .docker_host import ROOT, until
from .unpacked import NATIVE

pytestmark = pytest.mark.catalog

CODE = "031-45-154"
HERE = Path(__file__).parent
REFUSED = -70402  # SERVICE_COMMUNICATION_FAILURE


@dataclass
class Program:
    """A program in a container's network, to which the test talks by lines of JSON."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str] = field(default_factory=queue.Queue)

    @classmethod
    def start(cls, container: Any, python: str, script: str) -> Program:
        words = [*ROOT, *within(container, python, str(HERE / script))]
        made = cls(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

        def read() -> None:
            for line in made.process.stdout or ():
                made.lines.put(line)

        threading.Thread(target=read, daemon=True).start()
        return made

    def next(self, seconds: float = 90) -> Any:
        return json.loads(self.lines.get(timeout=seconds))

    def do(self, *words: Any) -> Any:
        """What the client answers; an error fails the test."""
        said = self.tell(*words)
        assert "error" not in said, said
        return said["answer"]

    def tell(self, *words: Any) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps(words), file=self.process.stdin, flush=True)
        return dict(self.next())

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def images(farm: Farm, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    names = ["homekit-wiz", "homekit-alsa"]
    built = farm.run(farm_images=names, farm_platforms=[NATIVE], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    chain = Chain(farm, (built, built))
    return {name: bring(docker, chain.reference(name, NATIVE), tmp_path_factory.mktemp(name)) for name in names}


@pytest.fixture(scope="module")
def image(images: dict[str, str]) -> str:
    return images["homekit-wiz"]


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with a HomeKit controller in it."""
    folder = tmp_path_factory.mktemp("venv") / "homekit"
    sh("scripts/environment.sh", str(folder), sys.executable, "requirements-homekit.txt", cwd=PROJECT)
    return str(folder / "bin/python")


@pytest.fixture
def home(docker: Any, image: str) -> Iterator[Any]:
    """A network of loopback alone, that has multicast; a container that does nothing keeps it."""
    container = docker.containers.run(image, entrypoint=["sleep", "infinity"], network_mode="none", detach=True,
                                      init=True, healthcheck={"test": ["NONE"]})
    container.reload()
    inside(container, "ip", "link", "set", "lo", "multicast", "on")
    inside(container, "ip", "route", "add", "224.0.0.0/4", "dev", "lo")
    yield container
    container.remove(force=True)


def serve(docker: Any, image: str, home: Any, volume: str, lamps: str = "Kitchen=127.0.0.1", **more: str) -> Any:
    container = start(docker, image, network=f"container:{home.id}", volumes=[f"{volume}:/data"],
                      environment={"LAMPS": lamps, "CODE": CODE, **more})
    await_health(container)
    return container


def end(container: Any) -> None:
    began = time.monotonic()
    container.stop(timeout=30)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0, container.logs().decode()


AMIXER = """#!/bin/sh
# sget CONTROL, or sset CONTROL LEVEL% mute|unmute; what it is told is kept in a file
[ "$1 $2 $3 $5" = "-D hw:9 -M Master" ] || { echo "amixer: Unable to find simple control '$5',0" >&2; exit 1; }
[ "$4" = sget ] || echo "$6 $7" > /state/now
read -r level switch < /state/now
echo "Simple mixer control 'Master',0"
echo "  Capabilities: pvolume pswitch"
echo "  Mono:"
echo "  Front Left: Playback 1 [$level] [-1.00dB] [$([ "$switch" = mute ] && echo off || echo on)]"
"""


def metric(home: Any, name: str) -> float:
    lines = ask(home, 9464, "/metrics").text.splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))


def test_a_controller_pairs_and_switches_a_lamp_also_after_a_restart(docker: Any, image: str, home: Any,
                                                                     controller: str, tmp_path: Path) -> None:
    lamp = Program.start(home, sys.executable, "wiz_lamp.py")
    container = serve(docker, image, home, "one", NAME="My home")
    client = Program.start(home, controller, "homekit_client.py")
    found = client.do("find")
    assert (found["port"], found["paired"]) == (51826, False)
    assert found["name"].startswith("My home")
    assert "error" in client.tell("pair", "111-22-333")
    client.do("pair", CODE)
    assert metric(home, "homekit_paired") == 1

    kitchen = client.do("list")["Kitchen"]
    until("the lamp was asked", 30, lambda: metric(home, 'homekit_reachable{accessory="Kitchen"}') == 1)
    assert [one["value"] for one in client.do("get", kitchen["on"], kitchen["level"])] == [False, 100]
    assert client.do("put", [*kitchen["on"], True], [*kitchen["level"], 40]) == {}
    assert lamp.next() == {"state": True, "dimming": 40}
    assert client.do("put", [*kitchen["level"], 1]) == {}
    assert lamp.next() == {"state": True, "dimming": 10}, "lamps refuse less"
    assert client.do("put", [*kitchen["on"], False]) == {}
    assert lamp.next() == {"state": False}

    client.do("keep", str(tmp_path / "pairing.json"))
    client.end()
    end(container)
    container.remove()

    container = serve(docker, image, home, "one", lamps="Desk=127.0.0.1:9; Kitchen=127.0.0.1")
    client = Program.start(home, controller, "homekit_client.py")
    assert client.do("find")["paired"]
    client.do("load", str(tmp_path / "pairing.json"))
    accessories = client.do("list")
    assert accessories["Kitchen"] == kitchen, "another lamp before it changes nothing"
    until("the lamp was asked", 30, lambda: metric(home, 'homekit_reachable{accessory="Kitchen"}') == 1)
    client.do("put", [*kitchen["on"], True])
    assert lamp.next()["state"] is True
    # The other one does not exist: it is shown as such, and cannot be switched.
    assert client.do("get", accessories["Desk"]["on"])[0]["status"] == REFUSED
    assert list(client.do("put", [*accessories["Desk"]["on"], True]).values())[0]["status"] == REFUSED
    client.end()
    lamp.end()
    end(container)


def test_what_others_do_to_a_lamp_is_seen(docker: Any, image: str, home: Any, controller: str) -> None:
    lamp = Program.start(home, sys.executable, "wiz_lamp.py")
    container = serve(docker, image, home, "two")
    client = Program.start(home, controller, "homekit_client.py")
    client.do("find")
    client.do("pair", CODE)
    kitchen = client.do("list")["Kitchen"]
    message = {"method": "setPilot", "params": {"state": True, "dimming": 70}}
    inside(home, sys.executable, "-c",
           "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
           ".sendto(sys.argv[1].encode(), ('127.0.0.1', 38899))", json.dumps(message))
    assert lamp.next() == {"state": True, "dimming": 70}
    until("HomeKit knows", 30,
          lambda: [one.get("value") for one in client.do("get", kitchen["on"], kitchen["level"])] == [True, 70])
    lamp.end()
    until("HomeKit knows that it is gone", 60, lambda: client.do("get", kitchen["on"])[0].get("status") == REFUSED)
    out, err = logs(container)
    assert sum("Kitchen does not answer" in line for line in out) == 1
    assert err == []
    client.end()
    end(container)


def test_without_a_code_one_is_made_and_kept(docker: Any, image: str, home: Any) -> None:
    codes = []
    for _time in range(2):
        container = serve(docker, image, home, "three", CODE="")
        codes += [line.rpartition(" ")[2] for line in logs(container)[0] if "the code" in line]
        assert ask(home, 51826, "/accessories").status == 401
        end(container)
        container.remove()
    assert len(codes) == 2
    assert codes[0] == codes[1] != CODE


def test_a_controller_turns_the_volume(docker: Any, images: dict[str, str], home: Any, controller: str,
                                       shared: Path) -> None:
    (shared / "amixer").write_text(AMIXER)
    (shared / "amixer").chmod(0o755)
    (shared / "state").mkdir()
    (shared / "state").chmod(0o777)
    (shared / "state/now").write_text("30% unmute\n")
    (shared / "state/now").chmod(0o666)
    container = start(docker, images["homekit-alsa"], network=f"container:{home.id}",
                      volumes=[f"{shared}/amixer:/usr/bin/amixer:ro", f"{shared}/state:/state", "volume:/data"],
                      environment={"CONTROLS": "Speaker=hw:9:Master; None=hw:9:Line", "CODE": CODE})
    await_health(container)
    client = Program.start(home, controller, "homekit_client.py")
    client.do("find")
    client.do("pair", CODE)
    accessories = client.do("list")
    speaker = accessories["Speaker"]
    until("the control was asked", 30, lambda: metric(home, 'homekit_reachable{accessory="Speaker"}') == 1)
    assert [one["value"] for one in client.do("get", speaker["on"], speaker["level"])] == [True, 30]
    for changes, kept in (([[*speaker["level"], 75]], "75% unmute\n"), ([[*speaker["on"], False]], "75% mute\n")):
        assert client.do("put", *changes) == {}
        until("the control is set", 30, lambda kept=kept: (shared / "state/now").read_text() == kept)
    assert client.do("get", accessories["None"]["on"])[0]["status"] == REFUSED
    await_line(container, "None does not answer: amixer: Unable to find simple control 'Line',0")
    client.end()
    end(container)


def test_without_a_card_the_real_amixer_says_so_and_the_service_goes_on(docker: Any, images: dict[str, str],
                                                                        home: Any) -> None:
    container = start(docker, images["homekit-alsa"], network=f"container:{home.id}", volumes=["none:/data"],
                      environment={"CONTROLS": "Speaker=hw:7:Master", "CODE": CODE})
    await_health(container)
    until("it has asked", 30, lambda: metric(home, 'homekit_failures_total{accessory="Speaker"}') >= 1)
    await_line(container, "Speaker does not answer: amixer:")
    await_health(container)
    end(container)
