#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_certificate
short_description: Make sure that the farm's registry has a TLS certificate
description:
  - Keeps a private CA and a certificate that it signed, on the controller. Both are made if they are missing, and
    renewed 30 days before they expire. The certificate is also made again if O(hosts) change. A new CA keeps the key of
    the previous one.
  - With O(certificate), it makes nothing. It refuses a certificate that the farm's clients would refuse, and warns 30
    days before the certificate expires.
author: the Desimages authors (@desimages)
version_added: 0.1.0
attributes:
  check_mode: {support: full, description: Says what would be made.}
  diff_mode: {support: full, description: "Shows names and expiry, and no key."}
  idempotent: {support: full, description: Valid certificates stay.}
options:
  secrets:
    description: The farm's folder for secrets on the controller. Only the user who runs the playbook can enter it.
    type: path
    required: true
  hosts:
    description: The names and addresses of the registry. Clients use the first one.
    type: list
    elements: str
    required: true
  certificate:
    description: A PEM file on the controller with another certificate, followed by the intermediate CAs.
    type: path
    default: ""
  key:
    description: The PEM file of its key, without a passphrase.
    type: path
    default: ""
  ca:
    description: The file of the CA that the farm's clients trust; if empty, the CAs of the system.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Have a certificate of the farm's own CA
  desimages.farm.registry_certificate:
    secrets: /var/lib/desimages/secrets
    hosts: [registry.example.org, 192.0.2.5]
    ca: /var/lib/desimages/secrets/registry-ca.pem
"""

RETURN = r"""
reasons:
  description: What was made, and why. Empty if nothing was made.
  returned: success
  type: list
  elements: str
  sample: ["the registry's certificate: it expires on 2026-12-24"]
expires:
  description: The day on which the certificate expires.
  returned: success
  type: str
  sample: "2027-12-30"
days:
  description: How many days are left.
  returned: success
  type: int
  sample: 397
"""
