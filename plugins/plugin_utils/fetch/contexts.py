"""What the file system has of an image beside its recipe: the files of its main context and the wrappers of its Go inputs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import context_files
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe, Sources


def read_sources(recipe: Recipe) -> Sources:
    """Hashes the files of an image."""
    files = {path: (mode, *_hash(file)) for path, (file, mode) in context_files(recipe).items()}
    root = Path(recipe.folder) / "go"
    wrappers: dict[str, dict[str, tuple[int, str, int]]] = {}
    for folder in sorted(root.glob("*/")) if root.is_dir() else ():
        wrappers[folder.name] = {path.name: (0o644, *_hash(path)) for path in sorted(folder.iterdir()) if path.is_file()}
    return Sources(files, wrappers)


def keep(recipe: Recipe, sources: Sources, store: Store) -> None:
    """Puts the Dockerfile and the files of an image into the store, so that a build never reads a tree that somebody edits meanwhile.

    Raises FarmError where a file is no longer what was planned with.
    """
    root = Path(recipe.folder)
    _keep(recipe.dockerfile.text.encode(), hashlib.sha256(recipe.dockerfile.text.encode()).hexdigest(), store)
    for path, (_, sha, _) in sources.files.items():
        if not store.has(sha):
            _keep((root / path).read_bytes(), sha, store)
    for name, files in sources.wrappers.items():
        for path, (_, sha, _) in files.items():
            if not store.has(sha):
                _keep((root / "go" / name / path).read_bytes(), sha, store)


def _keep(content: bytes, sha: str, store: Store) -> None:
    if hashlib.sha256(content).hexdigest() != sha:
        raise FarmError("a file of the catalog was changed while the run went on", hint="run again: the plan is made of the files as they are then")
    temporary = store.partial(f"{sha}.{os.getpid()}")
    temporary.write_bytes(content)
    store.put(temporary, sha)


def _hash(path: Path) -> tuple[str, int]:
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), len(content)
