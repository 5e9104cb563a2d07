#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: context
short_description: Lay out an image's build contexts, to build it by hand
description:
  - Fetches the inputs of an image and lays out its build contexts for each platform, with the modes and times that the
    farm uses.
  - Also writes C(buildctl.sh) and C(buildx.sh), one command each, which build the same bytes as the farm.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Lays out nothing.}
  diff_mode: {support: none, description: Folders are replaced.}
  idempotent: {support: none, description: Folders are replaced each time.}
options:
  catalog:
    description: The folders of images.
    type: list
    elements: str
    required: true
  image:
    description: The image.
    type: str
    required: true
  platforms:
    description: Only these platforms.
    type: list
    elements: str
    default: []
  engine:
    description: The engine id.
    type: str
    required: true
  origins:
    description: Where inputs come from first, see docs/guide.md.
    type: dict
    default: {}
  relock_missing:
    description: Use the locks that M(desimages.farm.plan) made with the same option. This module makes none.
    type: bool
    default: false
  build:
    description: The platform of the machine that will build, one of the image's build platforms. By default a platform
      for which the registry has the image's parents, the controller's if possible.
    type: str
    default: ""
  to:
    description: >-
      The folder in which they are laid out, with one folder per unit. If a unit's folder was laid out before, it is
      replaced. If it contains anything else, or if another user could replace it, it is refused.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Lay out debian for arm64
  desimages.farm.context:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
    catalog: [/srv/farm/images]
    engine: "{{ buildkitd_engine_id }}"
    image: debian
    platforms: [linux/arm64]
    to: /tmp/by-hand
"""

RETURN = r"""
folders:
  description: The folders, one per platform.
  returned: always
  type: list
  elements: str
  sample: [/tmp/by-hand/debian-arm64]
"""
