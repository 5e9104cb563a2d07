# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a Cargo.lock, and says where a registry has a crate. No I/O.

A registry never changes a version of a crate, and the checksum of a crate in a Cargo.lock is the sha256 of its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

import tomllib
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import key

# https://doc.rust-lang.org/cargo/reference/registry-index.html#name-restrictions
NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
_WORD = r"[0-9A-Za-z-]+"
# https://semver.org/#backusnaur-form-grammar-for-valid-semver-versions
VERSION = rf"[0-9]{{1,20}}\.[0-9]{{1,20}}\.[0-9]{{1,20}}(-{_WORD}(\.{_WORD})*)?(\+{_WORD}(\.{_WORD})*)?"
FORMATS = (3, 4)  # 3 since cargo 1.53; formats 1 and 2 do not say which they are
_KNOWN = " and ".join(map(str, FORMATS))
NEWER = (1, 78)  # the first cargo that reads format 4
MARKERS = ("crate", "version", "prefix", "lowerprefix", "sha256-checksum")
ANEW = "make it again with `cargo generate-lockfile` of cargo 1.53 or later"


class Crate(NamedTuple):
    """One version of a crate, by the sha256 of its file."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class CargoLock(NamedTuple):
    """A Cargo.lock: its format, the crates that it takes from a registry, and the names of those that are beside it."""

    format: int
    crates: tuple[Crate, ...]
    own: tuple[str, ...]


def needs_crates(text: str) -> bool:
    """Whether a Cargo.lock names anything that is not beside it; also if it cannot be read, which the lock step
    reports."""
    try:
        return bool(re.search(r"^[ \t]*source[ \t]*=", text, re.M)) or not isinstance(tomllib.loads(text), dict)
    except (ValueError, RecursionError):
        return True


def parse(text: str, where: str, registry: str) -> CargoLock:
    """Reads a Cargo.lock. `where` is its name in messages; `registry` is what a Cargo.lock calls the registry that
    cargo uses by default. Raises BadInput with all that no lock of ours can name."""
    try:
        value = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too large or too deep"
        raise BadInput([f"{where}: not TOML: {said}; {ANEW}"], what=where) from error
    problems = list(_format(value.get("version")))
    packages = value.get("package", [])
    if not isinstance(packages, list) or not all(isinstance(package, dict) for package in packages):
        problems.append(f"it has no list of packages; {ANEW}")
        packages = []
    crates, own = [], []
    for package in packages if not problems else ():
        name, version, source = (str(package.get(key, "")) for key in ("name", "version", "source"))
        wrong = list(_wrong(package, source, registry))
        problems += [f"{name} {version}: {said}" for said in wrong]
        if not source:
            own.append(name)
        elif not wrong:
            crates.append(Crate(name, version, str(package["checksum"])))
    if problems:
        raise BadInput([f"{where}: {said}" for said in problems], what=where)
    return CargoLock(int(value["version"]), tuple(dict.fromkeys(crates)), tuple(own))


def named(manifest: str, text: str, where: str) -> dict[str, str]:
    """The crates that a Cargo.toml names for itself, and what the other packages beside it need (members of its
    workspace), with their versions in its Cargo.lock; the newest, if that has several. `where` is the name of their
    folder in messages. Raises BadInput."""
    try:
        said, packages = tomllib.loads(manifest), tomllib.loads(text).get("package", [])
        parts = [said, *said.get("target", {}).values()]
        wanted = {(value.get("package", name) if isinstance(value, dict) else name) for part in parts
                  for table in ("dependencies", "build-dependencies")
                  for name, value in part.get(table, {}).items()}
        wanted |= {asked.partition(" ")[0] for package in packages
                   if "source" not in package and package["name"] != said.get("package", {}).get("name")
                   for asked in package.get("dependencies", [])}
        there = [package for package in packages if package["name"] in wanted and "source" in package]
        return {package["name"]: package["version"] for package in sorted(there, key=lambda one: key(one["version"]))}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        why = f": {error}" if isinstance(error, tomllib.TOMLDecodeError) else ""  # the others are Python's words
        raise BadInput([f"{where}: its Cargo.toml or its Cargo.lock is not one of cargo's{why}; `cargo metadata` there"
                        " tells more"], what=where) from error


def paths(manifest: Mapping[str, Any]) -> Iterator[str]:
    """The folders that a Cargo.toml requires by `path`. One that is not cargo's has none."""
    def tables(said: Any) -> Iterator[Mapping[str, Any]]:
        return (value for value in (said.values() if isinstance(said, dict) else ()) if isinstance(value, dict))

    for part in (manifest, *tables({"": manifest.get("workspace")}), *tables(manifest.get("target"))):
        for name in ("dependencies", "dev-dependencies", "build-dependencies"):
            yield from (one["path"] for one in tables(part.get(name)) if isinstance(one.get("path"), str))
    for source in (*tables(manifest.get("patch")), manifest.get("replace")):
        yield from (one["path"] for one in tables(source) if isinstance(one.get("path"), str))


def checksum(text: str, name: str, version: str) -> str:
    """The sha256 of a crate in a Cargo.lock of any format since 2, or ''."""
    for package in tomllib.loads(text).get("package", []):
        if (package["name"], package["version"]) == (name, version) and "source" in package:
            return str(package.get("checksum", ""))
    return ""


def _format(said: Any) -> Iterator[str]:
    if said is None:
        yield f"its format is 1 or 2, and only {_KNOWN} can be read; {ANEW}"
    elif said not in FORMATS or isinstance(said, bool):
        shown = str(said) if isinstance(said, date) else repr(said)
        yield f"its format is {shown}, and only {_KNOWN} can be read by this version of the farm"


def _wrong(package: Mapping[str, Any], source: str, registry: str) -> Iterator[str]:
    """Why a lock cannot name a package."""
    if not re.fullmatch(NAME, str(package.get("name", ""))):
        yield "this is not a valid name of a crate"
    if not re.fullmatch(VERSION, str(package.get("version", ""))):
        yield "this is not a valid version of a crate"
    if not source:
        return
    if source.startswith("git+"):
        yield "it comes from git, but only crates of a registry can be locked: require a released version of it"
    elif not re.match(r"(registry|sparse)\+", source):
        yield "it does not come from a registry, but only crates of a registry can be locked"
    elif source != registry:
        yield ("it comes from another registry than the one that cargo uses by default, but only crates of that one "
               "can be locked: put it into the image's folder and require it by path")
    elif not re.fullmatch(r"[0-9a-f]{64}", str(package.get("checksum", ""))):
        yield f"it has no sha256 as checksum; {ANEW}"


def prefix(name: str) -> str:
    """The folder of a crate in an index. Source: https://doc.rust-lang.org/cargo/reference/registry-index.html"""
    return {1: "1", 2: "2", 3: f"3/{name[:1]}"}.get(len(name), f"{name[:2]}/{name[2:4]}")


def address(template: str, name: str, version: str, sha256: str) -> str:
    """The URL of a crate, by the `dl` of a registry's config.json."""
    if not any(f"{{{marker}}}" in template for marker in MARKERS):
        template += "/{crate}/{version}/download"
    values = (name, version, prefix(name), prefix(name.lower()), sha256)
    for marker, value in zip(MARKERS, values, strict=True):
        template = template.replace(f"{{{marker}}}", value)
    return template
