# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the broker knows of each node: who asks for orders, and what it works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Batch

SLOTS = 4  # of a node of which nothing was recorded
A_SLOT = 512 << 20  # bytes of memory


@dataclass
class Job:
    """A batch that a node works on, or did when it was last heard of."""

    id: str
    batch: Batch
    name: str
    began: float = 0.0  # 0 until the node has started it
    said: float = 0.0


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
    out: str = ""  # why it gets no more work
    built: list[Key] = field(default_factory=list)
    failed: list[Key] = field(default_factory=list)
    seconds: float = 0.0


def slots(node: dict[str, Any]) -> int:
    """How many solves a node runs at once: two for each core, as a solve waits for the disk and the registry as much as
    for a processor; fewer if it has little memory."""
    if not node.get("cores"):
        return SLOTS
    return max(1, min(round(2 * float(node["cores"])), int(node["memory"]) // A_SLOT))
