# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What values of the farm's public variables may be: each check returns '' for a good one, else what is allowed. No
I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from string import Formatter
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, EMULATION
from ansible_collections.desimages.farm.plugins.module_utils.supervision import SOCKET_LENGTH
from ansible_collections.desimages.farm.plugins.plugin_utils.public_keys import is_private_key, public_key

PATH = re.compile(r"(/(?!\.\.?(?:/|\Z))[A-Za-z0-9._+@-]+){2,}\Z")
LONGEST_NAMESPACE = 126  # characters: a registry allows 255 for a repository, and an image's name may have 128
TEMPLATE = 101  # characters of a tag from a template; a longer {id} and a platform's name may be added
FETCHED = r"(https?://[^/\s]|file:///)"
BASES = ("debian", "debian-security", "maven")
PREFIXES: Mapping[str, tuple[str, str]] = {  # what an address may become, and in words
    "url": (FETCHED, "another, such as https://mirror.example/ or file:///srv/files/"),
    "git": (r"((https?|ssh)://[^/\s]|file:///)", "another, such as https://git.example/ or file:///srv/git/"),
    "image": (r"(?![a-z+]*://)[^\s@]+\Z", "another without a scheme or a login, such as mirror.example/hub/"),
}
ADDRESSES: Mapping[str, tuple[str, str]] = {
    "cargo": (r"(sparse\+https?://|file:///).*",
              "sparse+https://..., the index of a registry, or file:///..., a folder with a local registry"),
    "go": (r"(|(off|direct|https?://\S+|file:///\S+)([,|](off|direct|https?://[^,|\s]+|file:///[^,|\s]+))*)",
           "a GOPROXY, such as https://proxy.example.org"),
    "npm": (r"(https?://\S+)?", "the address of a registry, such as https://registry.example.org"),
    "pypi": (r"(https?://\S+|file:///\S+)?",
             "the address of an index, or a folder of wheels, such as file:///srv/wheels"),
}
# In an address. ssh has its user there, which is no secret. A password may have a slash: what is before it is no port.
LOGIN = re.compile(r"(?i)(?<!ssh)://[^/\s\"@]+@|ssh://[^/\s\"@]*:[^/\s\"@]*@"
                   r"|://(?!\[)[^/\s\"@:]*:(?![0-9]*([/?#\"\s,|]|\Z))[^\s\"]*@")
YES = ("true", "yes", "on")
WORDS = (*YES, "false", "no", "off")
SNAPSHOT = "%Y%m%dT%H%M%SZ"


def path(value: Any) -> str:
    good = isinstance(value, str) and PATH.match(value)
    return "" if good else ("an absolute path of at least two parts, with letters, digits and . _ + @ -, and no slash "
                            "at its end, such as /var/lib/desimages")


def state(value: Any) -> str:
    if said := path(value):
        return said
    longest = len(f"{value}/buildkitd.sock".encode())
    short = f"a path of at most {SOCKET_LENGTH - 15} bytes, the limit of the unix sockets in it"
    return "" if longest <= SOCKET_LENGTH else short


def registry(value: Any) -> str:
    """Each host and the controller take it for the same machine, or for itself: 0.0.0.0 is neither."""
    allowed = references.address(value)
    unspecified = not allowed and re.match(r"(0\.0\.0\.0|\[[0:.]+\])(:|\Z)", value)
    return "the name or address under which all hosts and this machine reach it" if unspecified else allowed


def namespace(value: Any) -> str:
    """The first part of a repository's name, which leaves room for an image's name."""
    good = not references.repository(value) and len(value) <= LONGEST_NAMESPACE
    return "" if good else f"lower case letters and digits, with . _ __ - / between them, at most {LONGEST_NAMESPACE}"


def publish(value: Any) -> str:
    host, slash, path = value.partition("/") if isinstance(value, str) else ("", "", "")
    good = value == "" or (not references.address(host) and (not slash or not namespace(path)))
    if good and references.hub(host) and (not path or "/" in path):
        return f"{host}/NAME with the name of an account there: Docker Hub has no other paths"
    return "" if good else f"'' or HOST[:PORT][/PATH] without a scheme, where PATH has {namespace('')}"


def text(value: Any) -> str:
    return "" if isinstance(value, str) else "a string"


def file(value: Any) -> str:
    return "" if value == "" or not path(value) else f"'' or {path(None)}"


def user(value: Any) -> str:
    good = isinstance(value, str) and re.fullmatch(r"[!-9;-~]{1,255}", value)
    return "" if good else "letters, digits and signs, without a space or a colon"


def password(value: Any) -> str:
    good = isinstance(value, str) and (value == "" or value.isprintable()) and len(value.encode(errors="replace")) <= 72
    return "" if good else ("a string (a number in quotes) without line breaks, of at most 72 bytes (bcrypt's "
                            "limit)")


def private_key(value: Any) -> str:
    good = isinstance(value, str) and (value == "" or is_private_key(value))
    return "" if good else ("an ed25519 private key itself (no path), in PEM without a passphrase, as `openssl genpkey "
                            "-algorithm ed25519` writes it")


def public_keys(value: Any) -> str:
    good = not texts(value) and not isinstance(value, str) and all(public_key(one) for one in value)
    return "" if good else "a list of ed25519 public keys, each in base64 or PEM"


