"""Two hosts with a cable between them, which find each other by mDNS."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .containers import start, within
from .docker_host import run

SPEAKER, VISITOR = "10.99.0.1", "10.99.0.2"
BROWSER = """
import json, sys, time
from zeroconf import ServiceBrowser, Zeroconf
kind, address, name = sys.argv[1:]
found = []
with Zeroconf(interfaces=[address]) as client:
    browser = ServiceBrowser(client, kind, handlers=[
        lambda zeroconf, service_type, name, state_change: found.append(name)])
    deadline = time.monotonic() + 20
    there = None
    while time.monotonic() < deadline and there is None:
        there = next((one for one in found if one.removesuffix(f".{kind}").endswith(name)), None)
        time.sleep(0.1)
    info = client.get_service_info(kind, there, 10000) if there else None
    print(json.dumps({"name": there.removesuffix(f".{kind}"), "addresses": info.parsed_addresses(), "port": info.port,
                      "properties": {key.decode(): (value or b"").decode() for key, value in info.properties.items()}}
                     if info else {"seen": found}))
"""


def connect(one: list[str], one_place: str, other: list[str], other_place: str) -> None:
    """A cable between two networks, and an address for each end. `one` and `other` are the words that run a program in
    them, the places what ip(8) calls them."""
    name = f"t{uuid.uuid4().hex[:10]}"
    run("ip", "link", "add", name, "netns", other_place, "type", "veth", "peer", "name", "eth0", "netns", one_place)
    for words, own, address in ((one, "eth0", SPEAKER), (other, name, VISITOR)):
        run(*words, "ip", "address", "add", f"{address}/24", "dev", own)
        run(*words, "ip", "link", "set", own, "up")
        run(*words, "ip", "link", "set", "lo", "up")
        run(*words, "ip", "route", "replace", "224.0.0.0/4", "dev", own)


@contextmanager
def neighbour(docker: Any, image: str) -> Iterator[tuple[Any, str]]:
    """A container that only holds a network, a network namespace beside it, and a cable between them. A speaker may
    end where it has no way for multicast, so the cable is there before it starts."""
    container = start(docker, image, ["infinity"], entrypoint=["/usr/bin/sleep"])
    name = f"test-{uuid.uuid4().hex[:8]}"
    run("ip", "netns", "add", name)
    try:
        connect(within(container), str(container.attrs["State"]["Pid"]), ["ip", "netns", "exec", name], name)
        yield container, name
    finally:
        run("ip", "netns", "delete", name)
        container.kill()


def browse(words: list[str], kind: str, name: str) -> dict[str, Any]:
    """What the visitor learns by mDNS of a service whose name ends so. `words` run a program in its network."""
    return dict(json.loads(run(*words, sys.executable, "-c", BROWSER, kind, VISITOR, name)))
