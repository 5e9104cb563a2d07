"""Before a run: what can be refused is refused before any host is touched, and the farm is this run's alone."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.begin import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.run import hold


class ActionModule(FarmAction):
    """See plugins/modules/begin.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": False}
        if arguments["catalog"]:
            result["images"] = sorted(load_catalog(arguments["catalog"]))
        if not self.check:
            hold(arguments["state"], wait=arguments["busy"] == "wait", tell=self.say, pid=controller(), create=arguments["create"])
        return result
