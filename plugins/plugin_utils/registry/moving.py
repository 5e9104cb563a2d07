# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies all that a namespace has from one registry to another: by digest, every tag whatever it is for. What is there
already is not copied again, so it can be repeated after it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, RegistryError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

THREADS = 8
PAUSE = 5.0  # seconds between lines of progress

Found = Optional[tuple[str, int, str]]  # digest, size, media type


@dataclass(frozen=True)
class Piece:
    """A manifest or index, and the tags that name it in the old registry."""

    repository: str
    digest: str
    tags: tuple[str, ...]


@dataclass
class Moved:
    """What was done. `copied` and `present` count tags. `kept` are tags (`repository:tag`) that name something else in
    the new registry, and stay so; `failed` says what could not be copied, and why."""

    copied: int = 0
    present: int = 0
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Move:
    """From `old` to `new`. With `check`, nothing is copied."""

    def __init__(self, old: Registry, new: Registry, namespace: str, say: Callable[[str], None],
                 check: bool = False) -> None:
        self.old, self.new, self.namespace, self.say, self.check = old, new, namespace, say, check
        self.moved = Moved()
        self.empty = check and not new.answers()  # it may not be there yet

    def run(self) -> Moved:
        """Raises RegistryError if the old registry has nothing; any error of one tag is in the result."""
        repositories = self.old.repositories(self.namespace)
        if not repositories:
            raise RegistryError(f"{self.old.address} has nothing below {self.namespace}/",
                                hint="farm_from must be the old registry, and farm_namespace the name that it used")
        with ThreadPoolExecutor(THREADS) as pool:
            pieces = [piece for found in pool.map(self._pieces, repositories) for piece in found]
            began = said = time.monotonic()
            for done, (piece, problem) in enumerate(zip(pieces, pool.map(self._copy, pieces)), start=1):
                if problem:
                    self.moved.failed.append(f"{piece.repository}@{piece.digest} ({', '.join(piece.tags)}): {problem}")
                else:
                    self.moved.copied += len(piece.tags)
                if not self.check and (time.monotonic() - said > PAUSE or done == len(pieces)):
                    said = time.monotonic()
                    self.say(f"{done} of {len(pieces)} manifests copied to {self.new.address}, {said - began:.0f} s")
        return self.moved

    def _pieces(self, repository: str) -> list[Piece]:
        """What is missing in the new registry. A tag is pushed last, so where it is there, all it names is."""
        named: dict[str, list[str]] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            tags = self.old.tags(repository)
            for tag, (wanted, found, problem) in zip(tags, pool.map(lambda tag: self._both(repository, tag), tags)):
                if problem:
                    self.moved.failed.append(f"{repository}:{tag}: {problem}")
                elif wanted is None:  # removed meanwhile
                    continue
                elif found is None:
                    named.setdefault(wanted[0], []).append(tag)
                elif found[0] == wanted[0]:
                    self.moved.present += 1
                else:
                    self.moved.kept.append(f"{repository}:{tag}")
        return [Piece(repository, digest, tuple(names)) for digest, names in named.items()]

    def _both(self, repository: str, tag: str) -> tuple[Found, Found, str]:
        """What the tag names in the old and in the new registry; or why that cannot be said."""
        try:
            new = None if self.empty else self.new.digest(repository, tag)
            return self.old.digest(repository, tag), new, ""
        except FarmError as error:
            return None, None, str(error)

    def _copy(self, piece: Piece) -> str:
        """'' or why it could not be copied."""
        if self.check:
            return ""
        try:
            self.old.copy(piece.repository, piece.digest, self.new, piece.repository, list(piece.tags))
        except FarmError as error:
            return error.message + (f" ({error.hint})" if error.hint else "")
        return ""
