# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scheduler and its caller tell each other: nodes, batches, and what became of units."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key


class State(str, enum.Enum):
    """The state of a unit."""

    WAITING = "waiting"
    RUNNING = "running"
    EXISTS = "exists"
    BUILT = "built"
    SAME = "same content"  # early cutoff: tagged, not built
    FAILED = "failed"
    INPUT_FAILED = "input failed"
    PARENT_FAILED = "parent failed"
    LEFT = "left"  # the run was stopped before it was built


GOOD = (State.EXISTS, State.BUILT, State.SAME)
ENDED = (*GOOD, State.FAILED, State.INPUT_FAILED, State.PARENT_FAILED, State.LEFT)


@dataclass
class Outcome:
    """What is known of a unit: its state, the digest of its manifest if it exists, the error if it does not."""

    state: State
    digest: str = ""
    error: str = ""


@dataclass(frozen=True)
class Worker:
    """A node, as the scheduler sees it. It runs the platforms `native` by itself; the first is its build platform.

    It may emulate a platform in `emulated` while no native node is there, and one in `missing` once none has been there
    for a while. It builds `slots` units at once. `speed` is a first guess of how fast, compared with other nodes; it is
    corrected by what the node then takes.
    """

    name: str
    native: tuple[Platform, ...]
    emulated: tuple[Platform, ...] = ()
    missing: tuple[Platform, ...] = ()
    slots: int = 1
    speed: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Units of one image for one solve on one node, built as the platform `build`.

    Results carry it, so that late ones are known: `number` is never given twice; `attempt` counts from 1.
    """

    number: int
    keys: tuple[Key, ...]
    build: Platform
    node: str
    attempt: int
    emulated: bool = False
