"""The image airplay: found over mDNS, and a tone that PulseAudio plays on it, as on any AirPlay speaker, comes out of
its pipe."""

from __future__ import annotations

import array
import math
import stat
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import PROJECT, Chain, Farm
from .containers import await_health, bring, listening, logs, start, within
from .docker_host import ROOT, run, until
from .neighbours import SPEAKER, browse, connect
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
RATE, SECONDS = 44100, 6
LEFT, RIGHT = 1000, 1700  # Hz

# PulseAudio with its module for AirPlay, as Debian packages them.
PLAYER = {
    "image.yml": """\
description: PulseAudio, which plays on AirPlay speakers
license: LGPL-2.1-or-later
inputs:
  player: {debian: [pulseaudio, pulseaudio-module-raop, pulseaudio-utils]}
platforms: [linux/amd64, linux/arm64]
""",
    "Dockerfile": """\
FROM --platform=$BUILDPLATFORM packages-extract AS packages
RUN --mount=type=bind,from=inputs,source=/player,target=/debs \\
    --mount=type=bind,from=base,target=/below \\
    --mount=type=tmpfs,target=/tmp \\
    debian-extract -o /packages /below /debs
FROM base
COPY --link --from=packages /packages/ /
ENV HOME=/tmp XDG_RUNTIME_DIR=/tmp/run
""",
}


# It wants a folder of its own for what it has at run time.
PULSEAUDIO = f"""
mkdir -m 700 /tmp/run
exec pulseaudio -n --daemonize=no --exit-idle-time=-1 --use-pid-file=no \\
    -L 'module-native-protocol-unix socket=/tmp/pulse' \\
    -L 'module-raop-sink server=[{SPEAKER}]:5000 protocol=UDP encryption=none codec=ALAC channels=2 rate={RATE}\
 format=s16 sink_name=kitchen'
"""


