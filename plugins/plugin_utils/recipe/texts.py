# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the files that people write: without hanging, and all in the same way.

A text is UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.files import open_file
from ansible_collections.desimages.farm.plugins.module_utils.platforms import DEBIAN, KERNEL

LONGEST_MESSAGE = 1500  # characters
LONGEST_NAME = 200  # characters
_MACHINES = {**{name: platform for platform, name in DEBIAN.items()}, **KERNEL}


class NoText(Exception):
    """Why a file cannot be read as text, and on which line."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


def read_text(path: Path, most: int) -> str:
    """The text of a file of at most `most` bytes, its line ends unchanged. Raises NoText."""
    try:
        with open(open_file(str(path), follow=True), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise NoText(f"cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise NoText(f"the file is too large: at most {most >> 10} KiB are allowed")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NoText(f"not UTF-8: byte 0x{data[error.start]:02x}", data.count(b"\n", 0, error.start) + 1) from None


def read_written(path: Path, most: int) -> str:
    """The same of a file that people write, in which git may have left a conflict: each side of it may be right by
    itself. Raises NoText."""
    text = read_text(path, most)
    if line := _conflict(text):
        raise NoText("git left a conflict here: keep one side of it, and remove its marks (<<<<<<<, =======, >>>>>>>)",
                     line)
    return text


def _conflict(text: str) -> int:
    """The line where the first conflict begins that is whole; 0 if there is none."""
    begin = middle = 0
    for number, line in enumerate(text.split("\n") if "\n>>>>>>> " in text else (), 1):
        if line.startswith("<<<<<<< "):
            begin, middle = number, 0
        elif begin and line.rstrip("\r") == "=======":
            middle = number
        elif middle and line.startswith(">>>>>>> "):
            return begin
    return 0


def read_lines(path: Path, most: int) -> str:
    """The same with the line ends of Unix."""
    return read_text(path, most).replace("\r\n", "\n").replace("\r", "\n")


def nearest(name: str, allowed: list[str]) -> str:
    """` (did you mean 'x'?)`, or '' if nothing is close. A name that is far too long is not compared.

    Case does not matter. What is no ASCII is named, as it may look like a letter that is. The name that Debian or the
    kernel has for a platform means that one, although it may look like another's.
    """
    if len(name) > LONGEST_NAME:
        return ""
    other = str(_MACHINES.get(name.lower().removeprefix("linux/"), ""))
    close = [other] if other and other in allowed else difflib.get_close_matches(
        name.lower(), [one.lower() for one in allowed], 1, 0.5 if len(name) < 4 else 0.55)
    meant = next((one for one in allowed if close and one.lower() == close[0]), "")
    odd = "".join(dict.fromkeys(sign for sign in name if not sign.isascii()))
    without = f", without {ascii(odd)[1:-1]}, which is not ASCII" if odd else ""
    return f" (did you mean {meant!r}{without}?)" if meant else ""


def is_there(path: Path) -> bool:
    """Whether anything has this name. True also if that cannot be told: reading it then says why."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):  # the latter for a NUL
        pass
    return True


def visible(name: str) -> str:
    """A name for a message of one line: control characters and bytes that are not UTF-8 are shown as escapes."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """A text for a message of one line: what a terminal would interpret, or cannot show, becomes an escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def told(message: str) -> str:
    """A message that may quote any text of a file, made printable and cut to a readable length."""
    text = printable(message)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE - 70]} [...] {text[-60:]}"
