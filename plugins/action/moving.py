# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the images whose tags this run is about to move, and finds what in their files breaks their contracts."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.moving import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build import ending
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import GOOD
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.subjects import Reader


class ActionModule(FarmAction):
    """See plugins/modules/moving.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self.check:
            return {"changed": False, "subjects": []}
        run, registry = Run.of(arguments["state"], controller()), self.registry(arguments)
        planned = run.load(Planned)
        lost = {name: why for name, why in arguments["nodes"].items() if why}
        lists = ending.lists(arguments, registry, planned, ending.built(run, planned, lost, self.say), check=True)
        lists.finish()
        there = {key: lists.outcomes[key].digest for key in planned.wanted
                 if key.image in lists.moving and key in lists.outcomes and lists.outcomes[key].state in GOOD}
        subjects = Reader(registry, arguments["namespace"], planned.plan, self.say).all(there)
        return {"changed": False, "subjects": [subject.as_dict() for subject in subjects]}
