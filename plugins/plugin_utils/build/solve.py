# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One solve: turns a batch of units into contexts and the arguments of `buildctl build`. Building by hand uses it too.

Everything besides its content that decides the bytes of a layer is pinned in golden.py, and only there: the engine id
proves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.golden import COMPRESSIONS, WITHOUT_INDEX
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import image_lines
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Plan, Unit
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import NO_IGNORES
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import (
    BUILD_INPUTS,
    INPUTS,
    UNPACKED,
    Entry,
    File,
    Recipe,
    Sources,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import ARCHIVE

MAIN = "context"
STAGED = 10**9  # seconds; after 1980, where the times of zip files begin
IMAGE = "docker-image://"


Tree = Mapping[str, File]


@dataclass(frozen=True)
class Solve:
    """`contexts` maps the name of a local context (a hash of its content) to its files; `options` are the frontend's,
    `output` are the exporter's."""

    name: str
    platforms: tuple[Platform, ...]
    contexts: dict[str, Tree]
    options: dict[str, str]
    output: dict[str, str]
    policy: dict[str, object] = field(default_factory=dict)

    def words(self, folders: Mapping[str, str], policy: str, metadata: str) -> list[str]:
        """The arguments of `buildctl build`. `folders` maps contexts to paths; `policy` and `metadata` are paths."""
        found = ["build", "--progress=rawjson", "--frontend=dockerfile.v0", f"--source-policy-file={policy}",
                 f"--metadata-file={metadata}"]
        found += [f"--local={name}={folders[name]}" for name in sorted(self.contexts)]
        found += [f"--opt={name}={value}" for name, value in sorted(self.options.items())]
        return [*found, "--output=" + ",".join(csv(f"{name}={value}") for name, value in self.output.items())]

    def spec(self, folder: str) -> dict[str, object]:
        """What the runner needs to know of it, for a job in this folder on the node."""
        folders = {name: f"{folder}/contexts/{name}" for name in self.contexts}
        return {"solve": {"contexts": self.trees(), "policy": self.policy},
                "words": self.words(folders, f"{folder}/policy.json", f"{folder}/metadata.json")}

    def trees(self) -> dict[str, dict[str, list[object]]]:
        """The contexts for the runner to lay out: name -> path -> [sha256, size, mode, mtime]."""
        return {name: {path: [f.sha256, f.size, f.mode, f.mtime] for path, f in tree.items()}
                for name, tree in self.contexts.items()}


def csv(field_: str) -> str:
    """A field of an --output list, quoted if necessary."""
    return '"' + field_.replace('"', '""') + '"' if any(sign in field_ for sign in ',"\n') else field_


def make(units: list[Unit], plan: Plan, sources: Sources, *, build: Platform, registry: str, repository: str,
         digests: Mapping[str, Mapping[str, str]], unpacked: Mapping[str, str]) -> Solve:
    """The solve for units of one image that share labels and epoch. It has what any of them needs.

    `digests` maps a parent's name to platform -> digest of its unit; `unpacked` maps an unpacked input to the digest of
    its image; `registry` and `repository` say where results go and parents come from (`127.0.0.1:5000`,
    `desimages/debian`).
    """
    first = units[0]
    recipe = plan.recipes[first.key.image]
    contexts: dict[str, Tree] = {}
    options = {
        "platform": ",".join(str(unit.key.platform) for unit in units),
        "force-network-mode": "none",
        "build-arg:BUILDKIT_MULTI_PLATFORM": "1",
        "build-arg:SOURCE_DATE_EPOCH": str(first.epoch),
        "filename": "Dockerfile",
        **{f"build-arg:{name}": value for name, value in recipe.args.items()},
        **{f"label:{name}": value for name, value in first.labels.items() if value},
    }
    if first.key.target:
        options["target"] = first.key.target

    def local(tree: Tree) -> str:
        name = context_name(tree)
        contexts[name] = tree
        return name

    options["dockerfilekey"] = local(definition(recipe, sources))
    contexts[MAIN] = {path: File(sha, size, mode, staged_time(sha))
                      for path, (mode, sha, size) in sources.files.items()}
    for name in _all(unit.unpacked for unit in units):
        if name not in unpacked:
            raise FarmError(f"{first.key}: its packages {name} were not unpacked for {build}",
                            hint="run again: when this run was planned, no node was known that builds on that platform")
        options[f"context:{UNPACKED}{name}"] = f"{IMAGE}{registry}/{unpacked[name]}"
    trees = {
        INPUTS: {unit.key.platform: inputs_tree(plan, unit, names, unit.key.platform, sources)
                 for unit in units if (names := _files(unit, unit.inputs))},
        BUILD_INPUTS: {unit.key.platform: inputs_tree(plan, unit, names, build, sources)
                       for unit in units if (names := _files(unit, unit.build_inputs))},
    }
    for context, by_platform in trees.items():
        places = {platform: "local:" + local(tree) for platform, tree in by_platform.items()}
        # without a platform in its name, BuildKit asks for it once, not once for each platform
        if len(set(places.values())) == 1:
            options[f"context:{context}"] = next(iter(places.values()))
        else:
            options.update({f"context:{context}::{platform}": place for platform, place in places.items()})
    namespace = repository.rpartition("/")[0]
    for unit in units:
        for name, platform, entries in images(plan, unit, build):
            options[f"context:{name}::{platform}"] = (
                f"{IMAGE}{registry}/{namespace}/{ARCHIVE}@{image_lines.digest(entries)}")
    for parent in (parent for unit in units for parent in plan.parents(unit, build)):
        digest = digests[parent.name][str(parent.platform)]
        options[f"context:{parent.name}::{parent.platform}"] = f"{IMAGE}{registry}/{namespace}/{parent.image}@{digest}"
    output = {
        "type": "image", "name": f"{registry}/{repository}", "push": "true", "push-by-digest": "true",
        "name-canonical": "true", **(COMPRESSIONS[recipe.compression] if recipe.index else WITHOUT_INDEX),
        **{f"annotation.{name}": value for name, value in first.labels.items()},
    }
    name = f"{first.key.name} {', '.join(unit.key.platform.slug for unit in units)}"
    return Solve(name, tuple(unit.key.platform for unit in units), contexts, options, output,
                 policy(registry, namespace))


def _all(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for each in names for name in each}))


