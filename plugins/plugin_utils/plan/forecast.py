# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan will build, for people: which units, why, and whether that is certain."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import last_built
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, reasons
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.planning import ASKERS
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import describe
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

UNSIGNED = "its tag is not signed by this farm"

NEEDED = "if needed"


@dataclass
class Forecast:
    """A plan, the units of it that the registry has (unit -> digest), and the units to build `again` (unit -> reason).
    `unsigned` exist, but their tags are not believed; `trust` is None if no registry answers.

    A unit is not certain to be built if early cutoff may spare it: if the registry has a unit with the same content and
    the same parent digests. For a parent that is rebuilt that is its last digest, as it may come out the same. Units to
    build again are always certain.
    """

    plan: Plan
    existing: Mapping[Key, str]
    trust: Trust | None
    place: last_built.Place
    again: Mapping[Key, str] = field(default_factory=dict)
    unsigned: Mapping[Key, str] = field(default_factory=dict)
    _last: dict[Key, str] = field(default_factory=dict)

    def units(self, todo: list[Key]) -> list[dict[str, Any]]:
        """The units to build, as `selection.describe` gives them, with `reasons` (texts) and `sure`."""
        with ThreadPoolExecutor(ASKERS) as pool:
            sure = list(pool.map(self._sure, todo))
        return [{**describe(self.plan, key), "reasons": self._reasons(key), "sure": surely}
                for key, surely in zip(todo, sure)]

    def _reasons(self, key: Key) -> list[str]:
        if key in self.again:
            return [self.again[key]]
        if key in self.unsigned:
            return [UNSIGNED]
        return reasons(self.plan.units[key].record, last_built.record(self.place, key))

    def _sure(self, key: Key) -> bool:
        unit = self.plan.units[key]
        above = {parent.name: self._digest(Key(parent.image, parent.target, key.platform)) for parent in unit.parents
                 if not parent.build}
        if key in self.again or self.trust is None or not above or not all(above.values()):
            return True
        return self.trust.find(f"{self.place.namespace}/{key.image}", f"c-{unit.content_id(above)}") is None

    def _digest(self, key: Key) -> str:
        if key in self.existing:
            return self.existing[key]
        if key not in self._last:
            record = last_built.record(self.place, key)
            found = self.trust.find(f"{self.place.namespace}/{key.image}",
                                    f"b-{canonical.sha256(record)}") if self.trust and record else None
            self._last[key] = found[0] if found else ""
        return self._last[key]


def table(build: list[dict[str, Any]], optional: list[dict[str, Any]]) -> str:
    """The units to build, and those that are `optional`: one line for all platforms of an image that have the same
    reasons."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for verdict, unit in [*(("build" if unit["sure"] else "maybe", unit) for unit in build),
                          *((NEEDED, unit) for unit in optional)]:
        name, _space, platform = unit["unit"].partition(" ")
        rows.setdefault((name, verdict, "; ".join(unit["reasons"])), []).append(platform.partition("/")[2])
    width, wide = (max(map(len, column)) for column in list(zip(*rows))[:2])
    lines = [f"  {name:<{width}}  {verdict:<{wide}}  {' '.join(platforms)}: {why}"
             for (name, verdict, why), platforms in rows.items()]
    also = f"; {NEEDED}: only if a node of that platform builds what needs it" if optional else ""
    return "\n".join([f"To build (maybe: only if a rebuilt parent comes out different{also}):", *lines])
