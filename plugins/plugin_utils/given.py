# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files on the controller that settings name, or come from: what is wrong with them, before anything starts. This
file reads them. Everything else about a certificate of one's own is checked where it is used: pki/keeping.py."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.files import may

WRITTEN = tuple(f"farm_{name}_json" for name in ("plan", "status", "check", "verify", "outdated", "licences"))
READ = (".yml", ".yaml", ".json")  # what Ansible reads there, besides names without a suffix
USUAL = ("all", "nodes", "registries", "testers")


def mistakes(values: Mapping[str, Any], now: datetime) -> list[str]:
    """From a host's public variables, which are right but for this."""
    unwritable = [f"{name} is {path!r}: {said}" for name in WRITTEN
                  for path in [values.get(name)] if path and (said := _unwritten(os.path.expanduser(path)))]
    if references.loopback(str(values.get("farm_registry", ""))):
        return unwritable
    ca, made = values.get("farm_registry_ca", ""), f"{values.get('farm_secrets', '')}/registry-ca.pem"
    found = unwritable
    found += _authority(ca, now) if ca and ca != made else []  # what the farm makes may be missing yet
    for name in ("registry_certificate", "registry_key"):
        path = values.get(name)
        if path and isinstance(path, str) and (said := _unread(path)):
            found.append(f"{name} is {path!r}: {said}")
    return found


def unread(folder: str, groups: Mapping[str, Sequence[str]], hosts: Iterable[str]) -> list[str]:
    """What to say of files and folders of variables beside an inventory whose names are nearly those of a group or
    host that has none: nobody reads them."""
    found = []
    for kind, of, known in (("group_vars", "group", {*groups, *USUAL}), ("host_vars", "host", {*hosts, "localhost"})):
        try:
            paths = [Path(entry.name) for entry in os.scandir(Path(folder) / kind) if not entry.name.startswith(".")]
        except OSError:
            continue
        names = {path.stem if path.suffix in READ else path.name for path in paths}
        for name in sorted(names - known):
            # pi2 and pi3 are two machines, one of which was removed
            lacking = sorted(other for other in known - names if _letters(other) != _letters(name))
            found += [f"{folder}/{kind}/{name} is for no {of} of this inventory, so nothing in it is used: is it for "
                      f"{near}?" for near in difflib.get_close_matches(name, lacking, n=1, cutoff=0.77)]
    return found


def _letters(name: str) -> str:
    return name.strip("0123456789")


def _unwritten(path: str) -> str:
    """Why a file cannot be written; '' if it can. It replaces what has its name, which must not be a device."""
    folder = os.path.dirname(path)
    try:
        os.stat(folder)
    except PermissionError:
        return f"this user may not look into the folder {folder}"
    except OSError:
        pass
    if not os.path.isdir(folder):
        return f"the machine on which ansible-playbook runs has no folder {folder}"
    if not may(folder, os.W_OK | os.X_OK):
        return f"this user may not write to the folder {folder}"
    if os.path.islink(path) or os.path.exists(path) and not os.path.isfile(path):
        return "this is not a file, and would be replaced by one: name another"
    return ""


def _unread(path: str) -> str:
    """Why a file cannot be read; '' if it can."""
    try:
        Path(path).read_bytes()
    except (OSError, ValueError) as error:
        return (f"this file on the machine on which ansible-playbook runs cannot be read "
                f"({getattr(error, 'strerror', None) or error})")
    return ""


def _authority(path: str, now: datetime) -> Iterator[str]:
    begin = f"farm_registry_ca is {path!r}: "
    if said := _unread(path):
        yield begin + said
        return
    import ssl  # here, as most runs need it for nothing else

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        holds = "it has a private key" if b"PRIVATE KEY-" in Path(path).read_bytes() else "there are none in it"
        yield begin + f"it must have certificates in PEM, and {holds}"
        return
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs() if "notAfter" in each]
    if ends and max(ends) < now.timestamp():
        day = datetime.fromtimestamp(max(ends), now.tzinfo).date()
        yield begin + (f"its certificates expired, the last one on {day}: give the CA that signs the registry's "
                       "certificate now")
