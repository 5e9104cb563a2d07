# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays out the contexts of units, so that anyone can build them by hand with buildctl or docker buildx, to the same
digest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, KERNEL, Platform
from ansible_collections.desimages.farm.plugins.modules.context import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.build import scripts, solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.inputs import Fetch
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust


class ActionModule(FarmAction):
    """See plugins/modules/context.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        found = planning.load(arguments)
        plan, sources = found.plan, dict(found.sources)
        registry = self.registry(arguments)
        trust = Trust.of(registry, arguments, check=self.check)
        build, keys, digests = self._choice(plan, trust, arguments)
        for name, overlay in found.relocked(keys, build).items():
            self.warn(overlay.words(name))
        to = Path(arguments["to"])
        folders = {key: to / f"{key.name}-{key.platform.slug}" for key in keys}
        scripts.refuse_foreign(folders.values())
        if self.check:
            return {"changed": True, "folders": [str(folder) for folder in folders.values()]}
        fetch = Fetch(plan, sources, [build], arguments, self.say, check=self.check)
        refused = fetch.image(arguments["image"], keys)
        if refused:
            raise FarmError("\n".join(f"{key}: {error}" for key, error in refused.items()))
        fetch.trust.known.save()
        for key in keys:
            made = solve.make([plan.units[key]], plan, sources[key.image], build=build, registry=arguments["registry"],
                              repository=f"{arguments['namespace']}/{key.image}", digests=digests,
                              unpacked=fetch.unpacked.get(key.image, {}).get(str(build), {}))
            scripts.lay_out(folders[key], made, arguments["state"], registry)
        self.say("\n".join([f"Ready for buildctl.sh and buildx.sh: {folder}" for folder in folders.values()]))
        return {"changed": True, "folders": [str(folder) for folder in folders.values()]}

    def _choice(self, plan: Plan, trust: Trust,
                arguments: dict[str, Any]) -> tuple[Platform, list[Key], dict[str, dict[str, str]]]:
        """The build platform, the units, and the digests of their parents: for the first build platform for which the
        registry has all parents, the controller's before others."""
        runs = dict.fromkeys(platform for key, unit in plan.units.items() if key.image == arguments["image"]
                             for platform in unit.runs)
        given, here = arguments["build"], KERNEL.get(os.uname().machine)
        if given and runs and given not in map(str, runs):
            raise BadInput([f"build_platform: {arguments['image']} is not built on {given!r}; it is built on "
                            f"{', '.join(map(str, runs))}"], what="the choice")
        troubles: list[FarmError] = []
        builds = [Platform.parse(given)] if given else sorted(runs, key=lambda platform: platform != here)
        for build in builds or [here or AMD64]:  # an image that is not in the catalog has none, and is refused
            try:
                keys = select(plan, [build], [arguments["image"]], arguments["platforms"], "", called="image")
                return build, keys, scripts.parents(trust, plan, keys, build, arguments["namespace"])
            except FarmError as error:
                troubles.append(error)
        raise troubles[0]
