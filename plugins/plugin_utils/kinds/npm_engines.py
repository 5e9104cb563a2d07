# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what packages say about the Node that they run on (`engines` in package.json) with the Node of the image, as
npm does for the Node that npm runs on. I/O.

The Node of the image is known if it is the Debian package `nodejs`, of an image below or of the last lock.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_client import Npm
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Input, Recipe

NODE = "nodejs"  # Debian's package
STRICT = re.compile(r"^\s*engine-strict\s*(=\s*true\s*)?$", re.MULTILINE)  # in .npmrc
# npm comes with the library that it compares versions with: the same decides here. Prints what no range takes.
COMPARE = """\
const npm = require("fs").realpathSync(process.argv[1]), [nodes, wanted] = JSON.parse(require("fs").readFileSync(0));
const semver = require(require.resolve("semver", {paths: [npm]})), options = {includePrerelease: true};
const refuses = (range) => nodes.filter((node) => !semver.satisfies(node, range, options));
console.log(JSON.stringify(Object.fromEntries(wanted.map((range) => [range, refuses(range)]))));
"""


def nodes(recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[str]:
    """The versions of Node that a program of an input runs on, as far as they are known."""
    if found.build:
        return []
    targets = {one.name for one in recipe.inputs if not one.build}
    there = [entry for platform in map(str, platforms) for entry in (
        *recipe.below.get(platform, ()),
        *(one for one in recipe.lock.entries if one.input in targets and one.platform == platform))]
    known = (re.match(r"(?:\d+:)?(\d+\.\d+\.\d+)", entry.fact["version"]) for entry in there
             if entry.kind == "debian" and entry.fact["name"] == NODE)
    return sorted({version[1] for version in known if version})


def unmet(npm: Npm, wanted: Mapping[str, str], nodes_: Iterable[str], folder: Path) -> list[str]:
    """What packages ask for and a Node is not. `wanted` maps a package to the range of versions that it says."""
    have = list(nodes_)
    if not have or not wanted:
        return []
    done = programs.run(["node", "-e", COMPARE, npm.binary], seconds=60, environment=os.environ, folder=str(folder),
                        stdin=json.dumps([have, sorted(set(wanted.values()))]))
    try:
        refused = json.loads(done.out)
    except ValueError:
        return [f"what its packages say about the Node that they need is not known: {done.err.strip()[-200:]}"]
    return [f"{label} is for Node {text}, the image has {', '.join(refused[text])}"
            for label, text in sorted(wanted.items()) if refused[text]]


def strict(npm: Npm, program: Path, folder: Path) -> bool:
    """Whether engine-strict is set: in the .npmrc of a program of the image's own, or in this machine's settings."""
    own = program / ".npmrc"
    if own.is_file() and STRICT.search(own.read_text(encoding="utf-8", errors="replace")):
        return True
    return npm.run("config", "get", "engine-strict", folder=folder).out.strip() == "true"


def compare(npm: Npm, recipe: Recipe, found: Input, wanted: Mapping[str, str], platforms: Sequence[Platform],
            folder: Path) -> str:
    """What to say about packages that are for another Node, '' if there are none. `folder` is an empty one for npm.
    Raises FarmError if engine-strict makes that an error."""
    lines = unmet(npm, wanted, nodes(recipe, found, platforms), folder)
    if lines and strict(npm, Path(recipe.folder) / str(found.spec.get("folder", "")), folder):
        text = "".join(f"\n    {line}" for line in lines)
        raise FarmError(f"{found.name} needs another Node, and engine-strict is set:{text}", input=found.name,
                        hint="choose another version, or another Node for the image; or unset engine-strict")
    return f"{found.name} may need another Node: {'; '.join(lines)}" if lines else ""
