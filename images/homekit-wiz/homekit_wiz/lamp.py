"""A Wiz lamp, by UDP in its own network."""

from __future__ import annotations

from typing import Any

from homekit.bridge import State, Unreachable
from pywizlight import PilotBuilder, wizlight
from pywizlight.exceptions import WizLightError

DIMMEST = 10  # percent; lamps refuse less
PORT = 38899


class WizLamp:
    def __init__(self, where: str) -> None:
        host, _colon, port = where.partition(":")
        if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
            raise ValueError(f"LAMPS: {where!r} is not a lamp's address, such as 192.168.1.20")
        self.host, self.port = host, int(port or PORT)
        self.light: Any = None  # made in the event loop

    async def read(self) -> State:
        answer = await self.send({"method": "getPilot", "params": {}})
        found = answer.get("result", {})
        if "state" not in found:
            raise Unreachable(f"{self.host} answers, but not as a lamp does")
        return State(bool(found["state"]), int(found.get("dimming", 100)))

    async def write(self, wanted: State) -> None:
        if wanted.on:
            level = max(DIMMEST, wanted.level)
            await self.send(PilotBuilder(brightness=round(level * 255 / 100)).set_pilot_message(state=True))
        else:
            await self.send({"method": "setPilot", "params": {"state": False}})

    async def send(self, message: dict[str, Any]) -> dict[str, Any]:
        self.light = self.light or wizlight(self.host, self.port)
        try:
            return dict(await self.light.send(message))
        except (WizLightError, OSError) as error:
            raise Unreachable(str(error)) from error
