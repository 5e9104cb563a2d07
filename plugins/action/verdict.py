# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which images keep their contracts."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.filter.table import table
from ansible_collections.desimages.farm.plugins.modules.verdict import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import verdict


class ActionModule(FarmAction):
    """See plugins/modules/verdict.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        found = verdict.verdicts(arguments["subjects"], verdict.by_unit(arguments["trials"]))
        if found:
            self.say("\n".join(table(verdict.table(found))))
        for remark in verdict.remarks(found, arguments["missing"]):
            self.warn(remark)
        result: dict[str, Any] = {"changed": False, "images": [one.as_dict() for one in found]}
        broken = verdict.words(found)
        return {**result, "failed": True, "msg": broken} if broken else result
