# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The farm's public variables: what each may be, and the mistakes in an inventory. No I/O."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, EMULATION
from ansible_collections.desimages.farm.plugins.module_utils.supervision import SOCKET_LENGTH, parse_port
from ansible_collections.desimages.farm.plugins.plugin_utils import role_settings
from ansible_collections.desimages.farm.plugins.plugin_utils.public_keys import is_private_key, public_key

PATH = re.compile(r"(/(?!\.\.?(?:/|\Z))[A-Za-z0-9._+@-]+){2,}\Z")
LONGEST_NAMESPACE = 126  # characters: a registry allows 255 for a repository, and an image's name may have 128
TEMPLATE = 101  # characters of a tag from a template; a longer {id} and a platform's name may be added
BASES = ("debian", "debian-security", "maven")
PREFIXES = ("url", "git", "image")
YES = ("true", "yes", "on")
WORDS = (*YES, "false", "no", "off")
ROLES = ("binfmt", "buildkitd", "registry")
OF_HOSTS = ("farm_state", "farm_registry", "farm_native", "farm_emulation")  # what decides how a host is provisioned


def _path(value: Any) -> str:
    good = isinstance(value, str) and PATH.match(value)
    return "" if good else ("an absolute path of at least two parts, with letters, digits and . _ + @ -, and no slash "
                            "at its end, such as /var/lib/desimages")


def _state(value: Any) -> str:
    if said := _path(value):
        return said
    longest = len(f"{value}/buildkitd.sock".encode())
    short = f"a path of at most {SOCKET_LENGTH - 15} bytes, the limit of the unix sockets in it"
    return "" if longest <= SOCKET_LENGTH else short


def _registry(value: Any) -> str:
    """Each host and the controller take it for the same machine, or for itself: 0.0.0.0 is neither."""
    allowed = references.address(value)
    unspecified = not allowed and re.match(r"(0\.0\.0\.0|\[[0:.]+\])(:|\Z)", value)
    return "the name or address under which all hosts and this machine reach it" if unspecified else allowed


def _namespace(value: Any) -> str:
    """The first part of a repository's name, which leaves room for an image's name."""
    good = not references.repository(value) and len(value) <= LONGEST_NAMESPACE
    return "" if good else f"lower case letters and digits, with . _ __ - / between them, at most {LONGEST_NAMESPACE}"


def _publish(value: Any) -> str:
    host, slash, path = value.partition("/") if isinstance(value, str) else ("", "", "")
    good = value == "" or (not references.address(host) and (not slash or not _namespace(path)))
    if good and references.hub(host) and (not path or "/" in path):
        return f"{host}/NAME with the name of an account there: Docker Hub has no other paths"
    return "" if good else f"'' or HOST[:PORT][/PATH] without a scheme, where PATH has {_namespace('')}"


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else "a string"


def _short(value: Any) -> str:
    """A value for a message, without what may be secret: a login before a host name, a private key."""
    if "PRIVATE KEY" in repr(value):
        return "(not shown: it has a private key)"
    text = re.sub(r"""(?<=['"/])[^\s/'"@]*:[^\s/'"]*@""", "...@", repr(value))
    return text if len(text) <= 300 else text[:297] + "..."


def _file(value: Any) -> str:
    return "" if value == "" or not _path(value) else f"'' or {_path(None)}"


def _user(value: Any) -> str:
    good = isinstance(value, str) and re.fullmatch(r"[!-9;-~]{1,255}", value)
    return "" if good else "letters, digits and signs, without a space or a colon"


def _password(value: Any) -> str:
    good = isinstance(value, str) and (value == "" or value.isprintable()) and len(value.encode(errors="replace")) <= 72
    return "" if good else ("a string (a number in quotes) without line breaks, of at most 72 bytes (bcrypt's "
                            "limit)")


def _private_key(value: Any) -> str:
    good = isinstance(value, str) and (value == "" or is_private_key(value))
    return "" if good else ("an ed25519 private key itself (no path), in PEM without a passphrase, as `openssl genpkey "
                            "-algorithm ed25519` writes it")


