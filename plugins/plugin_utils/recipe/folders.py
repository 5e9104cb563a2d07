# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the images in a folder of a catalog, the files of an image's main context, and what is wrong with either.

Anything that would be missing or different in another clone is a mistake: git keeps only files, links and the owner's
execute bit.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.files import KINDS, may
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import ignorefile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import NoText, read_written, visible

RECIPE, LOCK, DOCKERFILE, DEFAULTS = "image.yml", "lock.jsonl", "Dockerfile", "defaults.yml"
WRAPPERS, GIT = ("go", "npm"), ".git"  # a folder for each kind of input that has wrappers, named like the kind
README = "README.md"
OWN = {RECIPE, LOCK, DOCKERFILE, README, *WRAPPERS}  # in an image's folder, but not in its context
CONTAINERFILE = re.compile(r"(docker|container)file(\.txt)?", re.I)  # what a Dockerfile may be called by mistake
NEAR_DEFAULTS = ("default.yml", "default.yaml", DEFAULTS, "defaults.yaml", "defaults.json")  # in any case
NEAR_IGNORES = ("dockerignore", ".dockerignore", ".dockerignore.txt", ".containerignore",
                f"{DOCKERFILE}.dockerignore".lower())
IGNORES = (f"{DOCKERFILE}.dockerignore", ".dockerignore")  # the first one that exists counts
NO_IGNORES = b"# What is ignored has been left out already.\n"  # a Dockerfile.dockerignore without a pattern
MOST_IGNORES = 1 << 18  # bytes
LONGEST = 2048  # bytes of a path in a context; it gets longer when it is staged
WHITEOUT = ".wh."  # https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
LARGEST = 1 << 30  # bytes of a file, as each run reads it
LINK = "a symbolic link, which may not exist in another checkout"
NO_WRAPPER = "{kind}/ is for the wrappers that `make lock` writes (a folder for each {kind} input)"
BITS = {stat.S_ISUID: "setuid", stat.S_ISGID: "setgid", stat.S_ISVTX: "sticky"}


@dataclass
class Images:
    """The recipes in a folder of a catalog; the folders that should have a recipe but do not; what is wrong there."""

    recipes: list[Path] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def images(catalog: Path) -> Images:
    """Finds the images in a folder, and folders that look as if they were meant to be one."""
    found = Images()
    try:
        entries = sorted(os.scandir(catalog), key=lambda entry: entry.name)
    except OSError as error:
        found.problems.append(f"{shown(catalog, 1)}:1: cannot be read: {error.strerror}")
        return found
    for entry in entries:
        name = entry.name
        where = shown(catalog / name, 2)
        if name == RECIPE:
            found.problems.append(f"{where}:1: an image has a folder of its own: move its files into one, such as "
                                  f"{shown(catalog, 1)}/NAME, or let farm_catalog name the folder above this one")
        elif name.lower() in NEAR_DEFAULTS and name != DEFAULTS:
            found.problems.append(f"{where}:1: a catalog's defaults must be named {DEFAULTS}; rename it")
        elif entry.is_symlink():
            nowhere = not os.path.exists(entry.path)
            if name == DEFAULTS or not name.startswith(".") and (nowhere or entry.is_dir()):
                found.problems.append(f"{where}:1: {LINK}; move the folder or file itself here")
                found.broken.append(name)
        elif entry.is_dir(follow_symlinks=False):
            _image(catalog / name, found)
    return found


def _image(folder: Path, found: Images) -> None:
    hidden = folder.name.startswith(".")  # .git, .github and the like
    try:
        files = set(os.listdir(folder))
    except OSError as error:
        if not hidden:
            found.problems.append(f"{shown(folder, 2)}:1: cannot be read: {error.strerror}")
            found.broken.append(folder.name)
        return
    near = sorted(file for file in files if file.lower() in (RECIPE, "image.yaml") and file != RECIPE)
    recipeless = sorted(file for file in files if CONTAINERFILE.fullmatch(file))
    for file in near:
        what = f"remove this one or the {RECIPE} beside it" if RECIPE in files else "rename it"
        found.problems.append(f"{shown(folder / file, 3)}:1: a recipe must be named {RECIPE}; {what}")
    if RECIPE in files:
        found.recipes.append(folder / RECIPE)
    elif not near and not hidden and not recipeless:
        found.problems += [f"{shown(folder / name / RECIPE, 4)}:1: images are looked for only right in "
                           f"{shown(folder.parent, 1)}: move this one there, or add {visible(str(folder))} to "
                           "farm_catalog" for name in sorted(files) if os.path.isfile(folder / name / RECIPE)]
    elif near:
        found.broken.append(folder.name)
    elif not hidden:
        where = shown(folder / recipeless[0], 3)
        found.problems.append(f"{where}:1: there is no {RECIPE} beside it; write one, or move the folder away")
        found.broken.append(folder.name)


