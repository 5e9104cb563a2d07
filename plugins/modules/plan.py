#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Say which units of a catalog have to be built, and why
description:
  - Reads and checks the catalog, computes the build id of every unit, and asks the registry which units exist.
  - Builds nothing. A run begins here; the later steps (M(desimages.farm.fetch), M(desimages.farm.build),
    M(desimages.farm.index)) get its name.
author: the Desimages authors (@desimages)
version_added: 0.1.0
extends_documentation_fragment: [desimages.farm.farm, desimages.farm.farm.access]
attributes:
  check_mode: {support: full, description: Plans and resolves in the same way but keeps no run and no lock.}
  diff_mode: {support: full, description: Shows for each unit what differs from its last build.}
  idempotent: {support: full, description: Reports a change if there is something to build.}
options:
  catalog:
    description: The folders of images.
    type: list
    elements: str
    required: true
  images:
    description:
      - Only these images, and what they need. V(all) means all images.
      - If this and O(select) are empty, the C(images) in the C(defaults.yml) of each catalog, or all if it names none.
    type: list
    elements: str
    default: []
  platforms:
    description: Only these platforms, such as V(linux/arm64).
    type: list
    elements: str
    default: []
  select:
    description: A jmespath expression over units, such as V([?image=='registry' && platform.variant=='v6']).
    type: str
    default: ""
  engine:
    description: The engine id of all nodes of the run.
    type: str
    required: true
  native:
    description: The platforms that the nodes run natively; by default the controller's platform.
    type: list
    elements: str
    default: []
  emulated:
    description: The platforms that nodes may emulate.
    type: list
    elements: str
    default: []
  complete:
    description: Whether O(native) and O(emulated) are those of all nodes of the farm. If they are, units that none of
      the nodes can build are refused. If not, such units are not refused, because they may exist already.
    type: bool
    default: true
  busy:
    description: What to do if another run holds the farm.
    type: str
    choices: [wait, stop]
    default: wait
  origins:
    description: Where inputs come from first, see docs/guide.md.
    type: dict
    default: {}
  relock_missing:
    description:
      - First check that the Debian packages of units that do not exist yet are still available. If one is neither in
        the store nor in the archive, and no origin has it, the packages of that image are resolved again for all
        platforms. The plan uses the new lock until the lock in the tree changes. The new lock is kept in the state
        folder; the tree is not touched.
      - A file with a different hash, or an origin that does not answer, is no reason to resolve again.
    type: bool
    default: false
  allow_missing_suites:
    description: Used when packages are resolved again, as in M(desimages.farm.lock).
    type: bool
    default: false
  keyring:
    description: The keyring that Debian's archives are checked against.
    type: path
    default: /usr/share/keyrings/debian-archive-keyring.gpg
  tags:
    description: The templates of the images' tags, as in M(desimages.farm.index). They are checked before any build.
      None if nothing will be tagged, as in a repair.
    type: list
    elements: str
    default: []
  rebuild:
    description:
      - Rebuild the chosen units without BuildKit's cache, even if they exist. The first result is kept. A different
        result is reported.
      - Their parents are not rebuilt unless they are chosen too.
    type: bool
    default: false
  adopt:
    description:
      - First sign the tags of units and of unpacked packages in the namespace that no accepted key has signed, as they
        are. This trusts everybody who could push them; see docs/security.md.
    type: bool
    default: false
  damaged:
    description:
      - Rebuild these units and no others, because their data in the registry are damaged
        (M(desimages.farm.registry_repair)).
    type: list
    elements: str
    default: []
  table:
    description: Print the units that have to be built.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Say what would be built
  desimages.farm.plan:
    state: /var/lib/desimages
    registry: 127.0.0.1:5000
    catalog: [/srv/farm/images]
    engine: "{{ buildkitd_engine_id }}"
    images: [registry]
  check_mode: true
  register: planned
"""

RETURN = r"""
run:
  description: The name of the run, for the later steps.
  returned: not in check mode
  type: str
  sample: 20261124T203000-4711
build:
  description: The units that will be built.
  returned: always
  type: list
  elements: dict
  sample: [{unit: debian linux/arm64, id: 0d5c..., sure: true, reasons: [file Dockerfile changed]}]
optional:
  description: Units that will be built too if a node of another build platform builds what needs them.
  returned: always
  type: list
  elements: dict
  sample: [{unit: builder-go linux/arm64, id: 7f31..., sure: true, reasons: [new]}]
unsigned:
  description: The units that exist but are built again, because no accepted key has signed their tags.
  returned: always
  type: list
  elements: str
  sample: []
adopted:
  description: The tags that O(adopt) signed as they are, or would sign, each with its digest.
  returned: always
  type: dict
  sample: {"desimages/base:b-0d5c...": "sha256:b5bb9d80..."}
counts:
  description: How many units exist, how many will be built, and how many will be built unless a rebuilt parent comes
    out the same.
  returned: always
  type: dict
  sample: {exist: 40, build: 8, maybe: 0}
relocked:
  description: The images whose packages were resolved again (now or by an earlier run), the missing files that caused
    it, and what moved.
  returned: always
  type: list
  elements: dict
  sample: [{image: base, missing: [openssl 3.5.1-1 amd64], moved: ["openssl 3.5.1-1 -> 3.5.2-1 (linux/amd64)"],
  snapshot: 20261124T081530Z}]
"""
