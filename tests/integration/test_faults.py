"""What goes wrong around a run: a registry that fails, a person who presses Ctrl-C, a disk that is full."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.build.builder import SAY_EVERY
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import PROJECT, REGISTRY, STATE, Farm
from .docker_host import run
from .faults import Forwarder
from .small import Small, units

pytestmark = pytest.mark.faults


@pytest.fixture
def wire() -> Iterator[Forwarder]:
    """The way to the test farm's registry, which can fail."""
    found = Forwarder(REGISTRY)
    yield found
    found.close()


def through(farm: Farm, wire: Forwarder) -> Farm:
    return Farm(farm.folder, {**farm.defaults, "farm_registry": wire.address, "registry_address": REGISTRY})


@pytest.mark.parametrize(("mode", "times"), [pytest.param("503", 12, marks=pytest.mark.full), ("drop", 3)])
def test_a_registry_that_fails_for_a_while_is_tried_again(own: Farm, wire: Forwarder, mode: str, times: int) -> None:
    farm = through(own, wire)
    assert farm.run(farm_images=["other"], farm_platforms=["linux/amd64"]).rc == 0  # provisioned for this address
    wire.fail(mode, times)
    done = farm.run()
    assert done.rc == 0, done.text[-3000:]
    assert wire.failures >= times
    assert set(own.index("grand")) == {"linux/amd64", "linux/arm64", "linux/arm/v6"}


@pytest.mark.full
def test_a_registry_that_fails_for_a_minute_costs_only_that_minute(own: Farm, wire: Forwarder) -> None:
    farm = through(own, wire)
    assert farm.run(farm_images=["other"], farm_platforms=["linux/amd64"]).rc == 0  # provisioned for this address
    wire.fail("503")
    well = threading.Timer(65, wire.fail, ["pass"])
    well.start()
    began = time.monotonic()
    done = farm.run()
    assert done.rc == 0, done.text[-3000:]
    assert time.monotonic() - began > 60
    assert "trying again for up to 180 s" in done.text
    assert set(own.index("grand")) == {"linux/amd64", "linux/arm64", "linux/arm/v6"}


def test_a_parent_that_cannot_be_pulled_for_a_while_is_no_failure_of_its_children(own: Farm, small: Small,
                                                                                  wire: Forwarder) -> None:
    farm = through(own, wire)
    assert farm.run(farm_images=["box"]).rc == 0
    small.edit("child/child.txt", "child", "another")
    wire.fail("pull", 6)
    done = farm.run(farm_images=["child"])
    assert done.rc == 0, done.text[-3000:]
    assert wire.failures == 6
    assert "tried again in" in done.text
    assert "each platform is now built alone" not in done.text


@pytest.mark.full
@pytest.mark.parametrize("mode", ["503", "drop"])
def test_a_registry_that_stays_broken_gets_a_clear_message_and_no_tag(own: Farm, wire: Forwarder, mode: str) -> None:
    farm = through(own, wire)
    assert farm.run(farm_images=["other"], farm_platforms=["linux/amd64"]).rc == 0
    wire.fail(mode)
    done = farm.run(farm_images=["box"])
    assert done.rc != 0
    assert wire.address in done.text
    assert "latest" not in own.tags("box")
    wire.fail("pass")
    again = farm.run(farm_images=["box"])
    assert again.rc == 0, again.text[-3000:]
    assert "latest" in own.tags("box")


