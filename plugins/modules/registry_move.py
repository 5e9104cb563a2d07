#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_move
short_description: Copy all that a farm has from one registry to another
description:
  - Copies every repository below O(namespace) with every tag, by digest, through the controller; each blob is checked
    on the way. Units, inputs and images keep their names and digests, so nothing is built again.
  - What O(registry) already has is not copied. If a tag names something else there, it stays as it is, with a warning.
  - Changes nothing in the old registry.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Says how much would be copied.}
  diff_mode: {support: none, description: RV(copied) says how much it is.}
  idempotent: {support: full, description: What was copied is not copied again.}
options:
  source:
    description: The old registry, C(host[:port]). Plain HTTP on loopback, TLS elsewhere.
    type: str
    required: true
  source_ca:
    description: A PEM file on the controller. For O(source), only its certificates are trusted. If empty, the CAs of
      the system are trusted.
    type: path
    default: ""
  source_user:
    description: The user at O(source), if O(source_password) is given.
    type: str
    default: ""
  source_password:
    description: The password of O(source_user). If empty, the Docker client's login is used.
    type: str
    default: ""
  registry:
    description: The new registry.
    type: str
    required: true
  namespace:
    description: The first part of the images' names, in both registries.
    type: str
    default: desimages
"""

EXAMPLES = r"""
- name: Copy the embedded farm's content to the fleet's registry
  desimages.farm.registry_move:
    source: 127.0.0.1:5000
    registry: registry.example.org:5000
    ca: /var/lib/desimages/secrets/registry-ca.pem
    user: farm
    password: "{{ vaulted }}"
"""

RETURN = r"""
copied:
  description: How many tags were copied. In check mode, how many would be.
  returned: always
  type: int
  sample: 412
present:
  description: How many tags the new registry already had.
  returned: always
  type: int
  sample: 0
kept:
  description: Tags that name something else in the new registry, and were not changed.
  returned: always
  type: list
  elements: str
  sample: []
"""
