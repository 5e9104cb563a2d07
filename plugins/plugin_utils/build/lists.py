# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes manifest lists of finished units, compares, pushes, tags and publishes them. Image tags move last."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import indexes, oci, tags
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import MANIFEST, Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.states import GOOD, Outcome

THREADS = 8  # images that are compared and tagged at the same time


@dataclass
class Lists:
    """The manifest lists of a run. `sizes` maps the digest of a unit's manifest to (bytes, media type): true for those
    in `read`, otherwise as the registry says. `tags` are templates (registry/tags.py). With `partial`, an index may
    lack chosen units that do not exist. `publish` is `HOST[:PORT][/PATH]`, or ''. In `check` mode nothing is pushed.
    `held` maps an image whose tags may not move to the reason.

    After `finish()`, `changes` has what was done for each image, and `problems` why nothing was done.
    """

    registry: Registry
    planned: Planned
    outcomes: dict[Key, Outcome]
    sizes: dict[str, tuple[int, str]]
    namespace: str
    tags: list[str]
    partial: bool = False
    publish: str = ""
    check: bool = False
    read: Container[str] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    changes: dict[str, list[indexes.Change]] = field(default_factory=dict)
    copies: dict[str, list[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def moved(self) -> list[str]:
        return [f"{change.repository}:{tag}" for changes in self.changes.values() for change in changes
                for tag in change.moved]

    @property
    def published(self) -> list[str]:
        return [name for names in self.copies.values() for name in names]

    @property
    def images(self) -> list[str]:
        """The chosen images that get an index, in the order of the plan."""
        plan: Plan = self.planned.plan
        return list(dict.fromkeys(key.image for key in self.planned.wanted if plan.recipes[key.image].index))

    @property
    def unbuilt(self) -> list[str]:
        """Those of them that have units to build which do not exist yet."""
        new = {key.image for key in self.planned.todo if key not in self.planned.again}
        return [image for image in self.images if image in new]

    def finish(self) -> None:
        """Compares, pushes and publishes, image by image. A problem with one image does not stop the others."""
        images = self.images
        self.changes, self.copies = {image: [] for image in images}, {image: [] for image in images}
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._finish, images))

    @property
    def moving(self) -> set[str]:
        """The images with tags that have moved, or would in `check` mode, here or where images are published."""
        return {image for image, changes in self.changes.items()
                if self.copies[image] or any(change.moved for change in changes)}

    def _finish(self, image: str) -> None:
        if image in self.held:
            self.problems[image] = (f"the tags of {image} stay where they are, because it breaks its contract:\n"
                                    f"{self.held[image]}")
            return
        try:
            self._change(image)
            if self.publish:
                self._publish(image)
        except FarmError as error:
            self.problems[image] = f"{image}: {error}"

    def _change(self, image: str) -> None:
        """Handles one image's index, or the tags of single platforms if only some were chosen."""
        plan: Plan = self.planned.plan
        recipe, repository = plan.recipes[image], f"{self.namespace}/{image}"
        keys = [Key(image, "", platform) for platform in recipe.platforms]
        chosen = [key for key in keys if key in self.planned.wanted] if self.planned.chosen else keys
        there = [key for key in chosen if key in self.outcomes and self.outcomes[key].state in GOOD]
        if not there:
            return
        unit = plan.units[there[0]]
        render = functools.partial(tags.render, self.tags, suite=recipe.suites[0], epoch=unit.epoch)
        if len(there) == len(chosen if self.partial else keys):
            manifests = [oci.Manifest(self.outcomes[key].digest, *self.sizes[self.outcomes[key].digest], key.platform)
                         for key in there]
            annotations = unit.annotations
            change = self._compare(repository, manifests, annotations, render)
            if change.moved and any(manifest.digest not in self.read for manifest in manifests):
                read = indexes.describe(self.registry, repository, {each.platform: each.digest for each in manifests})
                change = self._compare(repository, read, annotations, render)  # of what was read, not what was said
            self._push(image, change, oci.INDEX)
        elif self.planned.chosen and not self.partial:
            for key in there:
                wanted, _fixed = render(digest=self.outcomes[key].digest, suffix=key.platform.slug)
                self._push(image, indexes.compare_single(self.registry, repository, self.outcomes[key].digest, wanted),
                           MANIFEST)

    def _compare(self, repository: str, manifests: list[oci.Manifest], annotations: dict[str, str],
                 render: Callable[..., tuple[list[str], list[str]]]) -> indexes.Change:
        wanted, fixed = render(digest=oci.digest(oci.index(manifests, annotations)))
        return indexes.compare(self.registry, repository, manifests, annotations, wanted, fixed)

    def _push(self, image: str, change: indexes.Change, media_type: str) -> None:
        if not self.check:
            indexes.push(self.registry, change, media_type)
        self.changes[image].append(change)

    @functools.cached_property
    def _other(self) -> Registry:
        """Where images are published; a login is for one registry."""
        address = self.publish.partition("/")[0]
        if address == self.registry.address:
            return self.registry
        other = Registry(address, writes=True)
        other.on_trouble(self.registry.tell)
        return other

    def _publish(self, image: str) -> None:
        """Copies a finished image by digest to another registry, unless its tags there name it already."""
        address, _slash, prefix = self.publish.partition("/")
        other = self._other
        name = f"{prefix}/{image}" if prefix else image
        for change in self.changes[image]:
            wanted = [tag for tag in change.tags if (other.digest(name, tag) or ("",))[0] != change.digest]
            if wanted and not self.check:
                self.registry.copy(change.repository, change.digest, other, name, wanted)
            self.copies[image] += [f"{address}/{name}:{tag}" for tag in wanted]
