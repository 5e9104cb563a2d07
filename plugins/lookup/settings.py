# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The farm's public variables for one host: mistakes in them, and a fingerprint of how they provision it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: settings
short_description: Check the farm's public variables for the current host
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Reads the public variables C(farm_*) and those of the other roles as the current host sees them.
  - Returns all mistakes in them and in the inventory's groups, and a fingerprint of everything that decides how the
    host is provisioned, including the roles' own files.
  - Returns the user who runs the playbook, whether this user can write the controller's parts of
    C(farm_controller_state) on this machine, and whether this user can make them without root.
  - Returns the platforms that C(farm_emulation) allows to be emulated.
options:
  _terms:
    description: Takes no terms.
"""

EXAMPLES = r"""
- name: Refuse wrong settings
  ansible.builtin.assert:
    that: not lookup('desimages.farm.settings').mistakes
"""

RETURN = r"""
_list:
  description: One dictionary with RV(ignore:mistakes) (a list of texts), RV(ignore:fingerprint), RV(ignore:user) (a
    number), RV(ignore:owned), RV(ignore:alone) and RV(ignore:emulated) (platforms).
  type: list
  elements: dict
  sample:
    - mistakes: []
      fingerprint: 2cf24dba5fb0a30e
      user: 1000
      owned: true
      alone: false
      emulated: [linux/s390x]
"""

import json
import os
from datetime import datetime, timezone

from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.common.json import get_encoder
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.desimages.farm.plugins.module_utils import references, state
from ansible_collections.desimages.farm.plugins.plugin_utils import command_line, given, settings, travels
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import fingerprints
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import texts

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # it is not public, and another version may have none: then messages name no file
    Origin = None

display = Display()


def place(value) -> str:
    """Where a value of the inventory was written, as FILE:LINE; '' if that is not known, as of numbers and booleans in
    some versions of Ansible."""
    found = Origin.get_tag(value) if Origin else None
    if not found or not found.path:
        return ""
    return f"{found.path}:{found.line_num}" if found.line_num else found.path


def places(variables, names) -> dict:
    """name -> where it was written."""
    return {name: place(variables[name]) for name in names}


def files() -> dict:
    """Everything besides variables that decides how a host is provisioned: relative path -> content."""
    return {str(path.relative_to(travels.PLUGINS.parent)): path.read_bytes()
            for path in travels.provisioning(settings.ROLES)}


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms, variables=None, **kwargs):
        if terms:
            raise AnsibleError("desimages.farm.settings takes no terms")
        variables = variables or {}
        plain, without = self._values(variables)
        wrong = list(without.values())
        groups = {name: list(hosts) for name, hosts in (variables.get("groups") or {}).items()}
        extra = load_extra_vars(self._loader)  # which Ansible has read before
        said = settings.warnings(groups, variables.get("ansible_run_tags") or [], plain)
        said += command_line.warnings(extra, settings.KNOWN, context.CLIARGS.get("args") or ())
        for text in said:
            display.warning(texts.told(text))
        user = os.geteuid()
        wrong += command_line.mistakes(extra, settings.KNOWN)
        wrong += settings.mistakes(
            plain, groups, self._workers(variables), places=places(variables, plain),
            remote=self._remote(variables), without=without)
        wrong += [] if wrong else given.mistakes(plain, datetime.now(timezone.utc))
        if wrong:  # the rest needs values that are right, and nothing uses it
            return [{"mistakes": list(map(texts.told, wrong)), "fingerprint": "", "user": user, "owned": False,
                     "alone": False, "emulated": []}]
        decisive = {name: value for name, value in plain.items() if settings.decides_provisioning(name)}
        own = variables.get("inventory_hostname") in groups.get("registries", ())
        decisive.update(fingerprints.decisive(plain, own=own, now=datetime.now(timezone.utc)))
        own = str(plain.get("farm_controller_state") or plain.get("farm_state", ""))
        # a host's folder is root's, and on one machine that is this one too
        host = "localhost" in [name for group in settings.GROUPS for name in groups.get(group, ())]
        words = settings.emulation(plain.get("farm_emulation", "never"))
        return [
            {
                "mistakes": [],
                "fingerprint": settings.fingerprint(decisive, files()),
                "user": user,
                "owned": not state.not_of(own, user),
                "emulated": [name for name, word in words.items() if word != "never"],
                "alone": user == 0 or (not host and state.may_claim(own)),
            }
        ]

    def _workers(self, variables) -> int:
        """How many hosts a playbook has at the same time, if it needs that they are all at work; otherwise 0."""
        return int(variables.get("ansible_forks") or 0) if variables.get("__farm_side_by_side") else 0

    def _remote(self, variables) -> bool:
        told = variables.get("ansible_connection") or context.CLIARGS.get("connection") or "ssh"
        try:
            return self._templar.template(told) != "local"
        except AnsibleError:  # which Ansible tells when it connects
            return True

    def _values(self, variables):
        """The farm's variables without templates and tags; and name -> why it has no value."""
        found, wrong = {}, {}
        names = [name for name in variables if isinstance(name, str) and
                 (name.startswith(("farm_", "buildkit_", "tester_")) or settings.decides_provisioning(name))]
        here = False
        for name in sorted(names, key=lambda name: name != "farm_registry"):
            if here and name in settings.OF_ACCESS and self._default(variables[name]):
                continue  # each takes some ms, and nothing uses them there
            try:
                value = self._templar.template(variables[name])
                found[name] = json.loads(json.dumps(value, cls=get_encoder("tagless")))
            except AnsibleError as error:  # a variable or file that is missing, a vault that is locked
                wrong[name] = self._why(name, variables, f"cannot be worked out: {' '.join(str(error).split())}")
            except (TypeError, ValueError, RecursionError):  # a date as a key, bytes
                wrong[name] = self._why(name, variables, "has a part that JSON has not, such as !!binary, or a date as "
                                                         "a key: put it in quotes")
            here = here or (name == "farm_registry" and references.loopback(str(found.get(name))))
        return found, wrong

    def _default(self, value) -> bool:
        """Whether it is the role's own. One that a person gave may have no value, such as one of a locked vault, and a
        later step would say so less clearly."""
        return "/roles/farm/defaults/main.yml" in place(value)

    def _why(self, name, variables, said) -> str:
        at = place(variables[name])
        return f"{name}{f' ({at})' if at else ''} {said}"
