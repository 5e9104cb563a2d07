#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Take programs out of a release archive that is pinned by its sha256
description:
  - Fetches a C(tar.gz) with the controller's own proxies, CAs and credentials, checks its sha256 before anything is
    unpacked, and takes the files C(bin/NAME) out of it. They must be programs for O(platform).
  - The programs are kept on the controller. Their sha256 is checked each time.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode: {support: full, description: Fetches nothing; RV(programs) is then empty if they are not kept yet.}
  diff_mode: {support: none, description: A binary has no diff.}
  idempotent: {support: full, description: What is kept is not fetched again.}
options:
  source:
    description: The archive, a URL or an absolute path on the controller.
    type: str
    required: true
  sha256:
    description: Its sha256, in hexadecimal digits.
    type: str
    required: true
  names:
    description: The names of the programs.
    type: list
    elements: str
    required: true
  platform:
    description: The OCI platform that they are for.
    type: str
    required: true
  cache:
    description: The folder on the controller that keeps them.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Take BuildKit out of its release
  desimages.farm.release:
    source: /srv/mirror/buildkit-v0.34.2.linux-arm64.tar.gz
    sha256: "{{ pinned }}"
    names: [buildctl, buildkitd]
    platform: linux/arm64
    cache: /var/lib/desimages/cache
"""

RETURN = r"""
programs:
  description: The programs, with path, sha256 and size.
  returned: success
  type: dict
  sample: {buildctl: {path: /cache/buildctl, sha256: b5bb9d80, size: 23982242}}
go:
  description: Always empty, because nothing was compiled; see RV(desimages.farm.go_build#module:go).
  returned: success
  type: str
  sample: ""
seconds:
  description: Always 0, because nothing was compiled; see RV(desimages.farm.go_build#module:seconds).
  returned: success
  type: float
  sample: 0.0
"""
