# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches locked files into the store, each by its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import LINES
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

Progress = Callable[[int, int, int], None]


def fetch_entries(wanted: Iterable[tuple[Entry, str]], desk: Desk,
                  progress: Progress = lambda done, total, size: None) -> dict[Entry, FarmError | None]:
    """Fetches locked files into the store. `wanted` are pairs of an entry and its lock's snapshot time.

    Returns for each entry None if it is in the store, else its error (HashMismatch, Missing, Unreachable, NoSpace). A
    bad file does not stop the others. `progress(files done, files in all, bytes done)` is called from this thread.
    """
    found: dict[Entry, FarmError | None] = {}
    groups: dict[str, list[tuple[Entry, str]]] = {}  # one content is fetched once
    for entry, snapshot in wanted:
        groups.setdefault(entry.sha256, []).append((entry, snapshot))
    done, size = 0, 0

    def settle(first: Entry, error: FarmError | None) -> None:
        nonlocal done, size
        found.update((entry, error) for entry, _snapshot in groups[first.sha256])
        if not error:
            done, size = done + 1, size + first.size
            progress(done, len(groups), size)

    lacking: dict[str, list[tuple[Entry, str]]] = {}
    for pairs in groups.values():
        if desk.store.has(pairs[0][0].sha256, pairs[0][0].size):
            settle(pairs[0][0], None)
        else:
            lacking.setdefault(pairs[0][0].kind, []).append(pairs[0])
    for kind, pairs in lacking.items():
        for entry, error in LINES[kind].fetch(pairs, desk):
            settle(entry, error)
    return found
