# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables in a Dockerfile, expanded as BuildKit 0.34 expands them (frontend/dockerfile/shell/lex.go).

It resembles a shell, but differs: `$$` expands to nothing, a pattern has no `[...]`, and what follows `${x/` keeps its
escape characters. tests/integration compares this with BuildKit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Optional

# More than any image name needs. Without limits, a few lines of a Dockerfile could fill the memory, or take hours.
LIMIT = 65_536  # characters of a value
WORK = 10_000  # characters of a pattern times characters of a value: about 3 ms
DEPTH = 40  # levels of `${a:-${b:-...}}`

SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))  # Go's
_SPECIAL = "@*#?-$!"  # a shell's special parameters, which have no value in a Dockerfile
_TEMPLATE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")

Lookup = Callable[[str], Optional[str]]  # name of a variable -> its value, None if it is not set


class BadExpansion(ValueError):
    """A text that BuildKit refuses."""


class Unknown(ValueError):
    """A value that is not known before the build, or takes too long to compute."""


def expand(text: str, lookup: Lookup, escape: str = "\\") -> str:
    """The text with its variables expanded and its quotes removed. Raises BadExpansion, and what `lookup` raises."""
    if not any(sign in text for sign in ("$", "'", '"', escape, "\ufeff")):
        return text
    return _Reader(text, lookup, escape).until("", False, False)[0]


def heredocs(line: str) -> list[tuple[str, bool]]:
    """The heredocs that begin on an instruction's line: the word that ends each, and whether its tabs are stripped.

    A line that the lexer cannot read has none, as in BuildKit.
    """
    try:
        words = _Reader(line, _unset, "\\", raw_quotes=True, keep=True).until("", True, False)[1]
    except BadExpansion:
        return []
    found = []
    for word in words:
        match = re.fullmatch(r"\d*<<(-?)[\t\n\f\r ]*([^<]*)", word, re.ASCII)
        if match and match.group(2):
            parts = _Reader(match.group(2), _unset, "\\", keep=True).until("", False, False)[1]
            if len(parts) == 1:
                found.append((parts[0], bool(match.group(1))))
    return found


def _unset(name: str) -> str | None:
    return None


class _Reader:
    """Reads a text once.

    `raw_quotes` keeps quotes in the result, `raw` keeps escape characters, `keep` keeps variables that are not set.
    """

    def __init__(self, text: str, lookup: Lookup, escape: str, *, raw_quotes: bool = False,
                 keep: bool = False) -> None:
        self.text = text[1:] if text.startswith("\ufeff") else text
        self.at = 0
        self.lookup, self.escape = lookup, escape
        self.raw_quotes, self.keep = raw_quotes, keep
        self.raw = False
        self.room = LIMIT
        self.depth = 0
        self.word: list[str] = []  # the current word. A nested text starts a new one, as in BuildKit

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        sign = self.peek()
        self.at += len(sign)
        return sign

    def until(self, stop: str, raw: bool, pattern: bool) -> tuple[str, list[str]]:
        """The text up to the character `stop` (or to the end), expanded: as a whole, and as words.

        In a `pattern`, escape characters inside quotes are doubled, as the pattern's own are interpreted only later.
        """
        before, self.raw = self.raw, raw
        self.depth += 1
        if self.depth > DEPTH:
            raise Unknown(f"variables are nested more than {DEPTH} deep")
        self.word.clear()
        words: list[str] = []
        result: list[str] = []
        while sign := self.peek():
            if sign == stop:
                self.at += 1
                break
            plain = True  # spaces in what was read end a word
            if sign == "$":
                piece = self.variable()
            elif sign == "<":
                piece, plain = self.arrows(), False
            elif sign == "'":
                piece, plain = self.single(pattern), False
            elif sign == '"':
                piece, plain = self.double(pattern), False
            elif self.next() == self.escape:
                piece, plain = (self.escape if self.raw else "") + self.next(), False
            else:
                piece = sign
            result.append(piece)
            for part in piece:
                if not plain or part not in SPACE:
                    self.word.append(part)
                elif self.word:
                    words.append("".join(self.word))
                    self.word.clear()
        else:
            if stop:
                raise BadExpansion(f"it ends, but a {stop} is missing")
        self.depth -= 1
        self.raw = before
        if self.word:
            words.append("".join(self.word))
            self.word.clear()
        return "".join(result), words

    def arrows(self) -> str:
        """`<`, or `<<` with the spaces after it: spaces may separate a heredoc's word from it."""
        self.at += 1
        if self.peek() != "<":
            return "<"
        begin = self.at - 1
        self.at += 1
        while self.peek() and self.peek() in "\t\r ":
            self.at += 1
        return self.text[begin : self.at]

    def single(self, pattern: bool) -> str:
        self.at += 1
        end = self.text.find("'", self.at)
        if end == -1:
            raise BadExpansion("a ' is not closed")
        found = self.text[self.at : end]
        self.at = end + 1
        if pattern:
            found = found.replace(self.escape, self.escape * 2)
        return f"'{found}'" if self.raw_quotes else found

    def double(self, pattern: bool) -> str:
        quote = self.next()
        result = [quote] if self.raw_quotes else []
        while sign := self.peek():
            if sign == "$":
                result.append(self.variable())
                continue
            self.at += 1
            if sign == '"':
                return "".join(result) + (quote if self.raw_quotes else "")
            if sign == self.escape:
                if self.peek() in ('"', "$", self.escape):
                    if self.raw:
                        result.append(sign)
                    sign = self.next()
                elif self.raw and (not self.raw_quotes or pattern):
                    result.append(sign)
            result.append(sign)
        raise BadExpansion('a " is not closed')

    def variable(self) -> str:
        """The expansion of a variable; reads from its $ on."""
        found = self._variable()
        self.room -= 0 if self.keep else len(found)
        if self.room < 0:
            raise Unknown(f"a value of more than {LIMIT} characters")
        return found

    def _variable(self) -> str:
        self.at += 1
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            return f"${name}" if value is None and self.keep else value or ""
        self.at += 1
        if self.peek() in ("", "}", ":"):
            raise BadExpansion("${ without the name of a variable" if self.peek() else "${ without }")
        name = self.name()
        sign = self.next()
        if not sign:
            raise BadExpansion(f"${{{name} without }}")
        if sign == "}":
            value = self.lookup(name)
            return "${" + name + "}" if value is None and self.keep else value or ""
        if sign == "/":
            return self.replaced(name)
        empty = sign == ":"  # an empty value counts as not set
        if empty:
            sign = self.next()
        if sign not in ("+", "-", "?", "#", "%") and not (empty and self.keep) or empty and sign in ("#", "%"):
            raise BadExpansion(f"${{{name}{':' if empty else ''}{sign}...}}: BuildKit has no such expansion")
        cut = sign in ("#", "%")
        word, _end = self.until("}", cut, cut)
        value = self.lookup(name)
        if self.keep and value is None:
            return f"${{{name}{':' if empty else ''}{sign}{word}}}"
        missing = value is None or empty and not value
        if sign == "-":
            return word if missing else value or ""
        if sign == "+":
            return "" if missing else word
        if sign == "?":
            if missing:
                raise BadExpansion(f"{name}: {word or ('it is not set' if value is None else 'it is empty')}")
            return value or ""
        greedy = word.startswith(sign)
        return _cut(word[1:] if greedy else word, value or "", greedy, sign == "%")

    def replaced(self, name: str) -> str:
        """`${x/pattern/text}` replaces the first match, `${x//pattern/text}` all of them."""
        everywhere = self.peek() == "/"
        self.at += everywhere
        pattern, _slash = self.until("/", True, True)
        text, _end = self.until("}", True, False)
        value = self.lookup(name)
        if self.keep and value is None:
            return f"${{{name}/{pattern}/{text}}}"
        return _replace(pattern, value or "", text, everywhere)

    def name(self) -> str:
        """A name, a number, or one special character; empty if none of these comes next."""
        begin = self.at
        if self.peek().isdecimal():
            while self.peek().isdecimal():
                self.at += 1
        elif self.peek() and self.peek() in _SPECIAL:
            self.at += 1
        else:
            while self.peek().isalpha() or self.peek().isdecimal() or self.peek() == "_":
                self.at += 1
        return self.text[begin : self.at]


