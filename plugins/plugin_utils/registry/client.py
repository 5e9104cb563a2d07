"""A thin OCI distribution client over urllib3 (https://github.com/opencontainers/distribution-spec/blob/main/spec.md).

Digests are checked on the way in and on the way out. 5xx answers and dropped connections are retried for about a minute; one that takes
requests and never answers is given up after some three.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, NoSpace, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine, pool
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LISTS = (oci.INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
ACCEPT = ", ".join((*LISTS, MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"))
PAUSES = (0.5, 1, 2, 4, 8, 15, 15, 15)  # seconds between the attempts at one upload
# 0.5 + 1 + 2 + 4 + 8 + 15 + 15 + 15 seconds: about a minute


class _Retry(urllib3.Retry):
    """Tries again, but not where the registry says that its disk is full; one that asks to be left alone for longer is asked all the same."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, LONGEST)

    def increment(self, method: str | None = None, url: str | None = None, response: urllib3.BaseHTTPResponse | None = None,
                  *more: Any, **options: Any) -> _Retry:
        if response is not None and method in ("POST", "PUT", "PATCH"):
            _refuse_full(url or "", response.data)
        return super().increment(method, url, response, *more, **options)


LONGEST = 15  # seconds between two attempts
ANSWERS = urllib3.Timeout(connect=5, read=15)
TAKES_IN = urllib3.Timeout(connect=120, read=120)  # a large blob on a slow disk; urllib3 sends under the timeout for connecting
_RETRY = _Retry(total=8, backoff_factor=0.5, backoff_max=LONGEST, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None,
                       raise_on_status=False, respect_retry_after_header=True)


class RegistryError(FarmError):
    """A registry that answers, and refuses."""