def flag(value: Any) -> str:
    """A word counts too: `-e name=true` gives one, and Ansible itself accepts these."""
    return "" if isinstance(value, bool) or (isinstance(value, str) and value.lower() in WORDS) else "true or false"


def texts(value: Any) -> str:
    good = isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value))
    return "" if good else "a list of strings"


def names(value: Any) -> str:
    """Names that choose. None at all choose everything, which commas alone cannot mean."""
    good = not isinstance(value, str) or not value or value.strip(", ")
    return texts(value) or ("" if good else "a list of names")


def folders(value: Any) -> str:
    """An empty name, as after a last comma, would be the folder in which the run was started."""
    given = list(map(str.strip, value.split(","))) if isinstance(value, str) else value
    return texts(value) or ("" if given and all(given) else "a list of folders")


def platforms(value: Any) -> str:
    known = [str(platform) for platform in ALL]
    given = list(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value
    good = not texts(value) and all(one in known for one in given)
    good = good and (bool(given) or not value)  # commas alone are no choice
    return "" if good else f"a list of platforms out of {', '.join(known)}"


def emulation(value: Any) -> str:
    """One word for all platforms, or a mapping of platforms to words; `-e name=value` gives a text."""
    known = [str(platform) for platform in ALL]
    good = value in EMULATION if isinstance(value, str) else (
        isinstance(value, Mapping) and all(name in known and word in EMULATION for name, word in value.items()))
    words = ", ".join(EMULATION)
    return "" if good else f"one of {words}, or a mapping of platforms to these, such as {{linux/s390x: allowed}}"


def count(value: Any) -> str:
    good = not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,3}", str(value))
    return "" if good else "a number from 0 to 999"


def mapping(value: Any) -> str:
    return "" if isinstance(value, Mapping) else "a mapping"


def origins(value: Any) -> str:
    """See fetch/origins.py."""
    if mapping(value):
        return mapping(value)
    allowed = (*BASES, *PREFIXES, *ADDRESSES)
    if unknown := sorted(set(map(str, value)) - {*allowed}):
        shown = ", ".join(unknown).encode("ascii", "backslashreplace").decode()[:300]
        return f"a mapping with {', '.join(allowed)}; it has {shown}"
    wrong = [f"{name} is a list of base URLs, such as [https://mirror.example/debian]" for name in BASES
             if name in value and (texts(value[name])
                                   or not all(re.match(FETCHED, one) for one in _listed(value[name])))]
    wrong += [f"{name} is {words}" for name, (pattern, words) in ADDRESSES.items()
              if name in value and not (isinstance(value[name], str) and re.fullmatch(pattern, value[name]))]
    for name, (pattern, words) in PREFIXES.items():
        rules = value.get(name, {})
        if not isinstance(rules, Mapping) or not all(
                isinstance(before, str) and isinstance(after, str) and re.match(pattern, after)
                for before, after in rules.items()):
            wrong.append(f"{name} is a mapping of the beginning of an address to {words}")
    # it would be in commands that every user sees, and in what Ansible prints
    wrong += [f"{name} has no login (write that where this machine's own client reads it, such as netrc)"
              for name in allowed if name in value and LOGIN.search(json.dumps(value[name], default=str))]
    return f"a mapping in which {', '.join(wrong)}" if wrong else ""


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def templates(value: Any) -> str:
    """Templates of tags, as registry/tags.py renders them."""
    if said := texts(value):
        return said
    given = list(map(str.strip, value.split(","))) if isinstance(value, str) else value
    try:
        fields = {(name, spec, conversion) for text in given
                  for _text, name, spec, conversion in Formatter().parse(text) if name is not None}
        good = (bool(given) and fields <= {(name, "", None) for name in ("suite", "date", "id")}
                and not any(_no_tag(text) for text in given))
    except (ValueError, KeyError, IndexError):
        good = False
    return "" if good else (f"a list of tags, each of at most {TEMPLATE} letters, digits and . _ -, which does not "
                            "begin with . or -, and in which only {suite}, {date} and {id} are fields")


def _no_tag(template: str) -> bool:
    """Whether the result of a template is not a valid tag, or too long for one."""
    text = template.format(suite="s", date="20260101", id="0")
    return bool(references.tag(text)) or len(text) > TEMPLATE


def choice(*allowed: str) -> Callable[[Any], str]:
    return lambda value: "" if value in allowed else f"one of {', '.join(allowed)}"


def time(value: Any) -> str:
    """A time as snapshot.debian.org writes it. Of one that is to come it would give what there is now."""
    try:
        good = value == "" or (isinstance(value, str) and datetime.now(timezone.utc) >=
                               datetime.strptime(value, SNAPSHOT).replace(tzinfo=timezone.utc))
    except ValueError:
        good = False
    return "" if good else "'' or a time that has passed, in UTC, such as 20261123T112238Z"


def written(value: Any) -> str:
    """The name of a file that a playbook writes. A relative one would be beside the playbook."""
    good = isinstance(value, str) and re.fullmatch(r"~?/([^\0\n]*[^\0\n/])", value)
    return "" if good else "the absolute path of a file on the machine where ansible-playbook runs"
