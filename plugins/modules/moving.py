#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: moving
short_description: Read the images whose tags a run is about to move
description:
  - After a run has built, and before M(desimages.farm.index), finds the images whose tags would move, here or where
    images are published, and reads their files as M(desimages.farm.verify) does, by the digests of their units.
  - If no tag would move, it reads nothing.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: It reads nothing in check mode.}
  diff_mode: {support: none, description: It changes nothing.}
  idempotent: {support: full, description: It changes nothing.}
options:
  tags:
    description: As in M(desimages.farm.index).
    type: list
    elements: str
    default: ["{suite}-{date}", "{suite}-{date}-{id}", latest]
  partial:
    description: As in M(desimages.farm.index).
    type: bool
    default: false
  publish:
    description: As in M(desimages.farm.index).
    type: str
    default: ""
  nodes:
    description: The nodes of the run, each with the reason why it was lost, or V('').
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Read what would be tagged
  desimages.farm.moving:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
"""

RETURN = r"""
subjects:
  description: The images that were read, as M(desimages.farm.verify) returns them.
  returned: always
  type: list
  elements: dict
  sample:
    - unit: tools linux/amd64
      platform: linux/amd64
      runs: true
      findings: []
"""
