# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Splits the text of a Dockerfile into instructions, as BuildKit 0.34 does (frontend/dockerfile/parser).

tests/integration compares this with BuildKit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import SPACE, heredocs

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\f\r ]*=[\t\f\r ]*(.+?)[\t\f\r ]*")  # Go's \s has no \v
TRUTH = "1|t|T|TRUE|true|True|0|f|F|FALSE|false|False"  # what Go's strconv.ParseBool reads
_CHECK = re.compile(rf"(skip|experimental)=[^;\s]+|error=({TRUTH})")
_BLANKS = re.compile(r"[\t\v\f\r ]+")
_HEREDOCS = ("ADD", "COPY", "RUN")
NEVER = {"\0": "a NUL byte", "\r": "a carriage return inside a line"}
MOST = 5000  # instructions in a file; no person writes so many


@dataclass(frozen=True)
class Instruction:
    """One instruction: keyword in upper case, flags (some may come twice), the rest of its text, its first line."""

    keyword: str
    flags: tuple[tuple[str, str], ...]
    rest: str
    line: int


@dataclass
class Text:
    """What a Dockerfile contains. `refused` has (line, reason) for what cannot be read."""

    instructions: list[Instruction] = field(default_factory=list)
    escape: str = "\\"
    refused: list[tuple[int, str]] = field(default_factory=list)


def read(text: str) -> Text:
    """The instructions: continuation lines joined, comments and heredoc bodies left out. It raises nothing."""
    found = Text()
    lines = [line.rstrip("\r") for line in text.split("\n")]  # splitlines() would split at more
    _directives(lines, found)
    goes_on = re.compile(rf"(?<!{re.escape(found.escape)}){re.escape(found.escape)}[ \t]*\Z")
    number = 0
    never = ((number, f"it has {name}") for number, line in enumerate(lines, 1)
             for sign, name in NEVER.items() if sign in line)
    found.refused += islice(never, 100)
    while number < len(lines):
        first = number
        if len(found.instructions) == MOST:
            found.refused.append((number + 1, f"more than {MOST} instructions"))
            break
        line = lines[number].lstrip(SPACE)
        number += 1
        if not line or line.startswith("#"):
            continue
        joined, more = _cut(line, goes_on)
        while more and number < len(lines):
            line = lines[number]
            number += 1
            if line.strip(SPACE) and not line.lstrip(SPACE).startswith("#"):
                line, more = _cut(line, goes_on)
                joined += line
        if joined.strip(SPACE):
            number = _add(joined, first + 1, lines, number, found)
    return found


def _cut(line: str, goes_on: re.Pattern[str]) -> tuple[str, bool]:
    """A line without its continuation character, and whether it had one."""
    end = goes_on.search(line)
    return (line[: end.start()], True) if end else (line, False)


def _add(joined: str, line: int, lines: list[str], number: int, found: Text) -> int:
    """Adds one instruction; returns the number of the line after it and its heredocs."""
    instruction = _instruction(joined, line, found.escape)
    found.instructions.append(instruction)
    if instruction.keyword not in _HEREDOCS or "<<" not in joined or array(instruction.rest) is not None:
        return number
    try:
        begun = heredocs(joined)
    except ValueError as error:
        found.refused.append((line, f"its heredoc cannot be read: {error}"))
        return number
    for word, dash in begun:
        while number < len(lines) and (lines[number].lstrip("\t") if dash else lines[number]) != word:
            number += 1
        if number == len(lines):
            found.refused.append((line, f"the heredoc <<{word} does not end"))
        number += 1
    return number


