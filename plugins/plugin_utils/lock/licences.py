# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The licences of what enters images, as the locked files say them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, LINES
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

_Key = tuple[str, str, str, str]  # image, input, name, version


def licences(recipes: Iterable[Recipe], desk: Desk) -> Iterator[dict[str, Any]]:
    """A row for each version of each thing that an input has, on whatever platforms: one file of it is read. What the
    store lacks is fetched into it first."""
    chosen: dict[_Key, tuple[Entry, str]] = {}
    for recipe in recipes:
        for entry in recipe.lock.entries:
            kind, fact = LINES[entry.kind], entry.fact
            if not kind.licensed(fact):
                continue
            key = (recipe.name, entry.input, name_of(fact, entry), fact.get("version") or kind.version(fact))
            known = chosen.get(key)
            if not known or (not desk.store.holds(known[0].sha256) and desk.store.holds(entry.sha256)):
                chosen[key] = (entry, recipe.lock.snapshot)
    wanted = list(dict.fromkeys(chosen.values()))
    lacking = sum(not desk.store.holds(entry.sha256) for entry, _snapshot in wanted)
    desk.say(f"licences: {amount(len(wanted), 'file', 'is', 'are')} read, {lacking} of them fetched")
    errors = fetch_entries(wanted, desk)
    once = {entry.sha256: entry for entry, _snapshot in wanted}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # most of the time goes into unpacking, which threads do at once
        read = dict(zip(once, pool.map(lambda entry: _read(entry, errors[entry], desk), once.values())))
    inputs = {(recipe.name, found.name): KINDS[found.kind].key for recipe in recipes for found in recipe.inputs}
    for (image, name, what, version), (entry, _snapshot) in sorted(chosen.items()):
        found = read[entry.sha256]
        yield {"image": image, "input": name, "kind": inputs.get((image, name), entry.kind), "name": what,
               "version": version, "licence": found.says, "known": bool(found.says), "note": found.note}


def name_of(fact: Mapping[str, str], entry: Entry) -> str:
    """How people name it."""
    return next((fact[key] for key in ("module", "name", "git", "image", "url") if fact.get(key)), entry.input)


def _read(entry: Entry, error: FarmError | None, desk: Desk) -> Licence:
    if error:
        return Licence(note=f"it could not be fetched: {error.message}")
    return LINES[entry.kind].licence(entry.fact, desk.store.path(entry.sha256))


def counted(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each image and input, how many have which licence; first what is not known."""
    found: dict[tuple[str, str, str], int] = {}
    for row in rows:
        key = (row["image"], row["input"], row["licence"])
        found[key] = found.get(key, 0) + 1
    return [{"image": image, "input": name, "licence": licence or "not known", "files": count}
            for (image, name, licence), count in sorted(found.items())]
