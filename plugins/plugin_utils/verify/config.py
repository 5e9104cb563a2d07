# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the configuration of an image is what its recipe promises. No I/O.

Source: https://github.com/opencontainers/image-spec/blob/main/config.md; HEALTHCHECK is Docker's addition to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import LABEL
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.files import KEY
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding

LABELS = ("created", "description", "licenses", "source", "title", "vendor", "version")
NUMBER = re.compile(r"[0-9]+", re.ASCII)
SECRET = re.compile(r"(^|_)(PASS(WD|WORD|PHRASE)?|SECRET|TOKEN|CREDENTIALS?|(API|ACCESS|PRIVATE|SECRET)_?KEY)$")


def findings(config: Mapping[str, Any], contract: Contract, users: Mapping[str, int] | None = None
             ) -> Iterator[Finding]:
    """`config` is the key of that name in an image's configuration; `users` are those of its /etc/passwd."""
    labels = config.get("Labels") or {}
    for name in LABELS:
        if not labels.get(LABEL + name):
            yield Finding("labels", name, f"the label {LABEL}{name} is missing")
    user = str(config.get("User") or "").partition(":")[0] or "root"
    number = int(user) if NUMBER.fullmatch(user) else {"root": 0, **(users or {})}.get(user)
    if number == 0:
        yield Finding("root", user, "USER is root" if user in ("0", "root") else f"USER is {user}, which is root")
    elif contract.user is not None and number != contract.user:
        yield Finding("config", "USER", f"USER is {user}, the recipe promises {contract.user}")
    for word, had, promised in (
        ("EXPOSE", set(config.get("ExposedPorts") or ()), set(contract.ports.values())),
        ("VOLUME", set(config.get("Volumes") or ()), set(contract.volumes)),
    ):
        if had != promised:
            yield Finding("config", word, f"{word} has {_words(had)}, the recipe promises {_words(promised)}")
    check = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    if (check[0] != "NONE") != bool(contract.health):
        yield Finding("config", "HEALTHCHECK", "the image has a HEALTHCHECK, but the recipe promises no health"
                      if check[0] != "NONE" else "the recipe promises health, but the image has no HEALTHCHECK")
    command = list(config.get("Cmd") or ())
    if contract.service and command and contract.command and command != list(contract.command):
        yield Finding("config", "CMD", f"CMD is {command}, the recipe promises {list(contract.command)}")


def secrets(said: Mapping[str, Any]) -> Iterator[Finding]:
    """Secrets in an image's whole configuration, which has its environment, its labels and how it was made."""
    for variable in (said.get("config") or {}).get("Env") or ():
        name, _sign, value = variable.partition("=")
        if SECRET.search(name.upper()) and value and not value.startswith("/"):  # a path tells nothing
            yield Finding("secret", f"ENV {name}", f"the variable {name} has a value that everybody can read")
    if KEY.search(json.dumps(said).encode()):
        yield Finding("secret", "configuration", "a private key is in the image's configuration")


def users(passwd: str) -> dict[str, int]:
    """The names in /etc/passwd, see passwd(5), and their numbers."""
    lines = [line.split(":") for line in passwd.splitlines()]
    return {line[0]: int(line[2]) for line in lines if len(line) > 2 and NUMBER.fullmatch(line[2])}


def _words(some: set[str]) -> str:
    return ", ".join(sorted(some)) or "nothing"
