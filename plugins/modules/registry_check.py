#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_check
short_description: Read everything in the farm's registry, and report what is damaged
description:
  - Reads every manifest and every blob that the tags of the farm's namespace name, each digest once, several at a time.
    If one is missing or its bytes do not match its digest, reports it with the tags, units and inputs that it belongs
    to.
  - Changes nothing. C(playbooks/check.yml) with C(farm_repair) repairs what can be repaired.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode:
    support: full
    description: It changes nothing in any mode. With O(only), it reads nothing, because nothing was repaired.
  diff_mode: {support: none, description: It changes nothing.}
  idempotent: {support: full, description: It changes nothing.}
options:
  catalog:
    description: The folders of images, to find the names of units that are not in the archive.
    type: list
    elements: str
    default: []
  engine:
    description: The engine id of all nodes of the farm.
    type: str
    default: ""
  relock_missing:
    description: Whether locks that were made beside the tree replace those in it, as in M(desimages.farm.plan).
    type: bool
    default: false
  only:
    description: What an earlier check found (RV(damages)). Only this is read again.
    type: list
    elements: dict
    default: []
  digests:
    description: The digests of tags that are missing in O(only), as M(desimages.farm.registry_data) returns them.
    type: dict
    default: {}
  fail:
    description: Fail if something is damaged.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Read everything
  desimages.farm.registry_check:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
    namespace: desimages
"""

RETURN = r"""
read:
  description: The numbers of tags, manifests and blobs that were read, and of bytes.
  returned: always
  type: dict
  sample: {tags: 167, manifests: 102, blobs: 841, size: 1073741824}
verdict:
  description: The damages in words, one line each; empty if there are none.
  returned: always
  type: str
  sample: ""
damages:
  description:
    - What is wrong. C(problem) is V(gone), V(damaged) (other bytes) or V(unreadable) (the registry fails or breaks
      off).
    - C(digest) is empty if a tag's manifest cannot be read at all.
  returned: always
  type: list
  elements: dict
  sample:
    - kind: blob
      digest: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
      problem: damaged
      said: came as sha256:7d86...
      places: [desimages/archive]
      tags: ["desimages/archive:a-0d5c..."]
      units: [base linux/arm64]
      files: ["base linux/arm64: inputs/rootfs/libc6_2.41-12_arm64.deb"]
"""
