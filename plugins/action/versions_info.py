# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports which inputs of images have newer versions upstream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.modules.versions_info import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.lock import versions
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.below import over
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, alone, workplace
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import choose


class ActionModule(FarmAction):
    """See plugins/modules/versions_info.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        catalog = load_catalog(arguments["catalog"], need_locks=False)
        locks = {name: recipe.lock for name, recipe in catalog.items()}
        recipes = [over(catalog, locks, recipe)
                   for recipe in choose(catalog, arguments["images"], arguments["select"])]
        rows: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        with workplace(Path(arguments["state"]), self.check) as state, alone(state):
            locker = Locker(Origins(arguments["origins"]), state, keyring=arguments["keyring"],
                            allow_missing_suites=arguments["allow_missing_suites"], say=self.say)
            locker.prepare(recipes)
            for recipe, found, said in versions.newest(locker, recipes):
                if isinstance(said, FarmError):
                    failures.append({"image": recipe.name, "input": found.name, **said.as_result()})
                else:
                    rows += [versions.row(recipe, found, one) for one in said]
        return {"changed": False, "versions": rows, "failures": failures}
