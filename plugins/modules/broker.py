#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: broker
short_description: Start the process that decides what the nodes build
description:
  - Starts the broker of this run on the controller. M(desimages.farm.build) asks it for orders, for each node;
    M(desimages.farm.index) ends it. If C(ansible-playbook) ends before that, the broker ends too.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: It is not started.}
  diff_mode: {support: none, description: There is nothing to compare.}
  idempotent: {support: none, description: It is started once in each run that builds.}
options: {}
"""

EXAMPLES = r"""
- name: Start the broker
  desimages.farm.broker:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
"""

RETURN = r"""
run:
  description: The name of the run whose broker was started.
  returned: not in check mode
  type: str
  sample: 20261124T100000-4711
"""
