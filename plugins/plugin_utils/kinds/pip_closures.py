# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves wheels with pip, for the Python of a Debian release, platform by platform."""

from __future__ import annotations

import email.parser
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ansible_collections.desimages.farm.plugins.module_utils.elf import number_of
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Missing
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.pip_client import Pip, find_pip
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.pip_failures import Conflict, culprit
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.wheels import (
    Release,
    Wheel,
    environment,
    reached,
    release_of,
    target,
)

THREADS = 4
MOST = 1 << 22  # bytes of a wheel's METADATA
ROUNDS = 10  # pip is asked again for what it left out; each round finds more, or it is the last
REMEDY = ("an sdist is never taken, and nothing is compiled: choose another version; or take what needs native code "
          "from a debian input (python3-...), and name only the other wheels, with `dependencies: false`; or leave the "
          "platform out of the recipe")


class Closures:
    """Resolves pypi inputs. `folder` has pip's cache, which is kept between runs, and scratch folders."""

    def __init__(self, folder: Path, *, origin: str = "", say: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.origin, self.say = folder, origin, say
        self._pip: Pip | None = None

    @property
    def pip(self) -> Pip:
        if self._pip is None:
            self._pip = Pip(find_pip(), self.folder, self.origin)
        return self._pip

    def wheels(self, image: str, name: str, wanted: Sequence[str], dependencies: bool, suite: str,
               platforms: Sequence[Platform]) -> dict[Platform, list[Wheel]]:
        """The wheels of an input for each platform, downloaded; with everything that they need, or without
        `dependencies` exactly what is `wanted`. Raises FarmError with every platform that has no wheel of something."""
        release, _pip = release_of(suite), self.pip
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)

        def one(platform: Platform) -> list[Wheel] | FarmError:
            into = work / platform.slug
            try:
                return (self._closure(wanted, platform, release, into) if dependencies
                        else self._download(wanted, platform, release, into, "--no-deps"))
            except FarmError as error:
                return error

        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(platforms, pool.map(one, platforms)))
        good = {platform: some for platform, some in found.items() if not isinstance(some, FarmError)}
        _refuse(name, {platform: error for platform, error in found.items() if isinstance(error, FarmError)}, found)
        _compare(name, good)
        if not dependencies:
            self._tell(image, name, wanted, good, release)
        return good

    def _closure(self, wanted: Sequence[str], platform: Platform, release: Release, into: Path) -> list[Wheel]:
        where = environment(platform, release)
        asked = list(wanted)
        for _round in range(ROUNDS):
            found = {wheel.name: wheel for wheel in self._download(asked, platform, release, into)}
            needed, lacking = reached(wanted, found, where)
            if not lacking:
                return [found[name] for name in sorted(needed)]
            asked += [text for text in lacking if text not in asked]
        raise FarmError(f"pip still lacks {', '.join(lacking)}", platform=str(platform),
                        hint="name it in the recipe as well")

    def _download(self, wanted: Sequence[str], platform: Platform, release: Release, into: Path,
                  *more: str) -> list[Wheel]:
        error = self.pip.download(wanted, [*target(platform, release), *more], into, environment(platform, release))
        if error:
            raise error
        found = [Wheel.of(path, needs(path)) for path in sorted(into.iterdir())]
        foreign = [f"\n    {wheel.path.name} has {file}" for wheel in found
                   for file in foreign_code(wheel.path, platform)]
        if foreign:
            raise FarmError("native code that is not for this platform, whatever the wheel's name says:"
                            f"{''.join(foreign)}", platform=str(platform), hint=REMEDY)
        return found

    def _tell(self, image: str, name: str, wanted: Sequence[str], found: Mapping[Platform, Sequence[Wheel]],
              release: Release) -> None:
        """Says what the wheels need beside themselves: someone has to bring it into the image."""
        lines: dict[str, list[str]] = {}
        for platform, some in found.items():
            _needed, lacking = reached(wanted, {wheel.name: wheel for wheel in some}, environment(platform, release))
            lines.update(lacking)
        if lines:
            said = "; ".join(f"{text} ({', '.join(dict.fromkeys(whose))})" for text, whose in sorted(lines.items()))
            self.say(f"lock {image}: {name} lacks what it needs, because `dependencies` is false: {said}")


