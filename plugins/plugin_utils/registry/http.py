# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP for the registry client: one exchange, retried if that may help. All waits and answers are bounded.

It follows no redirect and does not authenticate: session.py does.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    PASSING,
    FarmError,
    NoSpace,
    RegistryError,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.files import may
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine, pool
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.lasting import PROXY, by_proxy, remedy
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.pace import GRACE, Pace, cause, paced
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import urllib3

PAUSES = (0, 1, 2, 4, 8, *[15] * 11)  # seconds between attempts at a request: three minutes in all
LONGEST = 240  # seconds after which nothing is retried, however long each attempt took
SLOWEST = 10_000  # bytes a second
LARGEST = 16 << 20  # bytes of an answer that is read whole; registries accept manifests of 4 MiB
USED_UP = re.compile(rb"reached your (\w+ )?pull rate limit")
HOURS = 21600.0  # seconds
QUIET = 10  # seconds of trouble of which nobody is told
_SAID = ("errors", "message", "detail", "details", "msg", "error_description", "error", "code")  # of what is wrong
ANSWERS = urllib3.Timeout(connect=5, read=15)
TAKES_IN = urllib3.Timeout(connect=120, read=120)  # a large blob on a slow disk; urllib3 sends under `connect`


class BrokenOff(Unreachable):
    """An answer that began, and did not arrive whole."""


class Answer:
    """A server's answer. `pieces()` reads a large one, once, as it is; `data` reads it whole, up to LARGEST bytes, and
    unpacks what a server has packed although nobody asked it to."""

    def __init__(self, url: str, response: urllib3.BaseHTTPResponse) -> None:
        self.url, self.shown, self.status, self._response = url, shown(url), response.status, response
        self.headers: Mapping[str, str] = response.headers
        self._data: bytes | None = None

    @property
    def data(self) -> bytes:
        """Raises RegistryError if it is longer than any manifest or list, BrokenOff if that is what it does."""
        if self._data is None:
            kept = bytearray()
            for piece in self._unpacked() if self.packed in ("gzip", "x-gzip") else self.pieces():
                kept += piece
                if len(kept) > LARGEST:
                    self._response.close()
                    raise RegistryError(f"{self.shown}: the answer has more than {LARGEST >> 20} MiB",
                                        hint="no manifest and no list is that large: is that address a registry's?")
            self._data = bytes(kept)
        return self._data

    @property
    def packed(self) -> str:
        """How the server says that it has packed the answer; '' for not at all."""
        return self.headers.get("Content-Encoding", "").strip().lower()

    def _unpacked(self) -> Iterator[bytes]:
        unpacker, some = zlib.decompressobj(wbits=31), False
        try:
            for piece in self.pieces():
                some = True
                yield unpacker.decompress(piece, LARGEST + 1)
        except zlib.error as error:
            raise BrokenOff(f"{self.shown}: the answer is not {self.packed}, as it says: {error}") from error
        if some and not unpacker.eof:  # there is nothing in an answer to HEAD
            raise BrokenOff(f"{self.shown}: the answer ended early, and cannot be unpacked")

    def pieces(self) -> Iterator[bytes]:
        """Raises BrokenOff if it does, or arrives slower than SLOWEST."""
        whole = False
        try:
            yield from self._response.stream(1 << 20, decode_content=False)
            whole = True
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError for a negative chunk size
            raise BrokenOff(f"{self.shown}: the answer ended early: {cause(error)}") from error
        finally:
            if whole:
                self._response.release_conn()
            else:
                self._response.close()


