# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds by their imports the files that travel to hosts: those of a module, of the runner, of the roles that
provision."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[1]
SHARED = PLUGINS / "module_utils"
_IMPORT = re.compile(r"^\s*from (?:ansible_collections\.desimages\.farm\.plugins\.module_utils|(?=\.))\.?(\w*) "
                     r"import (.*)$", re.M)
_TASK = re.compile(r"^\s*(?:- )?desimages\.farm\.(\w+):", re.M)


@cache
def needs(path: Path) -> frozenset[Path]:
    """The files of module_utils that a file itself imports, at its top or later."""
    found = set()
    for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
        for name in [module] if module else [word.split()[0] for word in names.strip("( ").split(",") if word.strip()]:
            found.add(SHARED / f"{name}.py")
    return frozenset(found)


def closure(paths: Iterable[Path]) -> list[Path]:
    """Files, with everything in module_utils that they need."""
    found: set[Path] = set()
    queue = list(paths)
    while queue:
        path = queue.pop()
        if path not in found:
            found.add(path)
            queue += needs(path)
    return sorted(found)


def provisioning(roles: Iterable[str]) -> list[Path]:
    """Everything that decides how roles provision a host: their own files except documentation, the modules that they
    use, what these need, and the runner, which provisioning brings."""
    own = [path for role in roles for path in (PLUGINS.parent / "roles" / role).rglob("*") if path.is_file()
           and path.suffix != ".md"]
    named = {name for path in own if path.suffix == ".yml" for name in _TASK.findall(path.read_text(encoding="utf-8"))}
    modules = [path for name in sorted(named) if (path := PLUGINS / "modules" / f"{name}.py").is_file()]
    return [*own, *closure([*modules, SHARED / "runner.py"])]
