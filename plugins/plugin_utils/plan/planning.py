# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a plan is made from: the catalog, its locks (the tree's, or overlays), and what the registry has."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.overlays import Overlay, Overlays, laid_over
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan, make
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Recipe, Sources
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

ASKERS = 16  # questions to the registry at the same time


@dataclass(frozen=True)
class Planning:
    """A catalog and its plan. `tree` has the recipes as read; `overlays` has the locks that replace theirs in
    `plan`."""

    tree: Mapping[str, Recipe]
    sources: Mapping[str, Sources]
    engine: str
    namespace: str
    overlays: Mapping[str, Overlay]
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", make(laid_over(self.tree, self.overlays), self.sources, self.engine,
                                              self.namespace))

    def relocked(self, keys: list[Key], build: Platform) -> dict[str, Overlay]:
        """The overlays of the images of these units, and of all that they descend from."""
        names = {key.image for key in self.plan.closure(keys, build)}
        return {name: overlay for name, overlay in sorted(self.overlays.items()) if name in names}


@dataclass(frozen=True)
class Standing:
    """The wanted units that the registry has (unit -> digest), the units to build, and digest -> (size, media type).

    `optional` are built only if a node of another build platform builds what needs them; `unsigned` has the tags of
    units to build that exist but are not believed.
    """

    existing: dict[Key, str]
    todo: list[Key]
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)
    optional: list[Key] = field(default_factory=list)
    unsigned: dict[Key, str] = field(default_factory=dict)


def ask(registry: Registry | None, plan: Plan, wanted: list[Key], builds: list[Platform], namespace: str,
        again: Container[Key] = (), *, trust: Trust) -> Standing:
    """Asks which of the wanted units, and of those that they need, the registry has: one HEAD each, in parallel. A tag
    that is not signed counts as none.

    `builds` are the platforms of the nodes, the main one first. A unit that is built `again` counts as missing.
    """
    keys = [key for key in plan.closure_of(wanted, builds) if key not in again]

    unsigned: dict[Key, str] = {}

    def look(key: Key) -> tuple[str, int, str] | None:
        repository, tag = f"{namespace}/{key.image}", f"b-{plan.units[key].id}"
        found = registry.digest(repository, tag) if registry else None
        if found and not trust.believes(repository, tag, found[0]):
            unsigned[key] = f"{repository}:{tag}"
            return None
        return found

    # one alone first: while the first ones wait for a registry that is down, the pool would begin as many again
    found = list(map(look, keys[:1]))
    with ThreadPoolExecutor(ASKERS) as pool:
        found += pool.map(look, keys[1:])
    answers = {key: answer for key, answer in zip(keys, found) if answer}
    existing = {key: digest for key, (digest, _size, _kind) in answers.items()}
    todo = [key for key in plan.closure(wanted, builds[0], existing) if key not in existing]
    optional = set(plan.closure_of(wanted, builds, existing)).difference(existing, todo) if len(builds) > 1 else ()
    return Standing(existing, todo, {digest: (size, kind) for digest, size, kind in answers.values()},
                    [key for key in plan.units if key in optional],
                    {key: unsigned[key] for key in todo if key in unsigned})


def load(arguments: Mapping[str, Any]) -> Planning:
    """The catalog to plan with. With `relock_missing`, overlays replace the locks that they were made from."""
    tree = load_catalog(arguments["catalog"])
    sources = {name: read_sources(recipe) for name, recipe in tree.items()}
    overlays = Overlays(arguments["state"])
    found = {name: overlay for name, recipe in tree.items()
             if (overlay := overlays.read(recipe))} if arguments["relock_missing"] else {}
    return Planning(tree, sources, arguments["engine"], arguments["namespace"], found)


def builds(tree: Mapping[str, Recipe], native: Iterable[str] = ()) -> list[Platform]:
    """The build platforms of nodes that run these platforms, the main one first. If no node is known it is this
    machine's, or, if nothing is built on such machines, the catalog's first."""
    wide = dict.fromkeys(platform for recipe in tree.values() for platform in recipe.build_platforms)
    run = [Platform.parse(name) for name in dict.fromkeys(native)]
    if run:
        return [platform for platform in run if platform in wide] or run[:1]
    here = KERNEL.get(os.uname().machine)
    return [here] if here in wide else list(wide)[:1]


def settle(planning: Planning, look: Callable[[Plan], Standing], build: Platform, arguments: Mapping[str, Any], *,
           registry: Registry | None,
           check: bool, say: Callable[[str], None], warn: Callable[[str], None]) -> tuple[Planning, Standing]:
    """The plan of a run, after probing for files: if a .deb that is needed is available nowhere, its image is resolved
    again.

    New packages in a parent change its descendants, so these are looked at again. `registry` is None if none answers.
    In check mode nothing is written.
    """
    standing = look(planning.plan)
    if not arguments["relock_missing"]:
        return planning, standing
    overlays = Overlays(arguments["state"])
    for name in [] if check else overlays.drop(planning.tree.values()):
        say(f"{name}: its lock in the tree has changed, so the lock in relocked/ that replaced it is removed")
    if not standing.todo:
        return planning, standing
    # here, as Ansible compiles what is imported in each run, and a run that builds nothing needs none of it
    from ansible_collections.desimages.farm.plugins.plugin_utils.lock.finder import Finder
    from ansible_collections.desimages.farm.plugins.plugin_utils.lock.relock import Relocker

    with _work(arguments["state"], check) as work:
        origins = Origins(arguments["origins"])
        finder = Finder(origins, Store(f"{arguments['state']}/store"), registry, arguments["namespace"])
        relocker = Relocker(origins, work, finder, keyring=arguments["keyring"],
                            allow_missing_suites=arguments["allow_missing_suites"],
                            say=say, warn=warn)
        while found := relocker.relock(planning.tree, planning.plan.recipes,
                                       _wanted(planning.plan, standing.todo, build)):
            for name, overlay in [] if check else found.items():
                overlays.write(planning.tree[name], overlay)
            planning = replace(planning, overlays={**planning.overlays, **found})
            standing = look(planning.plan)
    return planning, standing


@contextmanager
def _work(state: str, check: bool) -> Iterator[Path]:
    """Where closures are resolved: the state folder, which keeps apt's indexes, or a temporary folder in check mode."""
    if not check:
        yield Path(state)
        return
    with tempfile.TemporaryDirectory(prefix="desimages-") as folder:
        yield Path(folder)


def _wanted(plan: Plan, todo: list[Key], build: Platform) -> dict[str, set[Entry]]:
    """Image -> the locked files that its units need."""
    found: dict[str, set[Entry]] = {}
    for key in todo:
        found.setdefault(key.image, set()).update(plan.entries(plan.units[key], build))
    return found


def check(arguments: Mapping[str, Any]) -> list[str]:
    """The names of the catalog's images. Raises BadInput if the catalog, its locks, origins or the choice are wrong."""
    recipes = load_catalog(arguments["catalog"])
    Origins(arguments["origins"])
    plan = make(recipes, {name: read_sources(recipe) for name, recipe in recipes.items()}, "", "")
    select(plan, None, arguments["images"], arguments["platforms"], arguments["select"])  # no node is known yet
    return sorted(recipes)
