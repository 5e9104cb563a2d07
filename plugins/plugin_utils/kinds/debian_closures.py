# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves closures of Debian packages with apt itself, in one private root for each (suites, architecture) (apt.py).

A mirror may be stuck between two states, even for days: its index does not match its InRelease (docs/guide.md,
"Locks"). That is refused. If the inventory allows it (`allow_missing_suites`), a platform then takes the suite by its
other name (trixie is also `stable`), which such a mirror may still serve whole, though in an older state; otherwise it
goes without the suite. The lock records both, and the run reports them.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, Missing, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.files import locked
from ansible_collections.desimages.farm.plugins.module_utils.platforms import DEBIAN, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import redact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins, archive_of
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.apt import (
    Apt,
    Expired,
    Mixed,
    as_apt,
    field_of,
    hint_of,
    redact_all,
    timed,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import SNAPSHOT, Lock

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CORRECT = "correct `debian:` of this input, or remove the platform from the recipe"
RETRY_SECONDS = (3,)
# keeps what one attempt fetched for the next
TRY = ("-o", "APT::Get::List-Cleanup=false", "-o", "pkgCacheFile::Generate=false")
NO_INDEX = ("-o", "Acquire::IndexTargets::deb::Packages::DefaultEnabled=false")  # only the InRelease
WORKERS = 4
PATIENCE = 3600.0  # seconds to wait for another process in a private root


@dataclass(frozen=True)
class Release:
    """One suite as it was found: the name that was asked for, its date, and whether it is older than the suite's own
    InRelease."""

    suite: str
    name: str
    date: datetime
    older: bool = False


class Older(FarmError):
    """Indexes that are older than those that a lock was made from."""


class Foreign(FarmError):
    """An InRelease of another suite than the one that was asked for."""


class Package(NamedTuple):
    """A locked .deb: sha256, size in bytes, and the facts of its lock line."""

    sha256: str
    size: int
    facts: dict[str, str]


@dataclass
class Index:
    """The indexes of (suites, architecture), ready for the solver."""

    root: Path
    platform: Platform
    releases: tuple[Release, ...] = ()
    left_out: tuple[str, ...] = ()
    bases: dict[str, str] = field(default_factory=dict)

    @property
    def date(self) -> datetime:
        return max(release.date for release in self.releases)

    @property
    def older(self) -> dict[str, str]:
        """Suites of which only an older state was found -> its time."""
        return {release.suite: release.date.strftime(SNAPSHOT) for release in self.releases if release.older}


@contextmanager
def _held(root: Path) -> Iterator[None]:
    """Raises TimeoutError if another process does not end. No other user can block it."""
    root.mkdir(parents=True, exist_ok=True)
    with locked(f"{root}/in-use", PATIENCE):
        yield


class Debian:
    """Resolves closures. One apt update per (suites, platform), shared by all images of a run.

    `folder` keeps the private roots between runs; `snapshot` asks for the archive as it was at a time; `say` gets
    progress lines.
    """

    def __init__(self, folder: Path, origins: Origins, *, snapshot: str = "", allow_missing_suites: bool = False,
                 keyring: str = KEYRING,
                 say: Callable[[str], None] = lambda line: None, sleep: Callable[[float], None] = time.sleep) -> None:
        self.folder = folder
        self.origins = origins
        self.snapshot = snapshot
        self.allow = allow_missing_suites
        self.keyring = keyring
        self.say = say
        self.sleep = sleep
        # the time to ask a snapshot service for if none is given
        self._now = datetime.now(timezone.utc).strftime(SNAPSHOT)
        self._guard = threading.Lock()
        self._each: dict[tuple[tuple[str, ...], Platform], threading.Lock] = {}
        self._ready: dict[tuple[tuple[str, ...], Platform], Index | FarmError] = {}

    def prepare(self, wanted: Iterable[tuple[tuple[str, ...], Platform]]) -> None:
        """Updates in parallel what will be needed. A failure is raised only by `index`."""
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda pair: self._index(*pair), sorted(set(wanted))))

    def index(self, suites: tuple[str, ...], platform: Platform) -> Index:
        """The indexes of some suites for a platform, updated once in a run."""
        found = self._index(suites, platform)
        if isinstance(found, FarmError):  # anew, as it is said of which image and input an error is
            raise type(found)(found.message, hint=found.hint, **found.where) from found
        return found

    def _index(self, suites: tuple[str, ...], platform: Platform) -> Index | FarmError:
        key = (suites, platform)
        with self._guard:
            each = self._each.setdefault(key, threading.Lock())
        with each:
            if key not in self._ready:
                try:
                    self._ready[key] = self._update(suites, platform)
                except FarmError as error:
                    self._ready[key] = error
            return self._ready[key]

    def _update(self, suites: tuple[str, ...], platform: Platform) -> Index:
        if not Path(self.keyring).exists():
            raise FarmError(f"the keyring {self.keyring} does not exist",
                            hint="install Debian's package debian-archive-keyring")
        failures: list[FarmError] = []
        for bases in self._bases(suites):
            key = hashlib.sha256(repr((sorted(bases.items()), suites, self.keyring)).encode()).hexdigest()[:16]
            root = self.folder / f"{DEBIAN[platform]}-{key}"
            filled = {archive: base.replace("{snapshot}", self.snapshot or self._now)
                      for archive, base in bases.items()}
            try:
                with _held(root):
                    index = self._try(Apt(root, platform, self.origins, self.keyring), suites, filled)
                self.say(f"lock debian: {platform} indexes of {index.date:%Y-%m-%d %H:%M} UTC"
                         + "".join(f", {suite} only as of {time_}" for suite, time_ in index.older.items())
                         + "".join(f", without {suite}" for suite in index.left_out))
                return index
            except (Unreachable, Missing) as error:
                failures.append(error)
        raise failures[0]

    def _bases(self, suites: tuple[str, ...]) -> list[dict[str, str]]:
        """The sets of base URLs to try; each has one base for each archive."""
        found = {archive: [base for base in self.origins.bases(archive, fallback=False) if not self.snapshot
                           or "{snapshot}" in base]
                 for archive in sorted({archive_of(suite) for suite in suites})}
        for archive, bases in found.items():
            if not bases:
                raise FarmError(f"no origin of {archive} serves snapshots, but farm_snapshot is {self.snapshot}",
                                hint="use snapshot.debian.org, or a mirror of it named in farm_origins with "
                                     "{snapshot} in its URL")
        most = max(map(len, found.values()))
        return [{archive: bases[min(number, len(bases) - 1)] for archive, bases in found.items()}
                for number in range(most)]

    def _try(self, apt: Apt, suites: tuple[str, ...], bases: dict[str, str]) -> Index:
        names = [(suite, suite) for suite in suites]
        try:
            self._patiently(apt, names, bases)
            if any(map(timed, bases.values())):
                apt.update()  # removes lists of other times
            return self._found(apt, names, bases)
        except Mixed as error:
            if not self.allow:
                raise Mixed(
                    error.message, platform=apt.platform,
                    hint="the mirror is between two states: try later, use another origin, or allow the farm to take an"
                         " older state of the suite, or none (farm_allow_missing_suites: true; security updates may be"
                         " missing then)",
                ) from error
        kept: list[tuple[str, str]] = []
        for suite in suites:
            name = self._whole(apt, suite, bases)
            if name:
                kept.append((suite, name))
        if not kept:
            raise Mixed(f"this origin serves none of {', '.join(suites)} completely for {apt.architecture}",
                        platform=apt.platform, hint="try later, or use another origin (farm_origins)")
        apt.sources(kept, bases)
        apt.update()
        return self._found(apt, kept, bases, tuple(suite for suite in suites if suite not in dict(kept)))

    def _patiently(self, apt: Apt, names: Sequence[tuple[str, str]], bases: dict[str, str]) -> None:
        apt.sources(names, bases)
        for seconds in (*RETRY_SECONDS, None):
            try:
                return apt.update(*TRY)
            except Mixed:
                if seconds is None:
                    raise
                self.sleep(seconds)

    def _whole(self, apt: Apt, suite: str, bases: dict[str, str]) -> str:
        """The name under which the origin serves a suite whole: its own, its other one, or '' if neither."""
        for name in (suite, self._other_name(apt, suite, bases)):
            apt.sources([(suite, name)], bases)
            try:
                apt.update(*TRY)
            except (Mixed, Missing, Expired) as error:
                if name == suite and not isinstance(error, Mixed):
                    raise
            else:
                (text,) = apt.releases().values()
                if name == suite:
                    refuse_foreign(text, suite, apt)
                if suite in names_of(text):
                    return name
        return ""

    def _other_name(self, apt: Apt, suite: str, bases: dict[str, str]) -> str:
        """What the suite's own InRelease calls it beside its codename: `stable`, `stable-updates`."""
        apt.sources([(suite, suite)], bases)
        apt.update(*TRY, *NO_INDEX)
        texts = [path.read_text(encoding="utf-8")
                 for path in (apt.root / "state" / "lists").glob(f"*_dists_{suite}_InRelease")]
        for text in texts:
            refuse_foreign(text, suite, apt)
        return next(filter(None, (field_of(text, "Suite") for text in texts)), suite)

    def _found(self, apt: Apt, names: Sequence[tuple[str, str]], bases: dict[str, str],
               left_out: tuple[str, ...] = ()) -> Index:
        texts = apt.releases()
        found = []
        for suite, name in names:
            text = texts.get((as_apt(bases[archive_of(suite)]), name))
            if text is None:
                raise Missing(f"the origin has no index of {suite} for {apt.architecture}", platform=apt.platform,
                              hint=hint_of(Missing))
            refuse_foreign(text, suite, apt)
            found.append(Release(suite, name, _date(text, suite), name != suite))
        return Index(apt.root, apt.platform, tuple(found), left_out, bases)

    def closure(self, name: str, index: Index, packages: Sequence[str], essential: bool,
                below: Sequence[Package] = ()) -> list[Package]:
        """The files of an input: all packages that apt's own solver would install for these on a system that has
        those `below`, and those of `below` that are named. Of the indexes only what is new is taken: they may have
        newer versions of what is below."""
        there = {package.facts["name"]: package for package in below}
        kept = [there[package] for package in packages if package in there]
        wanted = [*(["?essential"] if essential else []), *(one for one in packages if one not in there)]
        if not wanted:
            return kept
        apt = Apt(index.root, index.platform, self.origins, self.keyring)
        install = ("install", "--print-uris", "--no-install-recommends",
                   *apt.installed([one.facts for one in below]))
        found = _asked(name, index, apt, install, wanted)
        have = {one.facts["name"] for one in found}
        if other := [one for one in wanted if one.endswith("+") and one not in have]:  # to apt `web+` may mean `web`
            raise FarmError(f"apt has no package {', '.join(other)}", hint=CORRECT, platform=index.platform, input=name)
        if moved := [f"{one.facts['name']} {one.facts['version']}, there {there[one.facts['name']].facts['version']}"
                     for one in found if one.facts["name"] in there]:
            raise FarmError(f"{', '.join(wanted)} cannot be added to the image that this one descends from, because"
                            f" newer versions are needed: {'; '.join(sorted(moved))}", platform=index.platform,
                            hint="lock both at the same time (farm_images), or name a farm_snapshot", input=name)
        return [*kept, *found]

    def alone(self, name: str, index: Index, packages: Sequence[str]) -> list[Package]:
        """The files of these packages, without anything that they depend on."""
        apt = Apt(index.root, index.platform, self.origins, self.keyring)
        return _asked(name, index, apt, ("download", "--print-uris"), packages)


