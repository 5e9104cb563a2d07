#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verdict
short_description: Say which images keep their contracts
description:
  - Takes what M(desimages.farm.verify) found in the files of images and what M(desimages.farm.trials) found when it ran
    them, leaves out the exceptions of their recipes, and shows the rest. Fails if anything remains, or if images were
    not run because their testers were lost.
  - A known bug of an emulator is shown as such, and does not break a contract. A bug whose date has passed must be
    examined again. If it would have mattered, the module fails and says so.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
  diff_mode: {support: none, description: It changes nothing.}
  idempotent: {support: full, description: It changes nothing.}
options:
  subjects:
    description: What M(desimages.farm.verify) returned.
    type: list
    elements: dict
    required: true
  missing:
    description: The units that were not built, as M(desimages.farm.verify) returned them.
    type: list
    elements: str
    default: []
  trials:
    description: A tester's name -> what M(desimages.farm.trials) returned there.
    type: dict
    default: {}
  lost:
    description: Testers that were lost before they ran an image, each with the reason.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Say what was found
  desimages.farm.verdict:
    subjects: "{{ read.subjects }}"
    trials: {tester: "{{ tried }}"}
"""

RETURN = r"""
images:
  description: What each image keeps.
  returned: always
  type: list
  elements: dict
  sample:
    - unit: tools linux/amd64
      kept: true
      ran_by: native
      findings: []
held:
  description: The images that break their contract on some platform, each with the reason.
  returned: always
  type: dict
  sample: {tools: "tools linux/arm64 stops: it did not end within 10 s of SIGTERM"}
"""
