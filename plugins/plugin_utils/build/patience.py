# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long units are tried again that failed through no fault of their own. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key

SECONDS = 180  # of retries while a registry fails or BuildKit restarts
TRIES = 8  # at most, however long each takes
LONGEST = 15.0  # seconds between two


@dataclass
class _Trouble:
    """When a unit first failed without being the cause, and when it is tried again."""

    since: float
    tries: int = 0
    until: float = 0.0


@dataclass
class Patience:
    """The units that are tried again."""

    troubles: dict[Key, _Trouble] = field(default_factory=dict)

    def until(self, keys: Iterable[Key], began: float, now: float) -> float | None:
        """When units that were tried since `began` may be tried again, after growing pauses; None if that has gone on
        for too long."""
        keys = list(keys)
        waits = min((self.troubles[key] for key in keys if key in self.troubles), key=lambda each: each.since,
                    default=_Trouble(now))
        if max(now - began, began - waits.until) > SECONDS and waits.tries < TRIES:
            waits.since = now  # they ran well for long, or waited long for a slot: this is a new problem
        if now - waits.since > SECONDS:
            return None
        waits.tries += 1
        waits.until = now + min(2.0**waits.tries, LONGEST)
        self.troubles.update(dict.fromkeys(keys, waits))
        return waits.until

    def forget(self, keys: Iterable[Key]) -> None:
        """They succeeded."""
        for key in keys:
            self.troubles.pop(key, None)
