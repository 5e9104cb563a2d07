# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs an image on a host of the group testers: the module does the work there; metrics are parsed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.modules.contract import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import metrics, trials


class ActionModule(FarmAction):
    """See plugins/modules/contract.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        ca = arguments["ca"]
        if ca and "-----BEGIN" not in ca:
            arguments["ca"] = Path(ca).read_text(encoding="ascii")
        self.say(f"{task_vars['inventory_hostname']}: {arguments['unit']}")
        found = trials.heard(self._execute_module(module_name="desimages.farm.contract", module_args=arguments,
                                                  task_vars=task_vars))
        if more := metrics.added(found.get("facts", {}), arguments["promises"]):
            found["findings"] += more
        return found
