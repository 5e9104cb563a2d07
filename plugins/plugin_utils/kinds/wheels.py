# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels: their names and tags, which of them a platform's Python takes, and what they need. No I/O.

Source: https://packaging.python.org/en/latest/specifications/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
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

if TYPE_CHECKING:
    from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import requirements, version

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"


def _either(words: str) -> str:
    """A pattern of words in small or capital letters. (An editor's JSON Schema knows no flags.)"""
    return "|".join("".join(f"[{letter}{letter.upper()}]" for letter in word) for word in words.split())


def _version(between: str) -> str:
    """The pattern of a version in any spelling (PEP 440). `between` are what may stand between its parts."""
    bare = "-[0-9]+|" if "-" in between else ""  # in a wheel's name, that is a build
    return (rf"[vV]?(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*"
            rf"(?:[{between}]?(?:{_either('alpha a beta b preview pre c rc')})[{between}]?[0-9]*)?"
            rf"(?:{bare}[{between}]?(?:{_either('post rev r')})[{between}]?[0-9]*)?"
            rf"(?:[{between}]?(?:{_either('dev')})[{between}]?[0-9]*)?"
            rf"(?:\+[A-Za-z0-9]+(?:[{between}][A-Za-z0-9]+)*)?")


REQUIREMENT = rf"^{_NAME}(?:\[{_NAME}(?:,{_NAME})*\])?=={_version('._-')}$"
FILE = re.compile(rf"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?)-(?P<version>{_version('._')})"
                  rf"(?:-[0-9][\w.]*)?-(?P<python>(?:\w+\.)*(?:{_either('py cp')})[0-9]+(?:\.\w+)*)-"
                  r"(?P<abi>\w+(?:\.\w+)*)-(?P<platform>\w+(?:\.\w+)*)\.whl", re.ASCII)


class Release(NamedTuple):
    """What a Debian release brings: its Python, and the minor version of its glibc 2."""

    python: str
    glibc: int


RELEASES = {"bullseye": Release("3.9", 31), "bookworm": Release("3.11", 36), "trixie": Release("3.13", 41)}
# `platform.machine()`. There are no wheels for the floating point of Debian's armel: those for armv6l are for another.
MACHINES = {
    AMD64: "x86_64", I386: "i686", ARM64: "aarch64", ARMV7: "armv7l", ARMV6: "armv6l", S390X: "s390x",
    PPC64LE: "ppc64le", RISCV64: "riscv64",
}
_WITHOUT_BUILDS = {ARMV6}
_OLD = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # https://peps.python.org/pep-0600/


def release_of(suite: str) -> Release:
    if suite not in RELEASES:
        raise FarmError(f"it is not known which Python the suite {suite} has",
                        hint=f"pypi inputs are for images of {', '.join(RELEASES)}")
    return RELEASES[suite]


def normal(name: str) -> str:
    """A project's name as indexes compare it: `HAP_python` -> `hap-python`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def same_version(one: str, other: str) -> bool:
    """Whether two versions are one: 1.0 and 1.0.0 are, and 1.0.post-1 and 1.0.post1. What is no version is none."""
    try:
        return _parsed(one) == _parsed(other)
    except ValueError:
        return False


def plain(text: str) -> str:
    """A version as it is written in short (PEP 440): `1.0.0-RC.1` -> `1.0.0rc1`."""
    return str(_parsed(text))


def _parsed(text: str) -> version.Version:
    from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import version as library

    return library.Version(text)


def split(requirement: str) -> tuple[str, str]:
    """`HAP-python[QRCode]==5.2.0` -> (`hap-python`, `5.2.0`)."""
    name, _equal, version = requirement.partition("==")
    return normal(name.partition("[")[0]), version


def platform_tags(platform: Platform, glibc: int) -> list[str]:
    """The tags of builds that run there, best first. pip takes them literally: each has to be named."""
    if platform in _WITHOUT_BUILDS:
        return ["any"]
    machine, tags = MACHINES[platform], []
    for minor in range(glibc, 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        tags += [f"{_OLD[minor]}_{machine}"] if minor in _OLD else []
    return tags


def target(platform: Platform, release: Release) -> list[str]:
    """pip's options for what the Python of a Debian release takes on a platform."""
    named = [f"--platform={tag}" for tag in platform_tags(platform, release.glibc)]
    return ["--implementation=cp", f"--python-version={release.python}",
            f"--abi=cp{release.python.replace('.', '')}", *named]


