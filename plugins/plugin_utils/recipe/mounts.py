# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The --mount of a RUN, as BuildKit 0.34 reads it (frontend/dockerfile/instructions/commands_runmount.go)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.expansion import BadExpansion, Unknown, expand
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.instructions import TRUTH, fields
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest

OPTIONS = ("type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw", "id",
           "sharing", "required", "size", "mode", "uid", "gid", "env")
KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
NONE = {"secret": "the farm gives a build no secrets", "ssh": "the farm gives a build no ssh agent"}
_SAME = {"src": "source", "dst": "target", "destination": "target"}  # they mean the same; the last one counts
_ALONE = ("readonly", "ro", "readwrite", "rw", "required")  # these may have no value
_ONLY = {"sharing": "cache", "mode": "cache", "uid": "cache", "gid": "cache", "size": "tmpfs",
         "required": "secret or ssh"}
_AT_LAST = ("sharing", "mode", "uid", "gid")  # BuildKit asks for their type at the end, for the others' so far
_SWITCH = (re.compile(TRUTH), "true or false")
_NUMBER = (re.compile("[0-9]{1,10}"), "a number")
_VALUES = {  # option -> what its value must match, and in words
    **dict.fromkeys(("readonly", "ro", "readwrite", "rw"), _SWITCH), "uid": _NUMBER, "gid": _NUMBER,
    "sharing": (re.compile("shared|private|locked", re.I), "shared, private or locked"),
    "mode": (re.compile("[0-7]{1,10}"), "an octal number, as 0755"),
    "size": (re.compile(r"\.?[0-9][0-9.e+]* ?(b|[kmgtp](i?b)?)?", re.I), "a size, as 64m"),
    "type": (re.compile("|".join(KINDS), re.I), " or ".join(KINDS[:3])),
}


def read(text: str, escape: str) -> tuple[Mapping[str, str], list[str]]:
    """The options by name, and what is wrong with them. Raises ValueError if it is no line of CSV."""
    parts = [part.partition("=") for part in fields(text)]
    options = {_SAME.get(name.lower(), name.lower()): value for name, _sign, value in parts}
    return options, [*_wrong(parts, escape), *_target(options)]


def local(text: str) -> str:
    """The path that a mount takes from the main context, or ''."""
    try:
        options, _whys = read(text, "\\")
    except ValueError:
        return ""
    return "" if options.get("from") or options.get("type", KINDS[0]).lower() != "bind" else options.get("source", "")


def _wrong(parts: list[tuple[str, str, str]], escape: str) -> Iterator[str]:
    kind = KINDS[0]  # until a type is said
    last = next((value.lower() for name, _sign, value in reversed(parts) if name.lower() == "type"), kind)
    for written, sign, value in parts:
        name = written.lower()
        if name == "type":
            kind = value.lower()
        here = last if name in _AT_LAST else kind
        if name not in OPTIONS:
            yield f"{name!r} is no option of a mount{nearest(name, list(OPTIONS))}; options: {', '.join(OPTIONS)}"
        elif not sign and name not in _ALONE:
            yield f"{name} has no value: write {name}=VALUE"
        elif name == "type" and kind in NONE:
            yield NONE[kind]
        elif here in KINDS[:3] and here != _ONLY.get(name, here):
            yield f"{name} is for mounts of the type {_ONLY[name]}, and the type is {here} here"
        elif sign and (said := _value(name, value, escape)):
            yield said


def _value(name: str, value: str, escape: str) -> str:
    """What is wrong with the value of an option, or ''."""
    try:
        plain = expand(value, lambda _name: "x", escape) if name != "from" else value
    except BadExpansion as error:
        return f"{name}={value}: {error}"
    except Unknown:
        return ""
    if name not in _VALUES or ("$" in value and name != "type") or _VALUES[name][0].fullmatch(plain):
        return ""
    return f"{name} is {value!r}, it must be {_VALUES[name][1]}"


def _target(options: Mapping[str, str]) -> Iterator[str]:
    if options.get("target", "").strip("/") == "" and options.get("target"):
        yield "target is the root of the file system, where no mount can be: write target=/FOLDER"
