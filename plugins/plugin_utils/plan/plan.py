# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: turns recipes and locks into units with build ids. No I/O: what exists is asked afterwards.

A unit's **record** is everything that determines its content (see docs/architecture.md, "Build id"); its build id is
the sha256 of the record's canonical JSON. Comparing two records of a unit key by key shows why it is built again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.golden import GZIP, GZIP_ID, WITHOUT_INDEX
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import Use
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.evaluation import View
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import (
    BUILD_INPUTS,
    INPUTS,
    UNPACKED,
    Entry,
    Recipe,
    Sources,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import LABEL

# Part of the record: a change here rebuilds everything. 2: the size in a lock line counts, so that a wrong one is
# noticed. 3: files and folders of contexts have other times in layers.
FORMAT = 3
# `trixie-security trixie@20260912T075541Z`: suites that are missing, or in the state of that time
LEFT_OUT = "org.desimages.suites-left-out"


@dataclass(frozen=True, order=True)
class Key:
    """The name of a unit."""

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
    """A parent by the name that the Dockerfile uses. `build` is true if it is needed for the node's own platform: on
    nodes of the platforms `builders`, or on all if that is empty."""

    name: str
    image: str
    target: str
    build: bool
    builders: tuple[Platform, ...] = ()


@dataclass(frozen=True)
class Unit:
    """One thing that is built. Its build steps run code of one of the platforms `runs`, whichever the node has.

    `inputs` and `build_inputs` have the names in `unpacked` and `images` too: inputs that it takes as images.
    """

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
    images: tuple[str, ...] = ()

    def content_id(self, digests: Mapping[str, str]) -> str:
        """The id for early cutoff: the hash of the record with the digests of the run-time parents (name -> digest)
        instead of their build ids."""
        parents = {name: digests[name] for name in self.record["parents"]}  # type: ignore[attr-defined]
        return canonical.sha256({**self.record, "parents": parents})

    def on(self, build: Platform) -> Platform:
        """The platform of the node that builds it, if nodes of the platform `build` build what they can."""
        return build if build in self.runs else self.runs[0]

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the image's index: the labels, except the one that may differ between platforms, and those
        that only keep a parent's from this image."""
        return {name: text for name, text in self.labels.items() if text and name != LEFT_OUT}


@dataclass(frozen=True)
class Plan:
    """All units, in an order in which they can be built."""

    units: dict[Key, Unit]
    recipes: Mapping[str, Recipe]

    def parents(self, unit: Unit, build: Platform | None = None) -> list[Key]:
        """The units that must exist before this one. Of build-time parents, those for the platform `build`, or all if
        that is None."""
        found = []
        for parent in unit.parents:
            builders: Iterable[Platform] = [unit.on(build)] if build else unit.runs
            platforms = builders if parent.build else [unit.key.platform]
            found += [Key(parent.image, parent.target, platform) for platform in platforms
                      if not parent.builders or platform in parent.builders]
        return found

    def entries(self, unit: Unit, build: Platform) -> list[Entry]:
        """The locked files that the build of a unit needs on a machine of the platform `build`."""
        lock = self.recipes[unit.key.image].lock
        found = [entry for name in unit.inputs for entry in lock.of(name, str(unit.key.platform))]
        return found + [entry for name in unit.build_inputs for entry in lock.of(name, str(unit.on(build)))]

    def closure(self, keys: Iterable[Key], build: Platform, existing: Container[Key] = ()) -> list[Key]:
        """The given units and everything that they need when built on `build`, in plan order.

        A unit that exists needs nothing: its parents are included only if something else needs them.
        """
        wanted: set[Key] = set()
        queue = list(keys)
        while queue:
            key = queue.pop()
            if key not in wanted:
                wanted.add(key)
                queue += [] if key in existing else self.parents(self.units[key], build)
        return [key for key in self.units if key in wanted]

    def closure_of(self, keys: list[Key], builds: list[Platform], existing: Container[Key] = ()) -> list[Key]:
        """The same for nodes of several platforms."""
        if len(builds) == 1:
            return self.closure(keys, builds[0], existing)
        wanted = {key for build in builds for key in self.closure(keys, build, existing)}
        return [key for key in self.units if key in wanted]


def make(recipes: Mapping[str, Recipe], sources: Mapping[str, Sources], engine: str, namespace: str) -> Plan:
    """The plan of a whole catalog. `engine` is the engine id, `namespace` the first part of the images' names."""
    names = {(f"{name}-{target}" if target else name): (name, target) for name, r in recipes.items()
             for target in r.targets or ("",)}
    units: dict[Key, Unit] = {}
    needed = {name: _needs(recipes[image], target, names) for name, (image, target) in names.items()}
    for name in _in_order({name: sorted({parent.name for need in needs.values() for parent in need.parents})
                           for name, needs in needed.items()}):
        image, target = names[name]
        source = sources.get(image, Sources())
        units.update(_units(recipes[image], target, needed[name], source, engine, namespace, units))
    return Plan(units, recipes)


def _in_order(parents: Mapping[str, list[str]]) -> Iterator[str]:
    """The names, each after its parents, otherwise sorted. No recursion, as a chain of images may be of any length."""
    done: set[str] = set()
    for first in sorted(parents):
        trail = {first: iter(parents[first])} if first not in done else {}  # the path down to the current name
        while trail:
            name = next(reversed(trail), "")
            parent = next((each for each in trail[name] if each not in done), None)
            if parent is None:
                del trail[name]
                done.add(name)
                yield name
            elif parent in trail:
                raise FarmError(f"these images need each other: {' -> '.join((*trail, parent))}")
            else:
                trail[parent] = iter(parents[parent])


@dataclass(frozen=True)
class _Needs:
    """What a unit needs by its Dockerfile, on any node that may build it.

    `builders` are the platforms of these nodes; `text` is the sha256 of the lines that count; `base` is the image that
    it descends from; `foreign` says whether its steps run code of its own platform.
    """

    builders: tuple[Platform, ...]
    text: str
    base: str
    foreign: bool
    parents: tuple[Parent, ...]
    inputs: tuple[str, ...]
    build_inputs: tuple[str, ...]
    unpacked: tuple[str, ...]
    images: tuple[str, ...]


def _needs(recipe: Recipe, target: str, names: Mapping[str, tuple[str, str]]) -> dict[Platform, _Needs]:
    """What each platform needs; mostly the same for all."""
    found: dict[Platform, _Needs] = {}
    last: dict[Platform, View] | None = None
    for platform, views in recipe.views(target).items():
        if views is not last:
            last, needs = views, _merged(recipe, target, views, names)
        found[platform] = needs
    return found


def _merged(recipe: Recipe, target: str, views: Mapping[Platform, View],
            names: Mapping[str, tuple[str, str]]) -> _Needs:
    file, different = recipe.dockerfile, list({id(view): view for view in views.values()}.values())
    text = file.text_of({number for view in different for number in view.reach}) if target else file.text
    uses = [use for view in different for use in view.outside]
    parents: dict[tuple[str, bool], list[Platform]] = {}
    for builder, view in views.items():
        for named in {(use.name, use.build) for use in view.outside if use.name in names}:
            parents.setdefault(named, []).append(builder)
    unpacked = tuple(sorted({use.name[len(UNPACKED):] for use in uses if use.name.startswith(UNPACKED)}))
    bases = recipe.bases
    images = {use.name: bases[use.name].build for use in uses if use.name in bases}
    return _Needs(
        builders=tuple(views), text=hashlib.sha256(text.encode()).hexdigest(), base=different[0].base,
        foreign=any(view.foreign for view in different),
        parents=tuple(Parent(name, *names[name], build, tuple(some) if build and len(some) < len(views) else ())
                      for (name, build), some in sorted(parents.items())),
        inputs=_names(_first_parts(uses, INPUTS), (name for name, build in images.items() if not build)),
        build_inputs=_names(_first_parts(uses, BUILD_INPUTS), unpacked,
                            (name for name, build in images.items() if build)),
        unpacked=unpacked, images=_names(images),
    )


def _units(recipe: Recipe, target: str, needed: Mapping[Platform, _Needs], sources: Sources, engine: str,
           namespace: str, units: Mapping[Key, Unit]) -> dict[Key, Unit]:
    found: dict[Key, Unit] = {}
    last: _Needs | None = None
    for platform, needs in needed.items():
        if needs is not last:
            last, shared = needs, _shared(recipe, target, needs, sources, engine)
        key = Key(recipe.name, target, platform)
        above = [units[Key(parent.image, parent.target, platform)] for parent in needs.parents if not parent.build]
        beside = _beside(needs, platform, units)
        around = [unit for some in beside.values() for unit in some.values()]
        epoch = max([recipe.lock.epoch, *(unit.epoch for unit in (*above, *around))])
        lines = (platform, *(recipe.build_platforms if needs.build_inputs else ()))  # whose lock lines are used
        labels = _rendered(recipe, needs.base, epoch, namespace, above, _behind(recipe, lines, (*above, *around)))
        record = {
            **shared,
            "platform": str(platform),
            "epoch": epoch,
            "labels": labels,
            "inputs": {name: _lines(recipe, name, platform) for name in needs.inputs},
            "parents": {unit.key.name: unit.id for unit in above},
            "build_parents": {name: {text: unit.id for text, unit in some.items()} for name, some in beside.items()},
        }
        if needs.unpacked and recipe.lock.epoch != epoch:  # times of unpacked files are not later than the lock's
            record["unpacked"] = recipe.lock.epoch
        found[key] = Unit(
            key, canonical.sha256(record), epoch, labels, record, needs.parents,
            runs=(platform,) if needs.foreign else recipe.build_platforms,
            inputs=needs.inputs, build_inputs=needs.build_inputs, unpacked=needs.unpacked,
            images=needs.images,
        )
    return found


def _beside(needs: _Needs, platform: Platform, units: Mapping[Key, Unit]) -> dict[str, dict[str, Unit]]:
    """The build-time parents by name and platform, of every machine that may build.

    What runs code of its own platform is built on machines of that, which may be none of `build_platforms`.
    """
    found: dict[str, dict[str, Unit]] = {}
    for parent in needs.parents:
        if parent.build:
            own = needs.foreign and not parent.builders and Key(parent.image, parent.target, platform) in units
            machines = dict.fromkeys((*(parent.builders or needs.builders), *([platform] if own else ())))
            found[parent.name] = {str(p): units[Key(parent.image, parent.target, p)] for p in machines}
    return found


def _shared(recipe: Recipe, target: str, needs: _Needs, sources: Sources, engine: str) -> dict[str, object]:
    """The part of the record that is the same for all platforms with these needs."""
    wrapped = {name: sources.wrappers.get(name, {}) for name in (*needs.inputs, *needs.build_inputs)}
    return {
        "format": FORMAT,
        "engine": engine,
        "image": recipe.name,
        "target": target,
        "dockerfile": needs.text,
        "files": {path: f"{mode:04o} {digest}" for path, (mode, digest, _size) in sources.files.items()},
        "wrappers": {
            f"{name}/{path}": digest for name, files in wrapped.items()
            for path, (_mode, digest, _size) in files.items()
        },
        "args": dict(recipe.args),
        **_output(recipe),
        "build_inputs": {
            name: {str(platform): _lines(recipe, name, platform) for platform in recipe.build_platforms}
            for name in needs.build_inputs
        },
    }


def _output(recipe: Recipe) -> dict[str, object]:
    """How layers are compressed, where the engine id does not say it."""
    if not recipe.index:
        return {"output": WITHOUT_INDEX}
    return {"output": {**GZIP, "id": GZIP_ID}} if recipe.compression == "gzip" else {}


def _names(*some: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for names in some for name in names}))


