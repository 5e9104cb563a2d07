# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a run as a graph: what each waits for, what waits for it, and on which build platforms it may be built.

It has every unit that may be needed, whichever nodes there are. Which build-time parents are needed is decided later.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import Batch


@dataclass(eq=False, slots=True)
class Need:
    """What units with the same `runs` and the same build-time parents share: where they may be built.

    `ways` maps each build platform to the build-time parents that are needed there; `lacking` counts those that do not
    exist, `broken` has one that cannot be built. For platforms in `chosen` they are wanted; `open` are those of them
    for which all exist. `left` counts the units that wait, `work` is the seconds that they take, `ready` those of the
    units that may start.
    """

    runs: tuple[Platform, ...]
    ways: dict[Platform, list[Task]] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    chosen: set[Platform] = field(default_factory=set)
    open: frozenset[Platform] = frozenset()
    lacking: dict[Platform, int] = field(default_factory=dict)
    broken: dict[Platform, Key] = field(default_factory=dict)
    left: int = 0
    work: float = 0.0
    ready: float = 0.0
    longest: float = 0.0  # of the paths of its units
    fastest: float = 1.0  # the speed of the fastest node that may build them

    @property
    def whole(self) -> list[Platform]:
        """The build platforms that are not broken."""
        return [platform for platform in self.ways if platform not in self.broken]


@dataclass(eq=False, slots=True)
class Task:
    """A unit in the scheduler.

    `missing` counts the run-time parents that do not exist yet; `serves` are the ways that need it as a build-time
    parent; `group` names the units that it may share a batch with. `seconds` is how long it takes on a node of speed 1;
    `path` how long it takes from its start to the end of the longest chain of units that wait for it, each on the
    fastest node that may build it.
    """

    unit: Unit
    order: int
    need: Need
    parents: list[Task]
    children: list[Task] = field(default_factory=list)
    serves: list[tuple[Need, Platform]] = field(default_factory=list)
    missing: int = 0
    seconds: float = 0.0
    path: float = 0.0
    asked: bool = False
    group: str = ""
    faults: tuple[str, ...] = ()
    attempts: int = 0
    batch: Batch | None = None
    waits: bool = False  # it is wanted, and neither started nor ended
    until: float = 0.0

    @property
    def key(self) -> Key:
        return self.unit.key


def graph(plan: Plan, wanted: Iterable[Key], existing: Container[Key]) -> dict[Key, Task]:
    """The tasks of all units that may be needed, in plan order. One that exists needs nothing."""
    found = _reached(plan, wanted, existing)
    tasks: dict[Key, Task] = {}
    needs: dict[object, Need] = {}
    for order, key in enumerate(key for key in plan.units if key in found):
        unit = plan.units[key]
        if key in existing:
            tasks[key] = Task(unit, order, Need(()), [])
            continue
        beside = tuple(parent for parent in unit.parents if parent.build)
        need = needs.setdefault((unit.runs, beside), Need(unit.runs))
        if not need.tasks:
            need.ways = {build: [tasks[each] for each in parents] for build, parents in _ways(plan, unit).items()}
            need.chosen = {build for build, parents in need.ways.items() if not parents}
            need.open = frozenset(need.chosen)
            for build, parents in need.ways.items():
                need.lacking[build] = sum(parent.key not in existing for parent in parents)
                for parent in parents:
                    parent.serves.append((need, build))
        tasks[key] = Task(unit, order, need, [tasks[each] for each in run_time(unit)])
        tasks[key].missing = sum(parent.key not in existing for parent in tasks[key].parents)
        need.tasks.append(tasks[key])
        for parent in tasks[key].parents:
            parent.children.append(tasks[key])
    return tasks


def _reached(plan: Plan, wanted: Iterable[Key], existing: Container[Key]) -> set[Key]:
    found: set[Key] = set()
    queue = list(wanted)
    while queue:
        key = queue.pop()
        if key not in found:
            found.add(key)
            if key not in existing:
                unit = plan.units[key]
                queue += [*run_time(unit), *(each for some in _ways(plan, unit).values() for each in some)]
    return found


def run_time(unit: Unit) -> list[Key]:
    """The units that the run-time parents of a unit are."""
    return [Key(parent.image, parent.target, unit.key.platform) for parent in unit.parents if not parent.build]


def _ways(plan: Plan, unit: Unit) -> dict[Platform, list[Key]]:
    """The build platforms of a unit, each with the build-time parents that it needs there; not those for which the plan
    lacks one."""
    found = {}
    for build in unit.runs:
        parents = [Key(parent.image, parent.target, build) for parent in unit.parents
                   if parent.build and (not parent.builders or build in parent.builders)]
        if all(parent in plan.units for parent in parents):
            found[build] = parents
    return found


def group(task: Task, apart: bool) -> str:
    """A name for the units that one solve may build together."""
    return f"{task.key.name} {task.unit.epoch} {canonical.sha256(task.unit.labels)} {apart}"


def measure(tasks: Iterable[Task]) -> None:
    """Computes the paths of tasks in plan order, from their seconds and their needs' fastest nodes. Only what is wanted
    counts."""
    some = list(tasks)
    for task in some:
        task.need.longest = 0.0
    for task in reversed(some):
        after = [child.path for child in task.children if child.waits]
        after += [need.longest for need, build in task.serves if build in need.chosen]
        task.path = max(after, default=0.0) + task.seconds / task.need.fastest
        if task.waits:
            task.need.longest = max(task.need.longest, task.path)
