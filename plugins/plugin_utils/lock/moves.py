# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new lock moves, in words. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import LINES
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Lock


def moved(old: Lock, new: Lock) -> list[str]:
    """What a new lock moves, a line each: `openssl 3.5.1-1 -> 3.5.1-2 (linux/amd64, linux/arm64)`."""
    before, after = _versions(old), _versions(new)
    changes: dict[tuple[str, str], list[str]] = {}
    for key in sorted({*before, *after}):
        name, platform = key
        was, now = before.get(key, {}), after.get(key, {})
        if was == now:
            continue
        if sorted(was) == sorted(now):
            text = f"{', '.join(sorted(now))} has other content"
        elif not was:
            text = f"{', '.join(sorted(now))} is new"
        elif not now:
            text = f"{', '.join(sorted(was))} is gone"
        else:
            text = f"{', '.join(sorted(was))} -> {', '.join(sorted(now))}"
        changes.setdefault((name, text), []).append(platform)
    order = {str(platform): number for number, platform in enumerate(ALL)}
    lines = []
    for (name, text), platforms in changes.items():
        where = ", ".join(sorted(filter(None, platforms), key=lambda platform: order.get(platform, 0)))
        lines.append(f"{name} {text}" + (f" ({where})" if where else ""))
    if old.snapshot != new.snapshot:
        lines.append(f"snapshot {old.snapshot or 'none'} -> {new.snapshot or 'none'}")
    lines += [f"{name} is now locked for what the recipe says" for name, said in new.made_for.items()
              if name in old.made_for and old.made_for[name] != said]
    if old.above != new.above:
        lines.append(f"leaves out the packages that it has from {', '.join(new.above) or 'no other image'}")
    lines += _notes("left out", old.left_out, new.left_out)
    lines += _notes("only in an older state", _older(old), _older(new))
    return lines


def _older(lock: Lock) -> dict[str, tuple[str, ...]]:
    return {platform: tuple(f"{suite} of {time}" for suite, time in sorted(suites.items()))
            for platform, suites in lock.older.items()}


def _notes(words: str, old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]) -> list[str]:
    lines: dict[str, list[str]] = {}
    for platform in sorted({*old, *new}):
        was, now = set(old.get(platform, ())), set(new.get(platform, ()))
        for suite in sorted(now - was):
            lines.setdefault(f"{suite} {words}", []).append(platform)
        for suite in sorted(was - now):
            lines.setdefault(f"{suite} no longer {words}", []).append(platform)
    return [f"{text} ({', '.join(platforms)})" for text, platforms in lines.items()]


def _versions(lock: Lock) -> dict[tuple[str, str], dict[str, tuple[tuple[str, str], ...]]]:
    """(name, platform) -> version -> its files with their content. Inputs that share a package count once."""
    found: dict[tuple[str, str], dict[str, set[tuple[str, str]]]] = {}
    for entry in lock.entries:
        fact = entry.fact
        name = fact.get("module") or fact.get("name") or entry.input
        version = LINES[entry.kind].version(fact)
        file = fact.get("file", "")
        found.setdefault((name, entry.platform), {}).setdefault(version, set()).add((file, entry.sha256))
    return {key: {version: tuple(sorted(files)) for version, files in versions.items()}
            for key, versions in found.items()}
