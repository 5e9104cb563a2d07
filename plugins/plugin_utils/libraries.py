# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python libraries that the controller needs besides ansible-core. Plugins import them only from here.

If a plugin cannot be imported, Ansible's message looks like a bug. So if a library is missing or too old, a dummy
replaces all of them, plugins can still be imported, and the first action fails and says what to install.

A library is loaded when a plugin imports it from here: most actions need one or none, and each runs in a process of its
own.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

__all__ = ["bcrypt", "cattrs", "check", "ec", "ed25519", "elf_errors", "elffile", "hashes", "jmespath", "jsonschema",
           "prometheus", "requirements", "serialization", "signatures", "unmet", "urllib3", "version", "x509",
           "zstandard"]

NEEDS = Path(__file__).resolve().parents[2] / "meta" / "ee-requirements.txt"  # ansible-builder reads it as well


def unmet(text: str) -> list[str]:
    """The lines of a requirements file that this Python does not meet. A line is `name >=1.2.3`; `#` begins a
    comment."""
    found = []
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        name, least = (part.strip() for part in line.split(">="))
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(line)
        else:
            if _numbers(version) < _numbers(least):
                found.append(f"{line} ({version} is installed)")
    return found


def _numbers(version: str) -> list[int]:
    """1.26.12.post1 -> [1, 26, 12]: its release (PEP 440)."""
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return [int(number) for number in match[0].split(".")] if match else []


@cache
def lacking() -> list[str]:
    """What this Python lacks."""
    return unmet(NEEDS.read_text(encoding="utf-8"))


class _AnyName(type):
    """A metaclass whose classes have every attribute."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class _Stand(metaclass=_AnyName):
    """A dummy for a library, its modules, classes and instances while plugins are imported."""

    def __init__(self, *values: Any, **named: Any) -> None:
        """Takes any arguments."""


if TYPE_CHECKING:
    import bcrypt
    import cattrs.preconf.json
    import jmespath
    import jsonschema
    import urllib3
    import zstandard
    from cryptography import exceptions as signatures
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from elftools.common import exceptions as elf_errors
    from elftools.elf import elffile
    from packaging import requirements, version
    from prometheus_client import parser as prometheus

# name -> the module, and what must be imported for it
_MODULES = {
    "bcrypt": ("bcrypt", "bcrypt"),
    "cattrs": ("cattrs", "cattrs.preconf.json"),
    "ec": ("cryptography.hazmat.primitives.asymmetric.ec",) * 2,
    "ed25519": ("cryptography.hazmat.primitives.asymmetric.ed25519",) * 2,
    "elf_errors": ("elftools.common.exceptions",) * 2,
    "elffile": ("elftools.elf.elffile",) * 2,
    "hashes": ("cryptography.hazmat.primitives.hashes",) * 2,
    "jmespath": ("jmespath", "jmespath"),
    "jsonschema": ("jsonschema", "jsonschema"),
    "prometheus": ("prometheus_client.parser",) * 2,
    "requirements": ("packaging.requirements",) * 2,
    "serialization": ("cryptography.hazmat.primitives.serialization",) * 2,
    "signatures": ("cryptography.exceptions",) * 2,
    "urllib3": ("urllib3", "urllib3"),
    "version": ("packaging.version",) * 2,
    "x509": ("cryptography.x509", "cryptography.x509.oid"),
    "zstandard": ("zstandard", "zstandard"),
}
_used: set[str] = set()


def __getattr__(name: str) -> Any:
    """A library, or the dummy in its place (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(name)
    _used.add(name)
    if lacking():
        return _Stand
    module, needed = _MODULES[name]
    importlib.import_module(needed)
    return sys.modules[module]


def check(*, first: bool = False) -> None:
    """Raises FarmError, with the command to run, if libraries are missing or too old.

    It looks only if one of them was imported, or for the first action of a run.
    """
    if (first or _used) and (lacks := lacking()):
        raise FarmError(
            f"the Python that runs Ansible here, {sys.executable}, lacks what desimages.farm needs: {', '.join(lacks)}",
            hint=f"{sys.executable} -m pip install -r {shlex.quote(str(NEEDS))} (or your distribution's packages of "
                 "them)",
        )
