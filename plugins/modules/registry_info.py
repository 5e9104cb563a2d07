#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_info
short_description: Report which images a registry holds
description:
  - Reads tags and manifests of all images in a namespace, on the controller.
  - Does not fail if a registry does not answer or an image cannot be read; RV(problems) says so.
  - M(desimages.farm.registry_check) checks that the data are as they were pushed.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm.access]
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). It changes nothing in any mode.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  registry:
    description: The registry, C(host[:port]). Plain HTTP on loopback, TLS elsewhere.
    type: str
    required: true
  namespace:
    description: The first part of the images' names.
    type: str
    default: desimages
"""

EXAMPLES = r"""
- name: List the images
  desimages.farm.registry_info:
    registry: 127.0.0.1:5000
    namespace: desimages
"""

RETURN = r"""
images:
  description:
    - The images, one row for each platform of the tag that was read. That is C(latest) if it exists; otherwise the tags
      of single platforms (C(latest-arm64)); otherwise the tag that was created last. The archive is not listed. C(tags)
      and C(units) count the tags and units in the repository; C(size) is the size of the layers in bytes.
    - An image that has only units is one row without a tag, a platform and a digest.
  returned: success
  type: list
  elements: dict
  sample:
    - image: desimages/base
      tag: latest
      tags: 3
      units: 8
      platform: linux/arm64
      digest: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
      size: 23068672
certificate_days:
  description: How many days the registry's certificate is valid; less than 0 if it has expired. Not set if the registry
    has no certificate or does not answer.
  returned: success
  type: int
  sample: 396
problems:
  description: What could not be read, and why.
  returned: success
  type: list
  elements: str
  sample: []
"""
