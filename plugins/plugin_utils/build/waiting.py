# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what a run waits for may still come: nodes that answer, nodes that may build its units. No I/O and no clock
but for when it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.plugin_utils.build.seat import Seat, answered, complete
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Scheduler

SILENCE = 300  # seconds without any node after which a run ends


@dataclass
class Waiting:
    """`tell` takes lines for people."""

    scheduler: Scheduler
    seats: Mapping[str, Seat]
    tell: Callable[[str], None]
    unable: dict[Key, float] = field(default_factory=dict)  # since when no node can build it
    delayed: set[Key] = field(default_factory=set)  # of which people know that they wait for a native node
    heard: float = field(default_factory=time.monotonic)  # when a node was there last

    def stuck(self, now: float) -> str:
        """Why nothing can go on; '' if something may."""
        seats = self.seats.values()
        if any(seat.joined for seat in seats):
            self.heard = now
        everyone = complete(seats)
        if everyone and all(seat.out for seat in seats):
            return "no node remains: " + "; ".join(f"{seat.name}: {seat.out}" for seat in seats)
        if now - self.heard > SILENCE:
            said = [f"{seat.name}: {seat.out or seat.why}" for seat in seats if seat.out or seat.why]
            return ": ".join(filter(None, (f"no node has answered for {SILENCE // 60} minutes", "; ".join(said))))
        if answered(seats):
            self._say_what_waits(now)
        self._refuse(now, everyone and all(seat.joined or seat.out for seat in seats))
        return ""

    def _refuse(self, now: float, settled: bool) -> None:
        """Fails units that no node can build: at once if all nodes are there or lost for good (`settled`), else after a
        while, which begins when no node works for another controller: one that does may be able to."""
        unable = {} if any(seat.busy for seat in self.seats.values()) else self.scheduler.unable(now)
        self.unable = {key: self.unable.get(key, now) for key in unable}
        hopeless = [key for key, since in self.unable.items() if settled or now - since > SILENCE]
        for reason in dict.fromkeys(unable[key] for key in hopeless):
            keys = [key for key in hopeless if unable[key] == reason]
            self.scheduler.fail(keys, reason)
            self.tell(f"cannot be built: {', '.join(map(str, keys))}: {reason}")

    def _say_what_waits(self, now: float) -> None:
        """Says once what waits for a native node, before another one emulates it."""
        delayed = {key: why for key, why in self.scheduler.delayed(now).items() if key not in self.delayed}
        self.delayed.update(delayed)
        for why in dict.fromkeys(delayed.values()):
            self.tell(f"not begun yet: {', '.join(str(key) for key, each in delayed.items() if each == why)}: {why}")
