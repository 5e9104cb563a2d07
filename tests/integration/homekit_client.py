"""A HomeKit controller, run in the container's network with a Python that has aiohomekit: reads commands as lines of
JSON, and answers each with a line.

`find` waits until something is announced over mDNS; `pair` needs its code; `pairings` keeps and loads what pairing
gave; `list`, `get` and `put` are of paired accessories; `identify` says whether it still wants to be paired.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from aiohomekit.characteristic_cache import CharacteristicCacheMemory
from aiohomekit.controller.ip.controller import IpController
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

NAMES = {"00000023-0000-1000-8000-0026BB765291": "name", "00000025-0000-1000-8000-0026BB765291": "on",
         "00000008-0000-1000-8000-0026BB765291": "level"}


class Client:
    def __init__(self, controller: IpController) -> None:
        self.controller = controller
        self.pairing: Any = None

    async def find(self) -> dict[str, Any]:
        while not self.controller.discoveries:
            await asyncio.sleep(0.1)  # it has nothing to wait for
        found = next(iter(self.controller.discoveries.values()))
        return {"name": found.description.name, "port": found.description.port, "paired": found.paired}

    async def pair(self, code: str) -> bool:
        found = next(iter(self.controller.discoveries.values()))
        finish = await found.async_start_pairing("home")
        self.pairing = await finish(code)
        return True

    async def keep(self, file: str) -> bool:
        Path(file).write_text(json.dumps(self.pairing.pairing_data))
        return True

    async def load(self, file: str) -> bool:
        self.pairing = self.controller.load_pairing("home", json.loads(Path(file).read_text()))
        return True

    async def list(self) -> dict[str, dict[str, list[int]]]:
        """name of an accessory -> its characteristics, by number."""
        found = {}
        for accessory in await self.pairing.list_accessories_and_characteristics():
            all_ = [one for service in accessory["services"] for one in service["characteristics"]]
            name = next(one["value"] for one in all_ if NAMES.get(one["type"]) == "name")
            found[name] = {NAMES[one["type"]]: [accessory["aid"], one["iid"]] for one in all_ if one["type"] in NAMES}
        return found

    async def get(self, *which: tuple[int, int]) -> list[Any]:
        answer = await self.pairing.get_characteristics([tuple(one) for one in which])
        return [answer[tuple(one)] for one in which]

    async def put(self, *values: tuple[int, int, Any]) -> dict[str, Any]:
        """What was refused."""
        answer = await self.pairing.put_characteristics([tuple(one) for one in values])
        return {str(which): said for which, said in (answer or {}).items()}


async def main() -> None:
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
    AsyncServiceBrowser(zeroconf.zeroconf, ["_hap._tcp.local.", "_hap._udp.local."], handlers=[lambda **_news: None])
    controller = IpController(char_cache=CharacteristicCacheMemory(), zeroconf_instance=zeroconf)
    await controller.async_start()
    client = Client(controller)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        try:
            answer = {"answer": await asyncio.wait_for(getattr(client, name)(*arguments), 60)}
        except Exception as error:  # whatever it is, the test shows it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