@pytest.fixture(scope="module")
def images(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The image, and a player as `raop-player`, in a catalog beside it."""
    folder = tmp_path_factory.mktemp("catalog") / "images"
    (folder / "raop-player").mkdir(parents=True)
    for name, text in PLAYER.items():
        (folder / "raop-player" / name).write_text(text)
    both = farm.on(PROJECT / "images", folder)
    locked = both.run("playbooks/lock.yml", farm_images=["raop-player"])
    assert locked.rc == 0, locked.text[-4000:]
    built = both.run(farm_images=["airplay"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    player = both.run(farm_images=["raop-player"], farm_platforms=[NATIVE], farm_partial=True)
    assert player.rc == 0, player.text[-4000:]
    return Chain(both, (built, player))


@pytest.fixture(scope="module")
def image(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return bring(docker, images.reference("airplay", NATIVE), tmp_path_factory.mktemp("airplay"))


@pytest.fixture(scope="module")
def player(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return bring(docker, images.reference("raop-player", NATIVE), tmp_path_factory.mktemp("raop-player"))


def serve(docker: Any, image: str, *command: str, **options: Any) -> Any:
    container = start(docker, image, list(command), tmpfs={"/tmp": ""}, **options)
    await_health(container)
    return container


@pytest.fixture
def visited(docker: Any, image: str, player: str) -> Iterator[tuple[Any, Any]]:
    """A container that only holds the speaker's network, and the player's, with a cable between them."""
    holder = start(docker, image, ["infinity"], entrypoint=["/usr/bin/sleep"])
    visitor = start(docker, player, ["infinity"], entrypoint=["/usr/bin/sleep"], tmpfs={"/tmp": ""})
    connect(within(holder), str(holder.attrs["State"]["Pid"]), within(visitor), str(visitor.attrs["State"]["Pid"]))
    yield holder, visitor
    for container in (visitor, holder):
        container.remove(force=True)


def tone(path: Path) -> None:
    """A sine on each side."""
    samples = array.array("h")
    for number in range(RATE * SECONDS):
        samples.extend(round(8000 * math.sin(2 * math.pi * pitch * number / RATE)) for pitch in (LEFT, RIGHT))
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


def loud(path: Path) -> array.array[int]:
    """What has been heard, without the silence before it."""
    samples = array.array("h", path.read_bytes()[:path.stat().st_size // 4 * 4])
    return samples[next((at for at in range(0, len(samples), 2) if abs(samples[at]) > 1000), len(samples)):]


def strength(samples: array.array[int], pitch: float) -> float:
    """How much of a pitch is in a second of samples, 1 for a full sine (Goertzel)."""
    factor, one, two = 2 * math.cos(2 * math.pi * pitch / RATE), 0.0, 0.0
    for sample in samples:
        one, two = sample + factor * one - two, one
    return 2 * math.sqrt(max(one * one + two * two - factor * one * two, 0)) / len(samples) / 8000


@contextmanager
def reading(pipe: Path, into: Path) -> Iterator[None]:
    """While what comes out of a pipe is written to a file."""
    with into.open("wb") as file, subprocess.Popen([*ROOT, "cat", str(pipe)], stdout=file) as reader:
        try:
            yield
        finally:
            run("kill", str(reader.pid))


def test_it_is_found_over_mdns_and_plays_what_another_host_sends(docker: Any, image: str, visited: tuple[Any, Any],
                                                                 tmp_path: Path) -> None:
    holder, visitor = visited
    speaker = serve(docker, image, network=f"container:{holder.id}", volumes=["airplay:/data"],
                    environment={"AIRPLAY_NAME": "Kitchen"})
    until("it listens", 30, lambda: {"5000/tcp", "5353/udp"} <= listening(speaker))
    found = browse(within(visitor), "_raop._tcp.local.", "@Kitchen")
    assert (found.get("addresses"), found.get("port")) == ([SPEAKER], 5000), found
    assert found["properties"]["ch"] == "2"

    pipe = Path(docker.volumes.get("airplay").attrs["Mountpoint"]) / "audio"
    mode = int(run("stat", "-c", "%f", str(pipe)), 16)
    assert stat.S_ISFIFO(mode) and stat.S_IMODE(mode) == 0o660
    tone(tmp_path / "tone.wav")
    root = Path(f"/proc/{visitor.attrs['State']['Pid']}/root")
    run("cp", str(tmp_path / "tone.wav"), str(root / "tmp/tone.wav"))
    with reading(pipe, tmp_path / "heard"):
        visitor.exec_run(["sh", "-c", PULSEAUDIO], detach=True)
        until("PulseAudio plays", 120, lambda: bool(visitor.exec_run(
            ["timeout", "30", "paplay", "--server=unix:/tmp/pulse", "--device=kitchen", "/tmp/tone.wav"])[0] == 0))
        until("the tone is heard", 60, lambda: len(loud(tmp_path / "heard")) >= 4 * RATE)
        speaker.stop(timeout=20)
    speaker.reload()
    assert speaker.attrs["State"]["ExitCode"] == 0

    second = loud(tmp_path / "heard")[RATE:3 * RATE]  # of both sides, from half a second on
    assert len(second) == 2 * RATE
    for side, there, missing in ((0, LEFT, RIGHT), (1, RIGHT, LEFT)):
        assert strength(second[side::2], there) > 0.5
        assert strength(second[side::2], missing) < 0.05


def test_it_keeps_its_contract(docker: Any, image: str) -> None:
    container = serve(docker, image, volumes=["airplay-contract:/data"])
    assert "5000/tcp" in listening(container)
    processes = container.top(ps_args="-eo pid,args")["Processes"]
    assert {words.split()[0].rpartition("/")[2].rstrip(":") for _pid, words in processes} == {
        "entry", "dbus-daemon", "avahi-daemon", "shairport-sync"}
    for pid, _words in processes:
        status = Path(f"/proc/{pid}/status").read_text()
        process = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert process["Uid"].split() == ["2000"] * 4
        assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    pids = [pid for pid, _words in processes]
    run("kill", "-STOP", *pids)
    await_health(container, "unhealthy")
    run("kill", "-CONT", *pids)
    await_health(container)
    container.stop(timeout=20)
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    out, err = logs(container)
    assert err == []
    assert out
    # it is started again with what it left in /tmp and /data
    container.start()
    await_health(container)
    container.remove(force=True)


@pytest.mark.parametrize("part", ["dbus-daemon", "avahi-daemon", "shairport-sync"])
def test_it_ends_if_a_part_of_it_ends(docker: Any, image: str, part: str) -> None:
    container = serve(docker, image)
    (pid,) = (pid for pid, words in container.top(ps_args="-eo pid,args")["Processes"] if part in words.split()[0])
    run("kill", "-KILL", pid)
    assert container.wait(timeout=30)["StatusCode"] == 1
    assert any(f"airplay: {part} ended by killed" in line for line in logs(container)[0])


@pytest.mark.parametrize(("options", "code", "says"), [
    ({"environment": {"AIRPLAY_NAME": ""}}, 2, "airplay: AIRPLAY_NAME must have 1 to 50 bytes of UTF-8"),
    ({"command": ["--nothing"]}, 1, "--nothing: unknown option"),
])
def test_what_it_cannot_run_with_it_refuses_and_says_why(docker: Any, image: str, options: dict[str, Any], code: int,
                                                         says: str) -> None:
    container = start(docker, image, tmpfs={"/tmp": ""}, **options)
    assert container.wait(timeout=30)["StatusCode"] == code
    assert any(says in line for line in logs(container)[0])


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_programs_find_their_libraries(images: Chain, scratch: Path, platform: str) -> None:
    airplay = Unpacked.of(images, "airplay", platform, scratch)
    assert "pipe" in airplay.run(platform, "/usr/bin/shairport-sync", "-V", user=2000)
    assert "avahi-daemon 0." in airplay.run(platform, "/usr/sbin/avahi-daemon", "--version", user=2000)
    assert airplay.run(platform, "/usr/bin/dpkg", "--audit") == ""
