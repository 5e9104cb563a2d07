# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which images keep their contracts."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible_collections.desimages.farm.plugins.filter.table import table
from ansible_collections.desimages.farm.plugins.modules.verdict import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import verdict


class ActionModule(FarmAction):
    """See plugins/modules/verdict.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        today = datetime.now(timezone.utc).date()
        trials = {name: done.get("results", []) for name, done in arguments["trials"].items()}
        lost = {**{name: done["lost"] for name, done in arguments["trials"].items() if done.get("lost")},
                **arguments["lost"]}
        found = verdict.verdicts(arguments["subjects"], verdict.by_unit(trials), lost, today)
        if found:
            self.say("\n".join(table(verdict.table(found))))
        for name, why in lost.items():
            self.warn(f"the tester {name} is lost: {why}")
        for remark in verdict.remarks(found, arguments["missing"]):
            self.warn(remark)
        result: dict[str, Any] = {"changed": False, "images": [one.as_dict() for one in found],
                                  "held": verdict.held(found, today)}
        broken = verdict.words(found, today)
        return {**result, "failed": True, "msg": broken} if broken else result
