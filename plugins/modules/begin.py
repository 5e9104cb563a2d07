#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: begin
short_description: Check a catalog and take the farm before any host is touched
description:
  - Reads and checks the whole catalog, if there is one, and the choice of images, platforms and units. Fails with all
    mistakes in all files.
  - Takes the farm for this C(ansible-playbook), which holds it until it ends. If another one holds the farm, the module
    says which, and waits or stops.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode: {support: full, description: Checks the catalog; does not take the farm or wait for it.}
  diff_mode: {support: none, description: There is nothing to compare.}
  idempotent: {support: full, description: Never reports a change. A farm that it already holds stays taken.}
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
    description: The chosen images. V(all) means all images; an empty list means the images that each catalog builds by
      default.
    type: list
    elements: str
    default: []
  platforms:
    description: The chosen platforms. An empty list means all.
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
    description: What to do if another ansible-playbook holds the farm.
    type: str
    choices: [wait, stop]
    default: wait
  create:
    description: Create the state folder if it is missing. With V(false), a missing folder stays missing and no farm is
      taken.
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
  returned: if O(catalog) is given
  type: list
  elements: str
  sample: [base, debian]
"""
