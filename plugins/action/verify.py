# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the chosen images from the registry, and finds what in their files breaks their contracts."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.verify import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.subjects import Reader


class ActionModule(FarmAction):
    """See plugins/modules/verify.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        found = planning.load(arguments)
        wanted = select(found.plan, None, arguments["images"], arguments["platforms"], arguments["select"])
        registry = self.registry(arguments)
        trust = Trust.of(registry, arguments, check=True)
        standing = planning.ask(registry, found.plan, wanted, planning.builds(found.tree), arguments["namespace"],
                                trust=trust)
        there = {key: standing.existing[key] for key in wanted
                 if key in standing.existing and found.plan.recipes[key.image].index}
        missing = [str(key) for key in wanted if key not in standing.existing]
        subjects = Reader(registry, arguments["namespace"], found.plan, self.say).all(there)
        return {"changed": False, "missing": missing, "subjects": [subject.as_dict() for subject in subjects]}
