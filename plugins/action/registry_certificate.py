# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes sure that the farm's registry has a certificate: of the farm's own CA, or one that was given."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible_collections.desimages.farm.plugins.modules.registry_certificate import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


class ActionModule(FarmAction):
    """See plugins/modules/registry_certificate.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        from ansible_collections.desimages.farm.plugins.plugin_utils.pki import keeping  # its libraries may be missing

        now = datetime.now(timezone.utc)
        given, change = arguments["certificate"], keeping.Change()
        if given:
            expires = keeping.accept(given, arguments["key"], arguments["ca"], arguments["hosts"][0])
        else:
            secrets = keeping.Secrets(arguments["secrets"], check=self.check)
            keeping.refuse_other(arguments["ca"], secrets.path(keeping.CA))
            change, made = secrets.certify(arguments["hosts"], now)
            expires = made.certificate.not_valid_after_utc
        days = (expires - now).days
        if given and days < keeping.RENEWED.days:
            self.warn(f"the registry's certificate, {given}, expires in {amount(days, 'day')}: renew it")
        result = {"changed": bool(change.reasons), "reasons": change.reasons, "expires": f"{expires:%Y-%m-%d}",
                  "days": days}
        return {**result, "diff": change.diff(arguments["secrets"])} if self.diff else result
