# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what is known about each host of the farm."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.filter.table import size, table
from ansible_collections.desimages.farm.plugins.modules.hosts_info import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.build import status


class ActionModule(FarmAction):
    """See plugins/modules/hosts_info.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        runs, groups = status.last_runs(arguments["state"]), task_vars["groups"]
        hosts = []
        for name, read in arguments["hosts"].items():
            own = [group for group in ("nodes", "registries") if name in groups.get(group, [])]
            days = arguments["certificate_days"] if "registries" in own else None
            hosts.append(status.facts(name, own, read, runs.get(name), days))
        self.say("\n".join([*table(status.rows(hosts, size)), *status.said(hosts)]))  # Ansible breaks long lines
        return {"changed": False, "hosts": hosts, "services": status.services(hosts)}
