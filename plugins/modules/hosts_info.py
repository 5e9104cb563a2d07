#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hosts_info
short_description: Report the hosts of the farm at a glance
version_added: 0.1.0
description:
  - Puts together what M(desimages.farm.farm_info) returned for each host, and what each node did in the last run in
    which it built something, from the controller's evidence. Prints it as a table, and below that which hosts are away
    and why, which services do not run, and whether the registry's certificate expires soon.
  - Reads only files of the controller, of the last 50 runs at most.
author: the Desimages authors (@desimages)
attributes:
  check_mode: {support: full, description: Can run in C(check_mode). It changes nothing in any mode.}
  diff_mode: {support: none, description: It changes nothing.}
  idempotent: {support: full, description: It changes nothing.}
options:
  state:
    description: The farm's folder on the controller.
    type: path
    required: true
  hosts:
    description: What M(desimages.farm.farm_info) returned for each host, by its name. If a host returned nothing,
      C(msg) says why.
    type: dict
    required: true
  certificate_days:
    description: How many days the certificate of the registry is valid, from M(desimages.farm.registry_info).
    type: int
"""

EXAMPLES = r"""
- name: Show the hosts
  desimages.farm.hosts_info:
    state: /var/lib/desimages
    hosts: {pi2: "{{ hostvars.pi2.farm_info }}"}
"""

RETURN = r"""
hosts:
  description:
    - What is known of each host. C(state) is V(there), V(away) (C(why) says why) or V(not provisioned).
    - C(free) and C(cache) (BuildKit's) are in bytes, C(load) is that of the last minute. C(last_run) has C(run),
      C(began), C(units), C(failures), C(seconds), C(images) and C(out) (why the node was lost, or V('')).
  returned: always
  type: list
  elements: dict
  sample:
    - host: pi2
      groups: [nodes]
      state: there
      why: ''
      native: [linux/arm/v7, linux/arm/v6]
      emulated: []
      farm: ''
      buildkit: v0.34.2
      runc: 1.1.15
      engine: sha256:d9c2413eeaf39ba4074d6c1d0e5e86849c2f00c4e859a7b5a64c5b833c9e324f
      load: 0.4
      cores: 4.0
      free: 9216000000
      cache: 812000000
      certificate_days: null
      services: []
      disk: []
      last_run: {run: 20261129T012510-30058, began: "2026-11-29T01:25:10Z", units: 3, failures: 0, seconds: 71.2,
                 images: [box], out: ''}
services:
  description: The services of all hosts, as M(desimages.farm.farm_info) returned them. If there are several hosts, each
    names its C(host).
  returned: always
  type: list
  elements: dict
"""
