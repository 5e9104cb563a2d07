# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The farm's public variables: what each may be, and the mistakes in an inventory. No I/O."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, EMULATION
from ansible_collections.desimages.farm.plugins.module_utils.supervision import parse_port
from ansible_collections.desimages.farm.plugins.plugin_utils import role_settings
from ansible_collections.desimages.farm.plugins.plugin_utils import setting_checks as checks

ROLES = ("binfmt", "buildkitd", "registry")
OF_HOSTS = ("farm_state", "farm_registry", "farm_native", "farm_emulation")  # what decides how a host is provisioned
# Before a host: a token may be the whole login of a URL, without a colon, and a password may have a slash, which makes
# it no port.
LOGIN = re.compile(r"""((?<=://)|(?<=['"/])[^\s/'":@]*:)[^\s/'"]*@"""
                   r"""|((?<=://)|(?<=['"/]))(?!\[)[^\s/'":@]*:(?![0-9]*['"/])[^\s'"]*@""")


def _short(value: Any) -> str:
    """A value for a message, without what may be secret: a login before a host name, a private key."""
    if value is None:
        return "null"
    if "PRIVATE KEY" in repr(value):
        return "(not shown: it has a private key)"
    text = LOGIN.sub("...@", repr(value))
    return text if len(text) <= 300 else text[:297] + "..."


@dataclass(frozen=True)
class Setting:
    """A public variable. `check` returns '' for a good value, else what is allowed."""

    check: Callable[[Any], str]
    required: bool = False
    secret: bool = False  # its value is shown nowhere


SETTINGS: Mapping[str, Setting] = {
    "farm_state": Setting(checks.state, required=True),
    "farm_controller_state": Setting(checks.path),
    "farm_native": Setting(checks.platforms),
    "farm_emulation": Setting(checks.emulation),
    "farm_slots": Setting(checks.count),
    "farm_registry": Setting(checks.registry, required=True),
    "farm_secrets": Setting(checks.path),
    "farm_registry_ca": Setting(checks.file),
    "farm_registry_user": Setting(checks.user),
    "farm_registry_password": Setting(checks.password, secret=True),
    "farm_signing_key": Setting(checks.private_key, secret=True),
    "farm_trusted_keys": Setting(checks.public_keys),
    "farm_namespace": Setting(checks.namespace, required=True),
    "farm_catalog": Setting(checks.folders, required=True),
    "farm_images": Setting(checks.names),
    "farm_platforms": Setting(checks.platforms),
    "farm_select": Setting(checks.text),
    "farm_publish": Setting(checks.publish),
    "farm_verify": Setting(checks.choice("never", "before_tag")),
    "farm_tags": Setting(checks.templates),
    "farm_origins": Setting(checks.origins),
    "farm_keyring": Setting(checks.path),
    "farm_relock_missing": Setting(checks.flag),
    "farm_allow_missing_suites": Setting(checks.flag),
    "farm_partial": Setting(checks.flag),
    "farm_rebuild": Setting(checks.flag),
    "farm_busy": Setting(checks.choice("wait", "stop")),
}


# how a registry is reached that is not on loopback
OF_ACCESS = ("farm_secrets", "farm_registry_ca", "farm_registry_user", "farm_registry_password")
OF_PLAYBOOKS: Mapping[str, Setting] = {  # variables of a single playbook
    "farm_provision_always": Setting(checks.flag),
    "farm_adopt": Setting(checks.flag),
    "farm_repair": Setting(checks.flag),
    "farm_snapshot": Setting(checks.time),
    "farm_lock_select": Setting(checks.text),
    "farm_upgrade": Setting(checks.texts),
    **dict.fromkeys(("farm_plan_json", "farm_status_json", "farm_check_json", "farm_verify_json", "farm_outdated_json",
                     "farm_licences_json"), Setting(checks.written)),
    "farm_from": Setting(references.address),
    "farm_from_ca": Setting(checks.file),
    "farm_from_user": Setting(lambda value: "" if value == "" else checks.user(value)),
    "farm_from_password": Setting(checks.password, secret=True),
    "farm_from_state": Setting(checks.path),
}

