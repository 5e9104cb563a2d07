# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""apt in a private root, with its own sources, keyring, lists and settings. From this machine's apt it takes only
proxies and credentials.

apt checks each InRelease against the keyring, and each index against its InRelease. If it refuses one, its output
becomes an error here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Missing, NoSpace, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.platforms import DEBIAN, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import redact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins, archive_of

LONGEST = 1800.0  # seconds that apt-get may take; an update fetches indexes
CONFIGURATION = """\
Dir "{root}";
Dir::Etc "{root}/etc";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{root}/etc/sources.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Etc::netrc "{apt}/auth.conf";
Dir::Etc::netrcparts "{apt}/auth.conf.d";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Cache::srcpkgcache "";
Dir::Log "{root}/log";
Dir::Bin::methods "/usr/lib/apt/methods";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Solver "internal";
APT::Get::AllowUnauthenticated "false";
APT::Cmd::Pattern-Only "true";
APT::Update::Error-Mode "any";
APT::Update::Post-Invoke {{ }};
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Check-Date "true";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::ForceHash "SHA256";
Acquire::Retries "3";
"""
# apt 2.9 and later also has a "3.0" solver. The internal one is named, so that each version of apt gives the same
# closure.


class Signature(FarmError):
    """An InRelease that the keyring does not vouch for."""


class Expired(FarmError):
    """An InRelease past its Valid-Until."""


class Early(Expired):
    """An InRelease of a later time than this machine's."""


class Mixed(FarmError):
    """An index that does not match its InRelease."""


_FAILURES: tuple[tuple[str, type[FarmError], str], ...] = (
    (r"is expired|invalid since", Expired,
     "the mirror is stale (or someone withholds updates): use another origin, or name a snapshot"),
    (r"not valid yet", Early, "this machine's clock is behind, or that of the mirror ahead: `date -u` says the time"),
    # words of gpgv, and of sqv, which apt uses since Debian 13
    (r"GPG error|not signed|BADSIG|NO_PUBKEY|NODATA|Clearsigned|signatures? (?:could|were)|no longer signed"
     r"|weak security information|/sqv returned an error|OpenPGP signature",
     Signature, "this origin does not serve Debian, or the keyring is too old: compare with another origin"),
    (r"unexpected size|Hash Sum mismatch|Mirror sync in progress", Mixed,
     "the mirror is between two states: try later, or use another origin"),
    (r"No space left", NoSpace, "make room on the disk of farm_state"),
    (r"\b404\b|File not found|does not have a Release file", Missing,
     "does the origin have this suite and architecture?"),
)


def failure(output: str) -> type[FarmError]:
    """The kind of failure that apt's output reports."""
    return next((kind for pattern, kind, _hint in _FAILURES if re.search(pattern, output)), Unreachable)


def hint_of(kind: type[FarmError]) -> str:
    return next((hint for _pattern, found, hint in _FAILURES if found is kind), "is the origin reachable from here?")


