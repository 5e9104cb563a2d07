# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores what is damaged or missing in the registry and needs no build: files, artifacts, unpacked packages,
indexes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Missing
from ansible_collections.desimages.farm.plugins.module_utils.files import sha256_of
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.build.inputs import Fetch
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.repair import Unpacked, Work
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import indexes, oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.archive import unpacked_tag
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import NOTHING

Step = Callable[[], None]


class Mender:
    """Does the work that needs no build. What fails is in `failed`, with the reason, and does not stop the rest."""

    def __init__(self, fetch: Fetch, todo: Work, namespace: str, damaged: set[str]) -> None:
        self.fetch, self.todo, self.namespace, self.damaged = fetch, todo, namespace, damaged
        self.failed: list[str] = []

    def names(self) -> list[str]:
        """What is restored, in words."""
        return [name for name, _step in self._steps()]

    def mend(self) -> list[str]:
        done = []
        for name, step in self._steps():
            try:
                step()
                done.append(name)
            except (FarmError, OSError) as error:
                self.failed.append(f"{name}: {error}")
        return done

    def _steps(self) -> list[tuple[str, Step]]:
        """Blobs first: a registry refuses a manifest if it does not have its blobs."""
        todo, fetch = self.todo, self.fetch
        found: list[tuple[str, Step]] = []
        found += [(f"archived {digest}", partial(self._blob, digest)) for digest in todo.blobs]
        found += [(f"{name} of {image} for {build}, unpacked", partial(self._unpacked, image, name, build))
                  for image, name, build in todo.unpacked]
        found += [(f"the artifact of {key}", partial(self._artifact, key)) for key in todo.artifacts]
        found += [(f"the signature of {repository}:{tag}", partial(fetch.trust.mend, repository, tag))
                  for repository, tag in todo.signatures]
        if not todo.units:  # an index comes after what it names
            found += [(f"the index of {image}", partial(self._index, image)) for image in todo.indexes]
        return found

    def _blob(self, digest: str) -> None:
        fetch, keys = self.fetch, self.todo.blobs[digest]
        if digest == NOTHING:
            fetch.archive.keep([])
            return
        self._sound(digest)
        for image in dict.fromkeys(key.image for key in keys):
            fetch.single(image, [key for key in keys if key.image == image], {_hex(digest)})
        if not fetch.store.has(_hex(digest)):
            raise Missing("neither a unit of this tree nor the store has it, so its origin is not known")
        fetch.archive.registry.put_blob(fetch.archive.repository, fetch.store.path(_hex(digest)), digest)

    def _sound(self, digest: str) -> None:
        """Reads what the store has for a damaged digest, and removes it if damaged: it may be on the same disk."""
        path = self.fetch.store.path(_hex(digest))
        if path.exists() and sha256_of(str(path)) != _hex(digest):
            path.unlink()

    def _unpacked(self, image: str, name: str, build: Platform) -> None:
        fetch, recipe = self.fetch, self.fetch.plan.recipes[image]
        entries = recipe.lock.of(name, str(build))
        keys = [key for key in fetch.plan.units if key.image == image]
        fetch.single(image, keys, {entry.sha256 for entry in entries}, build)
        fetch.archive.unpacked(f"{image} {name}", entries, build, recipe.lock.epoch, fetch.trust,
                               again=True)

    def _artifact(self, key: Key) -> None:
        refused = self.fetch.image(key.image, [key])
        if key in refused:
            raise FarmError(refused[key])
        tree = self.fetch.trees[key]
        unit = self.fetch.plan.units[key]
        self.fetch.archive.describe(str(key), unit.id, unit.record, tree)

    def _index(self, image: str) -> None:
        """Makes the index of this tree's units, and pushes it if that is the damaged one. Fails for any other."""
        registry, repository = self.fetch.archive.registry, f"{self.namespace}/{image}"
        names = {key.platform: f"b-{unit.id}" for key, unit in self.fetch.plan.units.items() if key.image == image}
        unit = next(unit for key, unit in self.fetch.plan.units.items() if key.image == image)
        data = oci.index(indexes.describe(registry, repository, names), unit.annotations)
        made = oci.digest(data)
        if made in self.damaged:
            registry.put_manifest(repository, made, data, oci.INDEX)
        if other := [damage for damage in self.todo.indexes[image] if damage.digest != made]:
            whose = "; ".join(damage.words for damage in other)
            raise FarmError(f"the units of this tree make another index, {made}; so this cannot be restored: {whose}")


def unpacked(plan: Plan) -> dict[str, Unpacked]:
    """The unpacked inputs of a plan for each platform whose nodes may build with them, by their tags in the archive."""
    found = {}
    for image, name, build in sorted({(key.image, name, build) for key, unit in plan.units.items()
                                      for name in unit.unpacked for build in unit.runs}):
        lock = plan.recipes[image].lock
        found[unpacked_tag(lock.of(name, str(build)), build, lock.epoch)] = (image, name, build)
    return found


def _hex(digest: str) -> str:
    return digest.partition(":")[2]
