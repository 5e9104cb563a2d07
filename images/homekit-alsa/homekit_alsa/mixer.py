"""A volume control of a sound card, read and set by amixer."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from homekit.bridge import State, Unreachable

# such as `  Front Left: Playback 60 [69%] [-20.25dB] [on]`
CHANNEL = re.compile(r"^  [^:]+:(?! Capture)(?=.*\[).*$", re.MULTILINE)
LONGEST = 5.0  # seconds for amixer, which talks to the kernel alone


@dataclass(frozen=True)
class Found:
    """What amixer says of a control: the loudest channel's `level`, and its `switch`, where it has one."""

    level: int
    switch: bool | None

    @property
    def state(self) -> State:
        return State(self.level > 0 if self.switch is None else self.switch, self.level)


def parse(said: str) -> Found:
    channels = " ".join(line.partition(" Capture ")[0] for line in CHANNEL.findall(said))
    levels = [int(level) for level in re.findall(r"\[([0-9]+)%\]", channels)]
    switches = [switch == "on" for switch in re.findall(r"\[(on|off)\]", channels)]
    if not levels and not switches:
        raise Unreachable("amixer shows neither a volume nor a switch")
    return Found(max(levels, default=100), any(switches) if switches else None)


class Control:
    def __init__(self, where: str) -> None:
        self.device, colon, self.name = where.rpartition(":")
        if not (self.device and colon and self.name):
            raise ValueError(f"CONTROLS: {where!r} is not DEVICE:CONTROL, such as default:Master or hw:1:PCM")
        self.switch: bool | None = None

    async def read(self) -> State:
        return self.took(await self.amixer("sget", self.name))

    async def write(self, wanted: State) -> None:
        if self.switch is None:
            words = [f"{wanted.level if wanted.on else 0}%"]
        else:
            words = [f"{wanted.level}%", "unmute" if wanted.on else "mute"]
        self.took(await self.amixer("sset", self.name, *words))

    def took(self, said: str) -> State:
        found = parse(said)
        self.switch = found.switch
        return found.state

    async def amixer(self, command: str, *words: str) -> str:
        # -M: percentages as people hear them
        process = await asyncio.create_subprocess_exec("amixer", "-D", self.device, "-M", command, *words,
                                                       stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        try:
            out, err = await asyncio.wait_for(process.communicate(), LONGEST)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Unreachable(f"amixer did not end within {LONGEST:g} s") from None
        if process.returncode:
            raise Unreachable(err.decode(errors="replace").strip().splitlines()[-1:][0] if err.strip() else
                              f"amixer ended with {process.returncode}")
        return out.decode(errors="replace")
