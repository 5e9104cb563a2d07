# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches files over HTTP (or from a disk) into the store. Downloads resume, and are checked before they enter it.

Transport errors and statuses that may pass are retried for about a minute in all, with backoff and Retry-After. A
missing file, a wrong hash, a full disk, a host that does not exist and a certificate that is not accepted are not.
"""

from __future__ import annotations

import errno
import math
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    PASSING,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import pages
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.addresses import copy, led, opened, refuse_nowhere
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine, pool, redact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.lasting import remedy
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.pace import cause, paced
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import CHUNK, Store
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import urllib3
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

DOWN = "is the network, the proxy or the origin down? The next run resumes where this one stopped"
LOGIN = "does it need credentials (netrc, apt's auth.conf), or does a proxy forbid it?"
FAILS = "the origin cannot do that, or something in front of it cannot: use another origin"
THREADS = 8  # so no host sees more connections than that
PATIENCE = 60.0  # seconds for all attempts at one file
TIMEOUT = urllib3.Timeout(connect=10, read=30)
SLOWEST = 1_000  # bytes a second for one file, on average; eight may share a slow line
REDIRECTS = 5
LOOKS = 2  # attempts to find out whether a file exists
LONGEST_LOOK = 10.0  # seconds to wait between them at most, whatever the server asks for
_PART = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")  # RFC 9110, 14.4
_PACKED = re.compile(r"(?i)\.(gz|tgz|z|bz2|tbz2?|xz|txz|lzma|zst|tzst|br)$")  # some servers call these encoded
_GONE = {404, 410}


class _Again(Exception):
    """A failure that is worth another attempt, and how long the server asks to wait before it."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class Client:
    """An HTTP client with this machine's proxies, CAs and credentials. With `apt`, apt's proxy settings come first;
    `plain` is the same client without them.

    Connections are reused. A host that sent nothing for two minutes (PATIENCE, and as long before) is not asked for
    more files.
    """

    def __init__(self, here: Machine | None = None, *, apt: bool = True, patience: float = PATIENCE,
                 sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:
        self.here = here or Machine.read()
        self.apt = apt
        self.patience = patience
        self.sleep = sleep
        self.clock = clock
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._guard = threading.Lock()
        self._heard: dict[str, float] = {}  # host -> when it last sent something
        self._silent: dict[str, tuple[str, str]] = {}  # host that is not asked any more -> the last error, its remedy
        self.plain: Client = Client(self.here, apt=False, patience=patience, sleep=sleep, clock=clock) if apt else self

    def _pool(self, proxy: str) -> urllib3.PoolManager:
        with self._guard:
            if proxy not in self._pools:
                options: dict[str, object] = {"maxsize": THREADS, "block": True, "timeout": TIMEOUT, "retries": False}
                self._pools[proxy] = pool(proxy, ssl_context=self.here.tls(), **options)
                self._pools[proxy].pool_classes_by_scheme = paced(SLOWEST)
            return self._pools[proxy]

    @contextmanager
    def get(self, url: str, offset: int = 0, method: str = "GET") -> Iterator[urllib3.BaseHTTPResponse]:
        """A response whose body is not read yet. Credentials go only to their host, not to where it redirects.

        Raises Unreachable for a URL or redirect that is not a valid address, or that leaves TLS.
        """
        refuse_nowhere(url)
        asked = redact(url)
        for _redirect in range(REDIRECTS):
            headers = {"Accept-Encoding": "identity", "User-Agent": "desimages"}
            if offset:
                headers["Range"] = f"bytes={offset}-"
            if token := self.here.token(url):
                headers["Authorization"] = token
            elif login := self.here.login(url):
                headers.update(urllib3.make_headers(basic_auth=":".join(login)))
            pool = self._pool(self.here.proxy(url, apt=self.apt))
            parts = urlsplit(url)
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            response = pool.request(method, bare, headers=headers, preload_content=False, redirect=False)
            place = response.get_redirect_location()
            if not place:
                break
            response.drain_conn()
            response.release_conn()
            url = led(url, place)
        else:
            raise Unreachable(f"{asked} redirects more than {REDIRECTS} times", url=asked,
                              hint="use the address where the file is, or another origin; does it need a login?")
        try:
            yield response
        except BaseException:
            response.close()  # the rest of the body is not wanted
            raise
        finally:
            response.release_conn()  # a closed one too: the pool waits for each connection that it gave out

    def gone(self, url: str) -> bool:
        """Whether the origin answers that it has no such file. Nothing is downloaded. Raises Unreachable if it does not
        answer."""
        if url.startswith("file:"):
            try:
                os.close(opened(url))
            except Missing:
                return True
            return False
        for attempt in range(LOOKS):
            try:  # some proxies answer HEAD only for what they have cached, so GET decides
                return self._status(url, "HEAD") in _GONE and self._status(url, "GET") in _GONE
            except (_Again, urllib3.exceptions.HTTPError) as error:
                last = error
                if attempt + 1 < LOOKS:
                    self.sleep(min(LONGEST_LOOK, max(1.0, getattr(error, "seconds", 0.0))))
        said = str(last) if isinstance(last, _Again) else _plain(last)
        raise Unreachable(f"{redact(url)}: {said}, {LOOKS} times", url=redact(url)) from last

    def _status(self, url: str, method: str) -> int:
        with self.get(url, method=method) as response:
            status: int = response.status
            if status in PASSING:
                raise _Again(f"HTTP {status}", _retry_after(response))
            if method == "HEAD" or status in _GONE:
                response.drain_conn()  # so that the connection can be reused
            else:
                response.close()
            return status

    def into(self, url: str, path: Path, size: int | None, *, known: bool = True) -> None:
        """Appends to `path` the rest of the file at `url`, whose hash may be known. Raises Missing, HashMismatch (wrong
        size) or _Again."""
        have = _length(path)
        if size is not None and have > size:
            os.truncate(path, 0)
            have = 0
        if have and have == size:
            return
        if url.startswith("file:"):
            return copy(url, path, size)
        try:
            with self.get(url, have) as response:
                if not known:
                    _refuse_packed(response, url)
                self._body(response, url, path, have, size)
        except (urllib3.exceptions.HTTPError, ValueError) as error:  # ValueError for a negative chunk size
            host = urlsplit(url).netloc
            if hint := remedy(error, url, farms=False, met=host in self._heard):
                self._silent[host] = (_plain(error), hint)
            raise _Again(_plain(error)) from error

    def _body(self, response: urllib3.BaseHTTPResponse, url: str, path: Path, have: int, size: int | None) -> None:
        where = redact(url)
        if response.status in _GONE:
            raise Missing(f"{where}: file not found (HTTP {response.status})", url=where)
        if response.status == 416:
            path.unlink(missing_ok=True)
            raise _Again("HTTP 416")
        if response.status in PASSING:
            raise _Again(f"HTTP {response.status}", _retry_after(response))
        if response.status not in (200, 206):
            raise Unreachable(f"{where}: refused (HTTP {response.status})", url=where,
                              hint=LOGIN if response.status < 500 else FAILS)
        part = _PART.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 206 and (not part or int(part[1]) != have):
            path.unlink(missing_ok=True)
            raise _Again("it sent a range that was not asked for")
        if response.status == 200:
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        if response.status == 206 and part and part[2] != "*":
            total = int(part[2])  # a server may send less than all the rest
        if size is not None and total is not None and total != size:
            page, hint = pages.told(response.read(pages.HEAD, decode_content=False))
            raise HashMismatch(f"{where} has {total} bytes, the lock says {size}{page}", url=where, hint=hint)
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.seek(have)
            file.truncate()
            for chunk in response.stream(CHUNK, decode_content=False):
                file.write(chunk)
                if size is not None and file.tell() > size:
                    file.truncate(0)
                    raise HashMismatch(f"{where} has more than the {size} bytes that the lock says", url=where,
                                       hint=CHANGED)
            end = file.tell()
        if total is not None and end < total:
            raise _Again(f"the connection ended after {end} of {total} bytes")

    def _hear(self, host: str) -> None:
        self._heard[host] = self.clock()
        self._silent.pop(host, None)

    def patiently(self, url: str, path: Path, size: int | None, *, known: bool = True) -> None:
        """Retries `into` until it succeeds or `patience` is over. Raises Unreachable then, or at once if retrying is no
        use or the host is not asked any more."""
        started = self.clock()
        attempts = had = 0
        refuse_nowhere(url)
        host = urlsplit(url).netloc
        while True:
            if host in self._silent:
                said, hint = self._silent[host]
                raise Unreachable(f"{redact(url)}: its host is not asked any more: {said}", url=redact(url), hint=hint)
            if size is None:  # not locked yet: start again, as the rest might be of another state of the file
                path.unlink(missing_ok=True)
            else:
                had = _length(path)
            try:
                self.into(url, path, size, known=known)
                self._hear(host)
                return
            except FarmError:  # that is an answer too
                self._hear(host)
                raise
            except _Again as error:
                if found := self._silent.get(host):
                    raise Unreachable(f"{redact(url)}: {error}", url=redact(url), hint=found[1]) from error
                attempts += 1
                if (grown := _length(path) - had) > 0:
                    had += grown
                    self._hear(host)
                    # a server that sends one byte each time does not keep us forever
                    attempts, started = 1, min(self.clock(), started + grown / SLOWEST)
                pause = max(error.seconds, min(16.0, 0.5 * 2**attempts) * random.uniform(0.75, 1.25))
                if self.clock() - started + pause > self.patience:
                    said = f"{error}, {attempts} times in {self.clock() - started:.0f} s"
                    if self._heard.get(host, -math.inf) < started - self.patience:
                        self._silent[host] = (said, DOWN)
                    raise Unreachable(f"{redact(url)}: {said}", url=redact(url), hint=DOWN) from error
                self.sleep(pause)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise NoSpace(f"the disk of {path.parent} is full", hint="make room there and run again",
                                  url=redact(url)) from error
                raise


def _refuse_packed(response: urllib3.BaseHTTPResponse, url: str) -> None:
    packed, where = response.headers.get("Content-Encoding", "identity").lower(), redact(url)
    if response.status == 200 and packed != "identity" and not _PACKED.search(urlsplit(url).path):
        raise Unreachable(f"{where} arrives compressed ({packed}), though nobody asked for that", url=where,
                          hint="what would be locked is not the file itself: use another origin")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _plain(error: Exception) -> str:
    """The reason, without urllib3's objects and the URL."""
    return f"{type(getattr(error, 'reason', None) or error).__name__}: {cause(error)}"


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds; 0 for a time that is past or cannot be read."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def download(client: Client, urls: Sequence[str], sha256: str, size: int | None, store: Store, label: str = "") -> Path:
    """Fetches one file into the store, from the first origin that has it. A wrong hash is an error: asking the next
    origin would hide it. `size` is None where only the hash is known yet.

    Raises HashMismatch, Missing (every origin answered that it does not have the file), Unreachable, NoSpace.
    """
    if store.has(sha256, size):
        return store.path(sha256)
    label = label or sha256
    try:
        with store.alone(sha256):
            if not store.has(sha256, size):
                _from_first(client, urls, sha256, size, store, label)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{label}: the disk of {store.root} is full", hint="make room there and run again") from error
        raise
    return store.path(sha256)


def _from_first(client: Client, urls: Sequence[str], sha256: str, size: int | None, store: Store, label: str) -> None:
    failures: list[FarmError] = []
    for url in urls:
        try:
            _checked(client, url, sha256, size, store, label)
            return
        except (Missing, Unreachable) as error:
            failures.append(error)
    said = "; ".join(error.message for error in failures) or "no origin is known"
    if all(isinstance(error, Missing) for error in failures):
        raise Missing(f"{label}: no origin has it any more: {said}",
                      hint="lock the image again (make lock), name an origin that keeps old files (farm_origins), or "
                           "set farm_relock_missing")
    kept = next(error for error in failures if isinstance(error, Unreachable))
    raise Unreachable(f"{label}: {said}", hint=kept.hint)


def _checked(client: Client, url: str, sha256: str, size: int | None, store: Store, label: str) -> None:
    partial = store.partial(sha256)
    resumed = partial.exists() and partial.stat().st_size > 0
    while True:
        try:
            client.patiently(url, partial, size)
            got = sha256_of(str(partial))
            if got == sha256:
                store.put(partial, sha256)
                return
            found = partial.stat().st_size
            page, hint = pages.told(pages.head_of(partial))
            partial.unlink()
            wanted = sha256 if size is None else f"{sha256}, {size} bytes"
            raise HashMismatch(f"{label} is {got}, {found} bytes; the lock says {wanted}{page}", hint=hint)
        except HashMismatch as error:
            partial.unlink(missing_ok=True)
            if not resumed:
                raise HashMismatch(error.message if error.message.startswith(label) else f"{label}: {error.message}",
                                   hint=error.hint, url=redact(url)) from error
            resumed = False  # what an earlier run left may be damaged: try once more from the beginning


def first_contact(client: Client, url: str, folder: Path) -> tuple[Path, str, int]:
    """Fetches a file that no lock names yet: (temporary file, sha256, size in bytes). Raises Unreachable for a page in
    its place."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"first-{os.getpid()}-{threading.get_ident()}"
    path.unlink(missing_ok=True)
    client.patiently(url, path, None, known=False)
    if page := pages.instead(url, path):
        path.unlink()
        raise Unreachable(f"{redact(url)} is not what its name says{page}", url=redact(url), hint=pages.HINT)
    return path, sha256_of(str(path)), path.stat().st_size


def download_all(wanted: Iterable[tuple[Entry, str]], urls: Callable[[Entry, str], Sequence[str]], client: Client,
                 store: Store) -> Iterator[tuple[Entry, FarmError | None]]:
    """Fetches files into the store in parallel. Yields each entry with None or its error, in any order. `urls` gives
    the URLs of an entry.

    Once the disk is full, no more files are fetched.
    """
    full = threading.Event()

    def one(entry: Entry, snapshot: str) -> FarmError | None:
        if full.is_set():
            return NoSpace(f"{entry.label}: not fetched, the disk of {store.root} is full",
                           hint="make room there and run again")
        try:
            download(client, urls(entry, snapshot), entry.sha256, entry.size, store, entry.label)
        except FarmError as error:
            if isinstance(error, NoSpace):
                full.set()
            return error
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        pending = {pool.submit(one, entry, snapshot): entry for entry, snapshot in wanted}
        for future in as_completed(pending):
            yield pending[future], future.result()
