# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the configuration of an image is what its recipe promises. No I/O.

Source: https://github.com/opencontainers/image-spec/blob/main/config.md; HEALTHCHECK is Docker's addition to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding

PREFIX = "org.opencontainers.image."
LABELS = ("created", "description", "licenses", "source", "title", "vendor", "version")


def findings(config: Mapping[str, Any], contract: Contract) -> Iterator[Finding]:
    """`config` is the key of that name in an image's configuration."""
    labels = config.get("Labels") or {}
    for name in LABELS:
        if not labels.get(PREFIX + name):
            yield Finding("labels", name, f"the label {PREFIX}{name} is missing")
    user = str(config.get("User") or "").partition(":")[0]
    if user in ("", "0", "root"):
        yield Finding("root", user or "root", "USER is root")
    elif contract.user is not None and user != str(contract.user):
        yield Finding("config", "USER", f"USER is {user}, the recipe promises {contract.user}")
    for word, had, promised in (
        ("EXPOSE", set(config.get("ExposedPorts") or ()), set(contract.ports.values())),
        ("VOLUME", set(config.get("Volumes") or ()), set(contract.volumes)),
    ):
        if had != promised:
            yield Finding("config", word, f"{word} has {_words(had)}, the recipe promises {_words(promised)}")
    check = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    if (check[0] != "NONE") != bool(contract.health):
        yield Finding("config", "HEALTHCHECK", "HEALTHCHECK is there, but the recipe promises no health"
                      if check[0] != "NONE" else "the recipe promises health, but there is no HEALTHCHECK")
    command = list(config.get("Cmd") or ())
    if contract.service and command and contract.command and command != list(contract.command):
        yield Finding("config", "CMD", f"CMD is {command}, the recipe promises {list(contract.command)}")


def _words(some: set[str]) -> str:
    return ", ".join(sorted(some)) or "nothing"
