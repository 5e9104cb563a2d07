# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder for building a unit by hand: its contexts, its source policy, and a script for each client."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import staging
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK, OWN, open_above, others_above
from ansible_collections.desimages.farm.plugins.plugin_utils.build.byhand import buildx_words, doubled
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import Solve
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.indexes import describe
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust


def refuse_foreign(folders: Iterable[Path]) -> None:
    """Raises BadInput with all folders that `lay_out` must not replace, as this user did not lay them out, those that
    would be below a file, and those that somebody else could replace with a link meanwhile."""
    folders = list(folders)
    foreign = [f"to: {folder} exists, and you did not lay it out: remove it, or choose another folder"
               for folder in folders if os.path.lexists(folder) and not _own(folder)]
    foreign += [f"to: {above} is not a folder: choose another one" for above in dict.fromkeys(
        above for folder in folders for above in folder.parents if os.path.lexists(above) and not above.is_dir())]
    looks = (open_above,) if os.geteuid() else (open_above, others_above)
    loose = sorted({above for folder in folders for look in looks for above in look(str(folder))})
    foreign += [f"to: others may write to {above}, so they could replace what is laid out: choose another folder"
                for above in loose]
    if foreign:
        raise BadInput(foreign, what="the choice")


def _own(folder: Path) -> bool:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return False
    names = set(os.listdir(folder))
    return not names or (MARK in names and not names & (OWN - {MARK}))  # not a farm's folder either


def lay_out(folder: Path, made: Solve, state: str, registry: Registry) -> None:
    """Makes a folder with the contexts of a solve (from the store), its source policy, and scripts that build it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    contents = staging.Contents(shared=f"{state}/store")
    trees = made.trees()
    folders = {name: staging.lay_out(folder / name, tree, contents) for name, tree in trees.items()}
    (folder / "policy.json").write_text(json.dumps(made.policy, indent=1) + "\n")
    _script(folder / "buildctl.sh", "buildctl",
            made.words(folders, f"{folder}/policy.json", f"{folder}/metadata.json"))
    gathered = {name: _gather(registry, images) for name, images in doubled(made).items()}
    _script(folder / "buildx.sh", "docker buildx",
            buildx_words(made, folders, f"{folder}/metadata.json", gathered))


def _gather(registry: Registry, images: Mapping[str, str]) -> str:
    """One image for several platforms (platform -> its image, all in one repository): pushes an index without a tag."""
    repository = next(iter(images.values())).removeprefix(f"{registry.address}/").partition("@")[0]
    digests = {Platform.parse(platform): image.partition("@")[2] for platform, image in images.items()}
    data = oci.index(describe(registry, repository, digests), {})
    return f"{registry.address}/{repository}@{registry.put_manifest(repository, oci.digest(data), data, oci.INDEX)}"


def parents(trust: Trust, plan: Plan, keys: list[Key], build: Platform,
            namespace: str) -> dict[str, dict[str, str]]:
    """Parent name -> platform -> digest. Raises FarmError with every parent that the registry does not have,
    or whose tag is not signed."""
    found: dict[str, dict[str, str]] = {}
    missing = []
    for parent in dict.fromkeys(parent for key in keys for parent in plan.parents(plan.units[key], build)):
        answer = trust.find(f"{namespace}/{parent.image}", f"b-{plan.units[parent].id}")
        if answer:
            found.setdefault(parent.name, {})[str(parent.platform)] = answer[0]
        else:
            missing.append(str(parent))
    if missing:
        raise FarmError(f"the registry does not have {', '.join(missing)}, or this farm did not sign it",
                        hint="build the parents first")
    return found


def _script(path: Path, program: str, words: list[str]) -> None:
    """Writes a shell script with one command, a word on each line. It passes its own arguments on."""
    path.write_text(f"#!/bin/sh\nexec {program} \\\n" + " \\\n".join(f"    {shlex.quote(word)}" for word in words)
                    + ' "$@"\n')
    path.chmod(0o755)
