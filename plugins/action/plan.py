# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1 of a run: recipes and locks become a plan; the registry says what exists."""

from __future__ import annotations

import os
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL, Platform
from ansible_collections.desimages.farm.plugins.module_utils.proc import age
from ansible_collections.desimages.farm.plugins.modules.plan import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run, scratch
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.schedule import Scheduler, State
from ansible_collections.desimages.farm.plugins.plugin_utils.holder import hold
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import last_built, planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, Unit, reasons
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import describe, select
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import tags
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

ASKERS = 16  # questions to the registry at the same time


class ActionModule(FarmAction):
    """See plugins/modules/plan.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        before = age(controller())
        if not self.check:
            hold(arguments["state"], wait=arguments["busy"] == "wait", tell=self.say, pid=controller())
        found = planning.load(arguments)
        tags.check(arguments["tags"], {name: recipe.suites[0] for name, recipe in found.tree.items() if recipe.index})
        native = [Platform.parse(text) for text in arguments["native"]] or [KERNEL[os.uname().machine]]
        again = damaged(found.plan, arguments["damaged"])
        choice = arguments["images"], arguments["platforms"], arguments["select"]
        wanted = list(again) or select(found.plan, native, *choice)
        again = again or dict.fromkeys(wanted if arguments["rebuild"] else [], "rebuild asked for")
        registry = self._registry(arguments["registry"])
        # what is built again is to be what it was: its lock stays
        settled = {**arguments, "relock_missing": arguments["relock_missing"] and not again}
        ask = partial(look, registry, wanted=wanted, build=native[0], namespace=arguments["namespace"], again=again)
        found, standing = planning.settle(found, ask, native[0], settled, registry=registry, check=self.check,
                                          say=self.say, warn=self.warn)
        plan, existing, todo = found.plan, standing.existing, standing.todo
        relocked = found.relocked(wanted, native[0])
        for image, overlay in relocked.items():
            self.warn(overlay.words(image))
        place = last_built.Place(arguments["state"], arguments["registry"], arguments["namespace"])
        why = {key: [again[key]] if key in again else reasons(plan.units[key].record, last_built.record(place, key))
               for key in todo}
        with ThreadPoolExecutor(ASKERS) as pool:
            sure = pool.map(Certainty(plan, existing, registry, place, again), todo)
            build = [{**describe(plan, key), "reasons": why[key], "sure": surely} for key, surely in zip(todo, sure)]
        certain = sum(unit["sure"] for unit in build)
        result: dict[str, Any] = {"changed": bool(todo), "build": build,
                                  "counts": {"exist": len(existing), "build": certain, "maybe": len(todo) - certain},
                                  "relocked": [{"image": image, **overlay.as_dict()}
                                               for image, overlay in relocked.items()]}
        if arguments["table"] and build:
            self.say(table(build))
        if self.diff:
            result["diff"] = [
                difference(plan.units[key], last_built.read(place, key), plan.entries(plan.units[key], native[0]))
                for key in todo]
        run = Run.begin(scratch() if self.check else arguments["state"], controller())
        chosen = bool(arguments["platforms"] or arguments["select"])
        run.save(Planned(plan, dict(found.sources), wanted, existing, native[0], todo, chosen, relocked,
                         standing.sizes, before, set(again), arguments["rebuild"]).lean())
        if not self.check:
            for key in existing:  # a tree that went back to what is there has nothing built, and yet another last state
                if last_built.record(place, key) != plan.units[key].record:
                    last_built.write(place, plan.units[key], plan.entries(plan.units[key], native[0]))
            run.show("plan", {"units": build, "exist": sorted(map(str, existing)), "relocked": result["relocked"]})
            result["run"] = run.name
        return result

    def _registry(self, address: str) -> Registry | None:
        """The farm's registry; in check mode None where it does not run."""
        registry = Registry(address)
        if self.check and not registry.answers():
            self.warn(f"no registry answers at {address}; the plan takes it as empty")
            return None
        return registry


@dataclass
class Certainty:
    """Whether a unit will be built whatever its parents come out as.

    Early cutoff spares it where the registry has a unit of the same content above the same digests: those of its
    parents that exist, and for a parent that is to be rebuilt the digest that it had last, as it may come out the same.
    """

    plan: Plan
    existing: dict[Key, str]
    registry: Registry | None
    place: last_built.Place
    again: Container[Key] = ()  # what nothing spares
    last: dict[Key, str] = field(default_factory=dict)

    def __call__(self, key: Key) -> bool:
        unit = self.plan.units[key]
        above = {parent.name: self._digest(Key(parent.image, parent.target, key.platform)) for parent in unit.parents
                 if not parent.build}
        if key in self.again or self.registry is None or not above or not all(above.values()):
            return True
        return self.registry.digest(f"{self.place.namespace}/{key.image}", f"c-{unit.content_id(above)}") is None

    def _digest(self, key: Key) -> str:
        if key in self.existing:
            return self.existing[key]
        if key not in self.last:
            record = last_built.record(self.place, key)
            found = self.registry.digest(f"{self.place.namespace}/{key.image}",
                                         f"b-{canonical.sha256(record)}") if self.registry and record else None
            self.last[key] = found[0] if found else ""
        return self.last[key]


def damaged(plan: Plan, names: list[str]) -> dict[Key, str]:
    """The units of some names, and why they are built. Raises BadInput for names that are none."""
    keys = {str(key): key for key in plan.units}
    if problems := [f"damaged: {name!r} is no unit of the catalog" for name in names if name not in keys]:
        raise BadInput(problems, what="plan")
    return {keys[name]: "damaged in the registry" for name in names}


def look(registry: Registry | None, plan: Plan, wanted: list[Key], build: Platform, namespace: str,
         again: Container[Key] = ()) -> planning.Standing:
    """What of the wanted units, and of what they need, the registry has: one HEAD each, in parallel.

    Units that are built `again` count as if it did not have them.
    """
    keys = [key for key in plan.closure(wanted, build) if key not in again]

    def ask(key: Key) -> tuple[str, int, str] | None:
        return registry.digest(f"{namespace}/{key.image}", f"b-{plan.units[key].id}") if registry else None

    with ThreadPoolExecutor(ASKERS) as pool:
        answers = {key: answer for key, answer in zip(keys, pool.map(ask, keys)) if answer}
    existing = {key: digest for key, (digest, _size, _kind) in answers.items()}
    waiting = [key for key, outcome in Scheduler(plan, wanted, existing, build).outcomes.items()
               if outcome.state == State.WAITING]
    return planning.Standing(existing, waiting, {digest: (size, kind) for digest, size, kind in answers.values()})


def table(build: list[dict[str, Any]]) -> str:
    """The units that will be built: one line for the platforms of an image that have the same reasons."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for unit in build:
        name, _space, platform = unit["unit"].partition(" ")
        rows.setdefault((name, "build" if unit["sure"] else "maybe", "; ".join(unit["reasons"])),
                        []).append(platform.partition("/")[2])
    width = max(len(name) for name, _verdict, _why in rows)
    lines = [f"  {name:<{width}}  {verdict}  {' '.join(platforms)}: {why}"
             for (name, verdict, why), platforms in rows.items()]
    return "\n".join(["To build (maybe: unless its rebuilt parents come out the same):", *lines])


def difference(unit: Unit, before: dict[str, Any], inputs: list[Entry]) -> dict[str, Any]:
    """Ansible's diff of a unit: its record, and its inputs by name and version rather than by hash."""
    return {"before_header": f"{unit.key} as built", "after_header": f"{unit.key} as planned", "before": before,
            "after": last_built.view(unit, inputs)}