class Registry:
    """One registry, `host[:port]`. Loopback addresses are spoken to in plain HTTP, all others in TLS.

    Credentials come from the Docker client's configuration (`~/.docker/config.json`), a proxy for what is not loopback from the
    environment (`https_proxy`, `no_proxy`). Safe to use from several threads.
    """

    def __init__(self, address: str, *, retry: urllib3.Retry = _RETRY, threads: int = 16) -> None:
        self.address = address
        self.plain = bool(re.match(r"^(127\.|localhost(:|$)|\[::1\])", address))
        self.base = f"{'http' if self.plain else 'https'}://{address}"
        proxy = "" if self.plain else Machine(environment=os.environ).proxy(self.base)
        self._pool = pool(proxy, maxsize=threads, retries=retry, timeout=ANSWERS)
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def answers(self) -> bool:
        """Whether a registry answers now; nothing is tried again."""
        try:
            self._request("GET", "/v2/", retries=urllib3.Retry(0, read=0))
        except Unreachable:
            return False
        return True

    def digest(self, repository: str, name: str) -> tuple[str, int, str] | None:
        """(digest, size in bytes, media type) of a tag or digest, or None where the registry has none."""
        answer = self._request("HEAD", f"/v2/{repository}/manifests/{name}", headers={"Accept": ACCEPT}, missing=True)
        if answer is None:
            return None
        headers = answer.headers
        return headers["Docker-Content-Digest"], int(headers["Content-Length"]), headers.get("Content-Type", "").partition(";")[0] or MANIFEST

    def manifest(self, repository: str, name: str) -> bytes | None:
        """The bytes of a manifest or index, checked where `name` is a digest; None where the registry has none."""
        answer = self._request("GET", f"/v2/{repository}/manifests/{name}", headers={"Accept": ACCEPT}, missing=True)
        if answer is not None and ":" in name and oci.digest(answer.data) != name:
            raise HashMismatch(f"{self.address}/{repository}@{name} came as {oci.digest(answer.data)}", hint="the registry's data is damaged")
        return None if answer is None else answer.data

    def put_manifest(self, repository: str, name: str, data: bytes, media_type: str) -> str:
        """Puts a manifest under a tag or its digest; returns its digest."""
        self._request("PUT", f"/v2/{repository}/manifests/{name}", body=data, headers={"Content-Type": media_type})
        return oci.digest(data)

    def tag(self, repository: str, digest: str, name: str) -> None:
        """Lets a tag name what a digest names."""
        data = self.manifest(repository, digest)
        if data is None:
            raise RegistryError(f"{self.address}/{repository}@{digest} is not there to be tagged {name}")
        self.put_manifest(repository, name, data, json.loads(data).get("mediaType", MANIFEST))

    def check_room(self, repository: str) -> None:
        """Raises NoSpace where the registry has no room for an upload; begins one, and takes it back. Other trouble is not told."""
        with contextlib.suppress(Unreachable, RegistryError):
            answer = self._request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"}, retries=urllib3.Retry(0, read=0))
            if answer is not None:
                self._request("DELETE", answer.headers["Location"], retries=urllib3.Retry(0, read=0))

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository, sorted."""
        found: list[str] = []
        path: str | None = f"/v2/{repository}/tags/list?n=1000"
        while path:
            answer = self._request("GET", path, missing=True)
            if answer is None:
                break
            found += json.loads(answer.data).get("tags") or []
            link = re.match(r"<([^>]+)>", answer.headers.get("Link", ""))
            path = link.group(1) if link else None
        return sorted(found)

    def has_blob(self, repository: str, digest: str) -> bool:
        return self._request("HEAD", f"/v2/{repository}/blobs/{digest}", missing=True) is not None

    def blob(self, repository: str, digest: str) -> Iterator[bytes]:
        """The bytes of a blob, piece by piece; raises HashMismatch at the end where they are not those of the digest."""
        answer = self._request("GET", f"/v2/{repository}/blobs/{digest}", preload_content=False)
        assert answer is not None
        made = hashlib.sha256()
        try:
            for piece in answer.stream(1 << 20):
                made.update(piece)
                yield piece
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{self.address} broke off while it sent {digest}: {error}") from error
        finally:
            answer.release_conn()
        if f"sha256:{made.hexdigest()}" != digest:
            raise HashMismatch(f"{self.address}/{repository}@{digest} came as sha256:{made.hexdigest()}", hint="the registry's data is damaged")

    def put_blob(self, repository: str, content: bytes | Path, digest: str) -> bool:
        """Puts a blob that is not there yet; False where it was. A connection that drops in the middle starts the upload again."""
        if self.has_blob(repository, digest):
            return False
        for pause in PAUSES:
            answer = self._request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
            assert answer is not None
            location = urljoin(self.base, answer.headers["Location"])
            target = location + ("&" if urlsplit(location).query else "?") + urlencode({"digest": digest})
            try:
                self._put(target, content)
                return True
            except _Again as again:
                last = again
                time.sleep(pause)
        raise Unreachable(f"{self.address} does not take a blob of {repository}: {last}", hint="look at the registry's log") from last

    def copy(self, repository: str, digest: str, other: Registry, name: str, tags: list[str]) -> None:
        """Copies a manifest or index with all it names to another registry, by digest, tags last."""
        data = self.manifest(repository, digest)
        if data is None:
            raise RegistryError(f"{self.address}/{repository}@{digest} is not there to be copied")
        value = json.loads(data)
        for child in value.get("manifests", []):
            self.copy(repository, child["digest"], other, name, [])
        for blob in [*([value["config"]] if "config" in value else []), *value.get("layers", [])]:
            if not other.has_blob(name, blob["digest"]):
                with tempfile.NamedTemporaryFile() as file:
                    for piece in self.blob(repository, blob["digest"]):
                        file.write(piece)
                    file.flush()
                    other.put_blob(name, Path(file.name), blob["digest"])
        for target in [digest, *tags]:
            other.put_manifest(name, target, data, value["mediaType"])

    def _put(self, url: str, content: bytes | Path) -> None:
        headers = {"Content-Type": "application/octet-stream", **self._authorization(url)}
        body = content if isinstance(content, bytes) else content.open("rb")
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        try:
            answer = self._pool.request("PUT", url, body=body, headers={**headers, "Content-Length": str(size)}, retries=False, timeout=TAKES_IN)
        except urllib3.exceptions.HTTPError as error:
            raise _Again(str(error)) from error
        finally:
            if not isinstance(body, bytes):
                body.close()
        if answer.status >= 500:
            _refuse_full(self.address, answer.data)
            raise _Again(f"HTTP {answer.status}")
        if answer.status != 201:
            raise RegistryError(f"{self.address} refuses a blob: HTTP {answer.status} {_words(answer.data)}")

    def _request(self, method: str, path: str, *, missing: bool = False, **options: Any) -> urllib3.BaseHTTPResponse | None:
        url = urljoin(self.base, path)
        options["headers"] = {**options.get("headers", {}), **self._authorization(url)}
        try:
            answer = self._pool.request(method, url, redirect=method in ("GET", "HEAD"), **options)
            if answer.status == 401 and self._authenticate(url, answer.headers.get("WWW-Authenticate", "")):
                options["headers"].update(self._authorization(url))
                answer = self._pool.request(method, url, redirect=method in ("GET", "HEAD"), **options)
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            hint = "is it running, and is that its address? `make status` shows the farm's own"
            raise Unreachable(f"the registry {self.address} cannot be reached: {reason}", hint=hint) from error
        if answer.status == 404 and missing:
            return None
        if answer.status >= 400:
            if method != "GET":
                _refuse_full(self.address, answer.data)
            raise (Unreachable if answer.status >= 500 else RegistryError)(
                f"{method} {url}: the registry answers HTTP {answer.status} {_words(answer.data if options.get('preload_content', True) else b'')}")
        return answer

    def _authorization(self, url: str) -> dict[str, str]:
        found = self._tokens.get(_scope(url)) or self._tokens.get("")
        return {"Authorization": found} if found else {}

    def _authenticate(self, url: str, challenge: str) -> bool:
        """Answers a 401: basic, or a bearer token for the repository of `url` (https://distribution.github.io/distribution/spec/auth/token/)."""
        kind, _, rest = challenge.partition(" ")
        user = self._credentials()
        if kind.lower() == "basic" and user:
            self._tokens[""] = f"Basic {user}"
            return True
        if kind.lower() != "bearer":
            return False
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        query = urlencode({k: asked[k] for k in ("service", "scope") if k in asked})
        answer = self._pool.request("GET", f"{asked['realm']}?{query}", headers={"Authorization": f"Basic {user}"} if user else {})
        if answer.status != 200:
            return False
        token = answer.json()
        self._tokens[_scope(url)] = f"Bearer {token.get('token') or token['access_token']}"
        return True

    def _credentials(self) -> str:
        from docker import auth  # the Docker SDK reads credential helpers too; it is slow to import and seldom needed

        found = auth.load_config().resolve_authconfig(self.address) or {}
        if not found.get("username") and not found.get("Username"):
            return ""
        name, word = found.get("username") or found["Username"], found.get("password") or found.get("Secret", "")
        return base64.b64encode(f"{name}:{word}".encode()).decode()


class _Again(Exception):
    """An upload that broke in the middle."""


def _refuse_full(where: str, data: bytes) -> None:
    """distribution's file system driver gives what the system said as `detail`, `Err` is its number; the message is always `unknown error`."""
    if re.search(rb'"Err": ?%d\b|no space left' % errno.ENOSPC, data):
        raise NoSpace(f"no space left on the registry's disk ({where})", hint="make room there and run again; nothing was tried twice")


def _scope(url: str) -> str:
    match = re.match(r"/v2/(.+?)/(?:manifests|blobs|tags)/", urlsplit(url).path)
    return match.group(1) if match else ""


def _words(data: bytes) -> str:
    try:
        return "; ".join(str(error.get("message") or error.get("code")) for error in json.loads(data)["errors"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
