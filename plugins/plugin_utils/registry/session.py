# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to one registry: sends credentials if asked, follows redirects as far as they are allowed, and turns
failures into clear errors."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.auth import Keys, Scope
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.http import (
    LONGEST,
    Answer,
    Wire,
    asked,
    refuse_full,
    shown,
)

HOPS = 5  # redirects of one request
PAGES = 10_000  # of a list
BARREN = 20  # pages of a list, one after the other, that have no new name
FOLLOWED = {"GET": (301, 302, 303, 307, 308), "HEAD": (301, 302, 303, 307, 308)}
KEPT = (307, 308)  # of other methods: these alone keep method and body (RFC 9110, 15.4.8)


class Session:
    """The exchanges with one registry, `host[:port]`. Safe to use from several threads."""

    def __init__(self, address: str, *, pauses: Sequence[float], threads: int) -> None:
        refuse(f"the registry {address!r}", references.address(address))
        plain = references.loopback(address)
        self.address, self.base = address, f"{'http' if plain else 'https'}://{address}"
        self._wire = Wire(self.base, direct=plain, pauses=pauses, threads=threads)
        self._keys = {_origin(self.base): self._new_keys(address, own=True)}
        self._lock = threading.Lock()

    def request(self, method: str, path: str, scope: Scope, good: tuple[int, ...] = (200,), *, whole: bool = True,
                once: bool = False, body: bytes | Path | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request to a path or URL. Raises RegistryError or Unreachable for an answer that is none of `good`."""
        url = urljoin(self.base, path)

        def ask(authorization: str) -> Answer:
            sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            found = self._wire.ask(method, url, sent, body, whole=whole, once=once)
            if not whole and found.status != 200:
                _read = found.data  # it is no blob: read here, and its connection freed
            return found

        for _hop in range(HOPS + 1):
            keys = self._keys_of(url)
            known = keys.header(scope)
            answer = ask(known)
            if answer.status == 401:
                challenge = answer.headers.get("WWW-Authenticate", "")
                if better := keys.answer(scope, challenge, known):
                    answer = ask(better)
            if answer.status in good:
                return answer
            if answer.status not in FOLLOWED.get(method, KEPT):
                raise self.refusal(method, answer, keys.hint if answer.status == 401 else None)
            url = self.leads(answer, url)
        raise RegistryError(f"{method} {self.base}{shown(path)}: redirected {HOPS} times, to {shown(url)} at last",
                            hint="is that address a registry's?")

    def list(self, path: str, key: str, scope: Scope, *, missing: bool = False) -> list[str]:
        """The names of a list that comes in pages, sorted; with `missing` none where the registry does not have it.

        Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags
        """
        found: set[str] = set()
        url, seen, barren = f"{path}?n=1000", set[str](), 0
        while url not in seen and len(seen) < PAGES and barren < BARREN:
            answer = self.request("GET", url, scope, (200, 404) if missing and not seen else (200,))
            if answer.status == 404:
                return []
            seen.add(url)
            names = oci.document(answer.data, answer.shown).get(key) or []
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise RegistryError(f"{answer.shown}: its {key} are no list of names")
            barren = barren + 1 if found.issuperset(names) else 0
            found.update(names)
            link = re.match(r"<([^>]+)>", answer.headers.get("Link", ""))
            if not link:
                return sorted(found)
            url = self.leads(answer, answer.url, link[1])
            if not self.own(url):
                raise RegistryError(f"{answer.shown}: the list of {key} goes on elsewhere, at {shown(url)}")
        raise RegistryError(f"{self.base}{path}: the list of {key} does not end")

    def own(self, url: str) -> bool:
        """Whether it is the registry itself that answers there."""
        return _origin(url) == _origin(self.base)

    def leads(self, answer: Answer, base: str, location: str = "") -> str:
        """Where a Location leads, or another URL that an answer gives. Never out of TLS, but on this machine itself."""
        given = location or answer.headers.get("Location", "")
        try:
            url = urljoin(base, given).partition("#")[0]
            parts = urlsplit(url)
            good = bool(given) and bool(parts.hostname) and parts.port != 0 and parts.scheme in ("http", "https")
        except ValueError:
            good = False
        if not good or "@" in parts.netloc:
            raise RegistryError(f"{answer.shown}: HTTP {answer.status} leads to {shown(given)!r}, which is nowhere")
        if parts.scheme == "http" and (answer.url.startswith("https:") or not references.loopback(parts.netloc)):
            text = f"{answer.shown}: HTTP {answer.status} leads to {shown(url)}, out of TLS: nothing is sent there"
            raise RegistryError(text, hint="a registry behind a proxy has to know its own address (http.host)")
        return url

    def refusal(self, method: str, answer: Answer, hint: Callable[[], str] | None = None) -> FarmError:
        """The error for an answer that is no success. Raises NoSpace where that is for want of room."""
        if method not in ("GET", "HEAD"):
            refuse_full(self.address, answer.data)
        text = f"{method} {answer.shown}: the registry answers HTTP {answer.status} {_words(answer.data)}".rstrip()
        if answer.status >= 500:
            return Unreachable(text, hint="look at its log; playbooks/check.yml says whether its data is damaged")
        if answer.status == 429:
            kind = RegistryError if asked(answer) > LONGEST else Unreachable
            return kind(f"{text}; Retry-After: {answer.headers.get('Retry-After', 'not said')}",
                        hint="it takes no more requests for now: try later")
        if 300 <= answer.status < 400:
            to = shown(answer.headers.get("Location", "nowhere"))
            hint_ = "name the registry by its own address"
            return RegistryError(f"{text}: it leads to {to}, and that is no success", hint=hint_)
        return RegistryError(text, hint=hint() if hint else "")

    def _keys_of(self, url: str) -> Keys:
        origin = _origin(url)
        with self._lock:
            if origin not in self._keys:
                self._keys[origin] = self._new_keys(origin.partition("//")[2], own=False)
            return self._keys[origin]

    def _new_keys(self, host: str, *, own: bool) -> Keys:
        return Keys(host, self._wire.ask, own=own)


def refuse(what: str, allowed: str) -> None:
    """Raises RegistryError where there is something to say of what would be allowed."""
    if allowed:
        raise RegistryError(f"{what} cannot be: it must be {allowed}")


def _origin(url: str) -> str:
    """Scheme, host and port: who answers there may know what was meant for it."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, usual) else "")


def _words(data: bytes) -> str:
    try:
        return "; ".join(str(error.get("message") or error.get("code")) for error in json.loads(data)["errors"])[:500]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
