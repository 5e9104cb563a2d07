#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_repair
short_description: Put back what is damaged or missing in the farm's registry
description:
  - Repairs what M(desimages.farm.registry_check) found. Inputs and context files come from the store, the catalog or
    their origins; unpacked packages, artifacts and indexes are made again. What would get another digest is left alone.
  - Layers and manifests of images need a build. The module returns the units to build; M(desimages.farm.plan) takes
    them as O(desimages.farm.plan#module:damaged).
  - Damaged data must be removed first (M(desimages.farm.registry_data)). If the farm does not run the registry itself,
    they are left alone and reported.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Says what would be put back.}
  diff_mode: {support: none, description: There is nothing to compare; content is named by its hash.}
  idempotent: {support: full, description: What already exists is not put back again.}
options:
  damages:
    description: What M(desimages.farm.registry_check) found.
    type: list
    elements: dict
    required: true
  digests:
    description: The digests of tags, as M(desimages.farm.registry_data) returns them.
    type: dict
    default: {}
  own:
    description: Whether damaged data were removed.
    type: bool
    default: false
  catalog:
    description: The folders of images.
    type: list
    elements: str
    required: true
  engine:
    description: The engine id of all nodes of the farm.
    type: str
    required: true
  origins:
    description: Where inputs come from first, see docs/guide.md.
    type: dict
    default: {}
  native:
    description: The platforms that nodes run natively, as in M(desimages.farm.plan).
    type: list
    elements: str
    default: []
  relock_missing:
    description: Whether locks that were made beside the tree replace those in it, as in M(desimages.farm.plan).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Put back what is missing
  desimages.farm.registry_repair:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
    catalog: [/srv/farm/images]
    engine: "{{ buildkitd_engine_id }}"
    damages: "{{ checked.damages }}"
"""

RETURN = r"""
mended:
  description: What was put back, or would be.
  returned: always
  type: list
  elements: str
  sample: ["archived sha256:b5bb9d80...", the artifact of base linux/arm64]
units:
  description: The units that must be rebuilt.
  returned: always
  type: list
  elements: str
  sample: [base linux/arm64]
left:
  description: What cannot be put back, and why.
  returned: always
  type: list
  elements: str
  sample: []
"""
