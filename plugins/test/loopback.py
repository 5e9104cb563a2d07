# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an address is this machine's own, by the rules of the farm's client and settings."""

from __future__ import annotations

DOCUMENTATION = r"""
name: loopback
short_description: Test whether an address is on loopback
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - The farm uses plain HTTP for a registry on loopback, and TLS for any other.
options:
  _input:
    description: A host, with or without a port.
    type: str
    required: true
  listener:
    description: Whether a service must be able to listen there, which needs a numeric address and a port.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the scheme of the registry
  ansible.builtin.debug:
    msg: "{{ 'http' if farm_registry is desimages.farm.loopback else 'https' }}"

- name: Refuse an address that others could reach
  ansible.builtin.assert:
    that: registry_address is desimages.farm.loopback(listener=true)
"""

RETURN = r"""
_value:
  description: Whether the address is on loopback.
  type: bool
"""

from ansible_collections.desimages.farm.plugins.module_utils import references


def loopback(address, listener=False):
    """See DOCUMENTATION."""
    if listener:
        return references.listener_on_loopback(address)
    return isinstance(address, str) and references.loopback(address)


class TestModule:
    """Tests of the collection."""

    __test__ = False  # not a test class of pytest

    def tests(self):
        return {"loopback": loopback}
