# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays the contexts of units out, so that anyone can build them by hand with buildctl or docker buildx, to the same
digest."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL, Platform
from ansible_collections.desimages.farm.plugins.module_utils.staging import Contents, lay_out
from ansible_collections.desimages.farm.plugins.modules.context import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.build import byhand, solve
from ansible_collections.desimages.farm.plugins.plugin_utils.build.inputs import Fetch
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.indexes import describe


class ActionModule(FarmAction):
    """See plugins/modules/context.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        found = planning.load(arguments)
        plan, sources = found.plan, dict(found.sources)
        build = KERNEL[os.uname().machine]
        keys = select(plan, [build], [arguments["image"]], arguments["platforms"], "")
        registry = Registry(arguments["registry"])
        digests = parents(registry, plan, keys, build, arguments["namespace"])
        for name, overlay in found.relocked(keys, build).items():
            self.warn(overlay.words(name))
        to = Path(arguments["to"])
        if self.check:
            return {"changed": True, "folders": [str(to / f"{key.name}-{key.platform.slug}") for key in keys]}
        fetch = Fetch(plan, sources, build, arguments, self.say)
        refused = fetch.image(arguments["image"], keys)
        if refused:
            raise FarmError("\n".join(f"{key}: {error}" for key, error in refused.items()))
        folders = []
        for key in keys:
            made = solve.make([plan.units[key]], plan, sources[key.image], build=build, registry=arguments["registry"],
                              repository=f"{arguments['namespace']}/{key.image}", digests=digests,
                              unpacked=fetch.unpacked.get(key.image, {}))
            folders.append(self._lay_out(to / f"{key.name}-{key.platform.slug}", made, arguments["state"], registry))
        self.say("\n".join([f"Laid out for buildctl.sh and buildx.sh: {folder}" for folder in folders]))
        return {"changed": True, "folders": folders}

    def _lay_out(self, folder: Path, made: solve.Solve, state: str, registry: Registry) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        contents = Contents(shared=f"{state}/store")
        trees = made.trees()
        folders = {name: lay_out(folder / name, tree, contents) for name, tree in trees.items()}
        (folder / "policy.json").write_text(json.dumps(made.policy, indent=1) + "\n")
        script(folder / "buildctl.sh", "buildctl",
               made.words(folders, f"{folder}/policy.json", f"{folder}/metadata.json"))
        indexes = {name: gather(registry, images) for name, images in byhand.doubled(made).items()}
        script(folder / "buildx.sh", "docker buildx",
               byhand.buildx_words(made, folders, f"{folder}/metadata.json", indexes))
        return str(folder)


def gather(registry: Registry, images: Mapping[str, str]) -> str:
    """One image for several platforms (platform -> image of it, all of one repository): an index in the registry that
    no tag names."""
    repository = next(iter(images.values())).removeprefix(f"{registry.address}/").partition("@")[0]
    digests = {Platform.parse(platform): image.partition("@")[2] for platform, image in images.items()}
    data = oci.index(describe(registry, repository, digests), {})
    return f"{registry.address}/{repository}@{registry.put_manifest(repository, oci.digest(data), data, oci.INDEX)}"


def parents(registry: Registry, plan: Plan, keys: list[Key], build: Platform,
            namespace: str) -> dict[str, dict[str, str]]:
    """Parent name -> platform -> digest. Raises FarmError with every parent that the registry lacks."""
    found: dict[str, dict[str, str]] = {}
    missing = []
    for parent in dict.fromkeys(parent for key in keys for parent in plan.parents(plan.units[key], build)):
        answer = registry.digest(f"{namespace}/{parent.image}", f"b-{plan.units[parent].id}")
        if answer:
            found.setdefault(parent.name, {})[str(parent.platform)] = answer[0]
        else:
            missing.append(str(parent))
    if missing:
        raise FarmError(f"the registry does not have {', '.join(missing)}", hint="build the parents first")
    return found


def script(path: Path, program: str, words: list[str]) -> None:
    """A shell script of one command, one word a line; more words may follow the script's name."""
    path.write_text(f"#!/bin/sh\nexec {program} \\\n" + " \\\n".join(f"    {shlex.quote(word)}" for word in words)
                    + ' "$@"\n')
    path.chmod(0o755)
