# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The quick probe: one command of the runner if that is on the host already; otherwise, or to record the result, the
module."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.modules.probe import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node
from ansible_collections.desimages.farm.plugins.plugin_utils.identity import identity


class ActionModule(FarmAction):
    """See plugins/modules/probe.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        record = arguments.pop("record")
        own = arguments["controller_state"]
        arguments["controller"] = identity(own, make=not self.check) if own else arguments["controller"]
        node = Node(task_vars["inventory_hostname"], self.execute, lambda: self.python(task_vars),
                    arguments["state_dir"].rstrip("/"))
        if not record:
            found = None
            with contextlib.suppress(FarmError):  # a damaged runner: the module does not need it
                found = node.probe(arguments)
            if found is not None:
                return found
        made: dict[str, Any] = self._execute_module(module_name="desimages.farm.probe",
                                                    module_args={**arguments, "record": record}, task_vars=task_vars)
        if record and not self.check and not made.get("failed"):
            node.install()  # so that the next probe is quick
        return made
