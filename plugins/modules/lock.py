#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lock
short_description: Resolve the inputs of images and write their locks
description:
  - Resolves the inputs of each chosen image for all of its platforms. Writes C(lock.jsonl) beside its C(image.yml), and
    for Go modules and npm packages a wrapper in C(go/<input>) or C(npm/<input>). The same resolution gives the same
    bytes.
  - apt resolves Debian packages in a private root, from signed indexes only; the go command resolves Go modules, npm
    resolves npm packages, the pip of the Python that runs Ansible resolves wheels, and cargo checks each Cargo.lock
    that crates are taken from, all with the machine's own settings.
  - An image that cannot be resolved keeps its lock; the other locks are written, and the task fails at the end.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode:
    support: full
    description: Resolves everything but writes no lock. Fills caches in the state folder if they already belong to this
      user.
  diff_mode:
    support: full
    description: Says which packages and modules move from which version to which, on which platforms.
  idempotent:
    support: partial
    description: Changes nothing while the origins resolve the same. When they publish new versions, the locks move.
options:
  catalog:
    description: Folders of images.
    type: list
    elements: path
    required: true
  images:
    description: Names of the images to lock; an empty list, or V(all), means all.
    type: list
    elements: str
    default: []
  select:
    description:
      - A jmespath expression over images that have the keys C(image), C(kinds), C(platforms), C(suites) and C(locked),
        such as C([?contains(kinds, 'go')]).
    type: str
    default: ""
  upgrade:
    description:
      - Images, or inputs as C(IMAGE.INPUT), whose versions are first moved to the newest ones upstream in C(image.yml).
        Only these scalars change in it. If the image cannot be locked after that, C(image.yml) stays as it was.
      - If O(images) and O(select) are empty, only these images are locked.
    type: list
    elements: str
    default: []
  state:
    description: The folder that holds everything the farm owns on the controller.
    type: path
    required: true
  origins:
    description: Where inputs come from first, see docs/guide.md.
    type: dict
    default: {}
  snapshot:
    description: Lock Debian as it was at this time, C(20261123T112238Z). It needs an origin that serves snapshots.
    type: str
    default: ""
  allow_missing_suites:
    description:
      - If an index does not match its signed InRelease, use the suite in an older, consistent state, or continue
        without it. Security updates may then be missing; the lock records this and the task warns.
    type: bool
    default: false
  keyring:
    description: The keyring that Debian's archives are checked against.
    type: path
    default: /usr/share/keyrings/debian-archive-keyring.gpg
"""

EXAMPLES = r"""
- name: Lock all images
  desimages.farm.lock:
    catalog: ["{{ playbook_dir }}/images"]
    state: /var/lib/desimages

- name: Move caddy to its newest version, and lock it
  desimages.farm.lock:
    catalog: ["{{ playbook_dir }}/images"]
    state: /var/lib/desimages
    upgrade: [caddy]

- name: Lock the images with Go in them
  desimages.farm.lock:
    catalog: ["{{ playbook_dir }}/images"]
    state: /var/lib/desimages
    select: "[?contains(kinds, 'go')]"
"""

RETURN = r"""
images:
  description: The chosen images and what moved in each.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The image.
      type: str
    changed:
      description: Whether its lock or a wrapper changed.
      type: bool
    new:
      description: Whether it had no lock before.
      type: bool
    lines:
      description: How many files its lock names.
      type: int
    snapshot:
      description: The snapshot time of its Debian packages.
      type: str
    moved:
      description: What moved, one line each.
      type: list
      elements: str
    left_out:
      description: For each platform, the suites that were left out because no consistent state of them was available.
      type: dict
    older:
      description: For each platform, the suites that were available only in an older state, with its time.
      type: dict
    seconds:
      description: How long it took.
      type: float
  sample:
    - name: registry
      changed: true
      new: false
      lines: 206
      snapshot: ""
      moved: ["golang.org/x/net v0.50.0 -> v0.51.0"]
      left_out: {}
      older: {}
      seconds: 21.5
summary:
  description: One line for each image.
  returned: always
  type: list
  elements: str
  sample: ["registry: 206 files, nothing moved (21.5 s)"]
failures:
  description: The images that could not be resolved, and why.
  returned: always
  type: list
  elements: dict
  sample: []
"""
