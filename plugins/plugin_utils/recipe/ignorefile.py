# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Ignore files (`.dockerignore`), read as BuildKit 0.34 reads them: which paths of a context they leave out. No I/O.

The rules are those of github.com/moby/patternmatcher 0.6, quirks included: patterns apply in order, a path is left out
with the folder above it, and a later `!` may bring it back. tests/integration compares this with the Go code and with
BuildKit itself. What means something else in BuildKit's regular expressions (`\\d`, `[*]`, `*|a`) is refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.instructions import NEVER

SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))  # Go's
_ODD = re.compile(r"\||\{[0-9]+(?:,[0-9]*)?\}")  # what BuildKit fails to escape in an expression
LONGEST = 4096  # characters of a pattern, as no path is longer
MOST = 1000  # patterns in a file; no person writes so many

_Step = Callable[[str, "set[int]"], "set[int]"]  # part of a pattern: path, places where it begins -> where it may end


@dataclass(frozen=True)
class Pattern:
    """One line: `back` is true if it begins with `!`; every path that it matches begins with `start`."""

    text: str
    line: int
    back: bool
    start: str
    matches: Callable[[str], bool]


@dataclass(frozen=True)
class Ignore:
    """The patterns of a file in order; `refused` has (line, reason) for those that cannot be used."""

    patterns: tuple[Pattern, ...] = ()
    refused: tuple[tuple[int, str], ...] = ()

    def look(self, path: str, above: tuple[bool, ...] = ()) -> tuple[bool, tuple[bool, ...]]:
        """Whether a path is left out, and which patterns matched it: pass that as `above` for the paths inside it."""
        out = False
        seen = []
        for number, pattern in enumerate(self.patterns):
            hit = bool(above) and above[number]
            if not hit and pattern.back == out:  # others change nothing: they count as no match, for paths below too
                hit = pattern.matches(path)
            seen.append(hit)
            if hit:
                out = not pattern.back
        return out, tuple(seen)

    def may_bring_back(self, folder: str) -> bool:
        """Whether a later pattern may bring back something in a folder that is left out."""
        inside = folder + "/"
        return any(p.back and (p.start.startswith(inside) or inside.startswith(p.start)) for p in self.patterns)

    def disputed(self, path: str) -> bool:
        """Whether BuildKit sends this path but refuses to open it, so that an empty file arrives (tried).

        BuildKit matches again when it opens a file, and then checks each pattern against each parent folder by itself.
        """
        if not any(pattern.back for pattern in self.patterns):
            return False
        parts = path.split("/")
        paths = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
        out = False
        for pattern in self.patterns:
            if pattern.back == out and any(map(pattern.matches, paths)):
                out = not pattern.back
        return out


def parse(text: str) -> Ignore:
    """Reads an ignore file, without its byte order mark."""
    patterns: list[Pattern] = []
    refused: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        odd = next((name for sign, name in NEVER.items() if sign in line), "")
        if not odd and (line.startswith("#") or not line.strip(SPACE)):
            continue
        if len(patterns) + len(refused) == MOST:
            refused.append((number, f"more than {MOST} patterns, and each is compared with each file"))
            break
        try:
            if odd:
                raise ValueError(f"it has {odd}, so BuildKit finds no file for it")
            pattern = _pattern(line.strip(SPACE), number)
        except ValueError as error:
            refused.append((number, str(error)))
        else:
            patterns += [pattern] if pattern else []
    return Ignore(tuple(patterns), tuple(refused))


def _pattern(text: str, line: int) -> Pattern | None:
    """The pattern of a line that has no space around it; None if it is empty.

    BuildKit cleans a line twice, the second time together with its `!`: so `/!a` and `./!a` bring `a` back.
    """
    back = text.startswith("!")
    path = _clean(text[1:].strip(SPACE) if back else text)
    path = path[1:] if len(path) > 1 and path.startswith("/") else path
    path = _clean(("!" + path if back else path).strip(SPACE))
    back = path.startswith("!")
    path = path[1:] if back else path
    if not path and back:
        raise ValueError("there is no pattern after the !")
    if not path:
        return None
    if path.startswith("\ufeff"):
        raise ValueError("it begins with U+FEFF, a byte order mark, which BuildKit does not always ignore")
    if len(path) > LONGEST:
        raise ValueError(f"the pattern has {len(path)} characters; no path has more than {LONGEST}")
    start, matches = _compile(path)
    return Pattern(path, line, back, start, matches)


def _clean(path: str) -> str:
    """As Go's filepath.Clean: `a//b/../c/` is `a/c`. An empty path stays so."""
    if not path:
        return ""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned  # POSIX keeps two leading slashes


