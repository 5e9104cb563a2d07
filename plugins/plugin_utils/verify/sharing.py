# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tester runs which image: testers take work when they have none, native before emulated. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils.abilities import EMULATED, NATIVE


@dataclass
class Sharing:
    """`units` maps each unit to its platform, in the order in which they are tried; `testers` says for each tester how
    it runs a platform (NATIVE or EMULATED; one that it does not run is missing).

    The rest is what happened: `held` maps a unit to the tester that runs it now, `tried` to those that ran it, with or
    without a result; `done` are those with one. `joined` are the testers that have come to work, `lost` maps one that
    is gone to the reason.
    """

    units: dict[str, str]
    testers: dict[str, dict[str, str]]
    held: dict[str, str] = field(default_factory=dict)
    tried: dict[str, list[str]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)

    def claim(self, tester: str) -> str:
        """The next unit for a tester, which it holds from now on; '' if there is none."""
        able = [unit for unit in self.units if unit not in self.held and tester in self._for(unit)]
        if not able:
            return ""
        unit = min(able, key=lambda unit: len(self._for(unit)))  # first what few can run
        self.held[unit] = tester
        return unit

    def end(self, unit: str, tester: str, *, good: bool) -> bool:
        """A tester has run a unit. If that gave no result, others try it; returns whether this word is the last."""
        self.held.pop(unit, None)
        self.tried.setdefault(unit, []).append(tester)
        if good or not self._for(unit):
            self.done.append(unit)
        return unit in self.done

    def lose(self, tester: str, why: str) -> None:
        """A tester is lost: others get what it held."""
        self.lost[tester] = why
        self.held = {unit: holder for unit, holder in self.held.items() if holder != tester}

    def awaits(self, tester: str, *, patient: bool) -> bool:
        """Whether others have or will take what this tester could run if they were lost. If it is `patient`, that
        counts also for testers that have not come yet."""
        able = [unit for unit, platform in self.units.items()
                if platform in self.testers[tester] and tester not in self._tried(unit)]
        return any(name != tester and (patient or name in self.joined) for unit in able for name in self._for(unit))

    def _tried(self, unit: str) -> list[str]:
        return self.tried.get(unit, [])

    def _for(self, unit: str) -> list[str]:
        """Which testers may run a unit: those that run its platform natively; if there are none, those that emulate
        it."""
        if unit in self.done:
            return []
        there = {name: runs[self.units[unit]] for name, runs in self.testers.items()
                 if name not in self.lost and name not in self._tried(unit) and self.units[unit] in runs}
        native = [name for name, how in there.items() if how == NATIVE]
        return native or [name for name, how in there.items() if how == EMULATED]


def of(units: Mapping[str, str], testers: Mapping[str, Mapping[str, str]]) -> Sharing:
    """A new one. `testers` has what module `tester` returned of each."""
    ways = (NATIVE, EMULATED)
    return Sharing(dict(units), {name: {platform: how for platform, how in runs.items() if how in ways}
                                 for name, runs in testers.items()})
