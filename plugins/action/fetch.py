# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2 of a run: fetches every input of the units to build, from the archive or its origin, and archives it."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.desimages.farm.plugins.modules.fetch import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run, scratch
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Fetched, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.inputs import Fetch


class ActionModule(FarmAction):
    """See plugins/modules/fetch.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        run = Run.of(scratch() if self.check else arguments["state"], controller())
        planned = run.load(Planned)
        fetch = Fetch(planned.plan, planned.sources, planned.builds, arguments, self.say, check=self.check)
        if self.check:
            return {"changed": fetch.lacks(planned.todo), "refused": []}
        refused = fetch.all([*planned.todo, *planned.optional])
        fetch.trust.known.save()
        run.save(Fetched(refused, fetch.unpacked, fetch.trees, time.monotonic() - began))
        return {"changed": fetch.changed,
                "refused": [{"unit": str(key), "error": error} for key, error in refused.items()]}
