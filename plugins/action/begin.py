# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a run: refuses bad input before any host is touched, and takes the farm for this run."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.begin import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils import libraries
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.holder import hold


class ActionModule(FarmAction):
    """See plugins/modules/begin.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        libraries.check(first=True)
        result: dict[str, Any] = {"changed": False}
        if arguments["catalog"]:
            # here, as Ansible compiles what is imported in each run, and most runs do not need it
            from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning

            result["images"] = planning.check(arguments)
        if not self.check:
            hold(arguments["state"], wait=arguments["busy"] == "wait", tell=self.say, pid=controller(),
                 create=arguments["create"])
        return result
