# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes sure that the farm's registry has a password, and the line of htpasswd for it."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.registry_login import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction


class ActionModule(FarmAction):
    """See plugins/modules/registry_login.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        from ansible_collections.desimages.farm.plugins.plugin_utils.pki import keeping  # its libraries may be missing

        change = keeping.Secrets(arguments["secrets"], check=self.check).admit(arguments["user"], arguments["password"])
        result: dict[str, Any] = {"changed": bool(change.reasons), "reasons": change.reasons}
        return {**result, "diff": change.diff(arguments["secrets"])} if self.diff else result
