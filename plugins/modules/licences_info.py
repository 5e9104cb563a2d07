#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: licences_info
short_description: Report the licences of everything that enters images
description:
  - Reads, in the locked files of the chosen images, what each says about its own licence. Nothing is guessed. If a
    licence is not known, the reason is reported, or the file to read.
  - Files that the store lacks are fetched into it. If something is locked for several platforms, only one of its files
    is read.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). It changes nothing in any mode but the store, which it fills.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  catalog:
    description: Folders of images.
    type: list
    elements: path
    required: true
  images:
    description: Names of the images; an empty list, or V(all), means all.
    type: list
    elements: str
    default: []
  select:
    description: A jmespath expression over images, as in M(desimages.farm.lock).
    type: str
    default: ""
  state:
    description: The folder that holds everything the farm owns on the controller.
    type: path
    required: true
  origins:
    description: Where inputs come from first, see docs/guide.md.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Read the licences of what caddy is made of
  desimages.farm.licences_info:
    catalog: ["{{ playbook_dir }}/images"]
    images: [caddy]
    state: /var/lib/desimages
"""

RETURN = r"""
licences:
  description: What each part of an input says about its licence.
  returned: success
  type: list
  elements: dict
  contains:
    image:
      description: The image.
      type: str
    input:
      description: The input.
      type: str
    kind:
      description: Its kind, as a recipe writes it.
      type: str
    name:
      description: The module, crate, package, artifact, repository, image or address.
      type: str
    version:
      description: The version that is locked.
      type: str
    licence:
      description: An SPDX expression, or the words of whoever published it; empty if it is not known.
      type: str
    known:
      description: Whether it is known.
      type: bool
    note:
      description: Why it is not known, which file to read, or where the licence is from.
      type: str
  sample:
    - image: caddy
      input: caddy
      kind: go
      name: github.com/caddyserver/caddy/v2
      version: v2.11.9
      licence: Apache-2.0
      known: true
      note: ""
summary:
  description: For each image and input, how many files have which licence.
  returned: success
  type: list
  elements: dict
  sample:
    - {image: caddy, input: caddy, licence: Apache-2.0, files: 41}
"""