def target_of(file: str) -> tuple[str, ...]:
    """pip's options under which it takes just this kind of wheel, whatever it is for. (The hash decides which wheel.)

    `x-1.0-cp38-abi3-manylinux_2_28_aarch64.whl` is of Python 3.8, for one.
    """
    found = _tags(file)
    python = [tag for tag in found["python"] if tag.startswith(("py", "cp")) and tag[2:].isdigit()][-1]
    version = re.sub(r"^([0-9])(?=[0-9])", r"\1.", python[2:])
    return (f"--implementation={python[:2]}", f"--python-version={version}", f"--abi={found['abi'][-1]}",
            f"--platform={found['platform'][0]}", "--ignore-requires-python")


def fits(file: str, platform: Platform) -> bool:
    """Whether a wheel may be for a platform."""
    newest = max(release.glibc for release in RELEASES.values())
    return not {"any", *platform_tags(platform, newest)}.isdisjoint(_tags(file)["platform"])


def _parts(file: str) -> re.Match[str]:
    found = FILE.fullmatch(file)
    if not found:
        raise FarmError(f"{file} is not the name of a wheel for CPython", hint="choose another version")
    return found


def _tags(file: str) -> dict[str, list[str]]:
    """Each part of a wheel's tags has several in one name: `py2.py3-none-any`. Capital letters do not count."""
    found = _parts(file)
    return {part: found[part].lower().split(".") for part in ("python", "abi", "platform")}


@dataclass(frozen=True)
class Wheel:
    """A wheel that was downloaded to `path`. `needs` are its requirements as it states them (PEP 508)."""

    path: Path
    name: str
    version: str
    needs: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, needs: Iterable[str]) -> Wheel:
        found = _parts(path.name)
        return cls(path, normal(found["name"]), plain(found["version"]), tuple(needs))


def environment(platform: Platform, release: Release) -> dict[str, str]:
    """What markers are evaluated for (PEP 508)."""
    full = f"{release.python}.0"
    return {"implementation_name": "cpython", "implementation_version": full, "os_name": "posix",
            "platform_machine": MACHINES[platform], "platform_python_implementation": "CPython",
            "platform_release": "", "platform_system": "Linux", "platform_version": "",
            "python_full_version": full, "python_version": release.python, "sys_platform": "linux"}


def reached(wanted: Sequence[str], found: Mapping[str, Wheel],
            where: Mapping[str, str]) -> tuple[set[str], dict[str, list[str]]]:
    """The wheels that `wanted` needs in an environment, directly or not, and the requirements that these lack, with who
    needs them.

    pip may have got too much or too little: see pip_client.py.
    """
    needed: dict[str, set[str]] = {}  # name -> the extras of it that count
    lacking: dict[str, list[str]] = {}
    todo = [(_requirement(text, "the recipe"), "the recipe") for text in wanted]
    while todo:
        one, whose = todo.pop()
        name = normal(one.name)
        if one.url:
            raise FarmError(f"{whose} asks for {one.name} of an address: only packages of an index can be locked",
                            hint="choose another version")
        wheel = found.get(name)
        if not wheel or not one.specifier.contains(wheel.version, prereleases=True):
            extras = f"[{','.join(sorted(one.extras))}]" if one.extras else ""
            lacking.setdefault(f"{one.name}{extras}{one.specifier}", []).append(whose)
            continue
        if new := {*map(normal, one.extras), ""} - needed.setdefault(name, set()):
            needed[name] |= new
            todo += [(need, f"{wheel.name} {wheel.version}") for need in _needs(wheel, new, where)]
    return set(needed), lacking


def _needs(wheel: Wheel, extras: Iterable[str], where: Mapping[str, str]) -> Iterator[requirements.Requirement]:
    for text in wheel.needs:
        need = _requirement(text, f"{wheel.name} {wheel.version}")
        try:
            counts = not need.marker or any(need.marker.evaluate({**where, "extra": extra}) for extra in extras)
        except (ValueError, KeyError, TypeError) as error:  # it compares what cannot be compared
            raise FarmError(f"{wheel.name} {wheel.version} asks for {text!r}, whose marker is not valid: {error}",
                            hint="choose another version") from error
        if counts:
            yield need


def _requirement(text: str, whose: str) -> requirements.Requirement:
    from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import requirements as library

    try:
        return library.Requirement(text)
    except library.InvalidRequirement as error:
        raise FarmError(f"{whose} asks for {text!r}, which is not a valid requirement",
                        hint="choose another version") from error
