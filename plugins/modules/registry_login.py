#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_login
short_description: Make sure that the farm's registry has a password
description:
  - Keeps an htpasswd line with a bcrypt hash, on the controller, for the given user and password.
  - Without a password it makes one, once, and keeps it in the same folder.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode: {support: full, description: Says what would be made.}
  diff_mode: {support: full, description: "Shows the user, and no password."}
  idempotent: {support: full, description: The hash stays while it fits the password.}
options:
  secrets:
    description: The farm's folder for secrets on the controller. Only the user who runs the playbook can enter it.
    type: path
    required: true
  user:
    description: The user.
    type: str
    required: true
  password:
    description: The password, at most 72 bytes. If empty, the password that was made before is kept.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Have a password for the registry
  desimages.farm.registry_login:
    secrets: /var/lib/desimages/secrets
    user: farm
"""

RETURN = r"""
reasons:
  description: What was made, and why. Empty if nothing was made.
  returned: success
  type: list
  elements: str
  sample: ["the registry's login: it has changed"]
"""
