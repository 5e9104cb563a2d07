#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: index
short_description: Make the manifest lists of a run's images, and end the run
description:
  - Assembles the index of every image whose units all exist, pushes it if it differs, and moves the image's tags last.
  - If only some platforms were chosen, their manifests get tags of their own (V(latest-arm64)); with O(partial), an
    index of these platforms is pushed instead.
  - Prints the run's summary, and fails if units are missing.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode:
    support: partial
    description: Shows which tags would move, for images whose units all exist, and which images would be tagged once
      their units are built. Those have no digest to show yet.
  diff_mode: {support: full, description: Shows for each moved tag the platforms and digests before and after.}
  idempotent: {support: full, description: Correct tags are left alone.}
options:
  tags:
    description: Templates of the tags. V({suite}), V({date}) (of the snapshot) and V({id}) (of the index) are replaced;
      a tag with an id is never moved.
    type: list
    elements: str
    default: ["{suite}-{date}", "{suite}-{date}-{id}", latest]
  partial:
    description: Tag an index of only the chosen platforms.
    type: bool
    default: false
  publish:
    description: Another registry, C(host[:port][/prefix]), to which finished images are copied by digest.
    type: str
    default: ""
  held:
    description: Images that break their contracts, each with the reason, as M(desimages.farm.verdict) returned them.
      Their tags stay where they are, and the module fails.
    type: dict
    default: {}
  nodes:
    description: The nodes of the run, each with the reason why it was lost, or V('').
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Make the manifest lists
  desimages.farm.index:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
"""

RETURN = r"""
moved:
  description: The tags that were moved.
  returned: always
  type: list
  elements: str
  sample: [desimages/debian:latest]
units:
  description: The outcome of every unit that had to be built, and of those that it needs. Empty if none had to be
    built.
  returned: not in check mode
  type: list
  elements: dict
  sample: [{unit: debian linux/arm64, state: built, digest: "sha256:..."}]
published:
  description: What was copied to the other registry.
  returned: always
  type: list
  elements: str
"""
