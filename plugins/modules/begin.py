#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: begin
short_description: Check a catalog and take the farm, before any host is touched
description:
  - Reads and checks the whole catalog, where one is given, and fails with every mistake of every file; then what is
    chosen of it.
  - Takes the farm for this ansible-playbook, which has it until it ends. Of two at once the second says who holds the
    farm, and waits or stops.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode: {support: full, description: Checks the catalog; neither takes the farm nor waits for it.}
  diff_mode: {support: none, description: There is nothing to differ.}
  idempotent: {support: full, description: Never changed. A farm that this ansible-playbook has already is taken.}
options:
  state:
    description: The folder that holds everything the farm owns on the controller.
    type: path
    required: true
  catalog:
    description: The folders of images.
    type: list
    elements: str
    default: []
  images:
    description: The images that are chosen; empty for all.
    type: list
    elements: str
    default: []
  platforms:
    description: The platforms that are chosen; empty for all.
    type: list
    elements: str
    default: []
  select:
    description: A jmespath expression that chooses among units, as in M(desimages.farm.plan).
    type: str
    default: ""
  origins:
    description: Where inputs come from, as in M(desimages.farm.plan).
    type: dict
    default: {}
  busy:
    description: What to do where another ansible-playbook holds the farm.
    type: str
    choices: [wait, stop]
    default: wait
  create:
    description: Make the state folder where there is none. Without it nothing is taken there.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Begin
  desimages.farm.begin:
    state: /var/lib/desimages
    catalog: [/srv/farm/images]
    busy: stop
"""

RETURN = r"""
images:
  description: The images of the catalog.
  returned: where O(catalog) is given
  type: list
  elements: str
  sample: [base, debian]
"""
