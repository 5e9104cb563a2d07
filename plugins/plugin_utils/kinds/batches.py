# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches through clients that get many files at once, but stop at the first one that they cannot get: npm and pip."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
)
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

AT_ONCE = 200  # files that one command is asked for


def in_batches(entries: Sequence[Entry], get: Callable[[Sequence[Entry]], FarmError | None],
               enter: Callable[[Entry], FarmError | None]) -> Iterator[tuple[Entry, FarmError | None]]:
    """Gets files together. If that fails, each half is tried alone, to find the file that fails. A failure that is not
    about single files (the network, a login, a full disk) counts for all of them at once.

    `get` downloads files and returns its error, `enter` checks one that was downloaded and puts it into the store.
    """
    todo = [entries[start:start + AT_ONCE] for start in range(0, len(entries), AT_ONCE)]
    while todo:
        batch = todo.pop(0)
        try:
            error = get(batch)
        except FarmError as raised:
            error = raised
        if error is None:
            yield from ((entry, enter(entry)) for entry in batch)
        elif len(batch) > 1 and isinstance(error, (Missing, HashMismatch)):
            middle = len(batch) // 2
            todo[:0] = [batch[:middle], batch[middle:]]
        else:
            yield from ((entry, _of(error, entry)) for entry in batch)


def _of(error: FarmError, entry: Entry) -> FarmError:
    return type(error)(f"{entry.label}: {error.message}", hint=error.hint, **error.where)


def into_store(entry: Entry, path: Path, store: Store) -> FarmError | None:
    """Checks a file that was downloaded, and copies it into the store."""
    try:
        got, size = sha256_of(str(path)), path.stat().st_size
        if (got, size) != (entry.sha256, entry.size):
            return HashMismatch(f"{entry.label} is {got}, {size} bytes; the lock says {entry.sha256}, {entry.size} "
                                "bytes", hint=CHANGED)
        keep(path, entry.sha256, store)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(f"{entry.label}: the disk of {store.root} is full", hint="make room there and run again")
        raise
    return None


def keep(path: Path, sha256: str, store: Store) -> None:
    """Copies a file into the store, unless it is there."""
    if not store.has(sha256):
        partial = store.partial(sha256)
        shutil.copyfile(path, partial)
        store.put(partial, sha256)
