# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs images on the hosts of the group testers, which share them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.modules.trials import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction, reaching
from ansible_collections.desimages.farm.plugins.plugin_utils.build.evidence import scratch
from ansible_collections.desimages.farm.plugins.plugin_utils.deadline import Late, deadline, end_children
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import trials

LONGEST = 3600.0  # seconds for one image: of an emulated one everything may take ten times as long
LOOK = 120.0  # seconds in which a tester says that it is well


class ActionModule(FarmAction):
    """See plugins/modules/trials.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        subjects, tester = arguments["subjects"], task_vars["inventory_hostname"]
        if self.check:
            return {"changed": False, "results": [], "lost": ""}
        where = {name: arguments[name] for name in ("state_dir", "socket")}
        access = {name: arguments[name] for name in ("user", "password")}
        access["ca"] = Path(arguments["ca"]).read_text(encoding="ascii") if arguments["ca"] else ""
        keep = [subject["image"]["config"]["digest"] for subject in subjects] if arguments["own"] else []

        def module(name: str, given: Mapping[str, Any], seconds: float) -> dict[str, Any]:
            try:
                with deadline(seconds):
                    return dict(reaching(lambda: self._execute_module(
                        module_name=f"desimages.farm.{name}", module_args=dict(given), task_vars=task_vars))())
            except Late:
                end_children()
                raise FarmError(f"no answer within {seconds:.0f} s") from None

        def run(subject: Mapping[str, Any]) -> dict[str, Any]:
            given = {name: subject[name] for name in ("unit", "reference", "platform", "image", "promises")}
            return module("contract", {**where, **access, **given, "keep": keep}, LONGEST)

        def looks() -> str:
            found = module("tester", where, LOOK)
            return str(found.get("msg", "")) if found.get("failed") else ""

        shared = trials.board(scratch(), str(self._task._uuid), {one["unit"]: one["platform"] for one in subjects},
                              arguments["testers"])
        return {"changed": False, **trials.work(shared, tester, subjects, run, looks, self.say)}