# each host may have its own; the others hold for the whole farm
PER_HOST = ("farm_state", "farm_native", "farm_emulation", "farm_slots")
# of the whole farm's, those that are read on hosts too
ON_HOSTS = ("farm_registry", "farm_controller_state", *OF_ACCESS)

KNOWN = (*SETTINGS, *OF_PLAYBOOKS, *role_settings.CHECKS, *role_settings.OTHERS)

GROUPS = ("nodes", "registries")
TAGS = ("binfmt_configure", "binfmt_install", "binfmt_run", "buildkitd_configure", "buildkitd_install",
        "buildkitd_prove", "buildkitd_run", "registry_configure", "registry_install", "registry_run",
        "tester_configure", "tester_install", "tester_run")  # of tasks, in the roles
ANY_TAG = ("all", "always", "never", "tagged", "untagged")  # what Ansible itself means by these
# of the roles, which others may use alone; a farm's playbooks probe, stop and remove one folder on each host
STATES = ("buildkitd_state", "registry_state", "tester_state")


def _group_mistakes(groups: Mapping[str, Sequence[str]], forks: int) -> Iterator[str]:
    nodes, registries = (groups.get(name, ()) for name in GROUPS)
    if not nodes:
        yield ("the group nodes has no host: add one in the inventory, such as this machine (localhost)"
               + "".join(f"; should the group {name} be called nodes?" for name in _near("nodes", groups)))
    if len(registries) > 1:
        yield f"the group registries has {len(registries)} hosts ({', '.join(registries)}): a farm has one registry"
    testers = groups.get("testers", ())
    if 0 < forks < len(testers):
        yield (f"forks is {forks}, but the group testers has {len(testers)} hosts, and each needs a worker of its own: "
               f"set forks to {len(testers)} or more in ansible.cfg (section defaults), or run with --forks "
               f"{len(testers)}")
    if 0 < forks < len(nodes):
        yield (f"forks is {forks}, but the group nodes has {len(nodes)} hosts, and each needs a worker of its own: set "
               f"forks to {len(nodes)} or more in ansible.cfg (section defaults), or run with --forks {len(nodes)}")


def _near(wanted: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Groups with hosts whose names are nearly the wanted one, such as node, Nodes and registry."""
    words = (wanted, OTHERS[wanted])
    return sorted(name for name, hosts in groups.items() if hosts and name != wanted
                  and difflib.get_close_matches(name.lower(), words, n=1, cutoff=0.88))


OTHERS = {"nodes": "node", "registries": "registry", "testers": "tester"}  # what each may be called by mistake


def warnings(groups: Mapping[str, Sequence[str]], tags: Sequence[str] = (), names: Iterable[str] = (), *,
             skipped: Sequence[str] = ()) -> list[str]:
    """What may be a mistake, but need not: of the inventory's groups; of the tags that were chosen (`-t`) or `skipped`,
    which another playbook may have that imports ours; of the variables' names, as one may serve to work out another."""
    found = [f"no task of the farm has the tag {', '.join(unknown)} ({option}), so none is {what} for it; there are "
             f"{', '.join(TAGS)}" for option, given, what in (("-t", tags, "run"), ("--skip-tags", skipped, "left out"))
             if (unknown := [tag for tag in given if tag not in (*TAGS, *ANY_TAG)])]
    found += [f"{name} is not a variable of the farm{near}, which by itself does not use it; roles/*/README.md have all"
              for name in sorted(names) if name not in KNOWN and not _nearly(name)
              for near in [_like(name)]]
    if not groups.get("registries"):
        found += [f"the group {name} is not used, because the farm's own registry runs in the group registries: "
                  "rename it, unless farm_registry is an existing registry" for name in _near("registries", groups)]
    if not groups.get("testers"):
        found += [f"the group {name} is not used, because images are run on the hosts of the group testers: rename it, "
                  "unless it is for something else" for name in _near("testers", groups)]
    return found


def _nearly(name: str) -> str:
    """The variable that must be meant by a name that is nearly its own."""
    return next(iter(difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.9)), "")


def _like(name: str) -> str:
    """Variables that may be meant."""
    close = difflib.get_close_matches(name, KNOWN, n=2, cutoff=0.7)
    return f" ({' or '.join(close)}?)" if close else ""


