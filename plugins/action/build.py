# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3 of a run: build the planned units on this node."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.modules.build import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build.builder import Builder, Farm
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run, scratch
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Built, Fetched, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node
from ansible_collections.desimages.farm.plugins.plugin_utils.build.schedule import GOOD, Scheduler, State
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive


class ActionModule(FarmAction):
    """See plugins/modules/build.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self.check:
            planned = Run.of(scratch(), controller()).load(Planned)
            return {"changed": bool(planned.todo), "units": []}
        if arguments["slots"] < 1:
            raise FarmError(f"slots is {arguments['slots']}, it must be at least 1")
        run = Run.of(arguments["state"], controller())
        planned = run.load(Planned)
        if not planned.todo:
            return {"changed": False, "units": [], "failures": 0}
        fetched = run.load(Fetched)
        scheduler = Scheduler(planned.plan, planned.wanted, planned.existing, planned.build, fetched.refused)
        node = Node(task_vars["inventory_hostname"], self.execute, self.python(task_vars),
                    arguments["node_state"] or arguments["state"])
        farm = Farm(self.registry(arguments), arguments["namespace"], arguments["state"], arguments["socket"],
                    arguments["buildctl"], arguments["slots"])
        builder = Builder(farm, run, node, planned.plan, planned.sources, scheduler, fetched.unpacked, self.say,
                          self.alert,
                          Archive(farm.registry, farm.namespace, Store(f"{farm.state}/store")), fetched.trees,
                          again=planned.again, fresh=planned.fresh)
        stopped = ""
        try:
            builder.build()
        except (FarmError, OSError) as error:  # the index step ends the run, with what exists
            stopped = f"{task_vars['inventory_hostname']}: {error}"
            self.warn(stopped)
        finally:
            run.save(Built(scheduler.outcomes, builder.sizes, builder.timings, stopped, builder.differs))
            run.show("timings", builder.timings)
        units = [{"unit": str(key), "state": outcome.state.value, "digest": outcome.digest}
                 for key, outcome in scheduler.outcomes.items()]
        bad = [unit for unit in units if State(unit["state"]) not in GOOD]
        return {"changed": any(unit["state"] in (State.BUILT, State.SAME) for unit in units), "units": units,
                "failures": len(bad)}
