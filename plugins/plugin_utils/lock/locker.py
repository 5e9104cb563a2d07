# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock step of one image: recipe -> lock and wrapper files, and what moved. Only `write` writes anything."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    BadInput,
    Busy,
    FarmError,
    NoSpace,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.files import locked, may
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.debian_closures import KEYRING
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk, Resolved, Resolver
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.finder import Finder, named
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.moves import moved
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import LOCK
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import SNAPSHOT, Entry, Input, Lock, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


@dataclass(frozen=True)
class Locked:
    """The result of the lock step for an image. `files` are the wrappers (path in the image's folder -> text); `gone`
    are the folders of wrappers whose input does not exist any more."""

    name: str
    folder: str
    lock: Lock
    files: dict[str, str]
    gone: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    changed: bool = False


@dataclass
class Locker:
    """Resolves images one after the other. What they share (apt's indexes, module caches, the store) is fetched once.

    `state` is farm_state: private apt roots and module caches are below `<state>/lock`, downloads in `<state>/store`.
    """

    origins: Origins
    state: Path
    snapshot: str = ""
    allow_missing_suites: bool = False
    keyring: str = KEYRING
    go: str = ""
    say: Callable[[str], None] = lambda line: None
    client: Client | None = None
    resolvers: dict[str, Resolver] = field(init=False)
    finder: Finder = field(init=False)

    def __post_init__(self) -> None:
        store, client = Store(self.state / "store"), self.client or Client(self.origins.here)
        self.finder = Finder(self.origins, store, client=client)
        desk = Desk(self.origins, self.state, store, client, go=self.go,
                    snapshot=self.snapshot, allow_missing_suites=self.allow_missing_suites, keyring=self.keyring,
                    say=self.say)
        self.resolvers = {name: kind.resolver(desk) for name, kind in KINDS.items()}

    def prepare(self, recipes: Iterable[Recipe]) -> None:
        """Fetches in parallel what these images will need."""
        pairs = [(recipe, found) for recipe in recipes for found in recipe.inputs]
        for name, resolver in self.resolvers.items():
            resolver.prepare((recipe, found) for recipe, found in pairs if found.kind == name)

    def lock(self, recipe: Recipe, kinds: Container[str] = tuple(KINDS)) -> Locked:
        """The new lock of an image. Inputs whose kind is not in `kinds` stay as they are locked (an overlay of D4
        resolves only debian)."""
        try:
            return self._lock(recipe, kinds)
        except FarmError as error:
            error.where.setdefault("image", recipe.name)
            raise

    def _lock(self, recipe: Recipe, kinds: Container[str]) -> Locked:
        old, folder = recipe.lock, Path(recipe.folder)
        entries: list[Entry] = []
        files: dict[str, str] = {}
        made_for: dict[str, Mapping[str, object]] = {}
        debian: list[Resolved] = []
        failed: list[FarmError] = []
        for found in recipe.inputs:
            if found.kind not in kinds:
                entries += [entry for entry in old.entries if entry.input == found.name]
                files.update(_wrapper(recipe, found))
                made_for.update({name: said for name, said in old.made_for.items() if name == found.name})
                continue
            platforms = recipe.platforms_of(found)
            try:
                resolved = self.resolvers[found.kind].resolve(recipe, found, platforms)
                _refuse_unfit(found, resolved.entries, platforms)
            except FarmError as error:
                error.where.setdefault("input", found.name)
                failed.append(error)
                if isinstance(error, (Unreachable, NoSpace)):
                    break  # the other inputs would wait for the same
                continue
            entries += resolved.entries
            files.update(resolved.wrapper)
            debian += [resolved] if resolved.releases else []

            def after(path: str, wrapper: Mapping[str, str] = resolved.wrapper) -> str | None:
                return wrapper.get(path, read(folder / path))

            made_for[found.name] = KINDS[found.kind].made_for(found, recipe.suites, after)
        if failed:
            raise _together(failed)
        lock = replace(self._dated(old, sorted(set(entries), key=lambda entry: entry.key), debian), made_for=made_for,
                       above=recipe.above)
        try:  # an origin may serve what no lock can name, such as a path that leads out of its archive
            lockfile.parse(lockfile.dump(lock), "the new lock")
        except BadInput as error:
            raise BadInput(error.problems, what="what the origins serve, so the lock stays as it is") from error
        self._refuse_absent(lock, old)
        return self._compared(recipe, lock, files)

    def _refuse_absent(self, lock: Lock, old: Lock) -> None:
        """A mirror in the middle of an update may name packages in its signed index that it does not serve yet, or
        serves no more. A lock of them could not be fetched."""
        new = _debian(lock.entries) - _debian(old.entries)
        if absent := self.finder.lacking((entry, lock.snapshot) for entry in new):
            raise FarmError(f"the index of the origin names {named(absent)}, but no origin that answers has "
                            f"{'it' if len(absent) == 1 else 'them'}",
                            hint="try again when the mirror is complete, name a farm_snapshot of another time, or add"
                                 " an origin to farm_origins.debian")

    def _dated(self, old: Lock, entries: Sequence[Entry], resolved: Sequence[Resolved]) -> Lock:
        """A lock with the times of the indexes used; with the old times if no Debian package moved, so that nothing is
        built again only because of a new date."""
        if not resolved:
            return replace(old, entries=tuple(entries)) if _debian(entries) else Lock(tuple(entries))
        releases: dict[str, datetime] = {}
        left_out: dict[str, tuple[str, ...]] = {}
        older: dict[str, Mapping[str, str]] = {}
        for one in resolved:
            releases.update({suite: max(time, releases.get(suite, time)) for suite, time in one.releases.items()})
            left_out.update({str(platform): suites for platform, suites in one.left_out.items()})
            older.update({str(platform): times for platform, times in one.older.items()})
        if old.snapshot and _debian(old.entries) == _debian(entries):
            return Lock(tuple(entries), old.snapshot, old.releases, left_out=left_out, older=older)
        times = {suite: time.strftime(SNAPSHOT) for suite, time in sorted(releases.items())}
        return Lock(tuple(entries), self.snapshot or max(times.values()), times, left_out=left_out, older=older)

    def _compared(self, recipe: Recipe, lock: Lock, files: dict[str, str]) -> Locked:
        folder = Path(recipe.folder)
        gone = stale_wrappers(folder, {str(Path(path).parent) for path in files})
        texts = {**files, LOCK: lockfile.dump(lock)} if lock.entries or (folder / LOCK).exists() else files
        changed = bool(gone) or any(read(folder / path) != text for path, text in texts.items())
        return Locked(recipe.name, recipe.folder, lock, files, gone, tuple(moved(recipe.lock, lock)), changed)