def _asked(name: str, index: Index, apt: Apt, command: Sequence[str], packages: Sequence[str]) -> list[Package]:
    """The files that apt would fetch."""
    code, out, err = apt.run(*command, "-qq", "--", *packages)
    if code:  # with -qq it does not say why
        _code, out, err = apt.run(*command, "--", *packages)
        raise FarmError(
            f"apt cannot install {', '.join(packages) or 'the essential packages'}:\n    {_reasons(out + err)}",
            hint=CORRECT,
            input=name, platform=index.platform, suites=", ".join(release.suite for release in index.releases),
        )
    found = [_package(name, index, line) for line in out.splitlines() if line.startswith("'")]
    if not found:
        raise FarmError(f"apt installs nothing for {', '.join(packages)}", platform=index.platform, input=name)
    return found


def _reasons(output: str) -> str:
    """Why apt cannot install something, in its own words."""
    lines = [redact_all(line) for line in output.splitlines()
             if line.strip() and not line.startswith(("Reading", "Building", "Some packages could not",
                                                      "requested an impossible"))]
    return "\n    ".join(lines[-20:])


def _package(name: str, index: Index, line: str) -> Package:
    """`'http://.../pool/main/g/glibc/libc6_2.41-12_arm64.deb' libc6_2.41-12_arm64.deb 2488872 SHA256:...`"""
    found = re.fullmatch(r"'([^']+)' (\S+_\S+_\S+) (\d+) SHA256:([0-9a-f]{64})", line.strip())
    if not found:
        raise HashMismatch(f"apt gives no SHA256, size and name for a package: {redact_all(line)}", input=name,
                           platform=index.platform, hint="its index is damaged: use another origin")
    url, filename, size, sha256 = found.groups()
    prefixes = {archive: as_apt(base) + "/" for archive, base in index.bases.items()}
    archive = next((archive for archive in sorted(prefixes, key=lambda archive: -len(prefixes[archive]))
                    if as_apt(url).startswith(prefixes[archive])), "")
    if not archive:
        raise FarmError(f"apt names {redact(url)}, which is in none of the archives that were asked", input=name)
    package, version, architecture = (unquote(part) for part in filename.removesuffix(".deb").rsplit("_", 2))
    path = unquote(as_apt(url)[len(prefixes[archive]):])
    facts = {"archive": archive, "name": package, "version": version, "architecture": architecture, "path": path}
    return Package(sha256, int(size), facts)


