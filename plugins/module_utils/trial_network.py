# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Sends requests to a service, and opens connections, from inside its own network, which nothing else uses. I/O."""

from __future__ import annotations

import ctypes
import http.client
import ipaddress
import os
import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Callable, Collection
from typing import Any, TypeVar
from urllib.error import HTTPError

from .errors import FarmError
from .references import loopback

NETWORK = 0x40000000  # CLONE_NEWNET, see setns(2)
PATIENCE = 10.0  # seconds for each piece of an answer
WHOLE = 120.0  # and for all that is asked at once
MOST = 4 << 20  # bytes of an answer
WAITS = {"tcp": "0A", "udp": "07"}  # a socket's state in proc_net(5): it listens, or is connected to nobody
CHOSEN = 32768, 60999  # ports from which Linux chooses one if nobody says which, see ip(7)
Found = TypeVar("Found")


class NoAnswer(FarmError):
    """A service that does not answer."""


def inside(pid: int, call: Callable[[], Found], seconds: float = WHOLE) -> Found:
    """The result of a call in the network of a process. It is made in a thread of its own, as each thread has its own
    network. Raises what the call raises, and NoAnswer if it takes longer: a service can answer a byte at a time."""
    results: list[Found] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                library = ctypes.CDLL(None, use_errno=True)
                if library.setns(there, NETWORK):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"/proc/{pid}/ns/net")
            finally:
                os.close(there)
            results.append(call())
        except BaseException as error:  # it belongs to who called
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not errors and not results:
        raise NoAnswer(f"it was not answered within {seconds:.0f} s")
    if errors:
        raise errors[0]
    return results[0]


def request(url: str, method: str = "GET", body: str = "", patience: float = PATIENCE) -> tuple[int, str]:
    """(status, text) of an answer. Raises NoAnswer.

    Certificates are not verified: nothing else is in that network, and no certificate is for its loopback.
    """
    asked = urllib.request.Request(url, data=body.encode() if body else None, method=method)
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody),
                                         _Stay())
    try:
        try:
            answer = opener.open(asked, timeout=patience)
        except HTTPError as error:
            answer = error
        with answer:
            return int(answer.status), answer.read(MOST).decode(errors="replace")
    except http.client.HTTPException as error:  # what it says is not HTTP, or is cut off
        raise NoAnswer(f"{method} {url}: {type(error).__name__}: {error}") from error
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{method} {url}: {getattr(error, 'reason', None) or error}") from error


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def accepts(port: str, patience: float = PATIENCE) -> str:
    """'' if a port such as `5000/tcp` or `53/udp` is open, else why not. Nothing answers for UDP itself, so there the
    kernel's own word counts."""
    number, _slash, kind = port.partition("/")
    if kind == "udp":
        return "" if _bound(port) else "nothing listens there"
    failures = []
    for host in ("127.0.0.1", "::1"):
        try:
            with socket.create_connection((host, int(number)), timeout=patience):
                return ""
        except OSError as error:
            failures.append(f"{host}: {error.strerror or error}")
    return "; ".join(failures)


def hidden(port: str) -> str:
    """Why others cannot reach an open port; '' if they can."""
    found = _bound(port)
    if not found:
        return ""
    if all(map(loopback, found)):
        return f"it listens on {' and '.join(found)} only, where nothing outside the container can reach it"
    if all(":" in address for address in found) and _free(port):  # :: may be for both
        return "it listens for IPv6 only, which most networks of containers do not have"
    return ""


def _free(port: str) -> bool:
    """Whether something could still wait at a port for IPv4."""
    number, _slash, kind = port.partition("/")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as one:
            one.bind(("0.0.0.0", int(number)))
    except OSError:
        return False
    return True


def others(known: Collection[str]) -> list[str]:
    """The ports of this network that are open to others, and not `known`. A port for UDP that the kernel chose is one
    from which something is asked."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first, last = map(int, file.read().split())
    except (OSError, ValueError):
        first, last = CHOSEN
    return [port for port, addresses in sorted(_listening().items())
            if port not in known and not all(map(loopback, addresses))
            and not (port.endswith("/udp") and first <= int(port.partition("/")[0]) <= last)]


def _bound(port: str) -> list[str]:
    """The addresses of this network at which sockets wait for others at a port."""
    return _listening().get(port, [])


def _listening() -> dict[str, list[str]]:
    """port such as `53/udp` -> the addresses of this network at which sockets wait for others, see proc_net(5)."""
    ports: dict[str, set[str]] = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        kind = name[:3]
        try:
            with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
                lines = [line.split() for line in file.read().splitlines()[1:]]
        except OSError:  # a kernel without IPv6
            continue
        for (address, _colon, bound), state in ((line[1].partition(":"), line[3]) for line in lines):
            if state == WAITS[kind]:
                words = [int(address[at:at + 8], 16) for at in range(0, len(address), 8)]
                plain = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
                ports.setdefault(f"{int(bound, 16)}/{kind}", set()).add(
                    str(getattr(plain, "ipv4_mapped", None) or plain))
    return {port: sorted(found) for port, found in ports.items()}
