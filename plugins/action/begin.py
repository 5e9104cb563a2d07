# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a run: refuses bad input before any host is touched, and takes the farm for this run."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL
from ansible_collections.desimages.farm.plugins.modules.begin import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.holder import hold
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import make
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select


class ActionModule(FarmAction):
    """See plugins/modules/begin.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": False}
        if arguments["catalog"]:
            recipes = load_catalog(arguments["catalog"])
            Origins(arguments["origins"])
            plan = make(recipes, {name: read_sources(recipe) for name, recipe in recipes.items()}, "", "")
            select(plan, [KERNEL[os.uname().machine]], arguments["images"], arguments["platforms"], arguments["select"])
            result["images"] = sorted(recipes)
        if not self.check:
            hold(arguments["state"], wait=arguments["busy"] == "wait", tell=self.say, pid=controller(),
                 create=arguments["create"])
        return result
