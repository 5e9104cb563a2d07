# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Files in places where somebody else may write: opened without following a link, known by their hash. I/O.

What was opened is what is looked at and read: no name is looked up twice. Nothing waits for the other end of a pipe.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

CHUNK = 1 << 18
_LOOK = 0.05  # seconds between two tries to get a lock: flock(2) knows no deadline
KINDS = {  # what is no regular file, in words
    stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
}


class Unfit(OSError):
    """What lies under a name is no file, or cannot be read; `strerror` says why."""


def open_file(path: str, folder: int | None = None, *, follow: bool = False) -> int:
    """A descriptor of a regular file for reading; a `path` may be below a `folder`'s descriptor.

    With `follow` the path may be a link: where nobody else writes. Raises FileNotFoundError, or Unfit where there is
    something else: opening a FIFO would wait, and a device may not end.
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
        raise Unfit(errno.EINVAL, f"it is {KINDS.get(stat.S_IFMT(mode), 'no file')}", path)
    return found


def open_folder(path: str, folder: int | None = None) -> int:
    """A descriptor of a folder; a `path` may be below a `folder`'s descriptor.

    Raises FileNotFoundError, or Unfit where there is something else.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "it is not a folder" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
        raise Unfit(error.errno, why, path) from error


def read_through(source: int, into: int | None = None, most: int | None = None) -> tuple[str, int]:
    """The hex sha256 and the size in bytes of an open file, from where it stands; copied to `into` on the way.

    One that has more than `most` bytes is read no further. Raises Unfit where it cannot be read, OSError where `into`
    takes nothing.
    """
    import hashlib  # here: it loads OpenSSL, and each poll of the runner loads this file

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
    """The hex sha256 of a file. Raises FileNotFoundError, or Unfit where it is none."""
    found = open_file(path)
    try:
        return read_through(found)[0]
    finally:
        os.close(found)


def write(path: str, data: str | bytes, mode: int = 0o644, group: int = -1, sync: bool = True) -> None:
    """Replaces a file in one step, in a folder that is made where there is none: nothing half-written is ever read, nor
    by anybody whom it is not for.

    With `sync` it is on the disk afterwards, whatever happens to the machine.
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


def sync_folder(path: str) -> None:
    """What was renamed in a folder stays so, whatever happens to the machine."""
    found = os.open(path, os.O_RDONLY)
    try:
        os.fsync(found)
    finally:
        os.close(found)


def text_of(path: str, most: int) -> str:
    """The text of a small file; nothing where there is none, or something else. No more than `most` bytes are read."""
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
    """Has the lock of a path's name to itself. Only its owner and root can open the file: no other user is in the way.

    Raises TimeoutError where it is not free within `seconds`.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        if stat.S_IMODE(os.fstat(file).st_mode) != 0o600:
            os.fchmod(file, 0o600)
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    words = f"another process has the lock for more than {seconds:g} s"
                    raise TimeoutError(errno.ETIMEDOUT, words, path) from None
                time.sleep(_LOOK)
        yield
    finally:
        os.close(file)
