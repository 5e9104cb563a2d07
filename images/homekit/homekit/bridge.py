"""A HomeKit bridge of things with a switch and a level, each shown as a lamp. Talks to the network and the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import prometheus_client
from pyhap import util
from pyhap.accessory import Accessory, Bridge
from pyhap.accessory_driver import AccessoryDriver
from pyhap.const import CATEGORY_LIGHTBULB

from homekit.settings import Mistakes, Settings, read

PORT, METRICS = 51826, 9464
DATA = Path("/data")
INTERVAL = 10.0  # seconds after which a thing is asked again: others may switch it too
log = logging.getLogger("homekit")

reachable = prometheus_client.Gauge("homekit_reachable", "Whether it answered when it was asked last", ["accessory"])
changes = prometheus_client.Counter("homekit_changes", "What HomeKit asked it to become", ["accessory"])
failures = prometheus_client.Counter("homekit_failures", "Requests that it did not answer", ["accessory"])
paired = prometheus_client.Gauge("homekit_paired", "Whether a HomeKit controller is paired")


@dataclass(frozen=True)
class State:
    """`level` is a percentage; it stays when the thing is off."""

    on: bool
    level: int


class Unreachable(Exception):
    """A thing that does not answer, or says no."""


class Thing(Protocol):
    """What an accessory stands for. Both raise Unreachable."""

    async def read(self) -> State: ...

    async def write(self, wanted: State) -> None: ...


class Lamp(Accessory):  # type: ignore[misc] # HAP-python has no types
    """One task asks and changes the thing, so that its answers cannot overtake each other. While it moves a slider, a
    controller sends more than a thing can follow: only the last state counts."""

    category = CATEGORY_LIGHTBULB

    def __init__(self, driver: Any, name: str, thing: Thing) -> None:
        # The same name is the same accessory, whatever else is added or removed; HomeKit reserves the first numbers.
        super().__init__(driver, name, aid=zlib.crc32(name.encode()) + 1000)
        self.thing = thing
        self.state: State | None = None
        self.wanted: State | None = None
        self.news = asyncio.Event()
        self.silent = False
        self.task: asyncio.Task[Any] | None = None
        service = self.add_preload_service("Lightbulb", chars=["On", "Brightness"])
        service.setter_callback = self.want
        self.on, self.level = (service.get_characteristic(name) for name in ("On", "Brightness"))
        for metric in (reachable, changes, failures):
            metric.labels(name)

    @property
    def available(self) -> bool:
        return self.state is not None

    def want(self, values: Mapping[str, Any]) -> None:
        before = self.wanted or self.state
        if before is None:
            raise Unreachable(f"{self.display_name} does not answer")
        on, level = bool(values.get("On", before.on)), int(values.get("Brightness", before.level))
        self.wanted = replace(before, on=on, level=level)
        changes.labels(self.display_name).inc()
        self.driver.loop.call_soon_threadsafe(self.news.set)

    async def run(self) -> None:
        self.task = asyncio.current_task()
        while True:
            self.news.clear()
            await self.once()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), INTERVAL)

    async def once(self) -> None:
        """Brings the thing to what is wanted, and tells HomeKit what it is."""
        wanted, self.wanted = self.wanted, None
        try:
            if wanted:
                self.state = wanted  # what comes while the thing is busy builds on it
                await self.thing.write(wanted)
                log.info("%s: %s, %d %%", self.display_name, "on" if wanted.on else "off", wanted.level)
            found = await self.thing.read()
        except Unreachable as error:
            failures.labels(self.display_name).inc()
            reachable.labels(self.display_name).set(0)
            if not self.silent:  # once is enough
                log.warning("%s does not answer: %s", self.display_name, error)
            self.state, self.silent = None, True
            return
        if self.state is None:
            log.info("%s answers", self.display_name)
        self.silent = False
        reachable.labels(self.display_name).set(1)
        self.state = found
        if self.wanted is None:
            self.on.set_value(found.on)
            self.level.set_value(found.level)

    async def stop(self) -> None:
        if self.task:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task


class Home(Bridge):  # type: ignore[misc]
    def setup_message(self) -> None:
        log.info("not paired: give a HomeKit controller the code %s", self.driver.state.pincode.decode())


def code_of(settings: Settings, folder: Path) -> str:
    """The code for pairing: the one that is set, or else one that is made once and kept."""
    kept = folder / "code"
    if settings.code:
        return settings.code
    if not kept.exists():
        new = folder / "code.new"
        new.write_text(util.generate_pincode().decode())
        new.chmod(0o600)
        new.rename(kept)
    return kept.read_text()


def main(key: str, example: str, thing: Callable[[str], Thing]) -> None:
    """Runs until SIGTERM. `thing` makes one of what stands behind a name, and raises ValueError if it cannot."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pyhap.hap_protocol").setLevel(logging.WARNING)  # each health check is a connection
    try:
        settings = read(os.environ, key, example)
        things = {name: thing(what) for name, what in settings.things}
    except (Mistakes, ValueError) as error:
        sys.exit(str(error))
    try:
        code = code_of(settings, DATA)
        address = settings.address or own_address()
        driver = AccessoryDriver(port=PORT, address=address, listen_address="0.0.0.0",
                                 persist_file=str(DATA / "accessory.state"), pincode=code.encode(),
                                 interface_choice=[address])
        home = Home(driver, settings.name)
        for name, one in things.items():
            home.add_accessory(Lamp(driver, name, one))
        driver.add_accessory(home)
        prometheus_client.start_http_server(METRICS)
        # awaited here, because `driver.start` would go on after an error, as a bridge that nobody can find
        starting = driver.loop.create_task(driver.async_start())
        # the kernel may give the signal to any thread, and only a handler of the loop's own then wakes the loop
        driver.loop.add_signal_handler(signal.SIGTERM, starting.cancel)
        driver.loop.run_until_complete(starting)
    except OSError as error:
        sys.exit(f"cannot start: {error}")
    except asyncio.CancelledError:
        return
    paired.set_function(lambda: float(driver.state.paired))
    driver.loop.add_signal_handler(signal.SIGTERM, driver.stop)
    driver.loop.run_forever()


def own_address() -> str:
    """The address by which this machine reaches others, or loopback's where it reaches nobody. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
