# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the store, the archive and the origins which .debs they have, without downloading any."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import THREADS, Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import debian
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.overlays import NAMED
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry


class Found(Enum):
    """`UNKNOWN`: some origin does not have it, and another does not answer."""

    THERE, NOWHERE, UNKNOWN = range(3)


class Finder:
    """Finds out which .debs are available nowhere. `archive` is None if no registry answers, or if none is to be asked.
    Nothing is asked twice."""

    def __init__(self, origins: Origins, store: Store, archive: Registry | None = None, namespace: str = "",
                 client: Client | None = None) -> None:
        self.origins, self.store, self.archive, self.repository = origins, store, archive, f"{namespace}/archive"
        self.client = client or Client(origins.here)
        self._known: dict[str, Found] = {}
        self._silent: set[str] = set()
        self._guard = threading.Lock()

    def nowhere(self, wanted: Iterable[tuple[Entry, str]]) -> list[Entry]:
        """The .debs that neither the store nor the archive nor any origin has, if all origins answer. `wanted` are
        pairs of an entry and its lock's snapshot time."""
        return self._those(wanted, {Found.NOWHERE})

    def lacking(self, wanted: Iterable[tuple[Entry, str]]) -> list[Entry]:
        """The same, and those that an origin does not have while the others do not answer."""
        return self._those(wanted, {Found.NOWHERE, Found.UNKNOWN})

    def _those(self, wanted: Iterable[tuple[Entry, str]], found: Container[Found]) -> list[Entry]:
        debs = {entry.sha256: (entry, snapshot) for entry, snapshot in wanted if entry.kind == "debian"}
        new = [pair for sha, pair in debs.items() if sha not in self._known]
        with ThreadPoolExecutor(THREADS) as pool:
            for (entry, _snapshot), answer in zip(new, pool.map(lambda pair: self._find(*pair), new)):
                self._known[entry.sha256] = answer
        return sorted((entry for sha, (entry, _snapshot) in debs.items() if self._known[sha] in found),
                      key=lambda entry: entry.key)

    def _find(self, entry: Entry, snapshot: str) -> Found:
        digest = f"sha256:{entry.sha256}"
        if self.store.holds(entry.sha256) or (self.archive and self.archive.has_blob(self.repository, digest)):
            return Found.THERE
        try:
            urls = debian.KIND.urls(entry, snapshot, self.origins)
        except FarmError:
            return Found.THERE  # no origin is known, so none said that it is gone
        gone = 0
        for url in urls:
            answer = self._gone(url)
            if answer is False:
                return Found.THERE
            gone += answer is True
        if not gone:
            return Found.THERE  # nobody answered; the fetch step says so
        return Found.NOWHERE if gone == len(urls) else Found.UNKNOWN

    def _gone(self, url: str) -> bool | None:
        """None: no answer. An origin that fails to answer is not asked again."""
        host = urlsplit(url).netloc
        if host in self._silent:
            return None
        try:
            return self.client.gone(url)
        except Unreachable:
            with self._guard:
                self._silent.add(host)
            return None


def named(entries: list[Entry]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return ", ".join(entry.label for entry in entries[:NAMED]) + more
