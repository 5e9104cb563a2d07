# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest list on its own: made from existing manifests, pushed only if it differs."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.modules.oci_index import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import indexes


class ActionModule(FarmAction):
    """See plugins/modules/oci_index.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if wrong := indexes.mistakes(arguments):
            raise BadInput(wrong, what="oci_index")
        registry = self.registry(arguments)
        names = {platform: name for text, name in arguments["manifests"].items() if (platform := indexes.named(text))}
        chosen = indexes.choose(registry, arguments["name"], names, attestations=arguments["attestations"])
        for text in chosen.taken:
            self.say(text)
        manifests = indexes.describe(registry, arguments["name"], chosen.names)
        change = indexes.compare(registry, arguments["name"], manifests, arguments["annotations"], arguments["tags"],
                                 arguments["fixed_tags"], chosen.attestations)
        if not self.check:
            indexes.push(registry, change)
        result: dict[str, Any] = {"changed": bool(change.moved), "digest": change.digest, "moved": list(change.moved),
                                  "taken": list(chosen.taken)}
        return {**result, "diff": change.diff} if self.diff else result
