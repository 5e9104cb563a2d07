#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: versions_info
short_description: Report which inputs of images have newer versions upstream
description:
  - Asks upstream, for each input of the chosen images, for the newest version of what the recipe names, and whether
    upstream has withdrawn any locked version, also of dependencies.
  - Each kind of input is asked with the clients and settings that lock it. If it cannot find out about an input, the
    input is one of RV(failures), and the others are still reported.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). It changes nothing in any mode but caches in the state folder.
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
  allow_missing_suites:
    description: As in M(desimages.farm.lock).
    type: bool
    default: false
  keyring:
    description: The keyring that Debian's archives are checked against.
    type: path
    default: /usr/share/keyrings/debian-archive-keyring.gpg
"""

EXAMPLES = r"""
- name: Ask for newer versions of what caddy is made of
  desimages.farm.versions_info:
    catalog: ["{{ playbook_dir }}/images"]
    images: [caddy]
    state: /var/lib/desimages
"""

RETURN = r"""
versions:
  description: >-
    What each input is locked at, and the newest version upstream. What a recipe names is always listed. A dependency is
    listed if its locked version was withdrawn, or, for Debian packages, if it would move.
  returned: always
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
    locked:
      description: The version that is locked.
      type: str
    newest:
      description: The newest version upstream, or the locked one if none is newer; empty if it is not known.
      type: str
    outdated:
      description: Whether there is a newer one.
      type: bool
    withdrawn:
      description: How upstream withdrew the locked version (retracted, yanked, deprecated); empty if it did not.
      type: str
    note:
      description: What else there is to know, such as why the newest version is not known.
      type: str
    platforms:
      description: The platforms that it is locked for, if they differ.
      type: list
      elements: str
    says:
      description: RV(versions[].withdrawn) and RV(versions[].note) in one text.
      type: str
  sample:
    - image: caddy
      input: caddy
      kind: go
      name: github.com/caddyserver/caddy/v2
      locked: v2.11.8
      newest: v2.11.9
      outdated: true
      withdrawn: ""
      note: ""
      platforms: []
      says: ""
failures:
  description: The inputs whose versions are not known, and why.
  returned: always
  type: list
  elements: dict
  sample: []
"""
