"""A registry that answers incorrectly, in a process of its own: ansible-runner forks, threads do not."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.unit.faulty import Faulty, Reply, served

_CONTEXT = multiprocessing.get_context("spawn")
QUIRKS: dict[str, Faulty] = {
    "moved": Faulty(answers={"PUT .*/manifests/": [Reply(301, {"Location": "https://127.0.0.1:1/login"})] * 99}),
    "led in circles": Faulty(answers={"PUT .*/manifests/": [Reply(307, {"Location": "/v2/x/manifests/y"})] * 99}),
    "swallowed": Faulty(answers={"PUT .*/manifests/": [Reply(201)] * 99}),
    "no digest": Faulty(drop={"Docker-Content-Digest"}),
}


@contextmanager
def quirky(name: str) -> Iterator[str]:
    """The address of a registry with one of QUIRKS."""
    port = _CONTEXT.Queue()
    process = _CONTEXT.Process(target=_main, args=(name, port), daemon=True)
    process.start()
    try:
        yield str(port.get(timeout=30))
    finally:
        process.terminate()
        process.join()


def _main(name: str, port: Any) -> None:
    with served(QUIRKS[name]) as found:
        port.put(found.address)
        multiprocessing.Event().wait()
