"""The plan: recipes and locks become units with build ids. Pure: what exists is asked afterwards, by whoever has a registry.

A unit's **record** is all that determines its content (see docs/architecture.md, "Build id"); its build id is the sha256 of the
record's canonical JSON. Two records of one unit, compared key by key, say why it is built again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import BUILD_INPUTS, INPUTS, UNPACKED, Entry, Recipe, Sources

FORMAT = 1  # of the record: a change here builds everything anew
LEFT_OUT = "org.desimages.suites-left-out"  # `trixie-security trixie@20260912T075541Z`: suites missing, or only as they were then


@dataclass(frozen=True, order=True)
class Key:
    """What names a unit."""

    image: str
    target: str
    platform: Platform

    @property
    def name(self) -> str:
        """`debian`, or `builder-go` for the target go of builder: the name that Dockerfiles use."""
        return f"{self.image}-{self.target}" if self.target else self.image

    def __str__(self) -> str:
        return f"{self.name} {self.platform}"


@dataclass(frozen=True)
class Parent:
    """A parent by the name that the Dockerfile uses; `build` where the node's own platform of it is needed."""

    name: str
    image: str
    target: str
    build: bool


@dataclass(frozen=True)
class Unit:
    """One thing that is built. `runs` are the platforms whose code its build steps execute, any one of which will do."""

    key: Key
    id: str
    epoch: int
    labels: dict[str, str]
    record: dict[str, object] = field(repr=False)
    parents: tuple[Parent, ...] = ()
    runs: tuple[Platform, ...] = ()
    inputs: tuple[str, ...] = ()
    build_inputs: tuple[str, ...] = ()
    unpacked: tuple[str, ...] = ()

    def content_id(self, digests: Mapping[str, str]) -> str:
        """The id of early cutoff: the record with the digests of its run-time parents (name -> digest) in place of their ids."""
        return canonical.sha256({**self.record, "parents": {name: digests[name] for name in self.record["parents"]}})  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Plan:
    """All units in the order in which they can be built."""

    units: dict[Key, Unit]
    recipes: Mapping[str, Recipe]

    def parents(self, unit: Unit, build: Platform | None = None) -> list[Key]:
        """The units that must exist before this one; build-time parents for the platform `build` (all of them where none is given)."""
        found = []
        for parent in unit.parents:
            platforms = ([build] if build else unit.runs) if parent.build else [unit.key.platform]
            found += [Key(parent.image, parent.target, platform) for platform in platforms]
        return found

    def entries(self, unit: Unit, build: Platform) -> list[Entry]:
        """The locked files that the build of a unit on a `build` machine needs."""
        lock = self.recipes[unit.key.image].lock
        found = [entry for name in unit.inputs for entry in lock.of(name, str(unit.key.platform))]
        return found + [entry for name in unit.build_inputs for entry in lock.of(name, str(build))]

    def closure(self, keys: Iterable[Key], build: Platform, existing: Container[Key] = ()) -> list[Key]:
        """The given units and all that they need where `build` is the platform that builds, in plan order.

        What exists needs nothing any more: its parents come along only where something else needs them.
        """
        wanted: set[Key] = set()
        queue = list(keys)
        while queue:
            key = queue.pop()
            if key not in wanted:
                wanted.add(key)
                queue += [] if key in existing else self.parents(self.units[key], build)
        return [key for key in self.units if key in wanted]


def make(recipes: Mapping[str, Recipe], sources: Mapping[str, Sources], engine: str, namespace: str) -> Plan:
    """The plan of a whole catalog. `engine` is the engine id, `namespace` the first part of the images' names."""
    names = {(f"{name}-{target}" if target else name): (name, target) for name, r in recipes.items() for target in r.targets or ("",)}
    units: dict[Key, Unit] = {}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...] = ()) -> None:
        if name in done:
            return
        image, target = names[name]
        recipe = recipes[image]
        parents = _parents(recipe, target, names)
        for parent in parents:
            if parent.name in trail:
                raise FarmError(f"images that need each other: {' -> '.join((*trail, parent.name))}")
            visit(parent.name, (*trail, parent.name))
        done.add(name)
        units.update(_units(recipe, target, parents, sources.get(image, Sources()), engine, namespace, units))

    for name in sorted(names):
        visit(name, (name,))
    return Plan(units, recipes)


def _parents(recipe: Recipe, target: str, names: Mapping[str, tuple[str, str]]) -> tuple[Parent, ...]:
    found = {Parent(use.name, *names[use.name], use.build) for use in recipe.dockerfile.outside(target) if use.name in names}
    return tuple(sorted(found, key=lambda parent: (parent.name, parent.build)))


