# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Files in places where someone else may write: opened without following links, known by their hash. I/O.

What was opened is what is checked and read; no name is looked up twice. Nothing waits for the other end of a pipe.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from .errors import FarmError

CHUNK = 1 << 18
_LOOK = 0.05  # seconds between attempts to get a lock, as flock(2) has no deadline
KINDS = {  # what is not a regular file, in words
    stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
}


def is_full(error: OSError) -> bool:
    """Whether a disk, or this user's part of it, has no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Unfit(OSError):
    """It is not a regular file, or cannot be read; `strerror` says why."""


def may(path: str | os.PathLike[str], mode: int) -> bool:
    """os.access, but by the user and the capabilities that open() goes by, too: alone it goes by the real user, without
    capabilities."""
    return os.access(path, mode, effective_ids=True)


def open_file(path: str, folder: int | None = None, *, follow: bool = False) -> int:
    """A descriptor for reading a regular file; `path` may be relative to the descriptor `folder`.

    With `follow`, the path may be a link: use that only where no other user can write. Raises FileNotFoundError, or
    Unfit for anything but a regular file: opening a FIFO would wait, and a device may not end.
    """
    flags = os.O_RDONLY | (0 if follow else os.O_NOFOLLOW) | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        found = os.open(path, flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        kind = {errno.ELOOP: 0 if follow else stat.S_IFLNK, errno.ENXIO: stat.S_IFSOCK}.get(error.errno or 0, 0)
        why = f"it is {KINDS[kind]}" if kind else error.strerror
        raise Unfit(error.errno, why, path) from error
    mode = os.fstat(found).st_mode
    if not stat.S_ISREG(mode):
        os.close(found)
        raise Unfit(errno.EINVAL, f"it is {KINDS.get(stat.S_IFMT(mode), 'not a file')}", path)
    return found


def open_folder(path: str, folder: int | None = None) -> int:
    """A descriptor of a folder; `path` may be relative to the descriptor `folder`.

    Raises FileNotFoundError, or Unfit for anything but a folder.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "it is not a folder" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
        raise Unfit(error.errno, why, path) from error


def read_through(source: int, into: int | None = None, most: int | None = None) -> tuple[str, int]:
    """The hex sha256 and the size in bytes of an open file, from its position on; copied to `into` on the way.

    Reading stops after more than `most` bytes. Raises Unfit if it cannot be read, OSError if `into` cannot be written.
    """
    import hashlib  # here, as it loads OpenSSL, and each poll of the runner loads this file

    made, size = hashlib.sha256(), 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while most is None or size <= most:
        try:
            count = os.readv(source, [buffer])
        except OSError as error:
            raise Unfit(error.errno, error.strerror) from error
        if not count:
            break
        made.update(view[:count])
        size += count
        written = 0
        while into is not None and written < count:
            written += os.write(into, view[written:count])
    return made.hexdigest(), size


def sha256_of(path: str) -> str:
    """The hex sha256 of a file. Raises FileNotFoundError, or Unfit if it is not a regular file."""
    found = open_file(path)
    try:
        return read_through(found)[0]
    finally:
        os.close(found)


def write(path: str, data: str | bytes, mode: int = 0o644, group: int = -1, sync: bool = True) -> None:
    """Replaces a file atomically, and makes its folder if it is missing. No one can read a half-written file, or one
    that is not for them.

    With `sync` it is on the disk afterwards, even if the machine crashes.
    """
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data.encode() if isinstance(data, str) else data)
            out.flush()
            if group != -1:
                os.fchown(out.fileno(), -1, group)
            os.fchmod(out.fileno(), mode)
            if sync:
                os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and not error.filename:  # where it had no room, say
            raise OSError(error.errno, error.strerror, path) from error
        raise
    if sync:
        sync_folder(folder)


def private_folder(path: str) -> None:
    """Makes a folder that no other user can enter. Raises FarmError if it belongs to another user."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.stat(path)
    if found.st_uid != os.geteuid():
        words = f"{path} belongs to user {found.st_uid}, not to this one ({os.geteuid()})"
        raise FarmError(words, hint="remove it, and it is made again")
    if found.st_mode & 0o077:
        os.chmod(path, 0o700)


def sync_folder(path: str) -> None:
    """Makes renames in a folder permanent, even if the machine crashes."""
    found = os.open(path, os.O_RDONLY)
    try:
        os.fsync(found)
    finally:
        os.close(found)


def text_of(path: str, most: int) -> str:
    """The text of a small file, at most `most` bytes of it; '' if it is missing, or not a regular file."""
    try:
        found = open_file(path)
    except OSError:
        return ""
    try:
        return os.read(found, most).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(found)


@contextlib.contextmanager
def locked(path: str, seconds: float) -> Iterator[None]:
    """Holds the lock of a path exclusively. Only its owner and root can open the file, so no other user can block it.

    Raises TimeoutError if it is not free within `seconds`, FileNotFoundError if it was removed by who held it: with the
    lock goes what it was for.
    """
    until, make = time.monotonic() + seconds, os.O_CREAT
    while True:
        file = os.open(path, os.O_RDWR | make | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_IMODE(os.fstat(file).st_mode) != 0o600:
                os.fchmod(file, 0o600)
            _lock(file, path, until, seconds)
            if os.path.samestat(os.fstat(file), os.lstat(path)):  # else whoever held it removed it, or made another
                yield
                return
        finally:
            os.close(file)
        make = 0


def _lock(file: int, path: str, until: float, seconds: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                words = f"another process has held the lock for more than {seconds:g} s"
                raise TimeoutError(errno.ETIMEDOUT, words, path) from None
            time.sleep(_LOOK)
