#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trials
short_description: Run images on several testers, and report the promises that they break
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Runs the contracts of images with M(desimages.farm.contract). All testers of the play take this task at the same
    time and share the images, each image going to one of them. A free tester takes the next image.
  - An image goes to a tester that runs its platform natively. Only if there is none does it go to a tester that
    emulates the platform.
  - If a tester cannot be reached any more, or its engine does not answer, the run says so, and its images go to other
    testers. An image that could not be checked on one tester is tried on another.
  - Does not fail. RV(lost) says why a tester ended early, and M(desimages.farm.verdict) fails if images were left.
attributes:
  check_mode:
    support: full
    description: In check mode nothing is run.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It leaves no change behind.
options:
  subjects:
    description: The images, as M(desimages.farm.verify) returned them.
    type: list
    elements: dict
    required: true
  testers:
    description: Each tester of the play with what it runs, as M(desimages.farm.tester) returned it.
    type: dict
    required: true
  state_dir:
    description: The farm's state folder on this tester.
    type: path
    required: true
  socket:
    description: The engine's unix socket.
    type: path
    required: true
  own:
    description: Whether the engine is the farm's own. Then images of other runs are removed from it, as
      M(desimages.farm.contract) does with O(desimages.farm.contract#module:keep).
    type: bool
    default: false
  ca:
    description: A file on the controller with PEM certificates. For the registry, only these are trusted. If empty, the
      CAs of the system are trusted.
    type: str
    default: ""
  user:
    description: The user at the registry.
    type: str
    default: ""
  password:
    description: The password of O(user).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Run the images
  desimages.farm.trials:
    subjects: "{{ read.subjects }}"
    testers: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, ['this', 'runs']))) }}"
    state_dir: /var/lib/desimages
    socket: /var/lib/desimages/tester/docker.sock
    own: true
"""

RETURN = r"""
results:
  description: The results of M(desimages.farm.contract) on this tester, each with its C(unit).
  returned: always
  type: list
  elements: dict
  sample:
    - unit: tools linux/amd64
      ran_by: native
      findings: []
lost:
  description: Why this tester ended early; empty if it did not.
  returned: always
  type: str
  sample: the engine at /var/lib/desimages/tester/docker.sock does not answer
"""