def _tokens(pattern: str) -> list[str]:
    """The tokens of a pattern: `*` (any text), `?` (any character), and `=x` for the character x, escaped or not."""
    found = []
    signs = iter(pattern[1:] if pattern.startswith("\ufeff") else pattern)
    for sign in signs:
        if sign != "\\":
            found.append(sign if sign in "*?" else "=" + sign)
            continue
        after = next(signs, "")
        if not after or after not in "*?\\/}":
            raise BadExpansion(f"the pattern {pattern} has an escape character before {after or 'nothing'}")
        found.append("=" + after)
    return found


@lru_cache(maxsize=1024)
def _ends(pattern: str, value: str, greedy: bool) -> list[int | None]:
    """For each place in `value`: where the match that begins there ends, None if there is no match.

    Of several matches it is the one that a backtracking regular expression finds first. It works backwards from the end
    of the pattern, so the time is bounded by the pattern's length times the value's.
    """
    tokens = _tokens(pattern)
    if len(tokens) * len(value) > WORK:
        raise Unknown("the pattern and the value are too long")
    after: list[int | None] = list(range(len(value) + 1))
    for token in reversed(tokens):
        here: list[int | None] = [None] * len(after)
        for place in reversed(range(len(after))):
            sign = value[place : place + 1]
            if token == "*":
                further = here[place + 1] if sign not in ("", "\n") else None
                first, second = (further, after[place]) if greedy else (after[place], further)
                here[place] = second if first is None else first
            elif sign and (sign == token[1:] or token == "?" and sign != "\n"):
                here[place] = after[place + 1]
        after = here
    return after


def _cut(pattern: str, value: str, greedy: bool, back: bool) -> str:
    """The value without the shortest (or, if `greedy`, longest) match at its beginning (or, if `back`, at its end)."""
    text = value[::-1] if back else value
    text = text[_ends(_reversed(pattern) if back else pattern, text, greedy)[0] or 0 :]
    return text[::-1] if back else text


def _reversed(pattern: str) -> str:
    return "".join(reversed(re.findall(r"\\.|.", pattern, re.S)))


def _replace(pattern: str, value: str, text: str, everywhere: bool) -> str:
    """The value with the first match replaced by `text`, or all of them: then `$0` in `text` is the match, as in Go."""
    ends = _ends(pattern, value, True)
    result, done, place = [], 0, 0
    size = len(value)
    while place <= len(value):
        start = next((start for start in range(place, len(value) + 1) if ends[start] is not None), None)
        if start is None:
            break
        end = ends[start] or 0
        result.append(value[done:start])
        if end > done or start == 0:  # an empty match right after another match does not count
            piece = _template(text, value[start:end]) if everywhere else text
            size += len(piece)
            result.append(piece)
        done, place = end, max(place + 1, end)
        if size > LIMIT:
            raise Unknown(f"a value of more than {LIMIT} characters")
        if not everywhere:
            break
    return "".join(result) + value[done:]


def _template(text: str, match: str) -> str:
    def put(found: re.Match[str]) -> str:
        return "$" if found.group(1) else match if "0" in (found.group(2), found.group(3)) else ""

    return _TEMPLATE.sub(put, text)
