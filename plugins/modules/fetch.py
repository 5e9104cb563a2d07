#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fetch
short_description: Fetch the inputs of the planned units
description:
  - Fetches every locked input of the units that will be built into the store, from the farm's own archive or from its
    origin. Checks size and sha256 before a file enters the store, and archives it in the farm's registry.
  - If an input cannot be fetched, or differs from the lock, only the units that need it are stopped.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Says whether anything would be fetched or archived.}
  diff_mode: {support: none, description: There is nothing to compare; content is named by its hash.}
  idempotent: {support: full, description: What is in the archive is not fetched again.}
options:
  origins:
    description: Where inputs come from first, see docs/guide.md.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Fetch
  desimages.farm.fetch:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
"""

RETURN = r"""
refused:
  description: The units that cannot be built, and why.
  returned: always
  type: list
  elements: dict
  sample: [{unit: registry linux/amd64, error: "..."}]
"""
