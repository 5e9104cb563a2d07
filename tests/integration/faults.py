"""A bad network between the farm and its registry: a TCP forwarder that can fail in ways that registries do."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from contextlib import suppress
from typing import Any

REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


MODES = ("pass", "503", "drop", "pull")
_CONTEXT = multiprocessing.get_context("spawn")


class Forwarder:
    """Listens on a free loopback port and forwards to `target`. `mode` is `pass`, `503`, `drop` (uploads are cut off in
    the middle) or `pull` (503 where BuildKit reads a manifest).

    `failures` counts what it did to callers; after `limit` of them it goes back to `pass`. It runs in a process of its
    own: ansible-runner forks, and a process with threads must not be forked.
    """

    def __init__(self, target: str) -> None:
        self._values = _CONTEXT.Array("i", [0, 0, 1 << 30])
        port = _CONTEXT.Queue()
        self._process = _CONTEXT.Process(target=_main, args=(target, self._values, port), daemon=True)
        self._process.start()
        self.address = f"127.0.0.1:{port.get(timeout=30)}"

    @property
    def failures(self) -> int:
        return int(self._values[1])

    def fail(self, mode: str, limit: int = 1 << 30) -> None:
        """Behaves like `mode` from now on, for so many failures at most."""
        with self._values.get_lock():
            self._values[:] = [MODES.index(mode), 0, limit]

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _main(target: str, values: Any, port: Any) -> None:
    server = _Server(target, values)
    port.put(server.port)
    server.accept()


class _Server:
    def __init__(self, target: str, values: Any) -> None:
        host, _colon, port = target.partition(":")
        self._target, self._values = (host, int(port)), values
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @property
    def mode(self) -> str:
        return MODES[self._values[0]]

    def accept(self) -> None:
        while True:
            caller, _address = self._listener.accept()
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _fail(self) -> None:
        with self._values.get_lock():
            self._values[1] += 1
            if self._values[1] >= self._values[2]:
                self._values[0] = 0

    def _serve(self, caller: socket.socket) -> None:
        with caller:
            if self.mode == "503":
                caller.recv(65536)
                self._fail()
                caller.sendall(REFUSED)
                return
            with socket.create_connection(self._target) as server:
                back = threading.Thread(target=_pump, args=(server, caller), daemon=True)
                back.start()
                self._forth(caller, server)
                back.join(5)

    def _forth(self, caller: socket.socket, server: socket.socket) -> None:
        """Requests go through until one that uploads, which is cut off after its first piece where the mode says so."""
        while data := _receive(caller):
            if self.mode == "drop" and data.startswith((b"PUT",
                                                        b"PATCH")) and b"/blobs/uploads/" in data.split(b"\r\n", 1)[0]:
                self._fail()
                server.sendall(data[: len(data) // 2])
                caller.shutdown(socket.SHUT_RDWR)
                return
            if self.mode == "503" or (self.mode == "pull" and _pulls(data)):
                self._fail()
                with suppress(OSError):  # who gets its answer may hang up first
                    caller.sendall(REFUSED)
                    caller.shutdown(socket.SHUT_RDWR)
                return
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)


def _pulls(data: bytes) -> bool:
    first, _end, rest = data.partition(b"\r\n")
    return first.startswith((b"GET", b"HEAD")) and b"/manifests/" in first and b"user-agent: buildkit" in rest.lower()


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
