# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 1 of a run: makes a plan from recipes and locks, and asks the registry what exists."""

from __future__ import annotations

from functools import partial
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.module_utils.proc import age
from ansible_collections.desimages.farm.plugins.modules.plan import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build import report
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run, scratch
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.holder import hold
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import last_built, planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.forecast import Forecast, table
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import damaged, select
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import tags
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust


class ActionModule(FarmAction):
    """See plugins/modules/plan.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        before = age(controller())
        if not self.check:
            hold(arguments["state"], wait=arguments["busy"] == "wait", tell=self.say, pid=controller())
        found = planning.load(arguments)
        tags.check(arguments["tags"], {key.image: (found.tree[key.image].suites[0], unit.epoch)
                                       for key, unit in found.plan.units.items() if found.tree[key.image].index})
        builds = planning.builds(found.tree, arguments["native"])
        again = damaged(found.plan, arguments["damaged"])
        choice = arguments["images"], arguments["platforms"], arguments["select"]
        able = [*builds, *map(Platform.parse, [*arguments["native"], *arguments["emulated"]])]
        wanted = list(again) or select(found.plan, able if arguments["complete"] else None, *choice)
        again = again or dict.fromkeys(wanted if arguments["rebuild"] else [], "rebuild asked for")
        registry = self._registry(arguments)
        trust = Trust.of(self.registry(arguments), arguments, check=self.check)
        adopted = trust.adopt(found.tree, check=self.check) if arguments["adopt"] and registry else {}
        for line in report.adopted(adopted, check=self.check) if arguments["adopt"] else ():
            self.say(line)
        # what is built again must stay the same, so its lock stays
        settled = {**arguments, "relock_missing": arguments["relock_missing"] and not again}
        ask = partial(planning.ask, registry, wanted=wanted, builds=builds, namespace=arguments["namespace"],
                      again=again, trust=trust)
        found, standing = planning.settle(found, ask, builds[0], settled, registry=registry, check=self.check,
                                          say=self.say, warn=self.warn)
        plan, existing, todo = found.plan, standing.existing, standing.todo
        relocked = found.relocked(wanted, builds[0])
        for image, overlay in relocked.items():
            self.warn(overlay.words(image))
        place = last_built.Place(arguments["state"], arguments["registry"], arguments["namespace"])
        forecast = Forecast(plan, existing, trust if registry else None, place, again, standing.unsigned)
        build, optional = forecast.units(todo), forecast.units(standing.optional)
        certain = sum(unit["sure"] for unit in build)
        for line in report.unsigned(standing.unsigned):
            self.warn(line)
        result: dict[str, Any] = {"changed": bool(todo or adopted), "adopted": adopted,
                                  "unsigned": sorted(map(str, standing.unsigned)), "build": build, "optional": optional,
                                  "counts": {"exist": len(existing), "build": certain, "maybe": len(todo) - certain},
                                  "relocked": [{"image": image, **overlay.as_dict()}
                                               for image, overlay in relocked.items()]}
        if arguments["table"] and build:
            self.say(table(build, optional))
        if self.diff:
            result["diff"] = [last_built.difference(place, plan.units[key], plan.entries(plan.units[key], builds[0]))
                              for key in todo] + [{"prepared": f"{tag} is not signed by this farm\n"}
                                                  for tag in standing.unsigned.values()]
        run = Run.begin(scratch() if self.check else arguments["state"], controller())
        chosen = bool(arguments["platforms"] or arguments["select"])
        run.save(Planned(plan, dict(found.sources), wanted, existing, builds, todo, chosen, relocked,
                         standing.sizes, before, standing.optional, set(again), arguments["rebuild"]).lean())
        if not self.check:
            trust.known.save()
            last_built.keep(place, plan, existing, builds[0])
            run.show("plan", {"units": build, "optional": optional, "exist": sorted(map(str, existing)),
                              "relocked": result["relocked"]})
            result["run"] = run.name
        return result

    def _registry(self, arguments: dict[str, Any]) -> Registry | None:
        """The farm's registry; None in check mode if it does not run."""
        registry = self.registry(arguments)
        if self.check and not registry.answers():
            self.warn(f"no registry answers at {registry.address}; the plan treats it as empty")
            return None
        return registry
