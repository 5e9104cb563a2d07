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
  - Removes all tags, units and indexes of images, their parts of the archive, and the farm's records of their last
    builds. Does not touch other images' tags or published copies.
  - Images that were built on them stay complete, because layers are shared; they are reported.
  - The registry's garbage collection frees the space. The module does not run it, because the registry must be stopped
    or read-only while it runs.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Reports what would be removed.}
  diff_mode: {support: full, description: Shows the removed tags and their digests.}
  idempotent: {support: full, description: A second run finds nothing.}
options:
  images:
    description: Names of images. They need not be in a catalog any more.
    type: list
    elements: str
    required: true
  digests:
    description:
      - The digests of tags (C(repository:tag)) for which the registry returns none, from
        M(desimages.farm.registry_data).
    type: dict
    default: {}
  all:
    description: With V(false), nothing is removed if RV(unknown) is not empty.
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
  description: The tags that were removed, or would be, with their digests.
  returned: success
  type: list
  elements: str
  sample: ["desimages/whoami:latest sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"]
children:
  description: The images that were built on them. They stay.
  returned: success
  type: list
  elements: str
  sample: []
unknown:
  description: The tags for which the registry returns no digest, because their manifests are damaged.
  returned: success
  type: list
  elements: str
  sample: []
"""
