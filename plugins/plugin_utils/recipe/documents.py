# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML documents checked against a JSON Schema: every mistake of a file at once, each with its line and the nearest
correct name."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import jsonschema
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import NoText, nearest, read_written

MOST = 1 << 17  # bytes of a file; a recipe has some hundred
VALUES = 5000  # in a file: what an alias repeats counts each time, and each hundred characters of a text count as one
DEEPEST = 20  # levels of nested values
LONGEST = 4000  # characters of a text: all labels come as one argument of a program, which may have 128 KiB
DIGITS = 18  # in a number

_Path = tuple[Any, ...]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_WORDS_OF_YAML = {"true": True, "false": False, "null": None, "~": None, "": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_NOTHING = object()


class _Stop(Exception):
    """Raised after a mistake that makes the rest of the file unreadable."""


class Document:
    """A YAML file with less guessing: a scalar is a string unless it is true, false, null or a decimal number.

    `value` is plain Python, `lines` maps a path to its line, `problems` are `file:line: message`, and `bad` has the
    top-level keys in which `check` found mistakes. A value that cannot be used becomes an empty string, and `check`
    reports nothing more about it. `whole` is false if the file could not be read to its end; then it has no value.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.value: Any = None
        self.lines: dict[_Path, int] = {}
        self.problems: list[str] = []
        self.bad: set[str] = set()
        self.whole = False
        self._lost: set[_Path] = set()  # paths of values that cannot be used
        self._known: dict[str, tuple[Any, int]] = {}  # anchor -> its value, and how many values that counts as
        self._count = 0
        self._last = 1  # the number of lines
        try:
            text = read_written(path, MOST)
            self._last += text.rstrip("\n").count("\n")
            for number, line in enumerate(text.split("\n"), 1):
                if wrong := _control(line, "\t\r\x85"):
                    self.problems.append(f"{name}:{number}: not YAML: it contains the control character {wrong}")
            if not self.problems:
                self._read(yaml.parse(text, Loader=_Loader))
                self.whole = True
        except NoText as error:
            self.problems.append(f"{name}:{error.line}: {error.reason}")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            number = min(self._last, mark.line + 1) if mark else 1
            line = text.split("\n")[number - 1]
            tab = "\t" in line[:len(line) - len(line.lstrip())]
            self.problems.append(f"{name}:{number}: not YAML: {getattr(error, 'problem', None) or error}"
                                 + "; the line begins with a tab, indent it with spaces" * tab)
        except _Stop:
            pass
        if not self.whole:
            self.value = None  # what there is of it has not been checked

    def _read(self, events: Iterator[Any]) -> None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and self.lines:
                self._mistake(event, (), "a second document begins here; a file must have only one")
                raise _Stop
            if isinstance(event, yaml.NodeEvent):
                self.value = self._node(events, event, ())

    def _node(self, events: Iterator[Any], event: Any, path: _Path) -> Any:
        """Reads the value that begins with `event`; takes the events that belong to it from `events`."""
        if len(path) > DEEPEST:
            self._mistake(event, path, f"values are nested more than {DEEPEST} deep")
            raise _Stop
        self.lines.setdefault(path, self._line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        before = self._count
        self._more(event, path, 1)
        if event.anchor:
            self._known[event.anchor] = _NOTHING, 0
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        else:
            kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
            if event.tag not in (None, "!", _CORE + kind):
                self._tag(event, path)
            value = self._mapping(events, path) if kind == "map" else self._sequence(events, path)
        if event.anchor:
            self._known[event.anchor] = value, self._count - before
        return value

    def _mapping(self, events: Iterator[Any], path: _Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lost = False
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(events, event, path)
            inner = next(events)
            lost = lost or key is None
            if key is None:
                self._node(events, inner, (*path, None))
                continue
            if key in found:
                self._mistake(event, (*path, key), f"the key {_short(key)} appears twice")
            self.lines[(*path, key)] = self._line(event)
            found[key] = self._node(events, inner, (*path, key))
        if lost and not found:  # as of `{{ x }}`: the mistake is the key, not what the mapping lacks
            self._lost.add(path)
        return found

    def _sequence(self, events: Iterator[Any], path: _Path) -> list[Any]:
        found: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._node(events, event, (*path, len(found))))
        return found

    def _key(self, events: Iterator[Any], event: Any, path: _Path) -> str | None:
        """A key, which must be a string. For anything else it notes a mistake and returns None."""
        place = (*path, None)
        if not isinstance(event, yaml.ScalarEvent):
            self._mistake(event, place, "a key must be a string (does {{ }} need quotes?)")
            if not isinstance(event, yaml.AliasEvent):
                self._node(events, event, place)
            return None
        key = self._scalar(event, place)
        if place in self._lost:
            self._lost.discard(place)
            return None
        if not isinstance(key, str):
            self._mistake(event, place, f"YAML does not read the key {event.value or 'null'} as a string; put it in "
                          "quotes")
        elif key == "<<" and event.implicit[0]:
            self._mistake(event, place, "merge keys (<<) are not supported; write out what it stands for")
        elif "\n" in key:
            self._mistake(event, place, f"{_short(key)}: a key must be one line")
        else:
            return key
        self._lost.discard(place)
        return None

    def _scalar(self, event: Any, path: _Path) -> Any:
        text: str = event.value
        self._more(event, path, len(text) // 100)
        plain = event.tag is None and event.implicit[0]
        if plain and text in _WORDS_OF_YAML:
            return _WORDS_OF_YAML[text]
        number = plain and _NUMBER.match(text)
        if number and len(text) <= DIGITS:
            return int(text)
        wrong = _control(text, "\t\n")
        if event.tag not in (None, "!", _CORE + "str"):
            self._tag(event, path)
        elif number:
            self._mistake(event, path, f"a number with {len(text.lstrip('-'))} digits; put it in quotes if it is a "
                          "string")
        elif wrong:
            self._mistake(event, path, f"it contains the control character {wrong}; only tab and line feed are allowed")
        elif len(text) > LONGEST:
            self._mistake(event, path, f"it has {len(text)} characters; at most {LONGEST} are allowed")
        else:
            return text
        return ""

    def _alias(self, event: Any, path: _Path) -> Any:
        if event.anchor not in self._known:
            self._mistake(event, path, f"the alias *{event.anchor} is not defined: no &{event.anchor} comes before it")
            return ""
        value, count = self._known[event.anchor]
        if value is _NOTHING:
            self._mistake(event, path, f"{_dotted(path)} contains itself")
            return ""
        self._more(event, path, count)
        return value

    def _tag(self, event: Any, path: _Path) -> None:
        tag = event.tag.replace(_CORE, "!!")
        self._mistake(event, path, f"{_short(tag)[1:-1]}: tags are not supported; remove it, and put strings in quotes")

    def _more(self, event: Any, path: _Path, count: int) -> None:
        self._count += count
        if self._count > VALUES:
            self._mistake(event, path, f"more than {VALUES} values; those that an alias repeats count each time")
            raise _Stop

    def _mistake(self, event: Any, path: _Path, message: str) -> None:
        self._lost.add(path)
        self.problems.append(f"{self.name}:{self._line(event)}: {message}")

    def _line(self, event: Any) -> int:
        """Where it begins. What is empty may begin where the file has ended, behind its last line."""
        return min(self._last, int(event.start_mark.line) + 1)

    def line(self, path: _Path) -> int:
        """The line of a path, or of the nearest one above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def say(self, path: _Path, message: str) -> None:
        self.problems.append(f"{self.name}:{self.line(path)}: {message}")

    def check(self, schema: dict[str, Any]) -> None:
        """Adds a problem for each thing that the schema does not allow."""
        self.bad.update(str(path[0]) for path in self._lost if path)
        if not self.whole:
            return
        errors = _once(_Validator(schema).iter_errors(self.value))
        for error in sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]):
            path = tuple(error.absolute_path)
            if not any(path[:length] in self._lost for length in range(len(path) + 1)):
                self._tell(error)
            self.bad.update(map(str, path[:1]))

    def _tell(self, error: Any) -> None:
        path = tuple(error.absolute_path)
        where = _dotted(path)
        if "propertyNames" in error.schema_path:  # such a mistake is one of the mapping
            path, where = (*path, error.instance), f"a key of {where}"
        choice = error.validator in ("oneOf", "anyOf") and error.context
        if choice and all(_unlike(found, path) for found in _branches(error).values()):
            kinds = " or ".join(filter(None, (_meant(branch) for branch in error.validator_value)))
            self.say(path, f"{where} is {_kind(error.instance)}, it must be {kinds}")
        elif error.validator == "oneOf" and all(list(branch) == ["required"] for branch in error.validator_value):
            named = [branch["required"][0] for branch in error.validator_value]
            there = [name for name in named if name in error.instance]
            self.say(path, f"{where} must have exactly one of {', '.join(named)}, and has "
                           f"{' and '.join(there) or 'none of them'}")
        elif error.validator in ("oneOf", "anyOf") and error.context:
            for inner in _likeliest(error):
                self._tell(inner)
        elif error.validator == "additionalProperties" and isinstance(error.instance, dict):
            allowed = sorted(error.schema.get("properties", {}))
            for name in sorted(set(error.instance) - set(allowed)):
                near = nearest(name, allowed)
                self.say((*path, name), f"{_short(name)} is not known here{near}; allowed: {', '.join(allowed)}")
        elif error.validator == "required":
            known = list(error.schema.get("properties", {}))
            meant = "".join(nearest(name, known) for name in error.instance if name not in known)
            missing = [name for name in error.validator_value if name not in error.instance]
            self.problems += [f"{self.name}:{self.line(path)}: {where} has no {name!r}" for name in missing
                              if f"'{name}'" in error.message and f"{name!r}?" not in meant]  # that is said already
        elif error.validator == "enum":
            allowed = [str(value) for value in error.validator_value]
            near = nearest(str(error.instance), allowed)
            self.say(path, f"{where} is {_short(error.instance)}{near}; allowed: {', '.join(allowed)}")
        elif error.validator == "type":
            quotes = error.validator_value == "string" and isinstance(error.instance, int)
            self.say(path, f"{where} is {_kind(error.instance)}, it must be {_WORDS[error.validator_value]}"
                           f"{', so put it in quotes' if quotes else ''}")
        elif error.validator == "pattern":
            allowed = error.schema.get("$comment", f"match {error.validator_value}")
            example = f", such as {error.schema['examples'][0]}" if "examples" in error.schema else ""
            self.say(path, f"{where} is {_short(error.instance)}, it must {allowed}{example}")
        else:
            self.say(path, f"{where}: {error.message[:200]}")