def _files(unit: Unit, names: tuple[str, ...]) -> tuple[str, ...]:
    """The inputs that are files in a context: images are pulled instead."""
    return tuple(name for name in names if name not in unit.images)


def images(plan: Plan, unit: Unit, build: Platform) -> list[tuple[str, Platform, list[Entry]]]:
    """The inputs of a unit that are images: the name, the platform, and the lines of the lock for it.

    `build` is the platform of the node. Raises FarmError if the lock has no such lines.
    """
    recipe = plan.recipes[unit.key.image]
    found = []
    for name in unit.images:
        platform = unit.on(build) if recipe.bases[name].build else unit.key.platform
        entries = recipe.lock.of(name, str(platform))
        if not entries:
            raise FarmError(f"{unit.key}: the lock has no {name} for {platform}", hint="run `make lock` again")
        found.append((name, platform, entries))
    return found


def definition(recipe: Recipe, sources: Sources) -> dict[str, File]:
    """A recipe's Dockerfile, as a file of the store.

    If the main context has a .dockerignore, an empty Dockerfile.dockerignore goes beside it, which BuildKit reads
    instead: ignored files are left out already, maybe by the image's own Dockerfile.dockerignore.
    """
    contents = {"Dockerfile": recipe.dockerfile.text.encode()}
    if ".dockerignore" in sources.files:
        contents["Dockerfile.dockerignore"] = NO_IGNORES
    return {name: File(hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}


def inputs_tree(plan: Plan, unit: Unit, names: tuple[str, ...], platform: Platform,
                sources: Sources) -> dict[str, File]:
    """The files of `inputs` or `build-inputs`: the locked ones, and for a Go module the wrapper that builds it."""
    recipe = plan.recipes[unit.key.image]
    tree = {entry.path: File(entry.sha256, entry.size) for name in names
            for entry in recipe.lock.of(name, str(platform))}
    for name in names:
        for path, (_mode, sha, size) in sources.wrappers.get(name, {}).items():
            tree[f"{name}/{path}"] = File(sha, size)
    return tree


def staged_time(sha256: str) -> int:
    """The mtime (ns) of a file of the main context: within the second STAGED, with nanoseconds that depend on its
    content.

    BuildKit copies a file again only if its content changed. If the time were that of the lock, a layer on a node that
    had copied it for the lock before would have the time of that.

    BuildKit keeps the last `context` that it got, and fetches only files whose size or mtime differ. If all contents
    had the same time, it might build from the file of another commit (tried). Other contexts have unique names instead.
    """
    return STAGED * 10**9 + int(sha256[:7], 16)


def context_name(tree: Tree) -> str:
    """The name of a local context, a hash of its content: under the same name BuildKit reuses files by size and mtime,
    and our mtimes are all the same."""
    return "c" + canonical.sha256({path: [f.sha256, f.mode, f.mtime] for path, f in tree.items()})[:24]


def policy(registry: str, namespace: str) -> dict[str, object]:
    """The source policy of every solve (D13): only the farm's registry by digest, and the staged contexts. The last
    rule that matches counts."""
    return {
        "rules": [
            {"action": "DENY", "selector": {"identifier": "*", "match_type": "WILDCARD"}},
            {"action": "ALLOW", "selector": {"identifier": "local://*", "match_type": "WILDCARD"}},
            {"action": "ALLOW", "selector": {"identifier": f"{IMAGE}{registry}/{namespace}/*@sha256:*",
                                             "match_type": "WILDCARD"}},
        ]
    }