class Wire:
    """Connections to a registry and to where it redirects. Safe to use from several threads."""

    def __init__(self, base: str, *, ca: str = "", pauses: Sequence[float], threads: int, farms: bool = True) -> None:
        """`base` is the registry's URL. Its certificate must be one of the CA in the file `ca`, if that is given; all
        other hosts' of a CA of the system. `farms` says that it is the farm's own registry, which settings can help.

        Each host is asked through the proxy that the environment names for it: what a registry inside leads to may be
        outside. This machine itself needs none.
        """
        self._base, self._ca, self._pauses, self._threads = origin(base), ca, pauses, threads
        self._farms = farms
        self.tell: Callable[[str], None] = lambda text: None  # people, of a trouble that lasts
        self._told = False
        self._met: set[str] = set()  # origins that have answered
        self._here = Machine(environment=os.environ)
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}  # by proxy and CA
        self._lock = threading.Lock()
        self._connections(base)  # tells of a proxy that is none before anything is done

    def _connections(self, url: str) -> urllib3.PoolManager:
        proxy = "" if references.loopback(urlsplit(url).netloc) else self._here.proxy(url)
        ca = self._ca if origin(url) == self._base else ""
        with self._lock:
            if (proxy, ca) not in self._pools:
                made = pool(proxy, maxsize=self._threads, **({"ca_certs": ca} if ca else {}))
                made.pool_classes_by_scheme = paced(SLOWEST)
                self._pools[proxy, ca] = made
            return self._pools[proxy, ca]

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | Path | None = None, *,
            whole: bool = True, once: bool = False) -> Answer:
        """One exchange, retried if the server fails or cannot be reached. With `whole`, the data is read here too.

        Returns the last answer, whatever it says. Raises Unreachable if there is none, RegistryError if its name does
        not exist or the two sides do not agree on TLS, NoSpace for a full disk.
        """
        if self._ca and not may(self._ca, os.R_OK):
            raise Unreachable(f"the CA of the registry {shown(self._base)} cannot be read: {self._ca}",
                              hint="check farm_registry_ca; the role registry makes the CA of the farm's own registry")
        began = time.monotonic()
        pauses = iter(() if once else self._pauses)
        while True:
            answer, trouble = None, None
            try:
                answer = self._exchange(method, url, headers, body)
                if whole or answer.status in PASSING:
                    _read = answer.data
            except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError, Unreachable) as error:
                answer, trouble = None, error
            if answer is not None:
                self._met.add(origin(url))
                if answer.status >= 500 and method not in ("GET", "HEAD"):
                    refuse_full(url, answer.data)
                if answer.status not in PASSING or asked(answer) > LONGEST:
                    self._told = False
                    return answer
            pause, past = next(pauses, None), time.monotonic() - began
            wait = max(pause or 0, asked(answer))
            if pause is None or past + wait > LONGEST or self._remedy(url, trouble):
                break
            if not self._told and max(past, asked(answer)) > QUIET:
                self._told = True
                why = f"HTTP {answer.status}" if answer else cause(trouble)
                self.tell(f"the registry {origin(url)} fails: {why}; trying again for up to {sum(self._pauses):.0f} s")
            time.sleep(wait)
        if answer is not None:
            return answer
        raise self._unreachable(url, trouble) from trouble

    def _unreachable(self, url: str, error: Exception | None) -> FarmError:
        if isinstance(error, Unreachable):
            return Unreachable(error.message)  # it was tried again here
        what = f"the registry {shown(self._base)}"
        if origin(url) != self._base:
            what = f"{origin(url)}, where {what} leads,"
        text = f"{what} cannot be reached: {cause(error)}"
        if hint := self._remedy(url, error):
            return RegistryError(text, hint=hint)
        if by_proxy(error):
            return Unreachable(text, hint=PROXY)
        there = "is it running, and is that its address?"
        return Unreachable(text, hint=f"{there} `make status` shows the farm's own registry" if self._farms else there)

    def _remedy(self, url: str, error: Exception | None) -> str:
        """What to do if trying again is no use; '' if it may be."""
        where = origin(url)
        return remedy(error, url, farms=self._farms and where == self._base, met=where in self._met)

    def _exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | Path | None) -> Answer:
        options: dict[str, Any] = dict.fromkeys(("redirect", "retries", "preload_content", "decode_content"), False)
        options["timeout"] = TAKES_IN if method == "PUT" else ANSWERS
        connections = self._connections(url)
        if isinstance(body, Path):
            with body.open("rb") as file:
                size = {"Content-Length": str(os.fstat(file.fileno()).st_size)}
                options.update(headers={**headers, **size}, body=_Sent(file))
                return Answer(url, connections.request(method, url, **options))
        return Answer(url, connections.request(method, url, headers=headers, body=body, **options))


def origin(url: str) -> str:
    """Scheme, host and port: credentials and a CA belong to one of these."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, usual) else "")


def shown(url: str) -> str:
    """A URL for a message: without the query, which may contain a signature."""
    return url.partition("?")[0]


def refuse_full(where: str, data: bytes) -> None:
    """Raises NoSpace if an answer says so.

    distribution's file system driver gives the system's error as `detail`, with its number in `Err`; the message is
    always `unknown error`.
    """
    if re.search(rb'"Err": ?%d\b|no space left' % errno.ENOSPC, data):
        raise NoSpace(f"no space left on the registry's disk ({where})",
                      hint="make room there and run again")


def asked(answer: Answer | None) -> float:
    """How many seconds a server asks to wait (Retry-After). Docker Hub counts pulls for hours, and does not say so."""
    if answer is None:
        return 0
    if answer.status == 429 and USED_UP.search(answer.data):
        return HOURS
    try:
        return urllib3.Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # for numbers and dates that are too large
        return 0


def words(data: bytes) -> str:
    """What a server says of a failure, for a message: of JSON as registries and token services write it, of a page its
    title, of other text its beginning."""
    try:
        value = json.loads(data)
        text = _said(value) if isinstance(value, (dict, list, str)) else data.decode()
    except (ValueError, RecursionError):
        text = data[:4096].decode(errors="replace")
        title = re.search(r"<(?:title|message)\b[^>]*>([^<]*)", text, re.I)  # of a page, of a storage as S3
        text = title[1] if title else "" if "<" in text or data.startswith((b"{", b"[")) else text
    text = " ".join(text.split())[:500]
    return text if text.isprintable() else ascii(text)


def _said(value: Any) -> str:
    """What is said in JSON: each of a list, or the first in an object, in whatever it is wrapped."""
    if isinstance(value, dict):
        named = {str(name).lower(): part for name, part in value.items()}
        return next(filter(None, (_said(named.get(name)) for name in _SAID)), "")
    if isinstance(value, list):
        return "; ".join(filter(None, map(_said, value)))
    return value if isinstance(value, str) else ""


class _Sent:
    """A file that is sent at SLOWEST or faster: urllib3 only has a timeout for each piece."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file, self._pace = file, Pace(float(TAKES_IN.read_timeout or GRACE), SLOWEST)

    def read(self, size: int = -1) -> bytes:
        self._pace.left()
        piece = self._file.read(size)
        self._pace.took(len(piece))
        return piece
