# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an image beside its recipe: its main context, and the wrappers of its inputs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import open_file, read_through
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import NO_IGNORES, WRAPPERS, look
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe, Sources
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import visible

_AGAIN = "run again: the next plan is made from the files as they are then"


def context_files(recipe: Recipe) -> dict[str, tuple[Path, int]]:
    """The files of the main context: path in the context -> (file, mode). Raises FarmError if they are not any more
    what `load_catalog` checked."""
    try:
        found = look(Path(recipe.folder))
    except OSError as error:
        why = f"{recipe.folder} can no longer be read: {error.strerror}"
        raise FarmError(f"{recipe.name}: {why}", hint=_AGAIN) from error
    if found.problems:
        raise FarmError(f"{recipe.name} was changed during the run: " + "; ".join(found.problems), hint=_AGAIN)
    return found.files


def read_sources(recipe: Recipe) -> Sources:
    """Hashes the files of an image. Raises FarmError if one cannot be used any more."""
    files = {path: (mode, *_hash(recipe, file)) for path, (file, mode) in context_files(recipe).items()}
    wrappers: dict[str, dict[str, tuple[int, str, int]]] = {}
    for name, folder in _wrappers(recipe).items():
        if folder.is_dir():
            there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))  # skips temporary files
            wrappers[name] = {path.name: (0o644, *_hash(recipe, path)) for path in there}
    return Sources(files, wrappers)


def _wrappers(recipe: Recipe) -> dict[str, Path]:
    """Where the wrappers of an image's inputs are, if they have one."""
    return {found.name: Path(recipe.folder) / found.kind / found.name for found in recipe.inputs
            if found.kind in WRAPPERS}


def keep(recipe: Recipe, sources: Sources, store: Store) -> None:
    """Puts the Dockerfile and the files of an image into the store, so that no build reads a tree that someone edits.

    Raises FarmError if a file has changed since the plan was made.
    """
    root = Path(recipe.folder)
    for content in (recipe.dockerfile.text.encode(), NO_IGNORES):
        sha = hashlib.sha256(content).hexdigest()
        temporary = store.partial(f"{sha}.{os.getpid()}")
        temporary.write_bytes(content)
        store.put(temporary, sha)
    for path, (_mode, sha, _size) in sources.files.items():
        _keep(recipe, root / path, sha, store)
    folders = _wrappers(recipe)
    for name, files in sources.wrappers.items():
        for path, (_mode, sha, _size) in files.items():
            _keep(recipe, folders[name] / path, sha, store)


def _keep(recipe: Recipe, path: Path, sha: str, store: Store) -> None:
    if store.has(sha):
        return
    temporary = store.partial(f"{sha}.{os.getpid()}")
    with _open(recipe, path) as file, temporary.open("wb") as out:
        came, _size = read_through(file.fileno(), into=out.fileno())
    if came != sha:
        temporary.unlink()
        raise FarmError(f"{recipe.name}: {_named(recipe, path)} was changed during the run", hint=_AGAIN)
    store.put(temporary, sha)


def _hash(recipe: Recipe, path: Path) -> tuple[str, int]:
    """A file's sha256 and size in bytes, read in pieces."""
    with _open(recipe, path) as file:
        return read_through(file.fileno())


def _open(recipe: Recipe, path: Path) -> BinaryIO:
    try:
        return open(open_file(str(path)), "rb")
    except OSError as error:
        where = f"{recipe.name}: {_named(recipe, path)}"
        raise FarmError(f"{where} can no longer be read: {error.strerror}", hint=_AGAIN) from error


def _named(recipe: Recipe, path: Path) -> str:
    return visible(os.path.relpath(path, recipe.folder))
