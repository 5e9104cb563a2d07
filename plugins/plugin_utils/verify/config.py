# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the configuration of an image is what its recipe promises. No I/O.

Source: https://github.com/opencontainers/image-spec/blob/main/config.md; HEALTHCHECK is Docker's addition to it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract, unasked
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import LABEL
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import secret
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding

LABELS = ("created", "description", "licenses", "source", "title", "vendor", "version")
TIME = re.compile(  # RFC 3339, 5.6
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})")
NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)  # as engines read it
SEARCHED = ("PATH", "LD_LIBRARY_PATH")  # variables with the folders of programs and libraries
SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # folders in which everybody may make files
# what is written into the history: arguments of a build before a command, and what ARG and ENV give
ARGUMENTS = re.compile(r"(?:/bin/sh -c #\(nop\) +)?(?:ARG|ENV|(?:RUN )?\|[0-9]+) ")
ARGUMENT = re.compile(r"(?<!\S)(\w+)=(\S+)")


def findings(config: Mapping[str, Any], contract: Contract, users: Mapping[str, int] | None = None
             ) -> Iterator[Finding]:
    """`config` is the key of that name in an image's configuration; `users` are those of its /etc/passwd."""
    labels = config.get("Labels") or {}
    for name in LABELS:
        if not str(labels.get(LABEL + name) or "").strip():
            yield Finding("labels", name, f"the label {LABEL}{name} is missing")
    created = str(labels.get(f"{LABEL}created") or "").strip()
    if created and not TIME.fullmatch(created):
        yield Finding("labels", "created", f"the label {LABEL}created is {created!r}, which is no time as in RFC 3339")
    yield from _user(str(config.get("User") or "").partition(":")[0] or "root", contract, users or {})
    for word, had, promised in (
        ("EXPOSE", set(map(_port, config.get("ExposedPorts") or ())), set(contract.ports.values())),
        ("VOLUME", set(config.get("Volumes") or ()), set(contract.volumes)),
    ):
        if had != promised:
            yield Finding("config", word, f"{word} has {_words(had)}, the recipe promises {_words(promised)}")
    check = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    if (check[0] != "NONE") != bool(contract.health):
        yield Finding("config", "HEALTHCHECK", "the image has a HEALTHCHECK, but the recipe promises no health"
                      if check[0] != "NONE" else "the recipe promises health, but the image has no HEALTHCHECK")
    elif lacking := unasked(contract.health, " ".join(check[1:])):
        yield Finding("config", "HEALTHCHECK", f"HEALTHCHECK is {' '.join(check[1:])[:120]}, but the recipe promises "
                                               f"{', '.join(lacking)}")
    command = list(config.get("Cmd") or ())
    if contract.service and command and contract.command and command != list(contract.command):
        yield Finding("config", "CMD", f"CMD is {command}, the recipe promises {list(contract.command)}")
    written = (*SHARED, *(config.get("Volumes") or ()), *contract.volumes, *contract.tmpfs)
    for name, value in map(_variable, config.get("Env") or ()):
        if name in SEARCHED and value:
            yield from (Finding("config", f"ENV {name}", f"{name} has {folder or 'an empty entry'}, {why}")
                        for folder in value.split(":") if (why := _unsafe(folder, written)))


def _user(user: str, contract: Contract, users: Mapping[str, int]) -> Iterator[Finding]:
    """`users` as in findings. A number there may be a name, and then the name counts."""
    number = users.get(user, int(user) if NUMBER.fullmatch(user) else 0 if user == "root" else None)
    if number == 0:
        yield Finding("root", user, "USER is root" if user in ("0", "root") else f"USER is {user}, which is root")
    elif number is None:
        yield Finding("config", "USER", f"USER is {user}, whom /etc/passwd of the image does not know")
    elif contract.user is not None and number != contract.user:
        yield Finding("config", "USER", f"USER is {user}, the recipe promises {contract.user}")
    if others := [name for name, its in users.items() if its == 0 and name not in ("root", user)]:
        yield Finding("root", "/etc/passwd", f"/etc/passwd has root by other names too: {', '.join(others)}")


def _unsafe(folder: str, written: Sequence[str]) -> str:
    """Why programs or libraries should not come from a folder; '' if they may. `written` are folders that others, or
    the image itself when it runs, may write to."""
    if not folder.startswith("/"):
        return "which is another folder wherever it runs"
    path = posixpath.normpath(folder)
    inside = next((each for each in written if f"{path}/".startswith(posixpath.normpath(each).rstrip("/") + "/")), "")
    return f"and what is in {inside} may be written when it runs" if inside else ""


def secrets(said: Mapping[str, Any]) -> Iterator[Finding]:
    """Secrets in an image's whole configuration, which has its environment, its labels and how it was made."""
    text = json.dumps(said, ensure_ascii=False)
    variables = (said.get("config") or {}).get("Env") or ()
    for name, value in map(_variable, variables):
        if secret.of_variable(name, value):
            yield Finding("secret", f"ENV {name}", f"the variable {name} has a value that everybody can read")
            text = _without(text, name, value)
    for step in said.get("history") or ():
        made = str(step.get("created_by") or "")
        for name, value in ARGUMENT.findall(made) if ARGUMENTS.match(made) else ():
            if f"{name}={value}" not in variables and secret.of_variable(name, value.strip("\"'")):
                yield Finding("secret", f"history {name}", f"the image's history says what {name} was")
                text = _without(text, name, value)
    content = text.encode(errors="replace")
    if what := secret.of_text(content) or ("has a password" if secret.URL.search(content) else ""):
        yield Finding("secret", "configuration", f"the image's configuration {what}".replace("is a", "has a"))


def _without(text: str, name: str, value: str) -> str:
    """A text of JSON without a variable that was found already."""
    return text.replace(json.dumps(f"{name}={value}", ensure_ascii=False)[1:-1], name)


def users(passwd: str) -> dict[str, int]:
    """The names in /etc/passwd, see passwd(5), and their numbers. Of two lines with one name the first counts."""
    lines = [line.split(":") for line in passwd.splitlines()]
    return {line[0]: int(line[2]) for line in reversed(lines) if len(line) > 2 and NUMBER.fullmatch(line[2])}


def _variable(text: str) -> tuple[str, str]:
    name, _sign, value = text.partition("=")
    return name, value


def _port(text: str) -> str:
    """A port with its protocol, which other builders than BuildKit may leave out."""
    return text if "/" in text else f"{text}/tcp"


def _words(some: set[str]) -> str:
    return ", ".join(sorted(some)) or "nothing"
