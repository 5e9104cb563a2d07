# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes programs out of a release archive that is pinned by its sha256, on the controller."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import state
from ansible_collections.desimages.farm.plugins.modules.release import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction


class ActionModule(FarmAction):
    """See plugins/modules/release.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import download, release  # they load urllib3

        state.open_umask()  # root runs what is laid there
        wanted = release.Release(**arguments)
        state.refuse_open(str(wanted.folder), 3)
        programs = wanted.kept()
        changed = not programs
        if changed and not self.check:
            programs = wanted.fetch(download.Client(apt=False))
        return {"changed": changed, "programs": programs, "go": "", "seconds": 0.0}
