# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashes of the certificates and passwords that decide how a host is provisioned. The hashes do not reveal them. This
file reads certificates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

_COST = 2**13  # of scrypt: 20 ms. A fingerprint lies where others may read it, and a person's password may be a word


def decisive(values: Mapping[str, Any], *, own: bool, now: datetime) -> dict[str, Any]:
    """From a host's public variables; `own` says that the farm's registry is on it. {} if the registry is on loopback,
    or its variables are wrong."""
    name, secrets = values.get("farm_registry"), values.get("farm_secrets", "")
    if references.address(name) or references.loopback(str(name)):
        return {}
    found: dict[str, Any] = {"ca": _hash(values.get("farm_registry_ca"))}
    if own:
        given = values.get("registry_certificate")
        certificate = given or f"{secrets}/registry.pem"
        user, password = (str(values.get(f"farm_registry_{each}", "")) for each in ("user", "password"))
        login = hashlib.scrypt(password.encode(errors="replace"), salt=f"{user}@{name}".encode(errors="replace"),
                               n=_COST, r=8, p=1)
        found.update(certificate=_hash(certificate), key=_hash(values.get("registry_key")) if given else "",
                     due=_due(certificate, now), login=login.hex())
    return found


def _hash(path: Any) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""


def _due(path: str, now: datetime) -> bool:
    """Whether a certificate soon expires, or there is none."""
    from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates  # slow to import

    try:
        return certificates.expiry(Path(path).read_text(encoding="utf-8")) - now < certificates.RENEWED
    except (OSError, ValueError, FarmError):
        return True
