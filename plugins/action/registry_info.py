# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports which images a registry has."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible_collections.desimages.farm.plugins.modules.registry_info import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.pki.shown import expires
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.damage import PAUSES
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.overview import overview


class ActionModule(FarmAction):
    """See plugins/modules/registry_info.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        found = overview(self.registry(arguments, pauses=PAUSES), arguments["namespace"])
        until = expires(arguments["registry"])
        days = (until - datetime.now(timezone.utc)).days if until else None
        return {"changed": False, "images": found.images, "problems": found.problems, "certificate_days": days}
