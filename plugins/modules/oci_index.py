#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: oci_index
short_description: Keep a manifest list in a registry
description:
  - Assembles an OCI image index from manifests that a registry has, compares it with what the tags hold, and pushes it
    only where it differs.
  - All its manifests must be there before, so a tag never names something incomplete. They are read, and what the index
    says of them is what they are; one for another platform is refused.
  - All mistakes in names are told at once, before the registry is asked.
  - Works on the controller, against any registry, without a container engine.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode: {support: full, description: Says whether tags would move.}
  diff_mode: {support: full, description: Shows for each tag the platforms and digests before and after.}
  idempotent: {support: full, description: The same manifests give the same bytes.}
options:
  registry:
    description: The registry, C(host[:port]). Plain HTTP on loopback, TLS elsewhere; credentials are the Docker
      client's.
    type: str
    required: true
  name:
    description: The repository.
    type: str
    required: true
  tags:
    description: The tags that the index shall have.
    type: list
    elements: str
    required: true
  fixed_tags:
    description: Those of O(tags) that are never moved once they are there.
    type: list
    elements: str
    default: []
  manifests:
    description: For each platform (V(linux/arm/v7)), of one at least, the tag or digest of its manifest (not an index)
      in the same repository.
    type: dict
    required: true
  annotations:
    description: Annotations of the index, texts all.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: One name for two platforms
  desimages.farm.oci_index:
    registry: 127.0.0.1:5000
    name: team/app
    tags: [v1, latest]
    fixed_tags: [v1]
    manifests:
      linux/amd64: v1-amd64
      linux/arm64: v1-arm64
"""

RETURN = r"""
digest:
  description: The digest of the index.
  returned: success
  type: str
moved:
  description: The tags that were moved, or would be.
  returned: success
  type: list
  elements: str
"""
