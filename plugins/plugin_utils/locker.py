"""The lock step of one image: recipe -> lock and wrapper files, and what that moves. Writing is `write`'s business alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import lockfile
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.files import locked
from ansible_collections.desimages.farm.plugins.module_utils.lockfile import SNAPSHOT, Entry, Lock
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, Platform
from ansible_collections.desimages.farm.plugins.module_utils.recipe import Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.lock_debian import KEYRING, Debian, Index
from ansible_collections.desimages.farm.plugins.plugin_utils.lock_go import MADE, WRAPPER, Modules
from ansible_collections.desimages.farm.plugins.plugin_utils.lock_url import lock_url
from ansible_collections.desimages.farm.plugins.plugin_utils.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.store import Store, sync_folder

LOCK = "lock.jsonl"
WORKERS = 4


@dataclass(frozen=True)
class Locked:
    """What the lock step found for an image. `files` are the wrappers (path in the image's folder -> text), `gone` the folders of
    wrappers whose input is gone."""

    name: str
    folder: str
    lock: Lock
    files: dict[str, str]
    gone: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    changed: bool = False


@dataclass
class Locker:
    """Resolves images one after the other; what they share (apt's indexes, module caches, the store) is had once.

    `state` is farm_state: private apt roots and module caches go below `<state>/lock`, what was downloaded to `<state>/store`.
    """

    origins: Origins
    state: Path
    snapshot: str = ""
    allow_missing_suites: bool = False
    keyring: str = KEYRING
    go: str = ""
    say: Callable[[str], None] = lambda line: None
    client: Client | None = None
    debian: Debian = field(init=False)
    modules: Modules = field(init=False)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        folder = self.state / "lock"
        self.store = Store(self.state / "store")
        self.client = self.client or Client(self.origins.here, apt=False)
        self.debian = Debian(folder / "apt", self.origins, snapshot=self.snapshot, allow_missing_suites=self.allow_missing_suites,
                             keyring=self.keyring, say=self.say)
        self.modules = Modules(folder / "go", proxy=self.origins.goproxy, go=self.go, store=self.store, say=self.say)

    def prepare(self, recipes: Iterable[Recipe]) -> None:
        """Updates all of apt's indexes that these images need, in parallel."""
        self.debian.prepare((recipe.suites, platform) for recipe in recipes for found in recipe.inputs if found.kind == "debian"
                            for platform in platforms_of(recipe, found))

    def lock(self, recipe: Recipe, kinds: Sequence[str] = tuple(lockfile.FIELDS)) -> Locked:
        """The new lock of an image. Inputs of other kinds than `kinds` stay as they are locked (D4's overlay: debian alone)."""
        try:
            return self._lock(recipe, kinds)
        except FarmError as error:
            error.where.setdefault("image", recipe.name)
            raise

    def _lock(self, recipe: Recipe, kinds: Sequence[str]) -> Locked:
        old = recipe.lock
        entries: list[Entry] = []
        files: dict[str, str] = {}
        indexes: dict[Platform, Index] = {}
        for found in recipe.inputs:
            platforms = platforms_of(recipe, found)
            if found.kind not in kinds:
                entries += [entry for entry in old.entries if entry.input == found.name]
                files.update(self._wrapper(recipe, found.name))
            elif found.kind == "debian":
                indexes.update({platform: self.debian.index(recipe.suites, platform) for platform in platforms})
                entries += self._closures(recipe.name, found, [indexes[platform] for platform in platforms])
            elif found.kind == "go":
                resolved = self.modules.lock(recipe.name, found.name, found.spec, platforms, Path(recipe.folder), old)
                self.say(f"lock {recipe.name}: {len(resolved.entries)} module files for {found.name}")
                entries += resolved.entries
                files.update({f"go/{found.name}/{name}": text for name, text in resolved.wrapper.items()})
            else:
                assert self.client
                scratch = self.state / "lock"
                entries += lock_url(found.name, found.spec["url"], platforms, old, self.origins, self.client, self.store, scratch)
        entries = sorted(set(entries), key=lambda entry: entry.key)
        if "debian" not in kinds:
            lock = replace(old, entries=tuple(entries))
        else:
            snapshot = self._snapshot(old, entries, indexes.values())
            left_out = {str(platform): index.left_out for platform, index in indexes.items() if index.left_out}
            older = {str(platform): index.older for platform, index in indexes.items() if index.older}
            lock = Lock(tuple(entries), snapshot, left_out, older)
        return self._compared(recipe, lock, files)

    def _closures(self, image: str, found: Input, indexes: Sequence[Index]) -> list[Entry]:
        packages = [str(name) for name in found.spec["packages"]]  # type: ignore[attr-defined]

        def closure(index: Index) -> list[Entry]:
            return self.debian.closure(found.name, index, packages, bool(found.spec.get("essential")))

        entries: list[Entry] = []
        with ThreadPoolExecutor(WORKERS) as pool:
            for index, some in zip(indexes, pool.map(closure, indexes)):
                self.say(f"lock {image}: {index.platform} {len(some)} packages for {found.name}")
                entries += some
        return entries

    def _snapshot(self, old: Lock, entries: Iterable[Entry], indexes: Iterable[Index]) -> str:
        """The newest date of what was resolved on; the old one where nothing of Debian moved, so that nothing is built for a new date."""
        dates = [index.date for index in indexes]
        if not dates:
            return ""
        if old.snapshot and _debian(old.entries) == _debian(entries):
            return old.snapshot
        return self.snapshot or max(dates).strftime(SNAPSHOT)

    def _wrapper(self, recipe: Recipe, name: str) -> dict[str, str]:
        """The wrapper of an input as it is."""
        texts = {f"go/{name}/{file}": read(Path(recipe.folder) / "go" / name / file) for file in WRAPPER}
        return {path: text for path, text in texts.items() if text is not None}

    def _compared(self, recipe: Recipe, lock: Lock, files: dict[str, str]) -> Locked:
        folder = Path(recipe.folder)
        gone = stale_wrappers(folder, {path.split("/")[1] for path in files})
        texts = {**files, LOCK: lockfile.dump(lock)} if lock.entries or (folder / LOCK).exists() else files
        changed = bool(gone) or any(read(folder / path) != text for path, text in texts.items())
        return Locked(recipe.name, recipe.folder, lock, files, gone, tuple(moved(recipe.lock, lock)), changed)


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Two lock steps over one state folder would write over each other."""
    folder = state / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        hint = "run as root, or set farm_state to a folder of your own"
        raise FarmError(f"{folder} cannot be made: {error.strerror}", hint=hint) from error
    with ExitStack() as entered:
        try:
            entered.enter_context(locked(f"{folder}/in-use", 0))
        except TimeoutError as error:
            raise Busy(f"another lock step works in {folder}", hint="wait for it, or give this one a farm_state of its own") from error
        yield


def platforms_of(recipe: Recipe, found: Input) -> tuple[Platform, ...]:
    """The platforms that an input is for."""
    return recipe.build_platforms if found.build else recipe.platforms


def _debian(entries: Iterable[Entry]) -> set[Entry]:
    return {entry for entry in entries if entry.kind == "debian"}


def read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def stale_wrappers(folder: Path, names: set[str]) -> tuple[str, ...]:
    """Wrappers that the lock step once made for inputs that are gone. What it did not make is not touched."""
    found = (path.parent for path in sorted(folder.glob("go/*/tools.go")) if (read(path) or "").startswith(MADE))
    return tuple(str(path.relative_to(folder)) for path in found if path.name not in names)


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
            text = f"{', '.join(sorted(now))}: other content"
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
    lines += _notes("left out", old.left_out, new.left_out)
    lines += _notes("only in an older state", _older(old), _older(new))
    return lines


def _older(lock: Lock) -> dict[str, tuple[str, ...]]:
    return {platform: tuple(f"{suite} of {time}" for suite, time in sorted(suites.items())) for platform, suites in lock.older.items()}


def _notes(words: str, old: dict[str, tuple[str, ...]], new: dict[str, tuple[str, ...]]) -> list[str]:
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
        version = fact.get("version") or fact.get("url", "")
        file = fact.get("file", "")
        found.setdefault((name, entry.platform), {}).setdefault(version, set()).add((file, entry.sha256))
    return {key: {version: tuple(sorted(files)) for version, files in versions.items()} for key, versions in found.items()}


def write(locked: Locked) -> None:
    """Writes what changed, each file whole or not at all; the lock comes last."""
    folder = Path(locked.folder)
    for path, text in sorted(locked.files.items()):
        write_whole(folder / path, text)
    for path in locked.gone:
        shutil.rmtree(folder / path)
        if not any((folder / "go").iterdir()):
            (folder / "go").rmdir()
    if locked.lock.entries or (folder / LOCK).exists():
        write_whole(folder / LOCK, lockfile.dump(locked.lock))


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all; one that is so already is left alone."""
    if read(path) == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)
