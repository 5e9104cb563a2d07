# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks npm which versions of packages there are, and which of those that are locked are deprecated. I/O."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import Missing
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import versions
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_client import Npm
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_failures import failure
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version

ASK = ("install", "--package-lock-only", "--package-lock", "--lockfile-version=3", "--prefer-online",
       "--legacy-peer-deps", "--omit=optional", "--engine-strict=false")


def packages(npm: Npm, work: Path, have: Collection[tuple[str, str]], named: Mapping[str, str],
             place: tuple[str | int, ...]) -> list[Version]:
    """The packages that are `named` (name -> version), and those of all others that are deprecated. `work` is a
    folder for npm, which is emptied first."""
    shutil.rmtree(work, ignore_errors=True)
    latest = {name: _latest(npm, work / "empty", name) for name in named}
    said, failed = _deprecated(npm, work / "asked", sorted({*have, *named.items()}))
    found = []
    for name, version in sorted({*have, *named.items()}):
        withdrawn = f"deprecated: {said[name, version]}" if said.get((name, version)) else ""
        if named.get(name) == version:
            best = versions.newest([latest[name]], version)
            found.append(Version(name, version, best, withdrawn, place=place, text=best).told(failed))
        elif withdrawn:
            found.append(Version(name, version, withdrawn=withdrawn))
    return found or versions.unknown(dict(have), failed) if failed else found


def _latest(npm: Npm, folder: Path, name: str) -> str:
    """What the tag `latest` names."""
    done = npm.run("view", name, "dist-tags", folder=folder)
    if not done.code and not done.out.strip():
        raise Missing(f"the registry calls no version of {name} `latest`, so the newest is not known")
    try:
        return str(json.loads(done.out)["latest"])
    except (ValueError, KeyError, TypeError) as error:
        raise failure(f"npm view {name} dist-tags", done.out, done.err, exit_code=done.code) from error


def _deprecated(npm: Npm, work: Path, wanted: Iterable[tuple[str, str]]) -> tuple[dict[tuple[str, str], str], str]:
    """What the authors of deprecated versions say, and why this is not known. One npm command asks for all: each is a
    package of a lock file that npm makes."""
    names = {f"asked-{number}": pair for number, pair in enumerate(wanted)}
    work.mkdir(parents=True)
    manifest = {"name": "desimages-asks", "private": True,
                "dependencies": {alias: f"npm:{name}@{version}" for alias, (name, version) in names.items()}}
    (work / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = npm.run(*ASK, folder=work)
    if done.code:
        error = failure("npm install --package-lock-only", done.out, done.err, exit_code=done.code)
        return {}, f"what is deprecated is not known: {error.message}"
    lock: dict[str, Any] = json.loads((work / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {pair: str(lock.get(f"node_modules/{alias}", {}).get("deprecated", ""))
            for alias, pair in names.items()}, ""
