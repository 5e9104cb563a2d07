# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the go command which versions of modules there are, and which of those that are locked were retracted. I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import golang, versions
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.go_failures import failure
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.golang import TOOLCHAIN, Go
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

_OF_GO = re.compile(r"(?<=-go)[0-9][0-9a-z.]*?(?=\.[a-z]+-)")  # in v0.0.1-go1.26.8.linux-amd64


def locked(entries: Iterable[Entry], name: str) -> dict[str, str]:
    """module -> version of the modules that an input has."""
    return {entry.fact["module"]: entry.fact["version"] for entry in entries
            if entry.kind == "go" and entry.input == name and entry.fact["file"] == "zip"}


def modules(go: Go, folder: Path, have: dict[str, str], named: Collection[str],
            place: tuple[str | int, ...]) -> list[Version]:
    """The modules that are `named`, and those of the others that were withdrawn. `have` maps a module to its version.
    A new major version is another module: it is not found."""
    wanted = [f"{module}@{version}" for module, version in sorted(have.items())]
    said: dict[str, dict[str, Any]] = {}
    for start in range(0, len(wanted), golang.AT_ONCE):
        some = wanted[start:start + golang.AT_ONCE]
        done = go.run("list", "-m", "-u", "-e", "-json", *some, folder=folder)
        answers: Iterable[dict[str, Any]] = golang.values(done.out)
        said.update({answer["Path"]: answer for answer in answers})
        if done.code and not done.out:
            raise failure("go list -m -u", done.err, exit_code=done.code)
    found = []
    unknown: dict[str, str] = {}
    for module, version in have.items():
        answer = said.get(module, {"Error": {"Err": "the go command says nothing of it"}})
        withdrawn, newest = _withdrawn(answer), answer.get("Update", {}).get("Version", version)
        problem = answer.get("Error")
        if module in named and problem:
            raise failure(f"{module} {version}", str(problem["Err"]))
        if module in named:
            found.append(Version(module, version, newest, withdrawn, place=place, text=newest))
        elif withdrawn:
            found.append(Version(module, version, newest, withdrawn))
        elif problem:
            unknown[module] = failure("go list -m -u", str(problem["Err"])).message
    return found + versions.unknown({module: have[module] for module in unknown}, next(iter(unknown.values()), ""))


def _withdrawn(answer: dict[str, Any]) -> str:
    if "Retracted" in answer:
        return "; ".join(["retracted", *filter(None, answer["Retracted"])]).replace("; ", ": ", 1)
    return f"deprecated: {answer['Deprecated']}" if answer.get("Deprecated") else ""


def toolchain(go: Go, folder: Path, version: str) -> Version:
    """The newest Go, by the list of its own module."""
    done = go.run("list", "-m", "-versions", "-json", "go", folder=folder)
    if done.code:
        raise failure("go list -m -versions go", done.err or done.out, exit_code=done.code)
    said: list[dict[str, Any]] = list(golang.values(done.out))
    mine = _OF_GO.search(version)
    if not mine:
        raise FarmError(f"{TOOLCHAIN} {version} does not say which Go it is")
    best = versions.newest(said[0].get("Versions", ()), mine[0])
    text = _OF_GO.sub(best, version)
    return Version(TOOLCHAIN, version, text, place=("version",), text=text)


def direct(go: Go, folder: Path) -> list[str]:
    """The modules that a go.mod requires by itself, or those that it replaces them by."""
    said: dict[str, Any] = next(iter(golang.values(go.must("mod", "edit", "-json", folder=folder))))
    instead = {(one["Old"]["Path"], one["Old"].get("Version", "")): one["New"]["Path"]
               for one in said.get("Replace") or ()}
    return [instead.get((one["Path"], one["Version"])) or instead.get((one["Path"], "")) or one["Path"]
            for one in said.get("Require") or () if not one.get("Indirect")]
