# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores what is damaged or missing in the archive, and indexes. Returns the units to build again."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.registry_repair import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.build.inputs import Fetch
from ansible_collections.desimages.farm.plugins.plugin_utils.build.mender import Mender, unpacked
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.repair import work
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.damage import Damage, resolved


class ActionModule(FarmAction):
    """See plugins/modules/registry_repair.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        found = planning.load(arguments)
        builds = planning.builds(found.tree, arguments["native"])
        fetch = Fetch(found.plan, dict(found.sources), builds, arguments, self.say, check=self.check)
        damages = resolved([Damage(**damage) for damage in arguments["damages"]], arguments["digests"])
        self.say("\n".join(damage.words for damage in damages))
        todo = work(damages, found.plan, builds[0], fetch.archive.repository, unpacked(found.plan),
                    own=arguments["own"], signed=fetch.trust.known.signatures)
        mender = Mender(fetch, todo, arguments["namespace"], {damage.digest for damage in damages})
        mended = mender.names() if self.check else mender.mend()
        if not self.check:
            fetch.trust.known.save()
        for line in mended:
            self.say(f"{'would restore' if self.check else 'restored'} {line}")
        left = [f"{damage.words}: {why}" for damage, why in todo.left] + mender.failed
        for line in left:
            self.warn(f"not repaired: {line}")
        return {"changed": bool(mended), "mended": mended, "units": [str(key) for key in todo.units], "left": left}
