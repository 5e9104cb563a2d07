# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs learn for later ones: how long units take, and how fast nodes are. Only estimates depend on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import files

# seconds of a slot of speed 1, by a unit's name; speed, by a node's name: each with what is believed. With numbers that
# are out of all proportion nobody could calculate
KINDS = {"durations": (1e-3, 1e7), "speeds": (1e-6, 1e6)}


def read(state: str) -> dict[str, dict[str, float]]:
    """`durations` and `speeds`; empty where nothing usable was kept."""
    try:
        found = json.loads(_path(state).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = {}
    return {kind: {str(name): float(value) for name, value in found[kind].items() if _usable(value, *limits)}
            if isinstance(found, dict) and isinstance(found.get(kind), dict) else {} for kind, limits in KINDS.items()}


def write(state: str, learned: Mapping[str, Mapping[str, float]]) -> None:
    """Keeps what was learned, beside what was known of others."""
    known = read(state)
    merged = {kind: {**known[kind], **{name: round(value, 3) for name, value in learned[kind].items()}}
              for kind in KINDS}
    files.write(str(_path(state)), json.dumps(merged, indent=1, sort_keys=True) + "\n", sync=False)


def _path(state: str) -> Path:
    return Path(state) / "known" / "durations.json"


def _usable(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