def _first_parts(uses: Iterable[Use], context: str) -> tuple[str, ...]:
    paths = {path for use in uses if use.name == context for path in use.paths}
    return tuple(sorted({path.strip("/").partition("/")[0] for path in paths}))


def _lines(recipe: Recipe, name: str, platform: Platform) -> str:
    """The hash of an input's lock lines for a platform: of what decides its content, not of its origin."""
    return canonical.sha256([identity(entry) for entry in recipe.lock.of(name, str(platform))])


def identity(entry: Entry) -> list[object]:
    """What a lock line contributes to a build id: path in the context, sha256 (even if a Go module's h1 would do), and
    size.

    If one of these did not count, someone could alter it in a lock without being noticed: the unit would count as
    built.
    """
    return [entry.path, entry.sha256, entry.size]


def _rendered(recipe: Recipe, base: str, epoch: int, namespace: str, above: list[Unit],
              behind: list[str]) -> dict[str, str]:
    created = datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    # as in the tag: without a version of its own it is Debian as of then
    version = {f"{LABEL}version": f"{recipe.suites[0]}-{created[:10].replace('-', '')}"}
    labels = {**(version if epoch else {}), **recipe.labels, f"{LABEL}created": created}
    if (parent := next((unit for unit in above if unit.key.name == base), None)) is not None:
        # what its image says of itself, such as its home page, would be said of this one too
        labels.update({name: "" for name in parent.labels if name.startswith(LABEL) and name not in labels})
        labels[f"{LABEL}base.name"] = f"{namespace}/{base}"
    elif base in (bases := recipe.bases):
        labels[f"{LABEL}base.name"] = str(bases[base].spec["image"])
    if behind:
        labels[LEFT_OUT] = " ".join(behind)
    return dict(sorted(labels.items()))


