# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before step 3 of a run: starts the process that decides what the nodes build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.desimages.farm.plugins.modules.broker import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, controller
from ansible_collections.desimages.farm.plugins.plugin_utils.build import broker, durations
from ansible_collections.desimages.farm.plugins.plugin_utils.build.builder import Builder
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import Run
from ansible_collections.desimages.farm.plugins.plugin_utils.build.failures import Submit
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Fetched, Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.keeper import Keeper
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import Archive
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Scheduler


class ActionModule(FarmAction):
    """See plugins/modules/broker.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self.check:
            return {"changed": False}
        state = arguments["state"]
        run = Run.of(state, controller())
        planned, fetched = run.load(Planned), run.load(Fetched)
        registry = self.registry(arguments)
        trust = Trust.of(registry, arguments, check=False)
        registry.for_job("")  # looks for the login once, here, where a credential helper may take its time

        def make(tell: Callable[[str], None], submit: Submit) -> Builder:
            registry.on_trouble(tell)
            archive = Archive(registry, arguments["namespace"], Store(f"{state}/store"))
            keeper = Keeper(registry, arguments["namespace"], archive, trust, planned.plan, fetched.trees)
            known = durations.read(state)
            scheduler = Scheduler(planned.plan, planned.wanted, planned.existing, fetched.refused, known["durations"],
                                  apart=planned.again if planned.fresh else ())
            return Builder(state, run, planned, fetched, scheduler, keeper, tell, submit, known["speeds"])

        broker.start(run, controller(), make)
        return {"changed": False, "run": run.name}
