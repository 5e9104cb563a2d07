# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks pip for the newest wheels of packages, and which of those that are locked were yanked. I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import versions, wheels
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.pip_client import Pip
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version

_YANKED = re.compile(r"is a yanked version: '(?P<name>[^' ]+)' candidate \(version (?P<version>\S+) .*?\n"
                     r"Reason for being yanked: (?P<why>.*)")
NO_REASON = "<none given>"  # pip's words


def packages(pip: Pip, work: Path, have: Mapping[str, str], named: Sequence[str],
             options: Sequence[str]) -> list[Version]:
    """The packages of the requirements that are `named`, in that order, and those of all others that were yanked.
    `have` maps a name to its version; `options` choose wheels, so the newest is the newest that there is for these."""
    wanted = [(*wheels.split(text), text) for text in named]
    pins = {**have, **{name: version for name, version, _text in wanted}}
    yanked, failed = _yanked(pip, work / "locked", pins, options)
    found = []
    for number, (name, version, text) in enumerate(wanted):
        best = _newest(pip, work / "newest", name, version, options)
        written = text.replace(f"=={version}", f"=={best}")
        found.append(Version(name, version, best, yanked.get(name, ""), place=("pypi", number),
                             text=written).told(failed))
    if failed and not named:
        return versions.unknown(have, failed)
    named_ = {name for name, _version, _text in wanted}
    return found + [Version(name, have[name], withdrawn=why) for name, why in sorted(yanked.items())
                    if name not in named_]


def _newest(pip: Pip, work: Path, name: str, version: str, options: Sequence[str]) -> str:
    """pip leaves out what was yanked, and trials unless it is asked for them."""
    trials = ("--pre",) if versions.trial(version) else ()
    report, _warned = pip.report([name], [*options, *trials], work)
    best = str(report[0]["metadata"]["version"])
    return version if wheels.same_version(best, version) else versions.newest([best], version)


def _yanked(pip: Pip, work: Path, have: Mapping[str, str],
            options: Sequence[str]) -> tuple[dict[str, str], str]:
    """name -> the words of who yanked it, and why this is not known."""
    try:
        report, warned = pip.report([f"{name}=={version}" for name, version in sorted(have.items())], options, work)
    except FarmError as error:
        return {}, f"what was yanked is not known: {error.message}"
    found = {_name(one): "yanked" for one in report if one.get("is_yanked")}
    for said in _YANKED.finditer(warned):
        why = said["why"].strip()
        found[wheels.normal(said["name"])] = "yanked" if why == NO_REASON else f"yanked: {why}"
    return found, ""


def _name(one: Mapping[str, Any]) -> str:
    return wheels.normal(str(one["metadata"]["name"]))