def _directives(lines: list[str], found: Text) -> None:
    """`# escape=` counts at the head of the file; `# syntax=` (or `// syntax=`) also after a `#!` line."""
    seen: set[str] = set()
    for name, value, line in _head(lines, "#"):
        if name in seen:
            found.refused.append((line, f"`# {name}=` appears twice"))
        elif name == "escape" and value not in ("\\", "`"):
            found.refused.append((line, f"`# escape={value}`: it must be \\ or `"))
        elif name == "escape":
            found.escape = value
        elif name == "check" and not all(map(_CHECK.fullmatch, value.split(";"))):
            found.refused.append((line, f"`# check={value}`: it must be skip=RULES or error=true, or both with a ;"
                                  " between them, without spaces"))
        seen.add(name)
    skip = 1 if lines[0].startswith("#!") else 0
    for sign in ("#", "//"):
        found.refused += [(line + skip, f"`{sign} syntax={value}`: a build cannot load a frontend from outside; remove"
                           " the line") for name, value, line in _head(lines[skip:], sign) if name == "syntax"]


def _head(lines: list[str], sign: str) -> Iterable[tuple[str, str, int]]:
    """The directives at the head of a file: name, value and line of each."""
    for number, line in enumerate(lines, 1):
        line = line.lstrip(SPACE)
        match = _DIRECTIVE.fullmatch(line[len(sign) :].lstrip(SPACE)) if line.startswith(sign) else None
        if not match or match.group(1).lower() not in ("syntax", "escape", "check"):
            return
        yield match.group(1).lower(), match.group(2), number


def _instruction(text: str, line: int, escape: str) -> Instruction:
    keyword, *more = _BLANKS.split(text.strip(SPACE), maxsplit=1)
    flags, rest = _flags(more[0] if more else "", escape)
    pairs = tuple((name[2:], value) for name, _sign, value in (flag.partition("=") for flag in flags))
    return Instruction(keyword.upper(), pairs, rest.strip(SPACE), line)


def _flags(text: str, escape: str) -> tuple[list[str], str]:
    """The leading words that start with --, unquoted, and what follows them. BuildKit works on bytes here."""
    whole = text.encode().decode("latin-1")
    found: list[str] = []
    at = 0
    while at < len(whole):
        if whole[at] in SPACE:
            at += 1
            continue
        if not whole.startswith("--", at):
            break
        word, at = _word(whole, at, escape, keep=False)
        if word == "--":
            break
        found.append(word)
    return [_utf8(word) for word in found], _utf8(whole[at:])


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode(errors="replace")


def _word(text: str, at: int, escape: str, *, keep: bool) -> tuple[str, int]:
    """The word that begins at `at`, and where it ends. `keep` keeps quotes and escape characters."""
    found: list[str] = []
    quote = ""
    while at < len(text):
        sign = text[at]
        at += 1
        if not quote and sign in SPACE:
            return "".join(found), at - 1
        if sign == escape and not (keep and quote == "'"):
            if at == len(text):
                break
            found.append(sign + text[at] if keep else text[at])
            at += 1
            continue
        if sign == quote or not quote and sign in "'\"":
            quote = "" if quote else sign
            if not keep:
                continue
        found.append(sign)
    return "".join(found), at


def words(text: str, escape: str) -> list[str]:
    """The words of an ARG, with their quotes and escape characters."""
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in SPACE:
            at += 1
            continue
        word, at = _word(text, at, escape, keep=True)
        if word:
            found.append(word)
    return found


def plain_words(text: str) -> list[str]:
    """The words of a FROM, a COPY or an ADD: quotes mean nothing here."""
    return _BLANKS.split(text) if text else []


def array(text: str) -> list[str] | None:
    """The strings of a JSON array; None if it is not one."""
    if not text.startswith("["):
        return None
    try:
        found: list[str] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(each, str) for each in found) else None


def fields(text: str) -> list[str]:
    """The fields of a --mount, which is one line of CSV. Raises ValueError."""
    found: list[str] = []
    rest: str | None = text
    while rest is not None:
        match = re.match(r'(?:"((?:[^"]|"")*)"|([^",]*))(,|\Z)', rest)
        if not match:
            raise ValueError(f"a quote is out of place in {text}")
        found.append(match.group(2) if match.group(1) is None else match.group(1).replace('""', '"'))
        rest = rest[match.end() :] if match.group(3) else None
    return found
