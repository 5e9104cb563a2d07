# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 3 of a run, for one node: builds what the run's broker gives it."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.modules.build import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils import settings
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller, reaching
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run, scratch
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.link import SOCKET
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node
from ansible_collections.desimages.farm.plugins.plugin_utils.build.session import Session
from ansible_collections.desimages.farm.plugins.plugin_utils.identity import identity

NOTHING: dict[str, Any] = {"units": [], "failures": 0, "seconds": 0.0}


class ActionModule(FarmAction):
    """See plugins/modules/build.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self.check:
            planned = Run.of(scratch(), controller()).load(Planned)
            return {"changed": bool(planned.todo), **NOTHING}
        if arguments["slots"] < 0:
            raise FarmError(f"slots is {arguments['slots']}, but must not be negative")
        run = Run.of(arguments["state"], controller())
        if not (run.folder / SOCKET).exists():  # there is nothing to build
            return {"changed": False, **NOTHING}
        name, state = task_vars["inventory_hostname"], arguments["node_state"] or arguments["state"]
        about = {"name": name, "state": state, "socket": arguments["socket"], "buildctl": arguments["buildctl"],
                 "slots": arguments["slots"], "local": self._connection.transport == "local",
                 "play": len(task_vars["ansible_play_hosts_all"]), "lost": arguments["lost"],
                 "busy": arguments["busy"], "emulation": settings.emulation(arguments["emulation"])}
        node = Node(name, reaching(self.execute), reaching(lambda: self.python(task_vars)), state,
                    identity(arguments["state"]))
        try:
            found = Session(run.folder, node, about, self.say).serve()
        except (FarmError, OSError) as error:  # the index step ends the run, with what exists
            self.warn(f"{name}: {error}")
            found = NOTHING
        return {"changed": len(found["units"]) > found["failures"], **found}
