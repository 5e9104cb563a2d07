# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""The farm's public variables for one host: mistakes in them, and the fingerprint of what they provision."""

from __future__ import annotations

DOCUMENTATION = r"""
name: settings
short_description: Check the farm's public variables for the current host
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Reads the public variables C(farm_*) and those of the provisioning roles as the current host sees them.
  - Tells every mistake in them and in the inventory's groups, and a fingerprint of all that decides how the host is provisioned, the roles'
    own files included.
  - Tells who runs the playbook, and whether he can write what the controller writes to C(farm_state) on this machine.
options:
  _terms:
    description: No terms are taken.
"""

EXAMPLES = r"""
- name: Refuse wrong settings
  ansible.builtin.assert:
    that: not lookup('desimages.farm.settings').mistakes
"""

RETURN = r"""
_list:
  description: One dictionary with RV(ignore:mistakes) (a list of texts), RV(ignore:fingerprint), RV(ignore:user) (a number) and RV(ignore:owned).
  type: list
  elements: dict
  sample:
    - mistakes: []
      fingerprint: 2cf24dba5fb0a30e
      user: 1000
      owned: true
"""

import json
import os
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.module_utils.common.json import get_encoder
from ansible.plugins.lookup import LookupBase
from ansible_collections.desimages.farm.plugins.module_utils import settings, state

COLLECTION = Path(__file__).parent.parent.parent
PARTS = (
    *(f"roles/{role}" for role in settings.ROLES),
    *(f"plugins/modules/{name}.py" for name in ("supervised", "packages", "runc", "go_build", "engine")),
    *(f"plugins/module_utils/{name}.py" for name in ("supervision", "supervisors", "state", "golden", "gobuild")),
    "plugins/module_utils/installation.py",
)


def files() -> dict:
    """The roles' own files and the modules they are made of."""
    paths = [path for part in PARTS for path in ([COLLECTION / part] if (COLLECTION / part).is_file() else (COLLECTION / part).rglob("*"))]
    return {str(path.relative_to(COLLECTION)): path.read_bytes() for path in paths if path.is_file() and path.suffix != ".md"}


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms, variables=None, **kwargs):
        if terms:
            raise AnsibleError("desimages.farm.settings takes no terms")
        names = [name for name in variables or {} if name.startswith("farm_") or settings.decides_provisioning(name)]
        values = {name: self._templar.template(variables[name]) for name in names}
        plain = json.loads(json.dumps(values, cls=get_encoder("tagless")))
        decisive = {name: value for name, value in plain.items() if settings.decides_provisioning(name)}
        groups = {name: list(hosts) for name, hosts in ((variables or {}).get("groups") or {}).items()}
        user = os.geteuid()
        return [
            {
                "mistakes": settings.mistakes(plain, groups),
                "fingerprint": settings.fingerprint(decisive, files()),
                "user": user,
                "owned": not state.not_of(str(plain.get("farm_state", "")), user),
            }
        ]