def started(farm: Farm, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """A build whose words can be read while it runs."""
    extra = folder / "extra.json"
    extra.write_text(json.dumps({"farm_state": str(STATE), "farm_registry": REGISTRY, **farm.defaults, **variables}))
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ansible-playbook"), "build.yml", "-e", f"@{extra}"], cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True)


def test_the_second_of_two_runs_waits_until_the_first_has_ended(own: Farm, small: Small, tmp_path: Path) -> None:
    small.edit("box/Dockerfile", "/usr/bin/busybox mkdir /out",
               "/usr/bin/busybox sleep 12 && /usr/bin/busybox mkdir /out")
    # a step that a kept farm knows would take no time
    small.edit("box/etc/motd", "hello", own.defaults["farm_namespace"])
    (tmp_path / "second").mkdir()
    with started(own, tmp_path) as first:
        assert first.stdout
        next(line for line in first.stdout if "building on" in line)
        with started(own, tmp_path / "second", farm_busy="wait") as second:
            assert second.stdout
            said = next(line for line in second.stdout if "held by process" in line)
            assert first.poll() is None
            assert str(first.pid) in said
            told = first.stdout.read()
            assert "built" in told
            assert "changed=0" in second.stdout.read()
    assert (first.returncode, second.returncode) == (0, 0)
    seconds = [int(minutes) * 60 + int(rest)
               for minutes, rest in re.findall(r"^box .*: step \d+ of \d+, (\d+):(\d\d)", told, re.M)]
    assert seconds, "nothing is said of a batch that takes longer than SAY_EVERY"
    assert all(later - earlier >= SAY_EVERY - 1 for earlier, later in pairwise(seconds))


@pytest.mark.parametrize("stop", [
    pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), id="ctrl-c"),
    # as a service manager or a CI does
    pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), id="sigterm", marks=pytest.mark.full),
])
def test_what_stops_a_run_stops_what_was_started_and_says_what_is_left(
        own: Farm, small: Small, tmp_path: Path, stop: Callable[[int], None]) -> None:
    small.edit("box/Dockerfile", "/usr/bin/busybox mkdir /out",
               "/usr/bin/busybox sleep 100 && /usr/bin/busybox mkdir /out")
    with started(own, tmp_path) as build:
        assert build.stdout
        said = ""
        for line in build.stdout:
            said += line
            if "box" in line and "building on" in line:
                break
        deadline = time.monotonic() + 60
        while not _steps("sleep 100") and time.monotonic() < deadline:
            time.sleep(0.2)  # the step is awaited; nothing tells of its start
        assert _steps("sleep 100")
        stop(build.pid)
        said += build.stdout.read()
    assert build.returncode != 0
    assert "not built, the next run continues" in said, said
    deadline = time.monotonic() + 30
    while _steps("sleep 100") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _steps("sleep 100")
    small.edit("box/Dockerfile", "/usr/bin/busybox sleep 100 && ", "")
    done = own.run()
    assert done.rc == 0, done.text[-3000:]
    assert units("box", "child", "grand") <= done.built


@contextmanager
def little_room(folder: str, size: str) -> Iterator[None]:
    """A folder of the state folder lies, empty, on a disk of its own."""
    place = STATE / folder
    place.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755,uid={place.stat().st_uid}", "tmpfs", str(place))
    try:
        _forget(folder)
        yield
    finally:
        run("umount", "--lazy", str(place))  # the registry keeps a file open of an upload that broke off
        _forget(folder)


def _forget(folder: str) -> None:
    """The registry remembers which blobs it has: where its disk is another one it is restarted."""
    if folder != "registry":
        return
    path = next(path for path in Path("/proc").glob("[0-9]*/cmdline")
                if _words(path)[:2] == ["docker-registry", "serve"] and str(STATE) in _words(path)[2])
    run("kill", path.parent.name)
    deadline = time.monotonic() + 60
    while (path.exists() or not Registry(REGISTRY).answers()) and time.monotonic() < deadline:
        time.sleep(0.1)  # its supervisor starts it again
    assert Registry(REGISTRY).answers()


def _words(path: Path) -> list[str]:
    try:
        words = path.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    return [Path(words[0]).name, *words[1:]]


@pytest.mark.parametrize("folder", ["jobs", "store", "registry"])
def test_a_full_disk_gets_a_clear_message_and_no_second_try(own: Farm, small: Small, folder: str) -> None:
    small.write("other/other.txt", random.Random(folder).randbytes(3_000_000).hex())
    with little_room(folder, "1m"):
        done = own.run(farm_images=["other"])
    assert done.rc != 0
    assert "no space left" in done.text
    assert "tried again" not in done.text
    assert own.tags("other") == []
    assert own.run(farm_images=["other"]).rc == 0


def test_a_push_that_fills_the_disk_is_not_tried_again(own: Farm, small: Small) -> None:
    filled = "/usr/bin/busybox mkdir /out && /usr/bin/busybox head -c 20000000 /dev/urandom > /out/much"
    small.edit("box/Dockerfile", "/usr/bin/busybox mkdir /out", filled)
    with little_room("registry", "12m"):
        done = own.run(farm_images=["box"], farm_platforms=["linux/amd64"])
    assert done.rc != 0
    assert "no space left on the registry's disk" in done.text
    assert "tried again" not in done.text
    assert done.states() == {"box linux/amd64": "failed"}
    small.edit("box/Dockerfile", filled, "/usr/bin/busybox mkdir /out")
    assert own.run(farm_images=["box"]).rc == 0


def _steps(words: str) -> list[str]:
    """The processes whose command line has these words as arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line.strip().endswith(words):
            found.append(line)
    return found