def mistakes(values: Mapping[str, Any], groups: Mapping[str, Sequence[str]], forks: int = 0, *,
             places: Mapping[str, str] | None = None, remote: bool = False, address: str = "",
             without: Container[str] = ()) -> list[str]:
    """Everything wrong with the inventory's groups and one host's public variables: bad and missing values, and names
    that are nearly right. `forks` is how many workers Ansible has; 0 if that is not known. `places` says where a
    variable is set (FILE:LINE), as far as that is known; `remote`, whether the host is another machine; `address`,
    where ssh connects to, if the host is reached by it; `without`, which variables are set but have no value, as their
    templates have a mistake."""
    found, places = list(_group_mistakes(groups, forks)), places or {}
    for name, setting in {**SETTINGS, **OF_PLAYBOOKS}.items():
        if name not in values:
            if setting.required and name not in without:
                found.append(f"{name} is not set: set it in the inventory")
            continue
        allowed = setting.check(values[name])
        if name == "farm_controller_state" and values[name] == values.get("farm_state"):
            continue  # it follows from that one
        if allowed:
            shown = "(not shown)" if setting.secret else _short(values[name])
            found.append(f"{name} is {shown}{_at(name, places)}, it must be {allowed}"
                         f"{_as_text(name, values[name], allowed, places)}")
    for name, check in role_settings.CHECKS.items():
        if name in values and (allowed := check(values[name])):
            found.append(f"{name} is {_short(values[name])}{_at(name, places)}, it must be {allowed}"
                         f"{_as_text(name, values[name], allowed, places)}")
    found += _access_mistakes(values, groups, places, remote=remote, address=address)
    if groups.get("registries") and not references.address(values.get("farm_registry", "")):
        found += _registry_mistakes(values, places)
    here = values.get("farm_state")
    found += [f"{name} is {_short(values[name])}{_at(name, places)}, and farm_state {_short(here)}: a host has one "
              "such folder; set farm_state for this host, or mount a larger disk in it"
              for name in STATES if here and name in values and values[name] != here]
    if values.get("farm_verify") == "before_tag" and not groups.get("testers"):
        found.append("farm_verify is before_tag, but the group testers has no host that could run images: add one in "
                     "the inventory, or leave farm_verify out")
    chosen = any(values.get(name) for name in ("farm_images", "farm_platforms", "farm_select"))
    if str(values.get("farm_rebuild", "")).lower() in checks.YES and not chosen:
        found.append("farm_rebuild builds again only what you choose: set farm_images, farm_platforms or farm_select")
    found += [f"{name}{_at(name, places)} is not a variable of the farm: did you mean {near}?"
              for name in sorted(values) if name not in KNOWN and (near := _nearly(name))]
    return found


def divided(own: Container[str], controllers: Mapping[str, Any], values: Mapping[str, Any], *,
            places: Mapping[str, str], defaults: Mapping[str, Any]) -> list[str]:
    """Settings of the whole farm of which a host and the controller, whose steps read its own, have different values.
    `own` are the names that the inventory gives the host, `controllers` the values that it gives the controller;
    `values` are the host's, with what has a default; `defaults` those that are no templates."""
    found = []
    for name, setting in SETTINGS.items():
        if name in PER_HOST or name not in values or (name not in own and name not in ON_HOSTS):
            continue  # the controller may have a setting alone that only its steps read
        if name not in own and name not in controllers:
            continue
        theirs = controllers.get(name, defaults.get(name))
        if theirs == values[name]:
            continue
        here, there = ("(not shown)" if setting.secret else _short(value) for value in (values[name], theirs))
        found.append(f"{name} is {here}{_at(name, places) if name in own else ', its default'}, but "
                     f"{there if name in controllers else 'not set'} for the controller (localhost), and it holds for "
                     "the whole farm: set it once, in group_vars/all.yml")
    return found


