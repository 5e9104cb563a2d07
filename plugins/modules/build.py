#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: build
short_description: Build planned units on a node
description:
  - Asks the run's broker (M(desimages.farm.broker)) what this node builds, sends it to the runner on the node, and
    shows the progress.
  - If a unit fails, only the units based on it stop. If a node is lost, other nodes build what they can of its work.
    The task itself does not fail; M(desimages.farm.index) ends the run.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Says whether anything would be built; M(desimages.farm.plan) says what.}
  diff_mode: {support: none, description: M(desimages.farm.plan) shows the differences.}
  idempotent: {support: full, description: Units that exist are not built.}
options:
  socket:
    description: The unix socket of buildkitd on the node.
    type: path
    required: true
  buildctl:
    description: The program buildctl on the node.
    type: path
    required: true
  node_state:
    description: The state folder on the node; by default the same path as on the controller.
    type: path
  busy:
    description: What to do if this node works for another controller.
    type: str
    choices: [wait, stop]
    default: wait
  lost:
    description: Why this node gets no work. Empty if it gets work.
    type: str
    default: ""
  slots:
    description: How many solves the node runs at a time. 0 means as many as its cores and memory allow.
    type: int
    default: 0
  emulation:
    description: When this node emulates a platform that it does not run natively. One word for all platforms, or a
      mapping of platforms to words.
    type: raw
    default: never
"""

EXAMPLES = r"""
- name: Build
  desimages.farm.build:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
    socket: /run/buildkit/buildkitd.sock
    buildctl: /var/lib/desimages/bin/buildctl
"""

RETURN = r"""
units:
  description: The units that this node built, or that failed there.
  returned: always
  type: list
  elements: dict
  sample: [{unit: debian linux/arm64, state: built, digest: "sha256:..."}]
failures:
  description: How many units failed on this node.
  returned: always
  type: int
seconds:
  description: The total time of its solves, in seconds.
  returned: always
  type: float
"""