class Apt:
    """apt in one private root."""

    def __init__(self, root: Path, platform: Platform, origins: Origins, keyring: str,
                 apt_root: str = "/etc/apt") -> None:
        self.root = root
        self.platform = platform
        self.architecture = DEBIAN[platform]
        self.origins = origins
        self.keyring = keyring
        for folder in ("etc", "state/lists/partial", "cache/archives/partial", "log"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        os.chmod(root / "etc", 0o700)
        _put(root / "status", "")
        settings = "".join(f'{name} "{value}";\n' for name, value in sorted(origins.here.apt.items()))
        text = CONFIGURATION.format(root=root, architecture=self.architecture, apt=apt_root) + settings
        _put(root / "etc" / "apt.conf", text)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        environment = {**os.environ, "APT_CONFIG": str(self.root / "etc" / "apt.conf"), "LC_ALL": "C"}
        done = programs.run(["apt-get", *arguments], seconds=LONGEST, environment=environment)
        return done.code, done.out, done.err

    def installed(self, packages: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
        """Options of a run on a system that has these packages (name, version, architecture), instead of on an empty
        one."""
        if not packages:
            return ()
        path = self.root / "below"
        found = self._stanzas([package["name"] for package in packages])
        _put(path, "".join(_status(package, found.get(package["name"], {})) for package in packages))
        return ("-o", f"Dir::State::status={path}", "-o", "Dir::Cache::pkgcache=")

    def _stanzas(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """name -> version -> its paragraph in the indexes."""
        environment = {**os.environ, "APT_CONFIG": str(self.root / "etc" / "apt.conf"), "LC_ALL": "C"}
        done = programs.run(["apt-cache", "show", "--", *names], seconds=LONGEST, environment=environment)
        found: dict[str, dict[str, str]] = {}
        for text in done.out.split("\n\n"):
            if name := field_of(text, "Package"):
                found.setdefault(name, {})[field_of(text, "Version")] = text
        return found

    def sources(self, names: Sequence[tuple[str, str]], bases: dict[str, str]) -> None:
        """Writes the sources. `names` are pairs: a suite, and the name to ask for it by."""
        stanzas = []
        for suite, name in names:
            base = bases[archive_of(suite)]
            stanzas.append(
                f"Types: deb\nURIs: {base}\nSuites: {name}\nComponents: main\nArchitectures: {self.architecture}\n"
                f"Signed-By: {self.keyring}\nCheck-Valid-Until: {'no' if timed(base) else 'yes'}\n"
            )
        _put(self.root / "etc" / "sources.sources", "\n".join(stanzas))

    def update(self, *options: str) -> None:
        code, out, err = self.run("update", "-q", *options)
        if code:
            raise self.error(out + err)

    def error(self, output: str) -> FarmError:
        lines = [redact_all(line) for line in output.splitlines() if re.match(r"(E|W|Err):", line)]
        kind = failure(output)
        said = next((line for line in lines if line.startswith("E:")), lines[0] if lines else output.strip()[-300:])
        return kind(f"apt cannot use the indexes of {self.architecture}: {said}", hint=hint_of(kind),
                    platform=self.platform)

    def releases(self) -> dict[tuple[str, str], str]:
        """(base as apt spells it, name asked for) -> text of the InRelease, for each one that apt accepted."""
        code, out, err = self.run("indextargets", "--format", "$(REPO_URI)\t$(RELEASE)\t$(FILENAME)",
                                  "Created-By: Packages")
        if code:
            raise self.error(out + err)
        found = {}
        for line in out.splitlines():
            base, name, filename = line.split("\t")
            lists = Path(filename).name
            prefix = lists[: lists.index(f"_dists_{name.replace('/', '_')}_")
                           + len(f"_dists_{name.replace('/', '_')}_")]
            path = self.root / "state" / "lists" / f"{prefix}InRelease"
            if path.exists():
                found[as_apt(base), name] = path.read_text(encoding="utf-8")
        return found


def _status(package: Mapping[str, str], known: Mapping[str, str]) -> str:
    """The paragraph of an installed package in dpkg's status file. If the indexes no longer have this version, what it
    depended on is not known, and was there; what it provides is taken from another version."""
    status = "Status: install ok installed\n"
    if text := known.get(package["version"]):  # whole, or apt takes it for another package of the same version
        return f"{text.strip()}\n{status}\n"
    other = next(iter(known.values()), "")
    said = "".join(f"{name}: {value}\n" for name in ("Multi-Arch", "Essential", "Provides")
                   if (value := field_of(other, name)))
    return (f"Package: {package['name']}\nArchitecture: {package['architecture']}\nVersion: {package['version']}\n"
            f"Maintainer: nobody\nDescription: below\n{said}{status}\n")


def _put(path: Path, text: str) -> None:
    """Writes a file unless it already has that text: apt's cache stays valid only while its sources are not touched."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def timed(base: str) -> bool:
    """Whether a base URL is that of a snapshot at a time. Release files of a snapshot are past their Valid-Until by
    nature."""
    return bool(re.search(r"/\d{8}T\d{6}Z(/|$)", base))


def redact_all(text: str) -> str:
    """The text with user and password taken out of every URL."""
    return re.sub(r"\w+://\S+", lambda found: redact(found.group()), text)


def as_apt(base: str) -> str:
    """A URI as apt spells it: `file:/` with one slash, no password, no slash at its end."""
    return re.sub(r"^(file|copy):/*", r"\1:/", redact(base)).rstrip("/")


def field_of(release: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", release, re.M)
    return found[1].strip() if found else ""
