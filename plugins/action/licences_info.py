# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports the licences of everything that enters images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.modules.licences_info import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.licences import counted, licences
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import workplace
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import choose


class ActionModule(FarmAction):
    """See plugins/modules/licences_info.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        recipes = choose(load_catalog(arguments["catalog"]), arguments["images"], arguments["select"])
        origins = Origins(arguments["origins"])
        with workplace(Path(arguments["state"]), self.check) as state:
            desk = Desk(origins, state, Store(state / "store", self.warn), Client(origins.here), say=self.say)
            rows = list(licences(recipes, desk))
        return {"changed": False, "licences": rows, "summary": counted(rows)}
