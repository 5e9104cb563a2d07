"""A worse network cable: a program that passes the frames of one link on late, slowly, or not at all.

    wire = BadWire.between("dsm1", "dsm1-11", delay=0.1)      the link leaves the bridge, and frames come this way
    wire.stop()                                               as before

Linux can do this by itself (netem), but not every kernel has it. The program owns two TAP devices, one in the old
bridge and one in a bridge of its own, which the link moves to; all are gone when it ends. Frames have checksums of
their own, since a TAP device lets the kernel compute them first.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.integration.docker_host import ROOT, run, until

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
QUEUE = 1 << 20  # bytes that wait for a slow wire; what comes then is lost, as in any router
FRAME = 1 << 16


@dataclass(frozen=True)
class BadWire:
    """`delay`: seconds for each direction; `loss`: the share of frames that is lost; `rate`: bytes a second for each
    direction, 0 is as fast as it goes."""

    bridge: str
    link: str
    process: subprocess.Popen[bytes]

    @classmethod
    def between(cls, bridge: str, link: str, *, delay: float = 0.0, loss: float = 0.0, rate: float = 0.0) -> BadWire:
        words = [sys.executable, "-B", __file__, link, *map(str, (delay, loss, rate))]
        process = subprocess.Popen([*ROOT, "setpriv", "--pdeathsig=TERM", *words], stdin=subprocess.DEVNULL)
        made = cls(bridge, link, process)
        near, far, own = names(link)
        try:
            until("the wire is there", 20, lambda: Path("/sys/class/net", far).exists() or process.poll() is not None)
            assert process.poll() is None, f"the wire ended with {process.returncode}"
            run("ip", "link", "add", own, "type", "bridge")
            for each, owner in ((near, bridge), (far, own), (link, own)):
                run("ip", "link", "set", each, "master", owner, "up")
            run("ip", "link", "set", own, "up")
        except BaseException:
            made.stop()
            raise
        return made

    def stop(self) -> None:
        """Plugs the link into its bridge again."""
        own = names(self.link)[2]
        for path, words in ((self.link, ("set", self.link, "master", self.bridge)), (own, ("delete", own))):
            if Path("/sys/class/net", path).exists():
                run("ip", "link", *words)
        if self.process.poll() is None:
            run("kill", str(self.process.pid))
        self.process.wait()


def names(link: str) -> tuple[str, str, str]:
    """The two TAP devices and the bridge for a link. A name has at most 15 characters."""
    return f"{link}n", f"{link}f", f"{link}b"


def tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


class _Way:
    """One direction."""

    def __init__(self, source: int, target: int, delay: float, loss: float, rate: float) -> None:
        self.source, self.target, self.delay, self.loss, self.rate = source, target, delay, loss, rate
        self.free = 0.0  # when the wire can take another frame
        self.waiting: list[tuple[float, int, bytes]] = []
        self.bytes = self.count = 0

    def take(self, now: float, chance: random.Random) -> None:
        try:
            frame = os.read(self.source, FRAME)
        except (BlockingIOError, OSError):  # OSError: the device is still down
            return
        if chance.random() < self.loss or self.bytes > QUEUE:
            return
        self.free = max(self.free, now) + (len(frame) / self.rate if self.rate else 0.0)
        self.count, self.bytes = self.count + 1, self.bytes + len(frame)
        heapq.heappush(self.waiting, (self.free + self.delay, self.count, frame))

    def give(self, now: float) -> float:
        """Passes on what is due; returns when the next frame is."""
        while self.waiting and self.waiting[0][0] <= now:
            _due, _count, frame = heapq.heappop(self.waiting)
            self.bytes -= len(frame)
            with contextlib.suppress(OSError):  # the other end is down
                os.write(self.target, frame)
        return self.waiting[0][0] if self.waiting else float("inf")


def main(link: str, delay: str, loss: str, rate: str) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    near, far = (tap(name) for name in names(link)[:2])
    chance, what = random.Random(1), (float(delay), float(loss), float(rate))
    ways = {near: _Way(near, far, *what), far: _Way(far, near, *what)}
    while True:
        due = min(way.give(time.monotonic()) for way in ways.values())
        wait = min(max(due - time.monotonic(), 0.0), 1.0)
        for source in select.select(list(ways), [], [], wait)[0]:
            ways[source].take(time.monotonic(), chance)


if __name__ == "__main__":
    main(*sys.argv[1:])
