# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes images from the farm's registry, and everything that the farm keeps of them."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.registry_remove import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import last_built
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.damage import PAUSES
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.removal import Removal, find, remove
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


class ActionModule(FarmAction):
    """See plugins/modules/registry_remove.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        registry, images = self.registry(arguments, pauses=PAUSES), arguments["images"]
        removal = find(registry, arguments["namespace"], images, arguments["digests"])
        result: dict[str, Any] = {"changed": False, "removed": [], "children": [], "unknown": removal.unknown}
        if removal.unknown and not arguments["all"]:
            return result
        records = last_built.of(last_built.Place(arguments["state"], arguments["registry"], arguments["namespace"]),
                                images)
        if not self.check:
            remove(registry, removal)
            for path in records:
                path.unlink(missing_ok=True)
        removed = [line for repository in removal.tags for line in removal.lines(repository)]
        empty = [image for image in images if not removal.tags.get(f"{arguments['namespace']}/{image}")]
        self._tell(", ".join([image for image in images if image not in empty] or images), removed, removal)
        if removed and 0 < len(empty) < len(images):
            self.warn(f"the registry has nothing for {', '.join(empty)}")
        result.update(changed=bool(removal) or bool(records), removed=removed, children=sorted(removal.children))
        if removal.unknown:
            text = f"the manifests of {', '.join(removal.unknown)} in {arguments['registry']} are damaged"
            result.update(failed=True, msg=f"{text}\n  what to do: ask the owner of that registry to remove these tags")
        return {**result, "diff": removal.diff} if self.diff else result

    def _tell(self, names: str, removed: list[str], removal: Removal) -> None:
        if not removed:
            self.say(f"the registry has nothing for {names}")
            return
        self.say(f"{'would remove' if self.check else 'removed'} {amount(len(removed), 'tag')} of {names}. "
                 "The registry's garbage collection frees the space; it is not run here")
        if removal.children:
            self.warn(f"these images are based on {names}: {', '.join(sorted(removal.children))}. They are kept and "
                      f"stay complete; when they are built again, {names} is built again as well")
