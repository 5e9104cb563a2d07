# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last build of each unit, kept in the state folder so that a plan can say what changed since."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry


def _path(place: Place, key: Key) -> Path:
    return Path(place.state) / "known" / place.registry / place.namespace / key.name / f"{key.platform.slug}.json"


@dataclass(frozen=True)
class Place:
    """Where units are kept: one state folder may build for several registries and namespaces."""

    state: str
    registry: str
    namespace: str


def read(place: Place, key: Key) -> dict[str, Any]:
    """What `write` wrote, or {}."""
    try:
        found: dict[str, Any] = json.loads(_path(place, key).read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}


def record(place: Place, key: Key) -> Mapping[str, object] | None:
    return read(place, key).get("record")


def of(place: Place, images: Collection[str]) -> list[Path]:
    """The files that keep the last builds of some images."""
    root = Path(place.state) / "known" / place.registry / place.namespace
    return [path for path in sorted(root.glob("*/*.json")) if _image(path) in images]


def _image(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["record"]["image"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def view(unit: Unit, entries: list[Entry]) -> dict[str, Any]:
    """What is kept of a unit: its record, and the names and versions of its inputs, which say more than hashes."""
    return {"record": unit.record, "inputs": sorted(f"{entry.input}: {entry.label}" for entry in entries)}


def write(place: Place, unit: Unit, entries: list[Entry]) -> None:
    """Keeps a unit's record and the names of its inputs."""
    files.write(str(_path(place, unit.key)), json.dumps(view(unit, entries)), sync=False)  # only people use it


def keep(place: Place, plan: Plan, keys: Iterable[Key], build: Platform) -> None:
    """Keeps units that exist, as they are planned now. If the tree goes back to an older state, nothing is built, but
    the last state is still another one."""
    for key in keys:
        unit = plan.units[key]
        if record(place, key) != unit.record:
            write(place, unit, plan.entries(unit, build))


def difference(place: Place, unit: Unit, entries: list[Entry]) -> dict[str, Any]:
    """Ansible's diff of a unit: its record, and its inputs by name and version rather than by hash."""
    return {"before_header": f"{unit.key} as built", "after_header": f"{unit.key} as planned",
            "before": read(place, unit.key), "after": view(unit, entries)}
