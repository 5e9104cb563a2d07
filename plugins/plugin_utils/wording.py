# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How messages count things. No I/O."""

from __future__ import annotations


def amount(number: int, noun: str, verb: str = "", verbs: str = "") -> str:
    """`1 unit is` or `2 units are`, for the noun `unit` and the verbs `is` and `are`."""
    one = number == 1
    words = (f"{number} {noun}{'' if one else 's'}", verb if one else verbs)
    return " ".join(word for word in words if word)