@contextmanager
def workplace(state: Path, check: bool) -> Iterator[Path]:
    """Where the lock step works: in the state folder, whose caches it fills; in check mode in a temporary folder, if
    this user cannot write to those."""
    parts = [state / name for name in ("lock", "store")]
    if not check or all(part.is_dir() and may(part, os.W_OK) for part in parts):
        yield state
        return
    with tempfile.TemporaryDirectory(prefix="desimages-") as folder:
        yield Path(folder)


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Holds a lock on the state folder: two lock steps in it would overwrite each other's files."""
    folder = state / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        hint = "run as root, or set farm_state to a folder of your own"
        raise FarmError(f"{folder} cannot be created: {error.strerror}", hint=hint) from error
    with ExitStack() as entered:
        try:
            entered.enter_context(locked(f"{folder}/in-use", 0))
        except TimeoutError as error:
            raise Busy(f"another lock step is running in {folder}",
                       hint="wait for it, or give this one a farm_state of its own") from error
        yield


def _refuse_unfit(found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> None:
    """Raises FarmError if the lines are not what the recipe asks for: every plan would refuse their lock."""
    kind = KINDS[found.kind]
    wrong = list(filter(None, (kind.foreign(found, entry) for entry in entries)))
    if wrong := wrong or list(kind.lacking(found, entries, platforms)):
        raise FarmError("what the origins serve is not what the recipe asks for: " + "; ".join(wrong),
                        hint="compare with another origin, or write in the recipe what they serve")


def _together(failed: Sequence[FarmError]) -> FarmError:
    """The errors of an image's inputs as one; the same error of several, such as of an index, is reported once."""
    whose: dict[str, list[str]] = {}
    for error in failed:
        whose.setdefault(error.message, []).append(str(error.where["input"]))
    each = list({error.message: error for error in reversed(failed)}.values())[::-1]
    for error in each:
        error.where["input"] = ", ".join(whose[error.message])
    if len(each) == 1:
        return each[0]
    return FarmError(f"{amount(len(failed), 'input')} cannot be locked:\n" + "\n".join(map(str, each)),
                     input=", ".join(str(error.where["input"]) for error in each))


def _debian(entries: Iterable[Entry]) -> set[Entry]:
    return {entry for entry in entries if entry.kind == "debian"}


def read(path: Path) -> str | None:
    """A text to compare with; what is not UTF-8 in it is none of ours."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None


def _wrapper(recipe: Recipe, found: Input) -> dict[str, str]:
    """The wrapper of an input as it is now."""
    wrapper = KINDS[found.kind].wrapper
    paths = [f"{found.kind}/{found.name}/{file}" for file in wrapper.files] if wrapper else []
    texts = {path: read(Path(recipe.folder) / path) for path in paths}
    return {path: text for path, text in texts.items() if text is not None}


def stale_wrappers(folder: Path, wanted: set[str]) -> tuple[str, ...]:
    """The wrappers that a lock step made and that are not `wanted`, because their input does not exist any more.
    Anything else is not touched."""
    found = [path.parent for name, kind in KINDS.items() if kind.wrapper
             for path in sorted(folder.glob(f"{name}/*/{kind.wrapper.marked}"))
             if kind.wrapper.mark in (read(path) or "")]
    return tuple(place for path in found if (place := str(path.relative_to(folder))) not in wanted)


def write(locked: Locked) -> None:
    """Writes what changed, each file atomically, the lock last."""
    folder = Path(locked.folder)
    for path, text in sorted(locked.files.items()):
        write_whole(folder / path, text)
    for path in locked.gone:
        shutil.rmtree(folder / path)
        if not any((folder / path).parent.iterdir()):
            (folder / path).parent.rmdir()
    if locked.lock.entries or (folder / LOCK).exists():
        write_whole(folder / LOCK, lockfile.dump(locked.lock))


def write_whole(path: Path, text: str) -> None:
    """Writes a file atomically, unless it already has that text."""
    if read(path) != text:
        files.write(str(path), text)
