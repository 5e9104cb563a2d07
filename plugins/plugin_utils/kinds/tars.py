# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of a canonical tar: the same tree always gives the same bytes. No I/O.

Locks have the hash of such a tar. So it is not written by Python's tarfile, of which a later version may choose other
bytes for the same file. The format is POSIX pax (https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html):
ustar, with an extended header only where a name is not ASCII or too long for that, or a file has 8 GiB.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)
TIME = 315_619_200  # 1980-01-02T00:00:00Z: a zip file, and so a Python wheel, has no earlier times, in any time zone
FILE, LINK, FOLDER, EXTENDED = b"0", b"2", b"5", b"x"
_NAME = 100  # bytes
_SIZE = 1 << 33  # in 11 octal digits


def member(path: str, kind: bytes, mode: int, size: int = 0, target: str = "") -> bytes:
    """What comes before the content of a member: owned by root, at TIME. A folder's path has no slash at its end;
    `target` is that of a link."""
    name = f"{path}/" if kind == FOLDER else path
    more = [(key, text) for key, text in (("path", name), ("linkpath", target))
            if not text.isascii() or len(text) > _NAME]
    more += [("size", str(size))] if size >= _SIZE else []
    extended = b"".join(_record(key, text) for key, text in more)
    if more:
        extended = _header("PaxHeader", EXTENDED, 0o644, len(extended), "") + extended + padding(len(extended))
    return extended + _header(name, kind, mode, size % _SIZE, target)


def padding(size: int) -> bytes:
    """What comes after a content of this size."""
    return bytes(-size % BLOCK)


def _record(key: str, text: str) -> bytes:
    """`17 path=something` and a newline; the number is the length of it all."""
    rest = f" {key}={text}\n".encode()
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _header(name: str, kind: bytes, mode: int, size: int, target: str) -> bytes:
    def text(value: str, width: int) -> bytes:
        return value.encode("ascii", "replace")[:width].ljust(width, b"\0")

    def number(value: int, width: int) -> bytes:
        return f"{value:0{width - 1}o}".encode() + b"\0"

    start = text(name, _NAME) + number(mode, 8) + number(0, 8) + number(0, 8) + number(size, 12) + number(TIME, 12)
    end = kind + text(target, _NAME) + b"ustar\x0000" + bytes(32 + 32) + number(0, 8) + number(0, 8)
    checksum = sum(start) + 8 * ord(" ") + sum(end)  # its own field counts as spaces
    return (start + f"{checksum:06o}".encode() + b"\0 " + end).ljust(BLOCK, b"\0")
