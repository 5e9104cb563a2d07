# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to one registry: authenticates when asked to, follows redirects that are safe, and turns anything but
success into an error with words.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    PASSING,
    FarmError,
    RegistryError,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.auth import Keys, Scope
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.http import (
    LONGEST,
    Answer,
    Wire,
    asked,
    origin,
    refuse_full,
    shown,
    words,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.login import Login

HOPS = 5  # redirects for one request
PAGE, PAGES = 1000, 10_000  # names on a page, and pages in a list
HUB = "registry-1.docker.io"  # where Docker Hub answers as a registry, by whichever of its names it is called
BARREN = 20  # pages in a row that have no new name
_LINK = re.compile(r"""<([^>]*)>((?:[^",<]|"[^"]*")*)""")  # an address and its parameters
_PARAMETER = re.compile(r""";\s*([\w*-]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""")
FOLLOWED = {"GET": (301, 302, 303, 307, 308), "HEAD": (301, 302, 303, 307, 308)}
KEPT = (307, 308)  # for other methods: only these keep method and body (RFC 9110, 15.4.8)


class Session:
    """The exchanges with one registry, `host[:port]`. Safe to use from several threads."""

    def __init__(self, address: str, access: Access, *, pauses: Sequence[float], threads: int) -> None:
        refuse(f"the registry {address!r}", references.address(address))
        host = HUB if references.hub(address) else address
        plain = references.loopback(host)
        self.address = address
        self.base = f"{'http' if plain else 'https'}://{host}"
        self._elsewhere, self._given, self._farms = not plain, access.login, access.farms
        self._wire = Wire(self.base, ca=access.ca, pauses=pauses, threads=threads, farms=access.farms)
        self._keys = {origin(self.base): Keys(address, self._wire.ask, own=True, given=access.login)}
        self._lock = threading.Lock()

    def request(self, method: str, path: str, scope: Scope, good: tuple[int, ...] = (200,), *, whole: bool = True,
                once: bool = False, body: bytes | Path | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request to a path or URL. Raises RegistryError or Unreachable if the status is not in `good`."""
        url = urljoin(self.base, path)

        def ask(authorization: str) -> Answer:
            sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            found = self._wire.ask(method, url, sent, body, whole=whole, once=once)
            if not whole and found.status != 200:
                _read = found.data  # not a blob: read it here, which frees the connection
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
                if whole and self._page(method, answer):
                    said = words(answer.data)
                    raise RegistryError(f"{method} {answer.shown}: a page answers{said and f' ({said})'}, and no "
                                        "registry", hint="is that address the registry's own? A proxy, a"
                                        " login or a user interface may answer in its place")
                return answer
            if answer.status not in FOLLOWED.get(method, KEPT):
                raise self.refusal(method, answer)
            url = self.leads(answer, url)
        raise RegistryError(f"{method} {self.base}{shown(path)}: more than {HOPS} redirects, the last to {shown(url)}",
                            hint="is that address a registry's?")

    def on_trouble(self, tell: Callable[[str], None]) -> None:
        """Whom to tell if a request has been in trouble for some seconds."""
        self._wire.tell = tell

    def login(self) -> Login | None:
        """The login by name and password; None on loopback, unless the settings give one."""
        found = self._keys[origin(self.base)].known() if self._elsewhere else self._given
        return found if found and found.password else None

    def list(self, path: str, key: str, scope: Scope, *, missing: bool = False) -> list[str]:
        """The names in a paged list, sorted. With `missing`, a list that the registry does not have is empty.

        Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags
        """
        found: set[str] = set()
        url, seen, barren = f"{path}?n={PAGE}", set[str](), 0
        while url not in seen and len(seen) < PAGES and barren < BARREN:
            usual = [200, *([] if seen else [400]), *([404] if missing and not found else [])]
            answer = self.request("GET", url, scope, tuple(usual))
            if answer.status == 404:
                return []
            seen.add(url)
            if answer.status == 400:  # it allows no pages of this size
                url = path
                continue
            names = oci.document(answer.data, answer.shown).get(key) or []
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise RegistryError(f"{answer.shown}: {key} is not a list of names")
            barren = barren + 1 if found.issuperset(names) else 0
            found.update(names)
            said = answer.headers.get("Link", "")
            link = next_page(said)
            if not link and "<" not in said and "next" in said.lower():
                raise RegistryError(f"{answer.shown}: the list of {key} goes on, but its header Link does not say where"
                                    f" between < and >: {said[:200]!r}")
            if not link:
                return sorted(found)
            url = self.leads(answer, answer.url, link)
            if not self.own(url):
                raise RegistryError(f"{answer.shown}: the list of {key} continues on another host, at {shown(url)}")
        raise RegistryError(f"{self.base}{path}: the list of {key} does not end")

    def _page(self, method: str, answer: Answer) -> bool:
        """Whether it is a page for people, which answers to everything. Some registries say so of what is none."""
        said = answer.headers.get("Content-Type", "").lower().startswith("text/html")
        if not said or answer.status != 200 or "Docker-Content-Digest" in answer.headers or not self.own(answer.url):
            return False
        return "/blobs/" in answer.url if method == "HEAD" else answer.data.lstrip().startswith(b"<")

    def own(self, url: str) -> bool:
        """Whether a URL is the registry's own."""
        return origin(url) == origin(self.base)

    def leads(self, answer: Answer, base: str, location: str = "") -> str:
        """The URL in an answer's Location, or in `location`. It must not leave TLS, except on this machine."""
        given = location or answer.headers.get("Location", "")
        try:
            url = urljoin(base, given).partition("#")[0]
            parts = urlsplit(url)
            good = bool(given) and bool(parts.hostname) and parts.port != 0 and parts.scheme in ("http", "https")
        except ValueError:
            good = False
        if not good or "@" in parts.netloc:
            raise RegistryError(f"{answer.shown}: HTTP {answer.status} leads to {shown(given)!r}, not a valid address")
        if parts.scheme == "http" and (answer.url.startswith("https:") or not references.loopback(parts.netloc)):
            where = f"{answer.shown}: HTTP {answer.status} leads to {shown(url)}"
            raise RegistryError(f"{where}, which is not TLS: nothing is sent there",
                                hint="tell a registry behind a proxy its own address (http.host)")
        return url

    def refusal(self, method: str, answer: Answer) -> FarmError:
        """The error for an answer that is not a success. Raises NoSpace if the registry's disk is full."""
        if method not in ("GET", "HEAD"):
            refuse_full(self.address, answer.data)
        text = f"{method} {answer.shown}: the registry answers HTTP {answer.status} {words(answer.data)}".rstrip()
        if answer.status in PASSING or answer.status >= 500:
            passes = answer.status in PASSING and asked(answer) <= LONGEST
            kind = Unreachable if passes else RegistryError
            if answer.status == 429 or "Retry-After" in answer.headers:
                return kind(f"{text}; Retry-After: {answer.headers.get('Retry-After', 'not given')[:100]}",
                            hint="it accepts no more requests for now: try later")
            if self._farms:
                return kind(text, hint="check its log; playbooks/check.yml says whether its data is damaged")
            return kind(text, hint=f"it fails itself: {'try later, or ' if passes else ''}ask who runs it")
        if 300 <= answer.status < 400:
            to = shown(answer.headers.get("Location", "nowhere"))
            hint_ = "use the registry's own address"
            return RegistryError(f"{text}: a redirect to {to}, which is not followed here", hint=hint_)
        login = answer.status == 401 or (answer.status == 403 and self.own(answer.url))  # storage means other things
        if answer.status == 404 and method == "POST":
            return RegistryError(text, hint="make the repository there first, or name another: that registry makes none"
                                            " by itself")
        return RegistryError(text, hint=self._keys_of(answer.url).hint() if login else "")

    def _keys_of(self, url: str) -> Keys:
        where = origin(url)
        with self._lock:
            if where not in self._keys:
                self._keys[where] = Keys(where.partition("//")[2], self._wire.ask, own=False)
            return self._keys[where]


def next_page(link: str) -> str:
    """The address of the next page of a list in a Link header, which may have other addresses too; '' if there is none
    (RFC 8288). One that does not say what it is counts, as no other is defined for lists."""
    for match in _LINK.finditer(link):
        said = {name.lower(): quoted or plain.strip("'") for name, quoted, plain in _PARAMETER.findall(match[2])}
        if "next" in said.get("rel", "next").lower().split():
            return match[1]
    return ""


def refuse(what: str, allowed: str) -> None:
    """Raises RegistryError if `allowed`, which says what would be allowed, is not empty."""
    if allowed:
        raise RegistryError(f"{what} is not valid: it must be {allowed}")
