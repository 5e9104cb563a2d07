# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of a kind of input. To add a kind, write one file beside this one, and name it in kinds/__init__.py."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import WRAPPERS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe

FOR: Mapping[str, Any] = {  # part of every kind's schema
    "enum": ["build", "target"],
    "description": "`build`: for the build platform, served as `build-inputs`; by default `target`.",
}
Read = Callable[[str], "str | None"]  # path -> text of a file in the image's folder, None if it is missing


@dataclass(frozen=True)
class Desk:
    """The tools of resolving and fetching. `state` is farm_state; `go` is the go command to use (empty: the machine's
    own)."""

    origins: Origins
    state: Path
    store: Store
    client: Client
    go: str = ""
    snapshot: str = ""
    allow_missing_suites: bool = False
    keyring: str = ""
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Resolved:
    """What an input resolves to: its lock entries, and its wrapper (path in the image's folder -> text). For Debian
    packages also the time of each suite, and for each platform the suites that it lacks, or has only in an older state
    (suite -> time)."""

    entries: tuple[Entry, ...]
    wrapper: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, datetime] = field(default_factory=dict)
    left_out: Mapping[Platform, tuple[str, ...]] = field(default_factory=dict)
    older: Mapping[Platform, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Wrapper:
    """The files that the lock step writes for an input, in `<kind>/<input>` of the image's folder. It made them if
    `mark` is in the file `marked`; what else is there belongs to someone."""

    files: tuple[str, ...]
    marked: str
    mark: str


class Resolver(ABC):
    """Resolves the inputs of one kind, image after image. What they share is fetched once."""

    def prepare(self, wanted: Iterable[tuple[Recipe, Input]]) -> None:  # noqa: B027
        """Fetches in parallel what the inputs will need. A failure is raised only by `resolve`."""

    @abstractmethod
    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        """Resolves an input for the platforms that it is for. Raises FarmError."""

    @abstractmethod
    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        """The locked versions of what the recipe names, and the newest upstream; of what that needs in turn, those that
        upstream withdrew. Raises FarmError."""


class Kind(ABC):
    """One kind of input. An input in a recipe is of this kind if it has the key `key`; `schema` is what it may say.

    `line` is the kind of its lock lines; `fields` are the fields that these have beside those of every line. `sums` are
    the files that pin a selection. If it is for programs of the `own` image, their code is in the main context.
    `written` says whether a recipe writes the version of such an input, so that it can be moved there.
    """

    name: ClassVar[str]
    key: ClassVar[str]
    schema: ClassVar[Mapping[str, Any]]
    line: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    wrapper: ClassVar[Wrapper | None] = None
    sums: ClassVar[tuple[str, ...]] = ()
    own: ClassVar[bool] = False
    written: ClassVar[bool] = False

    def takes(self, given: Mapping[str, Any]) -> bool:
        """Whether an input of a recipe is of this kind."""
        return self.key in given

    @property
    def when(self) -> Mapping[str, Any]:
        """The same as a JSON Schema."""
        return {"required": [self.key]}

    @abstractmethod
    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        """What a recipe says about an input -> Input.spec."""

    def input(self, name: str, given: Mapping[str, Any]) -> Input:
        return Input(name, self.name, self.spec(given), given.get("for") == "build")

    def mistakes(self, found: Input, files: Collection[str], platforms: Sequence[Platform]) -> Iterator[str]:
        """Mistakes in an input that the schema cannot find. `files` are those of the image's main context."""
        yield from ()

    def has_lines(self, found: Input, read: Read) -> bool:
        """Whether the lock must have lines for an input."""
        return True

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        """What decides how an input is resolved. The lock's header keeps it; a recipe that says something else is
        refused."""
        return {**found.spec, **({"for": "build"} if found.build else {})}

    def foreign(self, found: Input, entry: Entry) -> str:
        """Why a lock line cannot belong to this input (lines of another lock may have been merged in), or ''."""
        return "" if entry.kind == self.line else f"a line of kind {entry.kind}, but the recipe says {self.key}"

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        """What an input needs and its lines do not have, or have too often."""
        yield from ()

    # --- lock lines

    @abstractmethod
    def label(self, fact: Mapping[str, str]) -> str:
        """How messages name a file: `libc6 2.41-12 arm64`."""

    def version(self, fact: Mapping[str, str]) -> str:
        """The part of the facts that a new lock moves, in words."""
        return fact.get("version") or fact.get("url", "")

    @abstractmethod
    def path(self, name: str, fact: Mapping[str, str]) -> str:
        """The path of a file of the input `name` in the inputs context (docs/guide.md, "Inputs")."""

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        """What is wrong with the facts of a lock line."""
        yield from ()

    def entry(self, name: str, sha256: str, size: int, platform: str, facts: Mapping[str, str], line: int = 0) -> Entry:
        """A lock line of the input `name`."""
        ordered = tuple((field_, facts[field_]) for field_ in self.fields if field_ != "platform")
        return Entry(name, self.line, sha256, size, platform, ordered, self.path(name, facts), self.label(facts), line)

    # --- licences

    def licensed(self, fact: Mapping[str, str]) -> bool:
        """Whether a file can say a licence; the others belong to one that can."""
        return True

    @abstractmethod
    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        """What a file says about its licence. `path` is where the store has it. No error: what cannot be read is not
        known."""

    # --- the work

    @abstractmethod
    def resolver(self, desk: Desk) -> Resolver:
        """What resolves inputs of this kind in one lock step."""

    @abstractmethod
    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        """Fetches locked files into the store. `wanted` are pairs of an entry and its lock's snapshot time. Yields each
        entry with None or its error, in any order."""


def hash_of(read: Read, folder: str, names: Sequence[str]) -> str:
    """A short hash over some files of a folder; a missing file counts as empty."""
    texts = [f"{name}\0{read(f'{folder}/{name}') or ''}\0" for name in names]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def folder_mistakes(name: str, files: Collection[str], needs: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with `./folder`, a program of the image's own. `files` are those of the main context, `needs` those
    that it must have, and how one makes them."""
    own = posixpath.normpath(name)
    if own in WRAPPERS:
        yield f"{name} is for the wrappers of `make lock`; rename the folder"
    elif not any(own == "." or file.startswith(f"{own}/") for file in files):
        yield f"{name} is not a folder beside image.yml, or the context leaves it out"
    else:
        yield from (f"{name} has no {file}; make it with {how}" for file, how in needs.items()
                    if posixpath.normpath(f"{own}/{file}") not in files)


def copy_program(folder: Path, into: Path, *left_out: str) -> None:
    """Copies a program of the image's own into a folder that is emptied first. Links stay links, as those that a build
    does not get may lead to nothing; what is no file has nothing to be read."""
    def ignored(place: str, names: list[str]) -> set[str]:
        modes = {name: os.lstat(f"{place}/{name}").st_mode for name in names}
        return {name for name, mode in modes.items() if name in left_out
                or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))}

    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(folder, into, symlinks=True, ignore=ignored)


def no_host(url: str) -> str:
    """Why an address whose form is right can lead nowhere, as its host or port is none; or ''."""
    host = re.match(r"\w+://(?:[^/?@]*@)?([^/?]*)", url)
    wrong = host and references.address(re.sub(r"\.(?=:|\Z)", "", host[1]))
    return f"nothing can be at {url}: there is no such host or port as {host[1]}" if host and wrong else ""


def plain(text: str) -> bool:
    """Whether a text can be part of a path or a URL: printable, without spaces and surrogates."""
    return text.isprintable() and " " not in text and text != ""  # no other white space is printable
