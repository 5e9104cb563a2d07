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
from ansible.template import Templar
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible.vars.hostvars import HostVars
from ansible_collections.desimages.farm.plugins.module_utils import references, state
from ansible_collections.desimages.farm.plugins.plugin_utils import command_line, given, settings, travels
from ansible_collections.desimages.farm.plugins.plugin_utils.output import can_print
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import fingerprints
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import texts

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # it is not public, and another version may have none: then messages name no file
    Origin = None

SSH = ("ssh", "smart", "ansible.builtin.ssh")
CONTROLLER = "localhost"  # so the playbooks call the machine on which ansible-playbook runs
DEFAULTS = travels.PLUGINS.parent / "roles" / "farm" / "defaults" / "main.yml"
display = Display()


def plain_of(value):
    """The value without templates and tags. Raises TypeError and ValueError for what JSON has not."""
    return json.loads(json.dumps(value, cls=get_encoder("tagless")))


def _templated(value) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _by_host(value) -> bool:
    """Whether a template may give each host another value. A lookup may ask a program for a password, and hardly gives
    another one for the next host."""
    return _templated(value) and "lookup(" not in value and "query(" not in value


def place(value) -> str:
    """Where a value of the inventory was written, as FILE:LINE; '' if that is not known, as of numbers and booleans in
    some versions of Ansible."""
    found = Origin.get_tag(value) if Origin else None
    if not found or not found.path:
        return ""
    return f"{found.path}:{found.line_num}" if found.line_num else found.path


def default(value) -> bool:
    """Whether it is the role's own. One that a person gave may have no value, such as one of a locked vault, and a
    later step would say so less clearly."""
    return "/roles/farm/defaults/main.yml" in place(value)


def _follows(name, why, variables) -> bool:
    """Whether a default has no value because something that a person gave has none. `why`: name -> the reason."""
    given = [reason for other, reason in why.items() if not default(variables[other])]
    return default(variables[name]) and why.get(name) in given


def places(variables, names) -> dict:
    """name -> where a person wrote it."""
    return {name: place(variables[name]) for name in names if not default(variables[name])}


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
        playbooks, tags = context.CLIARGS.get("args") or (), variables.get("ansible_run_tags") or ["all"]
        said = command_line.left_out(tags, playbooks)
        said += settings.warnings(groups, [] if said else tags, plain, skipped=variables.get("ansible_skip_tags") or [])
        said += command_line.warnings(extra, settings.KNOWN, playbooks)
        said += given.unread(str(variables.get("inventory_dir") or os.devnull), groups, groups.get("all", ()))
        for text in said if can_print(2) else ():
            display.warning(texts.told(text))
        user = os.geteuid()
        wrong += command_line.mistakes(extra, settings.KNOWN, playbooks)
        remote, address = self._reached(variables, groups)
        wrong += settings.mistakes(
            plain, groups, self._workers(variables), places=places(variables, plain), remote=remote, address=address,
            without=without)
        wrong += self._divided(variables, plain)
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

    def _divided(self, variables, plain):
        """What is wrong with settings that hold for the whole farm, and of which the controller has others."""
        hostvars, host = variables.get("hostvars"), variables.get("inventory_hostname")
        if host == CONTROLLER or not isinstance(hostvars, HostVars) or host not in hostvars:
            return []
        own, theirs = hostvars.raw_get(host), hostvars.raw_get(CONTROLLER)
        known, names = {}, []
        for name in settings.SETTINGS:
            if name not in plain or (name not in own and name not in theirs):
                continue
            try:  # also to compare, which decrypts what is in a vault
                if own.get(name) == theirs.get(name) and not _by_host(own.get(name)):
                    continue
                if name in theirs:
                    known[name] = plain_of(Templar(self._loader, theirs).template(theirs[name]))
                names.append(name)
            except (AnsibleError, TypeError, ValueError, RecursionError):  # the controller's steps say it
                continue
        defaults = {} if set(names) <= set(theirs) else self._loader.load_from_file(str(DEFAULTS), cache="all")
        defaults = {name: value for name, value in defaults.items() if not _templated(value)}
        return settings.divided(
            set(names).intersection(own), known, {name: plain[name] for name in names},
            places=places(variables, plain), defaults=defaults)

    def _workers(self, variables) -> int:
        """How many hosts a playbook has at the same time, if it needs that they are all at work; otherwise 0."""
        return int(variables.get("ansible_forks") or 0) if variables.get("__farm_side_by_side") else 0

    def _reached(self, variables, groups):
        """Whether the host is another machine; and the address to which ssh connects, if a host of the farm is reached
        by that. Under a --limit, any other may take the controller's steps, and nothing connects to it."""
        of_farm = any(variables.get("inventory_hostname") in groups.get(name, ()) for name in settings.GROUPS)
        told = variables.get("ansible_connection") or context.CLIARGS.get("connection") or "ssh"
        try:
            how = self._templar.template(told)
            address = variables.get("ansible_host") or variables.get("inventory_hostname") or ""
            return how != "local", str(self._templar.template(address)) if how in SSH and of_farm else ""
        except AnsibleError:  # which Ansible tells when it connects
            return True, ""

    def _values(self, variables):
        """The farm's variables without templates and tags; and name -> why it has no value."""
        found, wrong, why = {}, {}, {}
        names = [name for name in variables if isinstance(name, str) and
                 (name.startswith(("farm_", "buildkit_", "tester_")) or settings.decides_provisioning(name))]
        here = False
        for name in sorted(names, key=lambda name: name != "farm_registry"):
            if here and name in settings.OF_ACCESS and default(variables[name]):
                continue  # each takes some ms, and nothing uses them there
            try:
                found[name] = plain_of(self._templar.template(variables[name]))
            except AnsibleError as error:  # a variable or file that is missing, a vault that is locked
                why[name] = " ".join(str(error).split())
                wrong[name] = self._why(name, variables, f"cannot be worked out: {why[name]}")
            except (TypeError, ValueError, RecursionError):  # a date as a key, bytes
                wrong[name] = self._why(name, variables, "has a part that JSON has not, such as !!binary, or a date as "
                                                         "a key: put it in quotes")
            here = here or (name == "farm_registry" and references.loopback(str(found.get(name))))
        return found, {name: text for name, text in wrong.items() if not _follows(name, why, variables)}

    def _why(self, name, variables, said) -> str:
        at = place(variables[name])
        return f"{name}{f' ({at})' if at else ''} {said}"
