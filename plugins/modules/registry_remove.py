#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_remove
short_description: Remove images from the farm's registry
description:
  - Removes all tags of images, their units and indexes, what the archive keeps of them, and the farm's record of how
    they were built last. Other images' tags are not touched, and neither is what is published elsewhere.
  - What was built on them stays whole, since layers are shared; it is told.
  - The registry's garbage collection frees the space. It is not run here, for the registry has to be stopped meanwhile,
    or read-only.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm]
attributes:
  check_mode: {support: full, description: Tells what would go.}
  diff_mode: {support: full, description: Shows the tags that go and their digests.}
  idempotent: {support: full, description: A second run finds nothing.}
options:
  images:
    description: Names of images. They need not be in a catalog any more.
    type: list
    elements: str
    required: true
  digests:
    description:
      - What tags (C(repository:tag)) name where the registry does not tell it, from M(desimages.farm.registry_data).
    type: dict
    default: {}
  all:
    description: With V(false), nothing is removed where RV(unknown) has something.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Remove an image that nobody needs
  desimages.farm.registry_remove:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
    images: [whoami]
"""

RETURN = r"""
removed:
  description: The tags that went, or would go, with their digests.
  returned: success
  type: list
  elements: str
  sample: ["desimages/whoami:latest sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"]
children:
  description: The images that were built on them, and stay.
  returned: success
  type: list
  elements: str
  sample: []
unknown:
  description: The tags of which the registry does not tell what they name, since that is damaged.
  returned: success
  type: list
  elements: str
  sample: []
"""