def _public_keys(value: Any) -> str:
    good = not _texts(value) and not isinstance(value, str) and all(public_key(one) for one in value)
    return "" if good else "a list of ed25519 public keys, each in base64 or PEM"


def _flag(value: Any) -> str:
    """A word counts too: `-e name=true` gives one, and Ansible itself accepts these."""
    return "" if isinstance(value, bool) or (isinstance(value, str) and value.lower() in WORDS) else "true or false"


def _texts(value: Any) -> str:
    good = isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value))
    return "" if good else "a list of strings"


def _folders(value: Any) -> str:
    """An empty name would be the folder in which the run was started."""
    return _texts(value) or ("" if value and all(value) else "a list of folders")


def _platforms(value: Any) -> str:
    known = [str(platform) for platform in ALL]
    given = [one for one in value.split(",") if one] if isinstance(value, str) else value
    good = not _texts(value) and all(one in known for one in given)
    return "" if good else f"a list of platforms out of {', '.join(known)}"


def _emulation(value: Any) -> str:
    """One word for all platforms, or a mapping of platforms to words; `-e name=value` gives a text."""
    known = [str(platform) for platform in ALL]
    good = value in EMULATION if isinstance(value, str) else (
        isinstance(value, Mapping) and all(name in known and word in EMULATION for name, word in value.items()))
    words = ", ".join(EMULATION)
    return "" if good else f"one of {words}, or a mapping of platforms to these, such as {{linux/s390x: allowed}}"


def _count(value: Any) -> str:
    good = not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,3}", str(value))
    return "" if good else "a number from 0 to 999"


def _mapping(value: Any) -> str:
    return "" if isinstance(value, Mapping) else "a mapping"


def _origins(value: Any) -> str:
    """See fetch/origins.py."""
    if _mapping(value):
        return _mapping(value)
    if unknown := sorted(set(map(str, value)) - {*BASES, *PREFIXES, "cargo", "go", "npm", "pypi"}):
        shown = ", ".join(unknown).encode("ascii", "backslashreplace").decode()[:300]
        return f"a mapping with {', '.join((*BASES, *PREFIXES))}, cargo, go, npm and pypi; it has {shown}"
    wrong = [f"{name}: a list of base URLs" for name in BASES if name in value and _texts(value[name])]
    wrong += ["go: a string, such as https://proxy.example.org"] if _text(value.get("go", "")) else []
    crates = value.get("cargo", "file:///")
    if not isinstance(crates, str) or not re.match(r"(sparse\+https?://|file:///)", crates):
        wrong += ["cargo: sparse+https://..., the index of a registry, or file:///..., a folder with a local registry"]
    wrong += ["npm: the address of a registry, such as https://registry.example.org"] if not re.fullmatch(
        r"(https?://\S+)?", str(value.get("npm", ""))) else []
    wrong += ["pypi: the address of an index, or a folder of wheels as file:///srv/wheels"] if not re.fullmatch(
        r"(https?://\S+|file:///\S+)?", str(value.get("pypi", ""))) else []
    for name in PREFIXES:
        rules = value.get(name, {})
        if not isinstance(rules, Mapping) or not all(isinstance(text, str) for pair in rules.items() for text in pair):
            wrong.append(f"{name}: a mapping of one prefix to another")
    return "; ".join(wrong)


def _templates(value: Any) -> str:
    """Templates of tags, as registry/tags.py renders them."""
    if said := _texts(value):
        return said
    given = value.split(",") if isinstance(value, str) else value
    try:
        fields = {(name, spec, conversion) for text in given
                  for _text, name, spec, conversion in Formatter().parse(text) if name is not None}
        good = (bool(given) and fields <= {(name, "", None) for name in ("suite", "date", "id")}
                and not any(_no_tag(text) for text in given))
    except (ValueError, KeyError, IndexError):
        good = False
    return "" if good else "a list of tags, with no fields but {suite}, {date} and {id}"


def _no_tag(template: str) -> bool:
    """Whether the result of a template is not a valid tag, or too long for one."""
    text = template.format(suite="s", date="20260101", id="0")
    return bool(references.tag(text)) or len(text) > TEMPLATE


