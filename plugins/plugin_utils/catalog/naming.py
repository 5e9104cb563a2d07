# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the names in a Dockerfile mean: those in FROM and --from, which are images and their targets, and circles among
them; those of inputs; those in COPY, which are files of the image's folder. No I/O."""

from __future__ import annotations

import graphlib
import posixpath
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import folders
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import Use
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.documents import Document
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import (
    BUILD_INPUTS,
    INPUTS,
    UNPACKED,
    Input,
    Recipe,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.views import distinct, gathered, shown


def at(recipe: Recipe, file: str) -> str:
    """A file of an image, as messages name it."""
    return folders.shown(f"{recipe.folder}/{file}", 3)


def reference(name: str, recipes: dict[str, Recipe]) -> tuple[str, str] | None:
    """`debian` -> (debian, ""), `builder-go` -> (builder, go); None if it is not an image."""
    if name in recipes and not recipes[name].targets:
        return name, ""
    return next(((image, target) for image, recipe in recipes.items() for target in recipe.targets
                 if name == f"{image}-{target}"), None)


def check_names(recipes: dict[str, Recipe], broken: dict[str, Recipe | None], documents: dict[str, Document],
                problems: list[str]) -> None:
    """Checks that every FROM and --from names a stage, an input, or an image of the catalog that has the platforms
    needed.

    Uses of an image whose own recipe is broken are not checked, nor those of an input with a mistake.
    """
    known = sorted(name for name, recipe in recipes.items() if not recipe.targets)
    known += [f"{name}-{target}" for name, recipe in recipes.items() for target in recipe.targets]
    for recipe in (*recipes.values(), *filter(None, broken.values())):
        dockerfile = at(recipe, "Dockerfile")
        for use, seen in gathered(recipe, lambda view: view.outside).items():
            where = f"{dockerfile}:{use.line}: "
            told = shown(seen, use.written if use.written != use.name else "")
            if use.base and use.name in (INPUTS, BUILD_INPUTS):
                problems.append(f"{where}{use.name} is not an image{told}; take from it with COPY --from={use.name} "
                                "or a mount")
            if use.name in (INPUTS, BUILD_INPUTS) or use.name.startswith(UNPACKED):
                continue
            found = reference(use.name, recipes)
            if use.name in recipe.bases:
                if found:
                    problems.append(f"{where}{use.name} is an input of image.yml and an image of the catalog; rename"
                                    " the input")
                there = recipe.platforms_of(recipe.bases[use.name])
            elif any(use.name in (name, f"{name}-{use.name[len(name) + 1:]}") for name in broken):
                continue
            elif found:
                there = recipes[found[0]].platforms
            elif recipe.name in documents and use.name in _inputs(documents[recipe.name]):
                continue  # an input with a mistake, which has been told
            else:
                problems.append(f"{where}{use.name!r} is not an image of the catalog{told}" + (
                    _elsewhere(use.name) or f"{nearest(use.name, [*known, 'scratch'])}; images: "
                                            f"{', '.join(known) or 'none'}"))
                continue
            wanted = dict.fromkeys(build if use.build else platform for platform, build in seen.pairs)
            if use.build and use.name in recipe.bases and seen.view.foreign:  # its own machines build it
                wanted.update(dict.fromkeys(platform for platform, _build in seen.pairs))
            lacking = [str(platform) for platform in wanted if platform not in there]
            if lacking:
                words = "locked" if use.name in recipe.bases else "built"
                problems.append(f"{where}{use.name} is not {words} for {', '.join(lacking)}{told}")
            elif not use.build and len(seen.pairs) < sum(platform in wanted for platform, _build in seen.all):
                problems.append(f"{where}{use.name} is needed only on some machines{told}: the content of an image"
                                " must not depend on the machine that builds it; for a stage that only makes files use"
                                " FROM --platform=$BUILDPLATFORM")


def _inputs(document: Document) -> Collection[str]:
    """The names of a recipe's inputs, with their mistakes or without."""
    given = document.value.get("inputs")
    return given if isinstance(given, dict) else ()


def _elsewhere(name: str) -> str:
    """What to do with a name that has a registry, a tag or a digest."""
    return ("; names in the catalog have no tag: make an image of another registry an `image` input, and name that here"
            if set("/:@") & set(name) else "")


def check_files(recipe: Recipe, files: Collection[str], left_out: Callable[[str], bool], problems: list[str]) -> None:
    """Checks that what COPY and ADD take is in the main context, which has these files. Words that BuildKit expands are
    not checked.

    `left_out` says whether the image's folder has a path that its context lacks.
    """
    there = {"", *files, *(str(folder) for file in files for folder in PurePosixPath(file).parents)}
    for (line, written), seen in gathered(recipe, lambda view: view.local).items():
        path = posixpath.normpath("/" + written.lstrip("/"))[1:]
        if path in there or set("$*?[\\") & set(written):
            continue
        why = (f"{path!r} is left out of the context: by an ignore file, or because it is the farm's own"
               if left_out(path) else f"the image's folder has no {path!r}{nearest(path, sorted(there))}")
        problems.append(f"{at(recipe, 'Dockerfile')}:{line}: {why}{shown(seen)}")


def check_inputs(recipe: Recipe, known: Mapping[str, Input], problems: list[str]) -> set[str]:
    """Checks that what the Dockerfile takes as an input is one of the recipe, and is taken from where it is. Returns
    the names of the inputs that it uses."""
    used: set[str] = set()
    for use in dict.fromkeys(use for found in distinct(recipe) for use in found.view.all_outside):
        where = f"{at(recipe, 'Dockerfile')}:{use.line}: "
        unpacked, paths = "", use.paths
        if use.name.startswith(UNPACKED):
            unpacked = use.name[len(UNPACKED):]
            paths = (f"/{unpacked}",)
        elif use.name in recipe.bases:
            used.add(use.name)
            if use.build != recipe.bases[use.name].build:
                platform = ("a stage for the build platform: say `for: build` in image.yml" if use.build else "the "
                            "platform that is built: write FROM --platform=$BUILDPLATFORM, or leave out `for: build`")
                problems.append(f"{where}{use.name} is used for {platform}")
            continue
        elif use.name not in (INPUTS, BUILD_INPUTS):
            continue
        for path in paths:
            name = unpacked or path.strip("/").partition("/")[0]
            used.add(name)
            if ".." in path.split("/"):
                problems.append(f"{where}{path} leads out of the input; write the path without ..")
            if said := _no_input(recipe, known, use, name, path):
                problems.append(where + said)
    return used


def _no_input(recipe: Recipe, known: Mapping[str, Input], use: Use, name: str, path: str) -> str:
    """Why a path in `inputs`, `build-inputs` or among unpacked packages is not that of an input; '' if it is."""
    context = use.name if use.name in (INPUTS, BUILD_INPUTS) else BUILD_INPUTS
    there = ", ".join(sorted(known)) or "none"
    if name in recipe.bases:
        return f"{name} is an image: use it by its own name, as in FROM {name} or COPY --from={name}"
    if not name or set("$*?[") & set(name):
        return (f"{path} of {context} names no input: write the name of one out, as in /{next(iter(known), 'NAME')}; "
                f"inputs: {there}")
    if name not in known:
        return f"{name!r} is not an input of image.yml{nearest(name, sorted(known))}; inputs: {there}"
    right = BUILD_INPUTS if known[name].build else INPUTS
    if use.name != context and known[name].kind != "debian":
        return f"{use.name}: only Debian packages are unpacked; take {name} from {right}"
    return f"take {name} from {right}, not from {context} (see `for:` in image.yml)" if right != context else ""


def check_cycles(recipes: dict[str, Recipe], problems: list[str]) -> None:
    """Reports images (or targets, such as `builder-go`) that cannot be built because they need themselves. Each is
    named in one cycle."""
    graph: dict[str, set[str]] = {}
    owner: dict[str, Recipe] = {}
    for name, recipe in recipes.items():
        for target in recipe.targets or ("",):
            node = f"{name}-{target}" if target else name
            owner[node] = recipe
            views = [seen.view for seen in distinct(recipe) if seen.view.target == target]
            graph[node] = {use.name for view in views for use in view.outside if reference(use.name, recipes)}
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
            return
        except graphlib.CycleError as error:
            cycle = list(reversed(error.args[1]))
            problems.append(f"{at(owner[cycle[0]], 'Dockerfile')}:1: images that need each other: "
                            f"{' -> '.join(cycle)}")
            for node in cycle:
                graph.pop(node, None)
