# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The farm's exceptions: what went wrong, where, and what to do next."""

from __future__ import annotations

import errno
import re

_USER = re.compile(r"""(?<=\w://)[^/"'\n]*@""")  # also with a space in it, which no URL has
_PLACE = re.compile(r"([^\n]+?):[0-9]+: ")  # how a mistake in a file begins
SHOWN = 50  # mistakes of a file in a message
# HTTP statuses that may pass by themselves. Those from 520 on are of CDNs that do not reach the server behind them
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504, *range(520, 528)))
# the hint of a HashMismatch
CHANGED = "the origin changed it, or someone else did: compare with another origin before you lock again"


def redacted(text: str) -> str:
    """What a program said, without the users and passwords of URLs."""
    return _USER.sub("", text)


class FarmError(Exception):
    """A failure that a person can act on. Modules and actions turn it into a result once, in `main()` or `run()`.

    `where` has the circumstances (node, unit, origin, log, ...): they are printed after the message, and are keys of
    the result.
    """

    def __init__(self, message: str, *, hint: str = "", **where: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = {key: value for key, value in where.items() if value not in (None, "")}

    def __str__(self) -> str:
        text = self.message
        if self.where:
            text += " (" + ", ".join(f"{key}: {value}" for key, value in self.where.items()) + ")"
        if self.hint:
            text += f"\n  what to do: {self.hint}"
        return text

    def as_result(self) -> dict[str, object]:
        """The keyword arguments of `fail_json`: `msg`, `error` (the class) and the circumstances. Ansible prints all of
        them, so what `msg` says is not in them again."""
        return {"msg": str(self), "error": type(self).__name__, **{k: str(v) for k, v in self.where.items()}}


class BadInput(FarmError):
    """Recipes, locks or an inventory that cannot be used. It has all mistakes, not only the first one; its text has the
    first `SHOWN` of each file, so that one that is no text hides nothing in another one."""

    def __init__(self, problems: list[str], *, what: str = "the catalog") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        lines: list[str] = []
        files: dict[str, int] = {}
        for problem in self.problems:
            found = _PLACE.match(problem)
            file = found[1] if found else ""
            files[file] = files.get(file, 0) + 1
            if not file or files[file] <= SHOWN:
                lines.append(problem)
        more = [f"{file}: and {number - SHOWN} more" for file, number in files.items() if file and number > SHOWN]
        super().__init__("\n".join([f"{count} mistake{'s' if count != 1 else ''} in {what}:", *lines, *more]))


class HashMismatch(FarmError):
    """Content that is not what the lock says. It never enters a store, and never counts as a missing file."""


class Missing(FarmError):
    """An origin answers that it does not have the file."""


class Unreachable(FarmError):
    """A transport failure that retries did not solve."""


class NoSpace(FarmError):
    """A full disk. Nothing is retried."""


class Busy(FarmError):
    """Another run holds the farm."""


def system_error(error: OSError) -> FarmError:
    """An error of the operating system, as an error that a person can act on."""
    where = str(error.filename or "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left for {where or 'what the farm writes'}",
                       hint="make room there and run again")
    if isinstance(error, PermissionError):
        return FarmError(f"this user may not read or write {where}",
                         hint="run as a user who may, or name another path in the settings")
    if isinstance(error, NotADirectoryError):
        return FarmError(f"a folder in the path {where} is a file", hint="name another path in the settings")
    return FarmError(f"{error.strerror or error}{f': {where}' if where else ''}")


class RegistryError(FarmError):
    """A registry refuses a request, or its answer cannot be used."""
