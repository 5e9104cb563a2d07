#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Read the images that are built, and what in their files breaks their contracts
description:
  - Finds the chosen images of the catalog in the farm's registry, by the build ids of their units. Images that are not
    built, or not signed, are named and not checked.
  - Reads their configuration and all their files, and checks what their contracts promise about these.
    M(desimages.farm.contract) runs the images, and M(desimages.farm.verdict) combines both results.
  - Changes nothing.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
  diff_mode: {support: none, description: It changes nothing.}
  idempotent: {support: full, description: It changes nothing.}
options:
  catalog:
    description: The folders of images.
    type: list
    elements: str
    required: true
  images:
    description: Only these images, as in M(desimages.farm.plan); if this and O(select) are empty, those that a build
      would build.
    type: list
    elements: str
    default: []
  platforms:
    description: Only these platforms, such as V(linux/arm64).
    type: list
    elements: str
    default: []
  select:
    description: A jmespath expression over units, as in M(desimages.farm.plan).
    type: str
    default: ""
  engine:
    description: The engine id of all nodes of the farm.
    type: str
    required: true
  relock_missing:
    description: Whether locks that were made beside the tree replace those in it, as in M(desimages.farm.plan).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Read the images
  desimages.farm.verify:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
    catalog: [/srv/farm/images]
    engine: "{{ buildkitd_engine_id }}"
"""

RETURN = r"""
subjects:
  description: The images that were read, each as M(desimages.farm.contract) takes it, with what was found in its files.
  returned: always
  type: list
  elements: dict
  sample:
    - unit: tools linux/amd64
      platform: linux/amd64
      reference: 127.0.0.1:5000/desimages/tools@sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
      runs: true
      findings: []
missing:
  description: The chosen units that are not built.
  returned: always
  type: list
  elements: str
  sample: [tools linux/arm64]
"""
