# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the broker knows about each node: which session asks for its orders, and what it works on."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import Batch, Worker

SLOTS = 4  # of a node of which nothing was recorded
PER_CORE = 2  # slots: a solve waits for the disk and the registry as much as for a processor
SLOWEST, FASTEST = 0.001, 100.0  # speeds that are believed
MOST = 512  # of any node, whatever it says of itself
A_SLOT = 512 << 20  # bytes of memory


@dataclass
class Job:
    """A batch that a node works on, or did when it was last heard of."""

    id: str
    batch: Batch
    name: str
    sent: float = field(default_factory=time.monotonic)
    began: float = 0.0  # 0 until the node has started it
    said: float = 0.0
    steps: tuple[object, object] = (None, None)  # that it knew and had done, when it was last heard of
    moved: float = 0.0  # when these changed


@dataclass
class Seat:
    """A node whose session asks for orders. `about` is what the session says of it (session.py)."""

    name: str
    about: dict[str, Any]
    jobs: dict[str, Job] = field(default_factory=dict)
    lost: dict[str, Job] = field(default_factory=dict)  # sent before it was silent; somebody else has their units now
    forget: list[str] = field(default_factory=list)
    adopting: bool = False
    joined: bool = False
    slots: int = 1
    brisk: bool = True  # whether something ended in the last turn
    misses: int = 0
    fruitless: int = 0  # times in a row that it had work, and did not answer once while it had it
    why: str = ""  # it was missed last
    again: float = 0.0  # by time.monotonic(): it is not tried before
    faults: int = 0  # failures in a row of which it is the cause
    losses: int = 0  # jobs in a row that ended without a word
    doubted: float = 0.0  # by time.monotonic(): before, it is not asked whether it reaches the registry
    cuts: int = 0  # failures in a row on its way to a registry that the controller reaches
    busy: bool = False  # whether it answers, but works for another controller
    out: str = ""  # why it gets no more work
    built: list[Key] = field(default_factory=list)
    failed: list[Key] = field(default_factory=list)
    emulated: int = 0  # units of those that it has built under emulation
    seconds: float = 0.0

    @property
    def away(self) -> bool:
        """Whether it has no work, and may get some once it has answered."""
        return not (self.joined or self.adopting or self.out)

    def worker(self, machine: str, node: dict[str, Any], known: float) -> Worker:
        """The node for the scheduler, from what its kernel calls itself, what provisioning recorded, and the speed
        that earlier runs know of it, or 0."""
        self.slots = self.about["slots"] or slots(node)
        native = node.get("native") or [str(KERNEL[machine])]
        words = self.about["emulation"]
        some = {word: tuple(Platform.parse(name) for name in node.get("emulated", ()) if words.get(name) == word)
                for word in ("allowed", "missing")}
        return Worker(self.name, tuple(map(Platform.parse, native)), some["allowed"], some["missing"], self.slots,
                      known or speed(node, self.slots))


def complete(seats: Collection[Seat]) -> bool:
    """Whether each node of the run has had a session."""
    return len(seats) >= max((seat.about["play"] for seat in seats), default=1)


def answered(seats: Collection[Seat]) -> bool:
    """Whether each node of the run is there, or is known not to be."""
    return complete(seats) and all(seat.joined or seat.out or seat.misses for seat in seats)


def speed(node: dict[str, Any], slots: int) -> float:
    """How fast a slot of a node is that no run has seen, beside a server's (1): by what was measured at provisioning.
    It only has to be better than no guess; the first builds correct it."""
    measured, cores = float(node.get("speed") or 1.0), float(node.get("cores") or slots)
    guess = measured * min(1.0, PER_CORE * cores / slots)
    return guess if SLOWEST < guess < FASTEST else 1.0


def slots(node: dict[str, Any]) -> int:
    """How many solves a node runs at once; fewer if it has little memory."""
    if not node.get("cores"):
        return SLOTS
    return max(1, min(round(PER_CORE * float(node["cores"])), int(node["memory"]) // A_SLOT, MOST))