@dataclass
class Folder:
    """An image's folder: path in the main context -> (file, mode), and what is wrong with the folder."""

    root: Path
    files: dict[str, tuple[Path, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def say(self, path: str, reason: str, line: int = 1) -> None:
        parts = 2 + (len(path.split("/")) if path else 0)
        self.problems.append(f"{shown(self.root / path, parts)}:{line}: {reason}")


def look(root: Path) -> Folder:
    """Walks an image's folder. It opens only the ignore file, and does not look at what that leaves out."""
    found = Folder(root)
    ignore = _ignore(found)
    inherited = stat.S_ISGID & root.stat().st_mode  # a folder that is made in one with setgid gets it too
    todo: list[tuple[str, tuple[bool, ...], bool]] = [("", (), False)]
    while todo:
        folder, above, inner = todo.pop()
        entries = _entries(found, folder)
        if entries == [] and not inner:
            found.say(folder, "an empty folder, which git does not keep; put a file into it, or make it in the "
                              "Dockerfile")
        for entry in entries or ():
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not folder and (path in OWN or path.startswith(f".{LOCK}.")):  # the latter is a temporary file
                _own(found, entry)
                continue
            if not folder and path.lower() in NEAR_IGNORES and path not in IGNORES:
                found.say(path, f"an ignore file must be named {IGNORES[1]}; rename it")
                continue
            out, seen = ignore.look(path, above)
            if entry.is_dir(follow_symlinks=False):
                if ignore.may_bring_back(path) if out else _good(found, path, entry, inherited):
                    todo.append((path, seen, out))
            elif not out and _good(found, path, entry):
                runs = entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR
                found.files[path] = (root / path, 0o755 if runs else 0o644)
                if ignore.disputed(path):
                    found.say(path, f"{_ignores(root)} leaves this out, brings it back and leaves it out again; "
                                    "BuildKit would send an empty file: put the line with ! that matches it last")
    found.files = dict(sorted(found.files.items()))
    return found


def _ignores(root: Path) -> str:
    """The name of the ignore file that counts, or ''."""
    return next((name for name in IGNORES if os.path.lexists(f"{root}/{name}")), "")


def _ignore(found: Folder) -> ignorefile.Ignore:
    name = _ignores(found.root)
    if not name or not os.path.isdir(found.root / name) and not _regular(found.root / name):  # which is told below
        return ignorefile.Ignore()
    try:
        ignore = ignorefile.parse(read_written(found.root / name, MOST_IGNORES))
    except NoText as error:
        found.say(name, error.reason, error.line)
        return ignorefile.Ignore()
    for line, reason in ignore.refused:
        found.say(name, reason, line)
    return ignore


def _regular(path: Path) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def _entries(found: Folder, folder: str) -> list[os.DirEntry[str]] | None:
    """What is in a folder, sorted, without `.git`; None if the folder cannot be read."""
    try:
        with os.scandir(found.root / folder) as entries:
            return sorted((entry for entry in entries if entry.name != GIT), key=lambda entry: entry.name)
    except OSError as error:
        found.say(folder, f"cannot be read: {error.strerror}")
        return None


def _own(found: Folder, entry: os.DirEntry[str]) -> None:
    """Checks what is not in the context. (Recipe, Dockerfile and lock are checked when they are read.)"""
    if entry.is_symlink():
        found.say(entry.name, f"{LINK}; put the file itself here")
        return
    if entry.name not in WRAPPERS:
        if entry.name == README and not entry.is_file():
            what = "a folder" if entry.is_dir() else KINDS.get(stat.S_IFMT(entry.stat().st_mode), "not a file")
            found.say(entry.name, f"{what}; this name is for a page about the image, and is not in its context")
        return
    why = NO_WRAPPER.format(kind=entry.name)
    if not entry.is_dir():
        found.say(entry.name, f"{why}; rename this file")
    else:
        for folder in _entries(found, entry.name) or ():
            path = f"{entry.name}/{folder.name}"
            if not folder.is_dir(follow_symlinks=False):
                found.say(path, LINK if folder.is_symlink() else f"{why}; move this elsewhere")
                continue
            for inner in _entries(found, path) or ():
                if inner.is_dir(follow_symlinks=False):
                    found.say(f"{path}/{inner.name}", f"{why}; move this elsewhere")
                else:
                    _good(found, f"{path}/{inner.name}", inner)


def _good(found: Folder, path: str, entry: os.DirEntry[str], inherited: int = 0) -> bool:
    """Whether a context can have this file or folder; if not, notes why. The bits in `inherited` are allowed."""
    try:
        seen = entry.stat(follow_symlinks=False)
    except OSError as error:
        found.say(path, f"cannot be read: {error.strerror}")
        return False
    mode = seen.st_mode
    kind = stat.S_IFMT(mode)
    bits = [name for bit, name in BITS.items() if mode & bit & ~inherited]
    length = len(os.fsencode(path))
    why = ""
    if kind == stat.S_IFLNK:
        why = f"{LINK}; make it in the Dockerfile"
    elif kind not in (stat.S_IFREG, stat.S_IFDIR):
        why = (f"{KINDS.get(kind, 'not a file')}; a context has only files and folders: remove it, or add it to"
               " .dockerignore")
    elif not _utf8(path):
        why = "its name is not UTF-8; rename it"
    elif entry.name.startswith(WHITEOUT):
        why = f"its name begins with {WHITEOUT}, which deletes a file in a layer of an image; rename it"
    elif length > LONGEST:
        why = f"its path has {length} bytes; at most {LONGEST} are allowed"
    elif bits:
        why = (f"it has the {' and '.join(bits)} bit, which git does not keep; set it in the Dockerfile, as with "
               "COPY --chmod=4755")
    elif kind == stat.S_IFREG and seen.st_size > LARGEST:
        why = (f"it has {-(-seen.st_size >> 20)} MiB; at most {LARGEST >> 20} are allowed: make it an input of the "
               "recipe (url), or add it to .dockerignore")
    elif kind == stat.S_IFREG and not may(entry.path, os.R_OK):
        why = "cannot be read: Permission denied"
    if why:
        found.say(path, why)
    return not why


def _utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: str | Path, parts: int) -> str:
    """The last parts of a path, for messages."""
    return visible("/".join(str(path).split("/")[-parts:]))
