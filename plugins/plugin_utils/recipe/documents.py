"""YAML documents checked against a JSON Schema: every mistake of a file at once, each with its line and the nearest correct name."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml

_Path = tuple[Any, ...]
_TEXT = "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader if not hasattr(yaml, "CSafeLoader") else yaml.CSafeLoader):  # type: ignore[misc]
    """YAML's own loader, but for times and numbers in disguise: only true, false, null, decimal numbers and text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


class Document:
    """A YAML file: `value` (plain Python), `lines` (path -> line), `problems` (`file:line: message`) and `bad`, the keys of those found by `check`."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.value: Any = None
        self.lines: dict[_Path, int] = {}
        self.problems: list[str] = []
        self.bad: set[str] = set()
        try:
            loader = _Loader(path.read_text(encoding="utf-8"))
            node = loader.get_single_node()
            if node is not None:
                self._walk(node, ())
                self.value = None if self.problems else loader.construct_document(node)
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{name}:1: cannot be read: {error}")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            self.problems.append(f"{name}:{mark.line + 1 if mark else 1}: not YAML: {getattr(error, 'problem', None) or error}")

    def _walk(self, node: Any, path: _Path, above: tuple[int, ...] = ()) -> None:
        if id(node) in above:
            self.problems.append(f"{self.name}:{node.start_mark.line + 1}: {'.'.join(map(str, path))} contains itself")
            return
        above = (*above, id(node))
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    self.problems.append(f"{self.name}:{key.start_mark.line + 1}: a key must be a text (does {{{{ }}}} want quotes?)")
                    continue
                if key.tag != _TEXT:
                    self.problems.append(f"{self.name}:{key.start_mark.line + 1}: the key {key.value or 'null'} is no text to YAML; put it in quotes")
                    continue
                if key.value in seen:
                    self.problems.append(f"{self.name}:{key.start_mark.line + 1}: {key.value!r} stands here for the second time")
                seen.add(key.value)
                self.lines[(*path, key.value)] = key.start_mark.line + 1
                self._walk(value, (*path, key.value), above)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._walk(value, (*path, number), above)

    def line(self, path: _Path) -> int:
        """The line of a path, or of the nearest one above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def say(self, path: _Path, message: str) -> None:
        self.problems.append(f"{self.name}:{self.line(path)}: {message}")

    def check(self, schema: dict[str, Any]) -> None:
        """Adds a problem for everything that the schema does not allow."""
        validator = jsonschema.Draft202012Validator(schema)
        for error in sorted(validator.iter_errors(self.value), key=lambda error: [str(part) for part in error.absolute_path]):
            self._tell(error)
            self.bad.update(list(error.absolute_path)[:1])

    def _tell(self, error: Any) -> None:
        path = tuple(error.absolute_path)
        where = ".".join(map(str, path)) or "the file"
        if error.validator in ("oneOf", "anyOf") and error.context and all(_unlike(found, path) for found in _branches(error).values()):
            kinds = " or ".join(filter(None, (_meant(branch) for branch in error.validator_value)))
            self.say(path, f"{where} is {_kind(error.instance)} ({_short(error.instance)}), it must be {kinds}")
        elif error.validator == "oneOf" and all(list(branch) == ["required"] for branch in error.validator_value):
            named = [branch["required"][0] for branch in error.validator_value]
            self.say(path, f"{where} must say one of {', '.join(named)}, and one alone")
        elif error.validator in ("oneOf", "anyOf") and error.context:
            for inner in _likeliest(error):
                self._tell(inner)
        elif error.validator == "additionalProperties" and isinstance(error.instance, dict):
            allowed = sorted(error.schema.get("properties", {}))
            for name in sorted(set(error.instance) - set(allowed)):
                self.say((*path, name), f"{name!r} is not known here{nearest(name, allowed)}; allowed: {', '.join(allowed)}")
        elif error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            self.problems += [f"{self.name}:{self.line(path)}: {where} lacks {name!r}" for name in missing if f"'{name}'" in error.message]
        elif error.validator == "enum":
            allowed = [str(value) for value in error.validator_value]
            self.say(path, f"{where} is {error.instance!r}{nearest(str(error.instance), allowed)}; allowed: {', '.join(allowed)}")
        elif error.validator == "type":
            self.say(path, f"{where} is {_kind(error.instance)} ({_short(error.instance)}), it must be {error.validator_value}")
        elif error.validator == "pattern":
            self.say(path, f"{where} is {error.instance!r}, it must match {error.validator_value}")
        else:
            self.say(path, f"{where}: {error.message}")


def nearest(name: str, allowed: list[str]) -> str:
    """`, did you mean 'x'?`, or nothing."""
    close = difflib.get_close_matches(name, allowed, 1, 0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def _branches(error: Any) -> dict[int, list[Any]]:
    """The mistakes of each alternative."""
    found: dict[int, list[Any]] = {}
    for inner in error.context:
        found.setdefault(inner.schema_path[0], []).append(inner)
    return found


def _unlike(found: list[Any], path: _Path) -> bool:
    """Whether a value is not even of the kind that an alternative wants."""
    return any(e.validator in ("type", "const") and tuple(e.absolute_path) == path for e in found)


def _likeliest(error: Any) -> list[Any]:
    """The mistakes of the alternative that the author most likely meant: the one whose required words are there, else the one with fewest."""
    path = tuple(error.absolute_path)

    def unlike(found: list[Any]) -> tuple[bool, bool, int]:
        return (_unlike(found, path), any(e.validator == "required" and tuple(e.absolute_path) == path for e in found), len(found))

    return min(_branches(error).values(), key=unlike)


def _meant(branch: dict[str, Any]) -> str:
    """What an alternative of a schema takes, in words."""
    return repr(branch["const"]) if "const" in branch else _WORDS.get(branch.get("type", ""), "")


_WORDS = {"object": "a mapping", "array": "a list", "string": "a text"}


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "empty"}
    return names.get(type(value), type(value).__name__)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
