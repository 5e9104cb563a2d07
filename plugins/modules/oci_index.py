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
  - Assembles an OCI image index from manifests in a registry, compares it with what the tags name, and pushes it only
    if it differs.
  - All its manifests must already be in the registry, so a tag never names an incomplete index. The entries of the
    index are made from the manifests as they were read. A manifest for another platform is refused.
  - All mistakes in names are reported at once, before the registry is asked.
  - Works on the controller, with any registry, without a container engine.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Says whether tags would move.}
  diff_mode: {support: full, description: Shows for each tag the platforms and digests before and after.}
  idempotent: {support: full, description: The same manifests give the same bytes.}
options:
  registry:
    description: The registry, C(host[:port]). Plain HTTP on loopback, TLS elsewhere.
    type: str
    required: true
  name:
    description: The repository.
    type: str
    required: true
  tags:
    description: The tags that the index should have.
    type: list
    elements: str
    required: true
  fixed_tags:
    description: Those of O(tags) that must never move once they exist.
    type: list
    elements: str
    default: []
  manifests:
    description:
      - For each platform, such as V(linux/arm/v7), the tag or digest of its manifest in the same repository. At least
        one. Any platform that Go knows can be given, not only those that the farm builds for.
      - If it names an index, such as the one that C(docker buildx build --push) makes for a single platform, the
        platform's manifest is taken out of it. An index with several manifests of the platform that nothing tells
        apart (as for versions of Windows) is refused, and so is an index in an index. An artifact says no platform, and
        is taken for the one that is given.
    type: dict
    required: true
  attestations:
    description: Whether attestations (provenance, SBOM) are taken over with a manifest that is taken out of an index.
    type: bool
    default: false
  annotations:
    description: Annotations of the index; all values are strings.
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

- name: One name for what two machines built with docker buildx build --push, with its provenance
  desimages.farm.oci_index:
    registry: registry.example.org
    name: team/app
    tags: [v2]
    manifests:
      linux/amd64: v2-of-the-amd64-runner
      linux/riscv64: v2-of-the-riscv64-runner
    attestations: true
"""

RETURN = r"""
digest:
  description: The digest of the index.
  returned: success
  type: str
taken:
  description: What was taken out of other indexes, one line each.
  returned: success
  type: list
  elements: str
  sample: ["linux/arm64: v1-arm64 is an index, sha256:0f... was taken out of it, without its attestations (1)"]
moved:
  description: The tags that were moved, or would be.
  returned: success
  type: list
  elements: str
"""
