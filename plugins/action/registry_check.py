# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything that the tags of the farm's namespace name, and reports what is damaged or missing."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.modules.registry_check import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.damage import PAUSES, Check, Damage, resolved
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


class ActionModule(FarmAction):
    """See plugins/modules/registry_check.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        began, images, known = time.monotonic(), list[str](), dict[str, str]()
        if arguments["catalog"]:
            try:
                found = planning.load(arguments)
                images, known = sorted(found.tree), {unit.id: str(key) for key, unit in found.plan.units.items()}
            except FarmError as error:  # damage is found all the same, and the archive says whose it is
                self.say(f"checking without the catalog, which cannot be read: {error.message}")
        check = Check(self.registry(arguments, pauses=PAUSES), arguments["namespace"], known, self.say)
        if arguments["only"]:
            damages = resolved([Damage(**damage) for damage in arguments["only"]], arguments["digests"])
            left = damages if self.check else check.again(damages)  # in check mode nothing was repaired
            said = f"repaired {len(damages) - len(left)} of {len(damages)}"
        else:
            left = check.run(images).damages
            read = check.report
            said = (f"read {amount(read.tags, 'tag')}, {amount(read.manifests, 'manifest')}, "
                    f"{amount(read.blobs, 'blob')}, {read.size / 1e6:.0f} MB")
        self.say(f"{said} in {time.monotonic() - began:.0f} s; {len(left)} damaged or missing")
        lines = [f"{len(left)} damaged or missing in {arguments['registry']}:", *(damage.words for damage in left)]
        verdict = "\n".join(lines) if left else ""
        if left and not arguments["only"]:
            verdict += "\n  what to do: run playbooks/check.yml with `-e farm_repair=true`, which repairs what it can"
        result: dict[str, Any] = {"changed": False, "read": check.report.numbers, "verdict": verdict}
        result["damages"] = [damage.as_dict() for damage in left]
        return {**result, "failed": True, "msg": verdict} if left and arguments["fail"] else result
