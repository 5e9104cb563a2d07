"""The store: files by the sha256 of their content. A file is in it whole and right, or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

CHUNK = 1 << 20
INPUT_TIME = 0  # the mtime of the store's files: contexts are hard links to them


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hash_of(file.fileno())


def hash_of(descriptor: int) -> str:
    """The hex sha256 of an open file, from its beginning."""
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """`<root>/sha256/<first two>/<hex>`; what is under way lies in `<root>/partial/<hex>`. Both are on one file system."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, sha256: str) -> Path:
        return self.root / "sha256" / sha256[:2] / sha256

    def partial(self, sha256: str) -> Path:
        """Where a download of this content goes until it is whole; its folder exists."""
        folder = self.root / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / sha256

    def guard(self, sha256: str) -> Path:
        """A file to flock while this content is brought in, so that two runs do not write to one partial file."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / sha256[:2]

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether the content is here. A file of another size was damaged from outside: it is removed."""
        path = self.path(sha256)
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            return False
        if size is not None and found != size:
            path.unlink(missing_ok=True)
            return False
        return True

    def put(self, temporary: str | Path, sha256: str) -> Path:
        """Takes over a file on the same file system, after reading it again: the hash is checked here, whoever checked it before."""
        temporary = Path(temporary)
        with open(temporary, "rb") as file:
            got = hash_of(file.fileno())
            if got != sha256:
                raise FarmError(f"{temporary} is {got}, not {sha256}: it does not enter the store", hint="this is a mistake of the farm")
            os.fsync(file.fileno())
        path = self.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(temporary, 0o644)
        os.utime(temporary, (INPUT_TIME, INPUT_TIME))
        os.replace(temporary, path)
        sync_folder(path.parent)
        return path