def _as_text(name: str, value: Any, allowed: str, places: Mapping[str, str]) -> str:
    """How to give a list or a mapping, to somebody who gave it as a text."""
    if not isinstance(value, str) or not value.startswith(("[", "{")) or not re.search("list|mapping", allowed):
        return ""
    if places.get(name):  # else it is most likely from the command line
        return ("; this is a text, as in quotes or in an INI file: write a list or a mapping without quotes around it, "
                "in a file of group_vars or host_vars")
    return f"; -e {name}=... gives a text, -e '{{\"{name}\": ...}}' a list or a mapping"


def _at(name: str, places: Mapping[str, str]) -> str:
    return f" ({places[name]})" if places.get(name) else ""


def _access_mistakes(values: Mapping[str, Any], groups: Mapping[str, Sequence[str]], places: Mapping[str, str], *,
                     remote: bool, address: str) -> Iterator[str]:
    """What does not fit together in how the hosts reach the registry, the farm's own or another."""
    name, user = values.get("farm_registry", ""), values.get("farm_registry_user", "farm")
    if references.address(name):
        return
    hosts = list(dict.fromkeys(host for group in GROUPS for host in groups.get(group, ())))
    if references.loopback(name) and remote and len(hosts) > 1:
        yield (f"farm_registry is {name!r}{_at('farm_registry', places)}, which each host takes for itself, but the "
               f"farm has several ({', '.join(hosts[:3])}{', ...' if len(hosts) > 3 else ''}): set it, in "
               "group_vars/all.yml, to the name or address under which all of them and this machine reach the registry")
    elif references.loopback(name) and address and not references.loopback(address):
        yield (f"farm_registry is {name!r}{_at('farm_registry', places)}, which this host takes for itself, as does "
               f"the controller, but the host is another machine ({_short(address)}): set it, in group_vars/all.yml, "
               "to the name or address under which both reach the registry")
    if (not references.loopback(name) and not groups.get("registries") and user != "farm"
            and values.get("farm_registry_password") == ""):
        yield (f"farm_registry_user is {_short(user)}{_at('farm_registry_user', places)}, but farm_registry_password "
               "is empty, so the Docker client's login would be used: set both, or neither")


def emulation(value: Any) -> dict[str, str]:
    """platform -> its word, from a value of farm_emulation that `mistakes` accepts."""
    given = value if isinstance(value, Mapping) else {str(platform): value for platform in ALL}
    return {str(platform): str(given.get(str(platform), EMULATION[0])) for platform in ALL}


def _registry_mistakes(values: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[str]:
    """What does not fit together where the farm runs its own registry. Off loopback that has TLS and a password."""
    name, listens = values["farm_registry"], values.get("registry_address")
    if listens is not None and not _listener(listens):
        yield (f"registry_address is {_short(listens)}{_at('registry_address', places)}, it must be ADDRESS:PORT with "
               "a numeric address, such as 0.0.0.0:5000")
    at = _at("farm_registry", places)
    if references.loopback(name):
        if not references.listener_on_loopback(name):
            yield (f"farm_registry is {name!r}{at}: on loopback the farm's own registry (group registries) needs a "
                   "numeric address and a port, such as 127.0.0.1:5000; to use another registry, leave that group "
                   "empty")
        return
    if listens is None and not re.search(r":[0-9]+\Z", name):
        yield (f"farm_registry is {name!r}{at}: the farm's own registry (group registries) needs a port, such as "
               f"{name}:5000")
    pair = [each for each in ("registry_certificate", "registry_key") if values.get(each)]
    if len(pair) == 1:
        yield f"{pair[0]}{_at(pair[0], places)} is set alone: registry_certificate and registry_key belong together"


def _listener(value: Any) -> bool:
    try:
        return bool(parse_port(value))
    except (ValueError, TypeError):
        return False


def decides_provisioning(name: str) -> bool:
    """Whether a variable decides how a host is provisioned, as opposed to what is built on it."""
    return name in OF_HOSTS or name.startswith(tuple(f"{role}_" for role in ROLES))


def fingerprint(values: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """A short hash of how a host is provisioned: of the variables that decide it, and of the roles' own files (relative
    path -> content)."""
    found = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for path in sorted(files):
        found.update(f"\0{path}\0{hashlib.sha256(files[path]).hexdigest()}".encode())
    return found.hexdigest()[:16]
