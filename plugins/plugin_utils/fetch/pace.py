# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP responses that must arrive at some minimum speed. A socket's own timeout starts again with each byte, so a
server that sends one byte every ten seconds would never time out.
"""

from __future__ import annotations

import errno
import http.client
import io
import re
import socket
import time
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import interim
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import urllib3

GRACE = 60  # seconds that a response may take, plus one for each `slowest` bytes
HEAD = 1 << 20  # bytes that may come before the body: a server may repeat `100 Continue` forever


class Pace:
    """A time budget: some seconds, plus one for each `slowest` bytes that arrive."""

    def __init__(self, seconds: float, slowest: int) -> None:
        self._until, self._slowest = time.monotonic() + seconds, slowest

    def left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, f"slower than {self._slowest} bytes a second")
        return left

    def took(self, count: int) -> None:
        self._until += count / self._slowest


class _Paced(io.RawIOBase):
    """Reads a socket, headers too, at `slowest` bytes a second or more, and at most HEAD bytes before the body."""

    def __init__(self, raw: Any, sock: socket.socket, slowest: int) -> None:
        self._raw, self._socket, self._usual = raw, sock, sock.gettimeout()
        self._pace = Pace(max(GRACE, self._usual or 0), slowest)
        self.head: int | None = HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._pace.left()
        self._socket.settimeout(left if self._usual is None else min(self._usual, left))
        count: int | None = self._raw.readinto(buffer)
        self._pace.took(count or 0)
        if self.head is not None:
            self.head -= count or 0
            if self.head < 0:
                raise TimeoutError(errno.ETIMEDOUT, f"more than {HEAD >> 20} MiB arrived before the answer")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(interim.Response):
    slowest = 1

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._paced = _Paced(self.fp.detach(), sock, self.slowest)
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        super().begin()
        self._paced.head = None


def cause(error: Exception | None) -> str:
    """What urllib3 says, without the object that it begins with: `_Connection(host='127.0.0.1', port=5000): `, or in
    older versions `<... object at 0x...>: `. Some of its errors hold another one beside their words."""
    found = getattr(error, "reason", None) or error
    held: tuple[Any, ...] = getattr(found, "args", ())
    if isinstance(found, urllib3.exceptions.HTTPError) and len(held) == 2 and isinstance(held[1], Exception):
        words, inner = str(held[0]).rstrip("."), held[1]
        if isinstance(inner, http.client.IncompleteRead) and inner.expected:
            return f"the connection ended, and {inner.expected} bytes were to come"
        if isinstance(inner, http.client.BadStatusLine) and not isinstance(inner, ConnectionError):
            return f"what it answers is not HTTP: {str(inner).strip()[:100]!r}"
        return words if str(inner) in words else f"{words}: {cause(inner)}"
    return re.sub(r"^(\w+\([^()]*\)|<[^<>]*>): ", "", str(found))


def paced(slowest: int) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Scheme -> class of connection pools that give up on less than `slowest` bytes a second."""
    response = type("_Response", (_Response,), {"slowest": slowest})
    plain = type("_Connection", (urllib3.connection.HTTPConnection,), {"response_class": response})
    tls = type("_TlsConnection", (urllib3.connection.HTTPSConnection,), {"response_class": response})
    return {"http": type("_Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("_TlsPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": tls})}