def _choice(*allowed: str) -> Callable[[Any], str]:
    return lambda value: "" if value in allowed else f"one of {', '.join(allowed)}"


@dataclass(frozen=True)
class Setting:
    """A public variable. `check` returns '' for a good value, else what is allowed."""

    check: Callable[[Any], str]
    required: bool = False
    secret: bool = False  # its value is shown nowhere


SETTINGS: Mapping[str, Setting] = {
    "farm_state": Setting(_state, required=True),
    "farm_controller_state": Setting(_path),
    "farm_native": Setting(_platforms),
    "farm_emulation": Setting(_emulation),
    "farm_slots": Setting(_count),
    "farm_registry": Setting(_registry, required=True),
    "farm_secrets": Setting(_path),
    "farm_registry_ca": Setting(_file),
    "farm_registry_user": Setting(_user),
    "farm_registry_password": Setting(_password, secret=True),
    "farm_signing_key": Setting(_private_key, secret=True),
    "farm_trusted_keys": Setting(_public_keys),
    "farm_namespace": Setting(_namespace, required=True),
    "farm_catalog": Setting(_folders, required=True),
    "farm_images": Setting(_texts),
    "farm_platforms": Setting(_platforms),
    "farm_select": Setting(_text),
    "farm_publish": Setting(_publish),
    "farm_verify": Setting(_choice("never", "before_tag")),
    "farm_tags": Setting(_templates),
    "farm_origins": Setting(_origins),
    "farm_keyring": Setting(_path),
    "farm_relock_missing": Setting(_flag),
    "farm_allow_missing_suites": Setting(_flag),
    "farm_partial": Setting(_flag),
    "farm_rebuild": Setting(_flag),
    "farm_busy": Setting(_choice("wait", "stop")),
}


# how a registry is reached that is not on loopback
OF_ACCESS = ("farm_secrets", "farm_registry_ca", "farm_registry_user", "farm_registry_password")
OF_PLAYBOOKS = (  # variables of a single playbook
    "farm_snapshot", "farm_lock_select", "farm_plan_json", "farm_status_json", "farm_provision_always", "farm_repair",
    "farm_check_json", "farm_adopt", "farm_verify_json", "farm_upgrade", "farm_outdated_json", "farm_licences_json",
    "farm_from", "farm_from_ca", "farm_from_user", "farm_from_password", "farm_from_state")

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
               + "".join(f"; did you mean nodes by the group {name}?" for name in _near("nodes", groups)))
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
    words = (wanted, {"nodes": "node", "registries": "registry"}[wanted])
    return sorted(name for name, hosts in groups.items() if hosts and name != wanted
                  and difflib.get_close_matches(name.lower(), words, n=1, cutoff=0.88))


def warnings(groups: Mapping[str, Sequence[str]], tags: Sequence[str] = ()) -> list[str]:
    """What may be a mistake, but need not: of the inventory's groups, and of the tags that were chosen (`-t`), which
    another playbook may have that imports ours."""
    unknown = [tag for tag in tags if tag not in (*TAGS, *ANY_TAG)]
    found = [f"no task of the farm has the tag {', '.join(unknown)} (-t), so none is run for it; there are "
             f"{', '.join(TAGS)}"] if unknown else []
    if groups.get("registries"):
        return found
    return found + [f"the group {name} is not used, because the farm's own registry runs in the group registries: "
                    "rename it, unless farm_registry is an existing registry" for name in _near("registries", groups)]


