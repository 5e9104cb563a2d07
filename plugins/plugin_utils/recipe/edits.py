# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes single scalars of a YAML text by their position. Comments, order and layout stay. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

Place = tuple[str | int, ...]


def replaced(text: str, scalars: Mapping[Place, str]) -> str:
    """The text with other scalars at some places (keys and numbers in lists). A scalar keeps its quotes.

    Raises FarmError if a place has no scalar of one line, or if the new text would not mean exactly that.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pieces = []
    for place, value in scalars.items():
        node = _at(root, place)
        if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
            raise FarmError(f"{_dotted(place)} is not a scalar of one line", hint="write it so, or change it by hand")
        start, end = node.start_mark.index, node.end_mark.index
        if start == end or "\n" in text[start:end] or text[start] == "&":
            raise FarmError(f"{_dotted(place)} is not a scalar of one line", hint="write it so, or change it by hand")
        quote = node.style or ""
        pieces.append((start, end, f"{quote}{value}{quote}"))
    new = text
    for start, end, piece in sorted(pieces, reverse=True):
        new = new[:start] + piece + new[end:]
    _prove(text, new, scalars)
    return new


def _at(node: yaml.Node | None, place: Place) -> yaml.Node | None:
    for key in place:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == key), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
        else:
            return None
    return node


def put(value: Any, place: Place, text: str) -> None:
    """The same change in plain Python."""
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = text


def _prove(before: str, after: str, scalars: Mapping[Place, str]) -> None:
    """What an alias repeats, or what needs quotes, would change more or something else."""
    wanted = yaml.load(before, Loader=yaml.BaseLoader)
    for place, value in scalars.items():
        put(wanted, place, value)
    try:
        got = yaml.load(after, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        got = None
    if got != wanted:
        raise FarmError(f"{', '.join(map(_dotted, scalars))} cannot be changed in place",
                        hint="is there an anchor, or does the value need quotes? Change it by hand")


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))