def names_of(release: str) -> list[str]:
    """What an InRelease calls its suite: by codename (`trixie-security`) and by state (`stable-security`)."""
    return [name for name in (field_of(release, "Codename"), field_of(release, "Suite")) if name]


def refuse_foreign(release: str, suite: str, apt: Apt) -> None:
    """Raises Foreign if an InRelease, although its signature is good, is that of another suite."""
    if suite not in names_of(release):
        said = " or ".join(names_of(release)) or "nothing"
        raise Foreign(f"the origin serves the signed InRelease of {said} as that of {suite}", platform=apt.platform,
                      hint="this origin is misconfigured, or passes off other packages: compare with another origin")


def _date(release: str, suite: str) -> datetime:
    try:
        return parsedate_to_datetime(field_of(release, "Date").replace("UTC", "+0000"))
    except (TypeError, ValueError) as error:
        raise FarmError(f"the InRelease of {suite} has no date: {field_of(release, 'Date')!r}",
                        hint="use another origin") from error


def newest(indexes: Iterable[Index]) -> dict[str, datetime]:
    """Suite -> the newest time that any platform has of it."""
    found: dict[str, datetime] = {}
    for index in indexes:
        for release in index.releases:
            found[release.suite] = max(release.date, found.get(release.suite, release.date))
    return found


def refuse_older(old: Lock, indexes: Iterable[Index]) -> None:
    """Raises Older if a suite is older than what the lock was made from: someone may replay an old, signed state."""
    problems = []
    for index in indexes:
        for release in index.releases:
            before = old.older.get(str(index.platform), {}).get(release.suite) or old.releases.get(release.suite)
            if before and release.date.strftime(SNAPSHOT) < before:
                problems.append(f"{release.suite} for {index.platform} is from {release.date.strftime(SNAPSHOT)}, the "
                                f"lock was made from {before}")
    now = max(newest(indexes).values()).strftime(SNAPSHOT)
    if not problems and old.snapshot and not old.releases and now < old.snapshot:
        problems.append(f"the newest suite is from {now}, but the lock from {old.snapshot}")
    if problems:
        raise Older("the origin is older than the lock: " + "; ".join(sorted(set(problems))),
                    hint="it is stale, or someone replays an old state: use another origin, or set farm_snapshot to "
                         "the time to go back to")