def mistakes(values: Mapping[str, Any], groups: Mapping[str, Sequence[str]], forks: int = 0, *,
             places: Mapping[str, str] | None = None, remote: bool = False, without: Container[str] = ()) -> list[str]:
    """Everything wrong with the inventory's groups and one host's public variables: bad and missing values, and names
    that are nearly right. `forks` is how many workers Ansible has; 0 if that is not known. `places` says where a
    variable is set (FILE:LINE), as far as that is known; `remote`, whether the host is another machine; `without`,
    which variables are set but have no value, as their templates have a mistake."""
    found, places = list(_group_mistakes(groups, forks)), places or {}
    for name, setting in SETTINGS.items():
        if name not in values:
            if setting.required and name not in without:
                found.append(f"{name} is not set: set it in the inventory")
            continue
        allowed = setting.check(values[name])
        if allowed:
            shown = "(not shown)" if setting.secret else _short(values[name])
            found.append(f"{name} is {shown}{_at(name, places)}, it must be {allowed}")
    for name, check in role_settings.CHECKS.items():
        if name in values and (allowed := check(values[name])):
            found.append(f"{name} is {_short(values[name])}{_at(name, places)}, it must be {allowed}")
    found += _access_mistakes(values, groups, remote=remote)
    if groups.get("registries") and not references.address(values.get("farm_registry", "")):
        found += _registry_mistakes(values)
    here = values.get("farm_state")
    found += [f"{name} is {_short(values[name])}, and farm_state {_short(here)}: a host has one such folder; "
              "set farm_state for this host, or mount a larger disk in it"
              for name in STATES if here and values.get(name, here) != here]
    if values.get("farm_verify") == "before_tag" and not groups.get("testers"):
        found.append("farm_verify is before_tag, but the group testers has no host that could run images: add one in "
                     "the inventory, or leave farm_verify out")
    chosen = any(values.get(name) for name in ("farm_images", "farm_platforms", "farm_select"))
    if str(values.get("farm_rebuild", "")).lower() in YES and not chosen:
        found.append("farm_rebuild builds again only what you choose: set farm_images, farm_platforms or farm_select")
    for name in sorted(values):
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.9)
            if near:
                found.append(f"{name}{_at(name, places)} is not a variable of the farm: did you mean {near[0]}?")
    return found


def _at(name: str, places: Mapping[str, str]) -> str:
    return f" ({places[name]})" if places.get(name) else ""


def _access_mistakes(values: Mapping[str, Any], groups: Mapping[str, Sequence[str]], *, remote: bool) -> Iterator[str]:
    """What does not fit together in how the hosts reach the registry, the farm's own or another."""
    name, user = values.get("farm_registry", ""), values.get("farm_registry_user", "farm")
    if references.address(name):
        return
    hosts = list(dict.fromkeys(host for group in GROUPS for host in groups.get(group, ())))
    if references.loopback(name) and remote and len(hosts) > 1:
        yield (f"farm_registry is {name!r}, which each host takes for itself, but the farm has several ("
               f"{', '.join(hosts[:3])}{', ...' if len(hosts) > 3 else ''}): set it, in group_vars/all.yml, to the "
               "name or address under which all of them and this machine reach the registry")
    if (not references.loopback(name) and not groups.get("registries") and user != "farm"
            and values.get("farm_registry_password") == ""):
        yield (f"farm_registry_user is {_short(user)}, but farm_registry_password is empty, so the Docker "
               "client's login would be used: set both, or neither")


def emulation(value: Any) -> dict[str, str]:
    """platform -> its word, from a value of farm_emulation that `mistakes` accepts."""
    given = value if isinstance(value, Mapping) else {str(platform): value for platform in ALL}
    return {str(platform): str(given.get(str(platform), EMULATION[0])) for platform in ALL}


def _registry_mistakes(values: Mapping[str, Any]) -> Iterator[str]:
    """What does not fit together where the farm runs its own registry. Off loopback that has TLS and a password."""
    name, listens = values["farm_registry"], values.get("registry_address")
    if listens is not None and not _listener(listens):
        yield f"registry_address is {_short(listens)}, it must be ADDRESS:PORT with a numeric address, as 0.0.0.0:5000"
    if references.loopback(name):
        if not references.listener_on_loopback(name):
            yield (f"farm_registry is {name!r}: on loopback the farm's own registry (group registries) needs a numeric "
                   "address and a port, as 127.0.0.1:5000; to use another registry, leave that group empty")
        return
    if listens is None and not re.search(r":[0-9]+\Z", name):
        yield f"farm_registry is {name!r}: the farm's own registry (group registries) needs a port, as {name}:5000"
    pair = [each for each in ("registry_certificate", "registry_key") if values.get(each)]
    if len(pair) == 1:
        yield f"{pair[0]} is set alone: registry_certificate and registry_key belong together"


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
