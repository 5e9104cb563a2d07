# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Formats a list of dictionaries as aligned text, with readable sizes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: table
short_description: Format a list of dictionaries as lines of aligned text
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - The first dictionary's keys are the columns, in their order. Numbers are aligned right, everything else left.
options:
  _input:
    description: The rows.
    type: list
    elements: dict
    required: true
  columns:
    description: The columns to show, in this order; by default those of the first row.
    type: list
    elements: str
    default: []
  sizes:
    description: Columns with a number of bytes, shown in readable units.
    type: list
    elements: str
    default: []
  short:
    description: Columns with digests, of which the first twelve hexadecimal digits are shown.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show
  ansible.builtin.debug:
    msg: "{{ [{'image': 'base', 'platforms': 8}] | desimages.farm.table }}"
"""

RETURN = r"""
_value:
  description: A header and one line per row.
  type: list
  elements: str
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def size(count: float) -> str:
    """22400000 -> `22.4 MB`."""
    units = ["TB", "GB", "MB", "kB", "B"]
    while abs(count) >= 1000 and len(units) > 1:
        count /= 1000
        units.pop()
    return f"{count:.{0 if units[-1] == 'B' else 1}f} {units[-1]}"


def table(rows: Sequence[Mapping[str, Any]], columns: Collection[str] = (), sizes: Collection[str] = (),
          short: Collection[str] = ()) -> list[str]:
    """[{'a': 1}] -> ['a', '1'], aligned."""
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
        raise AnsibleFilterError("desimages.farm.table takes a list of dictionaries")
    if not rows:
        return []
    columns = list(columns or rows[0])

    def cell(column: str, value: Any) -> str:
        if column in sizes:
            return size(value)
        return str(value).rpartition(":")[2][:12] if column in short else str(value)

    cells = [columns] + [[cell(column, row.get(column, "")) for column in columns] for row in rows]
    right = [all(isinstance(row.get(column), (int, float)) for row in rows) for column in columns]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        padded = [text.rjust(width) if number else text.ljust(width)
                  for text, width, number in zip(texts, widths, right)]
        return "  ".join(padded).rstrip()

    return [line(texts) for texts in cells]


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"table": table}
