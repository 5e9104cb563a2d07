# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that all actions of the farm share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state:
    description: The folder that holds everything the farm owns on the controller.
    type: path
    required: true
  registry:
    description: The farm's registry, C(host[:port]). Plain HTTP on loopback, TLS elsewhere.
    type: str
    required: true
  namespace:
    description: The first part of the images' names.
    type: str
    default: desimages
  secrets:
    description: The folder on the controller that has the farm's signing key. By default C(secrets) in O(state).
    type: path
    default: ""
  signing_key:
    description: The signing key itself, as PEM, instead of the one in O(secrets).
    type: str
    default: ""
  trusted_keys:
    description: Public keys, in base64 or PEM, whose signatures count as well as those of the farm's own key.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status without changing anything.
  diff_mode:
    description: Returns what differs in C(diff) mode.
  idempotent:
    description: A second run with the same input changes nothing.
"""

    # how a registry is reached
    ACCESS = r"""
options:
  ca:
    description: A PEM file on the controller. For the registry, only its certificates are trusted. If empty, the CAs of
      the system are trusted.
    type: path
    default: ""
  user:
    description: The user at the registry, if O(password) is given.
    type: str
    default: ""
  password:
    description: The password of O(user). If empty, the Docker client's login is used.
    type: str
    default: ""
"""