def _refuse(name: str, errors: Mapping[Platform, FarmError], all_: Mapping[Platform, object]) -> None:
    others = {platform: error for platform, error in errors.items() if not isinstance(error, (Missing, Conflict))}
    if others:
        raise _others(name, others)
    if not errors:
        return
    lines: dict[str, list[str]] = {}
    for platform, error in errors.items():
        lines.setdefault(culprit(error) or error.message, []).append(str(platform))
    text = "".join(f"\n    {what} (not for {', '.join(platforms)})" for what, platforms in lines.items())
    nowhere = len(errors) == len(all_) and all(isinstance(error, Missing) for error in errors.values())
    kind = Missing if nowhere else FarmError
    raise kind(f"{name}: pip finds no wheel of{text}", input=name, platform=", ".join(map(str, errors)), hint=REMEDY)


def _others(name: str, errors: Mapping[Platform, FarmError]) -> FarmError:
    """The errors of some platforms as one. What is not about the wheels (the network, a full disk) is reported once."""
    first = next((error for error in errors.values() if error.__class__ != FarmError), None)
    if not first:
        where: dict[str, list[str]] = {}
        for platform, error in errors.items():
            where.setdefault(error.message, []).append(str(platform))
        first = next(iter(errors.values()))
        if len(where) > 1:
            text = "\n".join(f"{message} (for {', '.join(platforms)})" for message, platforms in where.items())
            first = FarmError(text, hint=first.hint)
        first.where["platform"] = ", ".join(map(str, errors))
    first.where.setdefault("input", name)
    return first


def _compare(name: str, found: Mapping[Platform, Sequence[Wheel]]) -> None:
    """Raises FarmError if pip took an older version somewhere, because a newer one has no wheel for that platform."""
    versions: dict[str, dict[str, list[str]]] = {}
    for platform, some in found.items():
        for wheel in some:
            versions.setdefault(wheel.name, {}).setdefault(wheel.version, []).append(str(platform))
    differ = {wheel: said for wheel, said in versions.items() if len(said) > 1}
    if differ:
        lines = "".join(f"\n    {wheel} {version} for {', '.join(some)}" for wheel, said in sorted(differ.items())
                        for version, some in said.items())
        raise FarmError(f"{name} would have other versions on some platforms than on others, because not all have "
                        f"wheels:{lines}", input=name, platform=", ".join(map(str, found)),
                        hint=f"name a version of it in the recipe that all have; {REMEDY}")


def foreign_code(path: Path, platform: Platform) -> list[str]:
    """The ELF files of a wheel that are for another machine (e_machine of elf(5))."""
    found = []
    with _opened(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                head = file.read(20)
            order: Literal["big", "little"] = "big" if head[5:6] == b"\2" else "little"
            if head[:4] == b"\x7fELF" and int.from_bytes(head[18:20], order) != number_of(platform):
                found.append(name)
    return found


def needs(path: Path) -> list[str]:
    """The requirements that a wheel states."""
    with _opened(path) as archive:
        name = next((name for name in archive.namelist() if name.count("/") == 1
                     and name.endswith(".dist-info/METADATA")), "")
        if not name:
            raise FarmError(f"{path.name} is not a wheel: it has no METADATA", hint="choose another version")
        with archive.open(name) as file:
            data = file.read(MOST + 1)
    if len(data) > MOST:
        raise FarmError(f"{path.name} has a METADATA of more than {MOST >> 20} MiB", hint="choose another version")
    said = email.parser.BytesHeaderParser().parsebytes(data)
    return [str(text) for text in said.get_all("Requires-Dist", [])]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A wheel to be read. Raises FarmError for what Python's zipfile cannot read: it is damaged, encrypted, or packed
    in a way that it does not know."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, KeyError,
            ValueError) as error:
        raise FarmError(f"{path.name} is not a wheel: {error}", hint="choose another version") from error