def _units(recipe: Recipe, target: str, parents: tuple[Parent, ...], sources: Sources, engine: str, namespace: str,
           units: Mapping[Key, Unit]) -> dict[Key, Unit]:
    uses = recipe.dockerfile.outside(target)
    reached = recipe.dockerfile.reach(target)
    own = _first_parts(uses, INPUTS)
    unpacked = tuple(sorted({use.name[len(UNPACKED):] for use in uses if use.name.startswith(UNPACKED)}))
    build = tuple(sorted({*_first_parts(uses, BUILD_INPUTS), *unpacked}))
    shared = {
        "format": FORMAT,
        "engine": engine,
        "image": recipe.name,
        "target": target,
        "dockerfile": hashlib.sha256(recipe.dockerfile.text_of(target).encode()).hexdigest(),
        "files": {path: f"{mode:04o} {digest}" for path, (mode, digest, _) in sorted(sources.files.items())},
        "wrappers": {f"{name}/{path}": digest for name in (*own, *build) for path, (_, digest, _) in sources.wrappers.get(name, {}).items()},
        "args": dict(sorted(recipe.args.items())),
        "build_inputs": {name: {str(p): _lines(recipe, name, p) for p in recipe.build_platforms} for name in build},
        "build_parents": {
            parent.name: {str(p): units[Key(parent.image, parent.target, p)].id for p in recipe.build_platforms}
            for parent in parents if parent.build
        },
    }
    foreign = any(stage.runs and not stage.build for stage in reached)
    found = {}
    for platform in recipe.platforms:
        key = Key(recipe.name, target, platform)
        above = [units[Key(parent.image, parent.target, platform)] for parent in parents if not parent.build]
        around = [units[Key(parent.image, parent.target, p)] for parent in parents if parent.build for p in recipe.build_platforms]
        epoch = max([recipe.lock.epoch, *(unit.epoch for unit in (*above, *around))])
        lines = (platform, *(recipe.build_platforms if build else ()))  # whose lock lines come in
        labels = _rendered(recipe, target, epoch, namespace, above, _behind(recipe, lines, (*above, *around)))
        record = {
            **shared,
            "platform": str(platform),
            "epoch": epoch,
            "labels": labels,
            "inputs": {name: _lines(recipe, name, platform) for name in own},
            "parents": {unit.key.name: unit.id for unit in above},
        }
        found[key] = Unit(
            key, canonical.sha256(record), epoch, labels, record, parents,
            runs=(platform,) if foreign else recipe.build_platforms, inputs=own, build_inputs=build, unpacked=unpacked,
        )
    return found


def _first_parts(uses: Iterable[object], context: str) -> tuple[str, ...]:
    return tuple(sorted({path.strip("/").partition("/")[0] for use in uses if use.name == context for path in use.paths}))  # type: ignore[attr-defined]


def _lines(recipe: Recipe, name: str, platform: Platform) -> str:
    """The hash of an input's lock lines for a platform: of what decides its content, not of where it may be had."""
    return canonical.sha256([identity(entry) for entry in recipe.lock.of(name, str(platform))])


def identity(entry: Entry) -> list[object]:
    """What a lock line contributes to a build id: the place in the context and the content, also where a Go module's h1 would do.

    A build id without it would find the unit built, and never look at a lock that someone altered.
    """
    return [entry.path, entry.sha256]


def _rendered(recipe: Recipe, target: str, epoch: int, namespace: str, above: list[Unit], behind: list[str]) -> dict[str, str]:
    created = datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    version = f"{recipe.suites[0]}-{created[:10].replace('-', '')}"  # as in the tag: what has no version of its own is Debian as it was then
    labels = {"org.opencontainers.image.version": version, **recipe.labels, "org.opencontainers.image.created": created}
    base = _base(recipe, target)
    if any(unit.key.name == base for unit in above):
        labels["org.opencontainers.image.base.name"] = f"{namespace}/{base}"
    if behind:
        labels[LEFT_OUT] = " ".join(behind)
    return dict(sorted(labels.items()))


def _behind(recipe: Recipe, platforms: Iterable[Platform], parents: Iterable[Unit]) -> list[str]:
    """The suites that are missing or older, for these platforms or in any parent: what a unit takes from a build platform counts too."""
    found: set[str] = set()
    for name in map(str, platforms):
        found.update(recipe.lock.left_out.get(name, ()))
        found.update(f"{suite}@{time}" for suite, time in recipe.lock.older.get(name, {}).items())
    for unit in parents:
        found.update(unit.labels.get(LEFT_OUT, "").split())
    return sorted(found)


def _base(recipe: Recipe, target: str) -> str:
    """The image that the last stage descends from, through any stages between."""
    stage = recipe.dockerfile.reach(target)[0]
    while True:
        base = next(use for use in stage.uses if use.base)
        inner = [s for s in recipe.dockerfile.stages[: stage.number] if s.name.lower() == base.name.lower()]
        if not inner:
            return base.name
        stage = inner[-1]


def reasons(record: Mapping[str, object], known: Mapping[str, object] | None) -> list[str]:
    """Why a unit is built: what differs between its record and the one that was built last. `parent` reasons come last."""
    if known is None:
        return ["new"]
    found: list[str] = []
    words = {"engine": "BuildKit (engine id)", "format": "the farm's format", "dockerfile": "file Dockerfile", "epoch": "snapshot time"}
    for name, text in words.items():
        if record[name] != known.get(name):
            found.append(f"{text} changed")
    for name, text in (("files", "file"), ("args", "argument"), ("labels", "label"), ("wrappers", "module file of"), ("inputs", "input"),
                       ("build_inputs", "input"), ("build_parents", "build-time parent"), ("parents", "parent")):
        found += [f"{text} {what}" for what in _differences(record[name], known.get(name, {}))]  # type: ignore[arg-type]
    return found or ["the registry does not have it any more"]


def _differences(new: Mapping[str, object], old: Mapping[str, object]) -> list[str]:
    names = sorted({*new, *old})
    return [f"{name} {'is new' if name not in old else 'is gone' if name not in new else 'changed'}" for name in names
            if new.get(name) != old.get(name)]
