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

LONGEST_MESSAGE = 1500  # characters
LONGEST_NAME = 200  # characters


class NoText(Exception):
    """Why a file cannot be read as a text, and the line where that is."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


def read_text(path: Path, most: int) -> str:
    """The text of a file of at most so many bytes, its line ends as they are. Raises NoText."""
    try:
        with open(open_file(str(path), follow=True), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise NoText(f"cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise NoText(f"larger than {most >> 10} KiB, which no such file is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NoText(f"not UTF-8: byte 0x{data[error.start]:02x}", data.count(b"\n", 0, error.start) + 1) from None


def read_lines(path: Path, most: int) -> str:
    """The same with the line ends of Unix."""
    return read_text(path, most).replace("\r\n", "\n").replace("\r", "\n")


def nearest(name: str, allowed: list[str]) -> str:
    """`, did you mean 'x'?`, or nothing. A name that is longer than any is like none."""
    close = difflib.get_close_matches(name, allowed, 1, 0.5) if len(name) <= LONGEST_NAME else []
    return f", did you mean {close[0]!r}?" if close else ""


def is_there(path: Path) -> bool:
    """Whether anything has this name; also where that cannot be told, as reading it will say why."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def visible(name: str) -> str:
    """A name for a message of one line: control characters and bytes that are not UTF-8 are shown as escapes."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """A text for a message of one line: what a terminal would act on, or cannot show, as escapes."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def told(message: str) -> str:
    """A message that may quote any text of a file: printable, and no longer than people read."""
    text = printable(message)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE - 70]} [...] {text[-60:]}"
