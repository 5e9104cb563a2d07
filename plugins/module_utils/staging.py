# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Lays contexts out from files that are known by their hash, which is computed from the bytes that are laid out.
I/O."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import FarmError, HashMismatch
from .files import Unfit, open_file, open_folder, private_folder, read_through

SHARE = 0.1  # of its file system that a node's own store may have
MODE, TIME = 0o644, 0  # of the files in a node's own store; mtime in nanoseconds
# The mtime of folders, in seconds: later than any epoch, so that layers have the epoch. BuildKit keeps what it received
# before, and a folder that is there already gets no other mtime: it has this one, or that of the last change in it
LATE = (1 << 31) - 1
# Of a file system such as ext3: there a file of the main context has the same time after each change (see solve.py)
COARSE = "keeps no nanoseconds in the times of files, by which BuildKit sees what changed in a context"

Wanted = tuple[str, int]  # a content: its hex sha256 and its size in bytes


class Contents:
    """Where the files of contexts come from, by their sha256; tried in this order:

    `own`      this node's own store, in a folder that no other user can enter: a file is hashed, and then linked
    `shared`   the controller's store, if it is on this machine. Its owner may write there at any time, so a file is
               copied, and hashed on the way. Nothing is ever written there
    `archive`  the URL of the archive's repository; what comes from it is kept in `own`

    Each may be ''. `access` says how the archive's registry is reached (fetching.py). `notes` says what was damaged.
    """

    def __init__(self, *, own: str = "", shared: str = "", archive: str = "",
                 access: Mapping[str, str] | None = None) -> None:
        self.own, self.shared, self.archive, self.access = own, shared, archive, access
        self.notes: list[str] = []
        if own:
            private_folder(own)

    def lay(self, target: str, wanted: Wanted, mode: int, mtime: int) -> None:
        """Makes the file `target` with a content, a mode and an mtime (nanoseconds). Raises FarmError."""
        before = len(self.notes)
        if self._from_own(target, wanted, mode, mtime) or self._from_shared(target, wanted, mode, mtime):
            return
        try:
            if not self.own or not self.archive:
                raise FarmError(f"sha256:{wanted[0]} is not in {self.shared}", hint="run again: it is fetched first")
            self._fetch(wanted)
            if not self._from_own(target, wanted, mode, mtime):
                raise HashMismatch(f"sha256:{wanted[0]} was damaged while it was written", hint="check the disk")
        except FarmError as error:
            error.message = "; ".join([error.message, *self.notes[before:]])
            raise

    def _from_own(self, target: str, wanted: Wanted, mode: int, mtime: int) -> bool:
        """Takes a file from the node's own store; removes it there if it is not what its name says."""
        if not self.own:
            return False
        path = os.path.join(self.own, _place(wanted[0]))
        try:
            with _closing(open_file(path)) as source:
                status = os.fstat(source)
                same = (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_uid) == (mode, mtime, os.geteuid())
                why = _wrong(read_through(source, most=wanted[1]), wanted) if same else ""
                if not why and not (same and _linked(path, target)):
                    os.lseek(source, 0, os.SEEK_SET)
                    why = _copied(source, target, wanted, mode, mtime)
        except FileNotFoundError:
            return False
        except Unfit as error:
            why = str(error.strerror)
        if why:
            self.notes.append(f"{path} was removed: {why}")
            with contextlib.suppress(FileNotFoundError):  # by another job
                os.unlink(path)
        return not why

    def _from_shared(self, target: str, wanted: Wanted, mode: int, mtime: int) -> bool:
        if not self.shared:
            return False
        path = os.path.join(self.shared, _place(wanted[0]))
        try:
            with contextlib.ExitStack() as opened:
                # Only root can write where the store is, so it may be a link by root; everything below is its owner's.
                store = os.open(self.shared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                folder = opened.enter_context(_closing(store))
                for name in os.path.dirname(_place(wanted[0])).split("/"):
                    folder = opened.enter_context(_closing(open_folder(name, folder)))
                source = opened.enter_context(_closing(open_file(wanted[0], folder)))
                why = _copied(source, target, wanted, mode, mtime)
        except FileNotFoundError:
            return False
        except Unfit as error:
            why = str(error.strerror)
        if why:
            self.notes.append(f"{path} is not used: {why}")
        return not why

    def _fetch(self, wanted: Wanted) -> None:
        """Fetches a content from the archive into the own store. Raises FarmError if it is missing or wrong there."""
        from .fetching import pieces  # here, as it is slow to load and not needed if the stores have everything

        url = f"{self.archive}/blobs/sha256:{wanted[0]}"
        handle, temporary = tempfile.mkstemp(prefix=".new-", dir=self.own)
        try:
            made, size = hashlib.sha256(), 0
            with os.fdopen(handle, "wb") as out:
                for piece in pieces(url, wanted[1], self.access or {}):
                    made.update(piece)
                    size += len(piece)
                    if size > wanted[1]:
                        break
                    out.write(piece)
                out.flush()
                os.fsync(handle)
                os.fchmod(handle, MODE)
                os.utime(handle, ns=(TIME, TIME))
            if why := _wrong((made.hexdigest(), size), wanted):
                raise HashMismatch(f"sha256:{wanted[0]} from {url}: {why}", hint="the registry's data is damaged")
            path = os.path.join(self.own, _place(wanted[0]))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def trim(own: str, share: float = SHARE) -> int:
    """Keeps a node's own store below a share of its file system: removes what was not used for longest, a quarter of
    that at least. Returns how many bytes it removed.

    A use is a link, which the file's ctime shows. A job that wants a removed file fetches it again.
    """
    with contextlib.suppress(FileNotFoundError):
        disk = os.statvfs(own)
        most = int(disk.f_blocks * disk.f_frsize * share)
        found = [(status.st_ctime_ns, status.st_size, path) for path in _files(own)
                 if (status := _status(path)) is not None]
        total = before = sum(size for _used, size, _path in found)
        if total <= most:
            return 0
        for _used, size, path in sorted(found):
            if total <= most * 3 // 4:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
        return before - total
    return 0


def _files(folder: str) -> Iterator[str]:
    for above, _folders, names in os.walk(folder):
        yield from (os.path.join(above, name) for name in names)


def _status(path: str) -> os.stat_result | None:
    """None if it was removed meanwhile."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def lay_out(folder: Path, tree: Mapping[str, list[Any]], contents: Contents) -> str:
    """Makes one context folder from path -> [sha256, size, mode, mtime in nanoseconds]. Errors name the path.

    Folders have the mtime LATE.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path, (digest, size, mode, mtime) in sorted(tree.items()):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            contents.lay(str(target), (digest, size), mode, mtime)
        except FarmError as error:
            error.where.setdefault("file", path)
            raise
        if mtime % 10**9 and os.lstat(target).st_mtime_ns != mtime:
            raise OSError(errno.EOPNOTSUPP, f"the file system {COARSE}", str(target))
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        inner.chmod(0o755)
        os.utime(inner, (LATE, LATE))
    return str(folder)


def _copied(source: int, target: str, wanted: Wanted, mode: int, mtime: int) -> str:
    """Copies an open file. Returns '', or why it is not what is wanted; then the copy is removed."""
    made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    why = "it was not read to the end"
    try:
        with _closing(made):
            why = _wrong(read_through(source, made, most=wanted[1]), wanted)
            os.fchmod(made, mode)
            os.utime(made, ns=(mtime, mtime))
    except Unfit as error:
        why = f"it cannot be read: {error.strerror}"
    finally:
        if why:
            os.unlink(target)
    return why


def _linked(path: str, target: str) -> bool:
    """Links a file, if possible. No other user can reach the node's own store, so it is the file that was hashed."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOENT):
            raise
        return False
    return True


def _wrong(found: Wanted, wanted: Wanted) -> str:
    """How a content differs, or ''."""
    if found[1] != wanted[1]:
        return f"it has {'more than' if found[1] > wanted[1] else f'{found[1]} of'} {wanted[1]} bytes"
    return "" if found == wanted else f"it is sha256:{found[0]}"


def _place(sha256: str) -> str:
    """The path of a content in a store."""
    return f"sha256/{sha256[:2]}/{sha256}"


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