def _once(errors: Iterable[Any]) -> list[Any]:
    """Without what another mistake says as well: a mapping that is of several kinds fits the schema of none, what is no
    mapping has no keys, and a key that is not known to one schema may not be known to another one."""
    found = list(errors)
    kinds = {tuple(error.absolute_path): error for error in found if error.validator == "oneOf" and error.schema.get(
        "properties") and all(list(branch) == ["required"] for branch in error.validator_value)}
    several = {path for path, error in kinds.items() if error.context == []}
    unlike = {path for path, error in kinds.items() if not isinstance(error.instance, dict)}
    last: dict[tuple[Any, ...], Any] = {tuple(error.absolute_path): error for error in found
                                        if error.validator == "additionalProperties"}
    return [error for error in found for path in [tuple(error.absolute_path)] if not (
        path in unlike and error.validator == "oneOf" or path in several and "then" in error.schema_path
        or error.validator == "additionalProperties" and last[path] is not error
        and "then" in last[path].schema_path)]


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """As JSON Schema means it: `$` is the very end. In Python a line feed may follow."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """In one pass; jsonschema would compare each pair."""
    if wanted and isinstance(instance, list):
        counts = Counter(json.dumps(value, sort_keys=True) for value in instance)
        for text, count in counts.items():
            if count > 1:
                yield jsonschema.ValidationError(f"{_short(json.loads(text))} appears {count} times")


_Validator: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique})


def _branches(error: Any) -> dict[int, list[Any]]:
    """The mistakes of each alternative."""
    found: dict[int, list[Any]] = {}
    for inner in error.context:
        found.setdefault(inner.schema_path[0], []).append(inner)
    return found


def _unlike(found: list[Any], path: _Path) -> bool:
    """Whether a value does not even have the type that an alternative wants."""
    return any(e.validator in ("type", "const") and tuple(e.absolute_path) == path for e in found)


def _likeliest(error: Any) -> list[Any]:
    """The mistakes of the alternative that the author most likely meant: one whose required keys are there, else the
    one with the fewest mistakes."""
    path = tuple(error.absolute_path)

    def unlike(found: list[Any]) -> tuple[bool, bool, int]:
        return (_unlike(found, path), any(e.validator == "required" and tuple(e.absolute_path) == path for e in found),
                len(found))

    return min(_branches(error).values(), key=unlike)


def _meant(branch: dict[str, Any]) -> str:
    """What an alternative of a schema allows, in words."""
    return repr(branch["const"]) if "const" in branch else _WORDS.get(branch.get("type", ""), "")


_WORDS = {"object": "a mapping", "array": "a list", "string": "a string", "integer": "a whole number",
          "boolean": "true or false"}


def _kind(value: Any) -> str:
    """What a value is, and as much of it as a message can show."""
    if value is None or isinstance(value, bool):
        return "empty" if value is None else _short(value)
    names = {dict: "a mapping", list: "a list", str: "a string", int: "the number", float: "the number"}
    return f"{names.get(type(value), 'a value')} {_short(value)}"


def _control(text: str, allowed: str) -> str:
    """The control characters and surrogates in a text that are not allowed, as `U+0000, U+001B`."""
    if text.isprintable():  # almost every text, and quicker
        return ""
    wrong = [sign for sign in sorted(set(text) - set(allowed)) if unicodedata.category(sign) in ("Cc", "Cs")]
    return ", ".join(f"U+{ord(sign):04X}" for sign in wrong)


def _dotted(path: _Path) -> str:
    return ".".join(map(str, path)) or "the file"


def _short(value: Any) -> str:
    """As YAML has it, where Python has other words."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