def _compile(text: str) -> tuple[str, Callable[[str], bool]]:
    """The prefix of every match, and a function that matches. Raises ValueError, with the reason, for a bad pattern.

    BuildKit compares a pattern without wildcards as a whole. If its only wildcard is `**` at one end, it compares the
    rest as a prefix or suffix: `**a` matches `ba`, but `**a*` does not match `bab`. Otherwise `**` means whole folders.
    """
    steps: list[str | _Step] = []
    kind = "exact"
    odd = ""
    place = 0
    while place < len(text):
        sign, first = text[place], place == 0
        place += 1
        if text.startswith("**", place - 1):
            place += 1
            place += text.startswith("/", place)
            if place < len(text):
                kind = "steps"
                steps.append(_folders)
            elif kind == "exact":
                kind = "start"
            else:
                kind = "steps"
                steps.append(_rest)
            kind = "end" if first else kind
            continue
        step: str | _Step = sign
        if meant := _ODD.match(text, place - 1):
            odd = meant[0]
        if sign in "*?":
            step = _star if sign == "*" else _one
        elif sign == "\\":
            step, place = _escaped(text, place)
        elif sign == "[":
            step, place = _class(text, place)
        elif sign == "^":  # BuildKit passes it to its regular expression, where it means the beginning
            step = _beginning
        kind = "steps" if sign in "*?\\[]" else kind
        if isinstance(step, str) and steps and isinstance(steps[-1], str):
            steps[-1] += step
        else:
            steps.append(step)
    if kind == "exact":
        return text, lambda path: path == text
    if kind == "start":
        return text[:-2], lambda path: path.startswith(text[:-2])
    if kind == "end":
        end = text[2:]
        return "", lambda path: path.endswith(end) or (end.startswith("/") and path == end[1:])
    if odd:
        raise ValueError(f"{odd} in a pattern with wildcards: BuildKit takes it for part of a regular expression; put a"
                         " backslash before it")
    walk = [_literal(step) if isinstance(step, str) else step for step in steps]
    head, tail = (step if isinstance(step, str) else "" for step in (steps[0], steps[-1]))

    longest = max((step for step in steps if isinstance(step, str)), key=len, default="")

    def matches(path: str) -> bool:
        if longest not in path or not (path.startswith(head) and path.endswith(tail)):  # rules out most paths at once
            return False
        at = {0}
        for step in walk:
            at = step(path, at)
            if not at:
                return False
        return len(path) in at

    return head, matches


def _literal(text: str) -> _Step:
    return lambda path, at: {place + len(text) for place in at if path.startswith(text, place)}


def _one(path: str, at: set[int]) -> set[int]:
    """`?`"""
    return {place + 1 for place in at if place < len(path) and path[place] != "/"}


def _star(path: str, at: set[int]) -> set[int]:
    """`*`: any number of characters other than a slash."""
    return _onwards(path, at, "/", lambda place: True)


def _folders(path: str, at: set[int]) -> set[int]:
    """`**` in the middle: nothing, or anything up to a slash. It does not match a line feed."""
    return at | _onwards(path, at, "\n", lambda place: path[place - 1] == "/")


def _rest(path: str, at: set[int]) -> set[int]:
    """`**` at the end."""
    return {len(path)} if "\n" not in path[max(at):] else set()


def _onwards(path: str, at: set[int], barrier: str, good: Callable[[int], bool]) -> set[int]:
    """The good places from each place on to the next barrier."""
    found: set[int] = set()
    done = -1
    for place in sorted(at):
        if place > done:  # otherwise the places before this barrier are done already
            end = path.find(barrier, place)
            done = len(path) if end < 0 else end
            found.update(filter(good, range(place, done + 1)))
    return found


def _beginning(path: str, at: set[int]) -> set[int]:
    return at & {0}


def _escaped(text: str, place: int) -> tuple[str, int]:
    """The character after a backslash."""
    if place == len(text):
        raise ValueError("nothing follows the backslash at the end")
    sign = text[place]
    if sign.isalnum() or not sign.isascii():
        raise ValueError(f"\\{sign}: a backslash may stand only before a special character such as *; the separator of"
                         " folders is /")
    return sign, place + 1


def _class(text: str, place: int) -> tuple[_Step, int]:
    """`[a-z]` or `[^a-z]`, from after its opening bracket."""
    whole = "[" + text[place:place + 20]
    other = text.startswith("^", place)
    place += other
    ranges: list[tuple[str, str]] = []

    def sign() -> str:
        nonlocal place
        if place == len(text):
            raise ValueError(f"{whole}: the closing ] is missing")
        found = text[place]
        place += 1
        if found == "\\":
            found, place = _escaped(text, place)
        elif found in "-][*?":
            raise ValueError(f"{whole}: {found} between [ and ] needs a backslash before it")
        return found

    while not (ranges and text.startswith("]", place)):
        first = last = sign()
        if text.startswith("-", place):
            place += 1
            last = sign()
        if last < first:
            raise ValueError(f"{whole}: {first}-{last} is in the wrong order")
        ranges.append((first, last))

    def step(path: str, at: set[int]) -> set[int]:
        return {p + 1 for p in at if p < len(path) and any(first <= path[p] <= last for first, last in ranges) != other}

    return step, place + 1