def _behind(recipe: Recipe, platforms: Iterable[Platform], parents: Iterable[Unit]) -> list[str]:
    """The suites that are missing or older, for these platforms or in any parent. What a unit takes from a build
    platform counts too."""
    found: set[str] = set()
    for name in map(str, platforms):
        found.update(recipe.lock.left_out.get(name, ()))
        found.update(f"{suite}@{time}" for suite, time in recipe.lock.older.get(name, {}).items())
    for unit in parents:
        found.update(unit.labels.get(LEFT_OUT, "").split())
    return sorted(found)


def reasons(record: Mapping[str, object], known: Mapping[str, object] | None) -> list[str]:
    """Why a unit is built: how its record differs from the one that was built last. Reasons about parents come last."""
    if known is None:
        return ["new"]
    found: list[str] = []
    words = {"engine": "BuildKit (engine id)", "format": "the farm's format", "dockerfile": "file Dockerfile",
             "epoch": "snapshot time", "unpacked": "snapshot time of unpacked packages",
             "output": "how its layers are compressed"}
    for name, text in words.items():
        if record.get(name) != known.get(name):
            found.append(f"{text} changed")
    for name, text in (("files", "file"), ("args", "argument"), ("labels", "label"), ("wrappers", "wrapper file"),
                       ("inputs", "input"), ("build_inputs", "input"),
                       ("build_parents", "build-time parent"), ("parents", "parent")):
        differences = _differences(record[name], known.get(name, {}))  # type: ignore[arg-type]
        found += [f"{text} {what}" for what in differences]
    return found or ["the registry does not have it any more"]


def _differences(new: Mapping[str, object], old: Mapping[str, object]) -> list[str]:
    names = sorted({*new, *old})
    return [f"{name} {'is new' if name not in old else 'is gone' if name not in new else 'changed'}" for name in names
            if new.get(name) != old.get(name)]
