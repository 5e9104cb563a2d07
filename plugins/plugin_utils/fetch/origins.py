# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where locked files come from: the inventory's `farm_origins`, or snapshot.debian.org, or what this machine uses.

    farm_origins:
      debian: [http://mirror.example/debian]  # base URLs; `{snapshot}` stands for the lock's snapshot time
      debian-security: [http://mirror.example/archive/debian-security/{snapshot}]
      url: {"https://upstream.example/": "file:///srv/upstream/"}
      git: {"https://upstream.example/": "file:///srv/git/"}
      image: {"docker.io/": "mirror.example/hub/"}
      maven: [https://maven.example/releases] # base URLs, in the layout of a Maven repository
      go: file:///srv/goproxy                 # a GOPROXY; everything else of Go is the go command's own settings
      cargo: sparse+https://index.example/    # the index of a registry, or file:///folder with a local registry

If `farm_origins` names an origin, nothing else is asked, so a site without internet never waits for an answer. Hosts
are in the inventory or in the machine's settings, never in the project.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import client_settings
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import DEBIAN, SECURITY
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import urllib3
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import SNAPSHOT

SNAPSHOTS = "http://snapshot.debian.org/archive/{archive}/{snapshot}"
PROBE_SECONDS = 3
BASES = (DEBIAN, SECURITY, "maven")  # kinds that come from base URLs
PREFIXES = ("url", "git", "image")  # kinds of which the beginning of an address is replaced


def archive_of(suite: str) -> str:
    """Which of Debian's archives has a suite."""
    return SECURITY if suite.endswith("-security") else DEBIAN


def reachable(here: client_settings.Machine, url: str = SNAPSHOTS, seconds: float = PROBE_SECONDS) -> bool:
    """Whether the URL's host answers, through a proxy if one is set."""
    parts = urlsplit(url)
    try:
        with client_settings.pool(here.proxy(url, apt=True), timeout=seconds, retries=False) as pool:
            return pool.request("HEAD", f"{parts.scheme}://{parts.netloc}/", redirect=False).status < 400
    except urllib3.exceptions.HTTPError:
        return False


class Origins:
    """The origins of one run. If `snapshots` is None, snapshot.debian.org is probed once, when it first matters."""

    def __init__(self, configured: Mapping[str, object] | None = None, *, here: client_settings.Machine | None = None,
                 snapshots: bool | None = None, apt_root: str = "/etc/apt") -> None:
        self.configured = dict(configured or {})
        self.here = here or client_settings.Machine.read(apt_root)
        self._apt_root = apt_root
        self._snapshots = snapshots
        self._lock = threading.Lock()
        self._bases: dict[tuple[str, bool], tuple[str, ...]] = {}
        unknown = sorted(set(self.configured) - {*BASES, *PREFIXES, "go", "cargo"})
        if unknown:
            raise FarmError(f"farm_origins has unknown keys: {', '.join(unknown)}",
                            hint=f"it may have {', '.join((*BASES, *PREFIXES))}, go and cargo")
        for archive in BASES:
            if isinstance(self.configured.get(archive), str):
                self.configured[archive] = [self.configured[archive]]

    @property
    def snapshots(self) -> bool:
        """Whether snapshot.debian.org answers."""
        with self._lock:
            if self._snapshots is None:
                self._snapshots = reachable(self.here)
            return self._snapshots

    @property
    def goproxy(self) -> str:
        return str(self.configured.get("go", ""))

    @property
    def crates(self) -> str:
        return str(self.configured.get("cargo", ""))

    @property
    def maven(self) -> tuple[str, ...]:
        """The base URLs that the inventory names for Maven artifacts."""
        return tuple(str(base).rstrip("/") for base in self.configured.get("maven", ()))  # type: ignore[attr-defined]

    def bases(self, archive: str, *, fallback: bool = True) -> tuple[str, ...]:
        """The base URLs of an archive, best first; one with `{snapshot}` serves the archive as it was at a time.

        Without `fallback`, only those of the best kind: a resolution must not mix kinds.
        """
        key = (archive, fallback)
        if key not in self._bases:
            self._bases[key] = self._find(archive, fallback)
        return self._bases[key]

    def _find(self, archive: str, fallback: bool) -> tuple[str, ...]:
        if configured := self.configured.get(archive):
            return tuple(str(base).rstrip("/") for base in configured)  # type: ignore[attr-defined]
        found: tuple[str, ...] = (SNAPSHOTS.replace("{archive}", archive),) if self.snapshots else ()
        if not found or fallback:
            found += client_settings.apt_bases(archive, self._apt_root)
        if not found:
            raise FarmError(
                f"no origin for the archive {archive}: this machine's apt has no source for it, and "
                "snapshot.debian.org does not answer",
                hint=f"name one in the inventory: farm_origins: {{{archive}: [http://...]}}",
            )
        return found

    def rewritten(self, url: str, kind: str = "url") -> str:
        """The address with the longest prefix of `farm_origins.url` (or of another kind) replaced."""
        rules: Mapping[str, str] = self.configured.get(kind, {})  # type: ignore[assignment]
        best = max((prefix for prefix in rules if url.startswith(prefix)), key=len, default=None)
        return url if best is None else rules[best] + url[len(best):]


def at_times(base: str, snapshot: str) -> list[str]:
    """A base with its `{snapshot}` filled in. A lock made from a live mirror has the date of the Release file, but a
    snapshot service imports that some hours later. So a later time is tried too; the service answers with the newest
    import before it."""
    if "{snapshot}" not in base:
        return [base]
    if not snapshot:
        return []
    later = datetime.strptime(snapshot, SNAPSHOT).replace(tzinfo=timezone.utc) + timedelta(days=1)
    return [base.replace("{snapshot}", time) for time in (snapshot, later.strftime(SNAPSHOT))]
