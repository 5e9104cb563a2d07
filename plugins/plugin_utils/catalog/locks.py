# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the locks beside their recipes, and compares them with what the recipes say now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.renewal import CLOCK
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Read
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.descent import with_packages
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import LOCK, WRAPPERS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import NoText, is_there, read_lines, read_text

MOST = 1 << 26  # bytes

NO_LOCK = "missing; run `make lock` with the same ARGS, or without make the playbook desimages.farm.lock"


def read(path: Path, name: str, strict: bool, problems: list[str]) -> Lock:
    """The lock in a file; `name` is the file's name in messages. A missing lock counts as empty, and so does a bad one;
    if `strict`, the mistakes in it go into `problems`."""
    try:
        return lockfile.parse(read_lines(path, MOST), name) if is_there(path) else Lock()
    except NoText as error:
        problems += [f"{name}:{error.line}: {error.reason}"] if strict else []
    except BadInput as error:
        problems += error.problems if strict else []
    return Lock()


def check(recipe: Recipe, where: str, problems: list[str]) -> None:
    """Checks that every input has lines for each platform that needs it, that the recipe says the same about it as when
    it was locked, and that no line is for an input that does not exist any more."""
    if any(problem.startswith(f"{where}:") for problem in problems):
        return  # it is bad, which has been reported
    if recipe.lock.epoch > time.time() + CLOCK:
        problems.append(f"{where}:1: its snapshot, {recipe.lock.snapshot}, is yet to come, so files would not get this "
                        "time: is the clock of this machine right? If it is, lock again")
    have = {(entry.input, entry.platform) for entry in recipe.lock.entries}
    lines: dict[str, list[Entry]] = {}
    for entry in recipe.lock.entries:
        lines.setdefault(entry.input, []).append(entry)
    for found in recipe.inputs:
        kind, read = KINDS[found.kind], reader(Path(recipe.folder))
        now = kind.made_for(found, recipe.suites, read)
        stray = [f"{folder}/{found.name}" for folder in WRAPPERS if folder != found.kind or "wrapper" not in now]
        problems += [f"{where.removesuffix(LOCK)}{path}:1: its files would enter the build, but no lock names them, "
                     f"because {found.name} has no such wrapper: remove the folder"
                     for path in stray if is_there(Path(recipe.folder) / path)]
        if not kind.has_lines(found, read):
            continue
        if not (Path(recipe.folder) / LOCK).exists():
            problems.append(f"{where}:1: {NO_LOCK}")
            return
        lacking = [str(platform) for platform in recipe.platforms_of(found)
                   if (found.name, str(platform)) not in have and (found.name, "") not in have]
        if lacking:
            problems.append(f"{where}:1: it has nothing for {found.name} on {', '.join(lacking)}; run `make lock`")
            continue
        moved = list(_moved(recipe.lock.made_for.get(found.name), now, kind.sums))
        problems += [f"{where}:1: {found.name}: {said}; {lockfile.ANEW}" for said in moved]
        if moved:
            continue
        foreign = {entry.line: said for entry in lines[found.name] if (said := kind.foreign(found, entry))}
        problems += [f"{where}:{line}: {found.name}: {said}; {lockfile.ANEW}" for line, said in foreign.items()]
        if not foreign:
            problems += [f"{where}:1: {found.name}: {said}; {lockfile.ANEW}"
                         for said in kind.lacking(found, lines[found.name], recipe.platforms_of(found))]
    unknown = {entry.input for entry in recipe.lock.entries} - {found.name for found in recipe.inputs}
    problems += [f"{where}:1: it has lines for {name!r}, which is not an input of image.yml; {lockfile.ANEW}"
                 for name in sorted(unknown)]


def moved_above(recipes: Mapping[str, Recipe], recipe: Recipe, where: str) -> Iterator[str]:
    """What is wrong if an image does not descend from what it did when it was locked: its lock leaves out the packages
    of those images."""
    now = with_packages(recipes, recipe)
    if now != recipe.lock.above:
        yield (f"{where}:1: the image has packages from {_words(list(now) or None)}, the lock was made for those of"
               f" {_words(list(recipe.lock.above) or None)}; {lockfile.ANEW}")


def _moved(before: Mapping[str, object] | None, now: Mapping[str, object], sums: Sequence[str]) -> Iterator[str]:
    """How an input differs from what it was when the lock was made. `sums` are the files that pin its selection."""
    if before is None:
        yield "the lock does not say what it was made for"
        return
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            if key in ("wrapper", "sums"):
                yield f"its {' or '.join(sums)} has changed since the lock was made"
            else:
                yield f"the recipe says {key} {_words(now.get(key))}, the lock was made for {_words(before.get(key))}"


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "nothing" if value is None else str(value)


def reader(folder: Path) -> Read:
    """Reads files of an image's folder."""

    def read(path: str) -> str | None:
        try:
            return read_text(folder / path, MOST) if is_there(folder / path) else None
        except NoText:  # reported as a mistake of the folder
            return None

    return read
