# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads package-lock.json: which packages an installation for production needs, and what is wrong with them. No I/O.

Source: https://docs.npmjs.com/cli/configuring-npm/package-lock-json
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import (
    AMD64,
    ARM64,
    ARMV6,
    ARMV7,
    I386,
    PPC64LE,
    RISCV64,
    S390X,
    Platform,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import versions

VERSIONS = (2, 3)
NAME = r"^(@[A-Za-z0-9~-][A-Za-z0-9._~-]*/[A-Za-z0-9~-]|[A-Za-z0-9~])[A-Za-z0-9._~-]*$"  # old ones have capital letters
VERSION = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"  # https://semver.org
INTEGRITY = r"^sha512-[A-Za-z0-9+/]{86}==$"
NODE = {  # `process.arch`
    AMD64: "x64", I386: "ia32", ARM64: "arm64", ARMV7: "arm", ARMV6: "arm", S390X: "s390x", PPC64LE: "ppc64",
    RISCV64: "riscv64",
}
ANEW = "`npm install --package-lock-only --lockfile-version=3` writes it again"
LEFT_OUT = ("dev", "optional", "devOptional", "extraneous")  # by `npm ci --omit=dev --omit=optional`
# said about a package by its registry, with addresses; no installation reads it
SAID = ("funding", "deprecated")


@dataclass(frozen=True, order=True)
class Package:
    """A package that is installed, once however often it occurs. `integrity` has each sha512 that its tarball may have,
    almost always one. `only` says for which machines it is, if not for all;
    `built` names an optional package that has its native part for one machine."""

    name: str
    version: str
    integrity: str
    only: tuple[tuple[str, tuple[str, ...]], ...] = ()
    built: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    def excludes(self, platform: Platform) -> bool:
        """Whether its os, cpu or libc leave a platform out. All images are Debian's, whose libc is glibc."""
        is_ = {"os": platform.os, "cpu": NODE[platform], "libc": "glibc"}
        return not all(allowed(values, is_[what]) for what, values in self.only)


def allowed(values: Sequence[str], value: str) -> bool:
    """`[linux]` and `[!win32]` allow linux."""
    wanted = [one for one in values if not one.startswith("!")]
    return f"!{value}" not in values and (not wanted or value in wanted or "any" in wanted)


def packages(text: str, where: str) -> tuple[Package, ...]:
    """The packages that a package-lock.json installs for production, without optional ones. `where` is its name in
    messages.

    Raises BadInput with every package that cannot be locked.
    """
    tree = _tree(text, where)
    found: set[Package] = set()
    problems: list[str] = []
    if odd := [f"{where}: {path or 'the program'} has a wrong {name}: {short(json.dumps(entry[name]))}; {ANEW}"
               for path, entry in tree.items() for name in _odd(entry)]:
        raise BadInput(odd, what="what npm resolved")
    for path, entry in tree.items():
        if any(entry.get(flag) for flag in LEFT_OUT):
            continue
        problems += _asked_elsewhere(path, entry, tree)
        name = str(entry.get("name") or path.rpartition("node_modules/")[2])
        if not _installed(path) or _bundled(path, tree):
            continue  # it comes with the package that bundles it, or is a folder of the program
        if entry.get("link"):
            place = posixpath.normpath(entry.get("resolved") or "..")
            if place not in tree or place.startswith(("..", "/")):
                problems.append(f"{name} is a link to {repr(entry.get('resolved') or 'nothing')}, outside the folder")
            continue
        try:
            found.add(_package(name, path, entry, tree))
        except ValueError as error:
            problems.append(str(error))
    contents = Counter(label for label, _integrity in {(one.label, one.integrity) for one in found})
    problems += [f"{label} occurs with several contents" for label, times in sorted(contents.items()) if times > 1]
    if problems:
        raise BadInput([f"{where}: {problem}" for problem in dict.fromkeys(problems)], what="what npm resolved")
    return tuple(sorted(found))


def engines(text: str) -> dict[str, str]:
    """Package -> the Node that it is for, as the packages of a package-lock.json say it that are installed for
    production, and the program itself. What is written in another way than npm reads counts for nothing."""
    said = {}
    for path, entry in _tree(text, "package-lock.json").items():
        wanted = entry.get("engines")
        node = wanted.get("node") if isinstance(wanted, dict) else ""
        if node and isinstance(node, str) and not any(entry.get(flag) for flag in LEFT_OUT):
            name = entry.get("name") or path.rpartition("node_modules/")[2] or "the program"
            said[f"{name} {entry.get('version') or ''}".strip()] = node
    return said


def _installed(path: str) -> bool:
    """Whether a place is that of a package, and not of a folder of the program."""
    return bool(re.search(r"(^|/)node_modules/", path))


def _bundled(path: str, tree: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a package is in the tarball of one that has it inside. What the program itself bundles is marked in the
    same way, but comes from the registry."""
    outer = path
    while outer and tree.get(outer, {}).get("inBundle"):
        outer = outer.rpartition("node_modules/")[0].rstrip("/")
    return outer != path and _installed(outer)


def _odd(entry: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a package whose values are of another type than npm writes."""
    for name in ("name", "version", "resolved", "integrity"):
        if not isinstance(entry.get(name) or "", str):
            yield name
    for name in ("dependencies", "optionalDependencies"):
        said = entry.get(name) or {}
        if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
            yield name
    for name in ("os", "cpu", "libc"):
        said = entry.get(name) or ""
        if not isinstance(said, str | list) or not all(isinstance(value, str) for value in said):
            yield name


def _tree(text: str, where: str) -> dict[str, dict[str, Any]]:
    try:
        said = json.loads(text)
        version, tree = said.get("lockfileVersion"), said.get("packages", {})
    except (ValueError, AttributeError, RecursionError):
        raise BadInput([f"{where}: not a package-lock.json; {ANEW}"], what="what npm resolved") from None
    if version not in VERSIONS:
        raise BadInput([f"{where}: lockfileVersion is {short(json.dumps(version))}, it must be one of "
                        f"{', '.join(map(str, VERSIONS))}; {ANEW}"], what="what npm resolved")
    if not isinstance(tree, dict) or not all(isinstance(entry, dict) for entry in tree.values()):
        raise BadInput([f"{where}: its packages are no mapping of places to packages; {ANEW}"],
                       what="what npm resolved")
    return dict(tree)


def _package(name: str, path: str, entry: Mapping[str, Any], tree: Mapping[str, Mapping[str, Any]]) -> Package:
    """Raises ValueError if it cannot be locked."""
    version = entry.get("version") or ""
    label = f"{name} {version}"
    if re.match(r"(git|file|link|github)\b", str(entry.get("resolved", ""))):
        raise ValueError(f"{label} comes from {short(entry['resolved'])}: only packages of a registry can be locked")
    if not re.fullmatch(NAME, name) or not re.fullmatch(VERSION, version):
        raise ValueError(f"{label} is not a valid name and version of a package")
    hashes = [one for one in str(entry.get("integrity", "")).split() if re.fullmatch(INTEGRITY, one)]
    if not hashes:
        raise ValueError(f"{label} has no sha512 in its integrity ({entry.get('integrity') or 'none'}); remove "
                         "package-lock.json, so that it is made again from a registry that says one")
    only = [(what, tuple([values] if isinstance(values, str) else map(str, values)))
            for what in ("os", "cpu", "libc") if (values := entry.get(what))]
    built = [dependency for dependency in entry.get("optionalDependencies") or {}
             if _for_one_machine(_found(dependency, path, tree))]
    return Package(name, version, " ".join(hashes), tuple(only), built[0] if built else "")


def _for_one_machine(entry: Mapping[str, Any]) -> bool:
    """Whether a package is for some processors alone, and one of those may run Linux."""
    system = entry.get("os") or []
    return bool(entry.get("cpu")) and allowed([system] if isinstance(system, str) else system, "linux")


def _found(name: str, path: str, tree: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The package that a package at `path` gets by a name: the nearest one, as node looks for it."""
    while True:
        if entry := tree.get(posixpath.join(path, "node_modules", name)):
            return entry
        if not path:
            return {}
        path = path.rpartition("node_modules/")[0].rstrip("/")


def _asked_elsewhere(path: str, entry: Mapping[str, Any], tree: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The dependencies that are not asked of a registry, but of git, an address or a folder."""
    name = path.rpartition("node_modules/")[2] or "package.json"
    for dependency, wanted in (entry.get("dependencies") or {}).items():
        inside = wanted.startswith("file:") and _found(dependency, path, tree).get("link")
        if re.search("[:/]", wanted) and not wanted.startswith("npm:") and not inside:
            yield f"{name} asks for {dependency} of {short(wanted)}: only packages of a registry can be locked"


def named(manifest: str, text: str, where: str) -> dict[str, str]:
    """The packages that a package.json names for itself, or one of its workspaces, with their versions in its
    package-lock.json, if they come from a registry; the newest, if that has several. `where` is the name of their
    folder in messages."""
    try:
        wanted = json.loads(manifest).get("dependencies") or {}
        good = isinstance(wanted, dict)
    except (ValueError, AttributeError, RecursionError):
        good = False
    if not good:
        raise BadInput([f"{where}/package.json: not a package.json"], what="what npm resolved")
    tree = _tree(text, f"{where}/package-lock.json")
    asked = {path: entry.get("dependencies") for path, entry in tree.items() if path and not _installed(path)}
    there = [(str(entry.get("name", name)), str(entry["version"])) for path, names in {"": wanted, **asked}.items()
             if isinstance(names, dict) for name in names if "version" in (entry := _found(name, path, tree))]
    return dict(sorted(there, key=lambda one: versions.key(one[1])))


def short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def tidied(text: str) -> str:
    """A package-lock.json that npm wrote, without what the registry says about packages, and without those that nothing
    needs: npm tries some while it selects, leaves them behind, and drops them the next time."""
    said = json.loads(text)
    said["packages"] = {path: entry for path, entry in said["packages"].items() if not entry.get("extraneous")}
    for entry in said["packages"].values():
        for name in SAID:
            entry.pop(name, None)
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


def natives(found: Iterable[tuple[Package, str]], platforms: Sequence[Platform],
            fallback: Sequence[str]) -> Iterator[tuple[str, tuple[Platform, ...]]]:
    """What needs native code or an install script, and on which platforms. `found` are packages, and what their
    tarballs say about that. Those in `fallback` do without."""
    for package, said in found:
        if package.name in fallback:
            continue
        if lacking := tuple(platform for platform in platforms if package.excludes(platform)):
            words = "; ".join(f"{what} {', '.join(values)}" for what, values in package.only)
            yield f"{package.label} is only for {words}", lacking
        elif package.built:
            yield (f"{package.label} has its native code in optional packages such as {package.built}",
                   tuple(platforms))
        elif said:
            yield f"{package.label} {said}", tuple(platforms)
