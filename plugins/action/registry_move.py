# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies everything that a farm has from one registry to another."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.modules.registry_move import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


class ActionModule(FarmAction):
    """See plugins/modules/registry_move.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        from ansible_collections.desimages.farm.plugins.plugin_utils.registry import moving  # libraries may be missing

        old = self.registry({"registry": arguments["source"], "ca": arguments["source_ca"],
                             "user": arguments["source_user"], "password": arguments["source_password"]})
        moved = moving.Move(old, self.registry(arguments), arguments["namespace"], self.say, self.check).run()
        if moved.kept:
            tags = amount(len(moved.kept), "tag", "names", "name")
            self.warn(f"{tags} something else in {arguments['registry']} and will not be changed: "
                      + ", ".join(moved.kept[:5]) + (" and others" if moved.kept[5:] else ""))
        found: dict[str, Any] = {"changed": moved.copied > 0, "copied": moved.copied, "present": moved.present,
                                 "kept": moved.kept}
        if moved.failed:
            lacking = amount(len(moved.failed), "manifest", "was", "were")
            text = "\n".join([f"{lacking} not copied:", *moved.failed[:20]])
            return {**found, "failed": True, "msg": f"{text}\n  what to do: run it again: it copies what is missing"}
        return found
