# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: files by the sha256 of their content. A file in it is complete and correct, or it is not there."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, Missing
from ansible_collections.desimages.farm.plugins.module_utils.files import (
    Unfit,
    locked,
    open_file,
    read_through,
    sync_folder,
)

CHUNK = 1 << 20
PATIENCE = 7200.0  # seconds to wait for another run that fetches the same content
INPUT_TIME = 0  # the mtime of the store's files: contexts are hard links to them


def hash_of(descriptor: int) -> str:
    """The hex sha256 of an open file. Afterwards its position is the beginning."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    made, _size = read_through(descriptor)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return made


class Store:
    """`<root>/sha256/<first two>/<hex>`; downloads in progress are in `<root>/partial/<hex>`, on the same file system.

    A file counts by its hash, which is computed when the file is used, never by its name and size. `tell` gets a line
    for each damaged file.
    """

    def __init__(self, root: str | Path, tell: Callable[[str], None] = lambda line: None) -> None:
        self.root, self.tell = Path(root), tell
        self._sound: dict[str, tuple[int, ...]] = {}  # stat of files when hashed: while it is the same, once is enough

    def path(self, sha256: str) -> Path:
        return self.root / "sha256" / sha256[:2] / sha256

    def partial(self, sha256: str) -> Path:
        """Where a download of this content goes until it is complete. The folder exists; only a file may be there."""
        folder = self.root / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG((folder / sha256).lstat().st_mode):
                (folder / sha256).unlink()
        return folder / sha256

    @contextmanager
    def alone(self, sha256: str) -> Iterator[None]:
        """While this content is fetched, no other run writes to its partial file.

        Raises TimeoutError if another run does not end. Other users cannot reach the lock, so they cannot hold it.
        """
        folder = self.root / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        with locked(str(folder / sha256[:2]), PATIENCE):
            yield

    def scratch(self) -> IO[bytes]:
        """A file without a name on the store's file system: no other process can write to it, and a kill leaves nothing
        behind."""
        folder = self.root / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)

    def holds(self, sha256: str) -> bool:
        """Whether a file with this name exists. It is not read."""
        return self.path(sha256).is_file()

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether the content is here and correct. A damaged file is removed and reported, so it is fetched again."""
        try:
            with self.open(sha256) as file:
                return size is None or os.fstat(file.fileno()).st_size == size
        except (Missing, HashMismatch):
            return False

    def open(self, sha256: str) -> BinaryIO:
        """Opens a content for reading, after hashing it through the same descriptor.

        Raises Missing; or HashMismatch, after it removed the damaged file.
        """
        path = self.path(sha256)
        try:
            file = open(path, "rb", opener=lambda name, flags: open_file(name))  # noqa: SIM115 it is returned
        except FileNotFoundError as error:
            raise Missing(f"{path} is missing", hint="run again: it is then fetched first") from error
        except Unfit as error:
            raise self._remove(path, str(error.strerror)) from error
        try:
            found = os.fstat(file.fileno())
            now = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if self._sound.get(sha256) != now:
                got = hash_of(file.fileno())
                if got != sha256:
                    raise self._remove(path, f"it is {got}, {found.st_size} bytes")
                self._sound[sha256] = now
        except BaseException:
            file.close()
            raise
        return file

    def check(self, sha256: str) -> None:
        """Reads a content again, even if it was read before. Raises Missing or HashMismatch."""
        self._sound.pop(sha256, None)
        self.open(sha256).close()

    def _remove(self, path: Path, why: str) -> HashMismatch:
        path.unlink(missing_ok=True)
        words = f"{path} was damaged: {why}. It was removed"
        self.tell(f"{words}, and is fetched again")
        return HashMismatch(words, hint="run again: it is fetched again. If it happens again, check the disk")

    def put(self, temporary: str | Path, sha256: str) -> Path:
        """Moves a file into the store (on the same file system). The hash is checked here once more, even if it was
        checked before."""
        temporary = Path(temporary)
        file = open_file(str(temporary))
        try:
            got = hash_of(file)
            if got != sha256:
                raise FarmError(f"{temporary} is {got}, not {sha256}: it cannot go into the store",
                                hint="this is a bug in the farm: please report it")
            os.fsync(file)
            os.fchmod(file, 0o644)
            os.utime(file, (INPUT_TIME, INPUT_TIME))  # files of a context all have this time
        finally:
            os.close(file)
        path = self.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)
        sync_folder(str(path.parent))
        return path
