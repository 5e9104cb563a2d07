# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog: folders of recipes. It is read and checked as a whole, and all mistakes are reported at once."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.files import may
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import locks, naming, schema
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, kind_of
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import contract, dockerfile, folders
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.descent import above
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.documents import Document
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import DEFAULTS, LOCK, RECIPE, images, look
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import BUILD_INPUTS, INPUTS, UNPACKED, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import (
    NoText,
    is_there,
    nearest,
    read_written,
    told,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.views import distinct, gathered, shown

HOME = Path(__file__).resolve().parents[3]
OWN = HOME / "images"
NAME = "desimages.farm"  # how farm_catalog names that folder, wherever the collection is installed
FOLDER = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*\Z")  # https://github.com/distribution/reference
ALL_IMAGES = "all"  # how farm_images names all images
# what these names mean in a Dockerfile, in the registry, or in a choice
TAKEN = {INPUTS, BUILD_INPUTS, "scratch", "archive", "context", ALL_IMAGES}
IMAGES = "images"  # the key of defaults.yml
OWNED = (IMAGES, "vendor", "source", "compression")  # keys of one folder, that no other one gets from ours
LONGEST = 128  # characters of an image's name with its target: a registry allows 255 with the namespace
MOST_DOCKERFILE = 1 << 20  # bytes


def load_catalog(catalog: Iterable[str], *, need_locks: bool = True) -> dict[str, Recipe]:
    """Image name -> Recipe, for all folders. Raises BadInput with every mistake in every file.

    `desimages.farm` is the folder that comes with the collection. A folder may have a defaults.yml; keys that it leaves
    out have the value in the project's own, except those in OWNED. Without `need_locks`, a lock that is missing or bad
    counts as empty (the lock step makes it).
    """
    problems: list[str] = []
    defaults = _defaults(OWN, {}, problems)
    recipes: dict[str, Recipe] = {}
    broken: dict[str, Recipe | None] = {}
    paths: dict[str, Path] = {}
    documents: dict[str, Document] = {}
    recipe_schema = schema.recipe()
    seen: set[Path] = set()
    for text in catalog:
        folder = OWN if text == NAME else Path(text).absolute()  # `.` has no name for messages
        if said := _unusable(folder, text):
            problems.append(f"farm_catalog: {text!r} {said}")
            continue
        real = folder.resolve()
        if real in seen:
            problems.append(f"farm_catalog: {text!r} is a folder that it has already; remove one")
            continue
        seen.add(real)
        own = defaults if real == OWN else _defaults(folder, defaults, problems)
        there = images(folder)
        problems += there.problems
        broken.update(dict.fromkeys(there.broken))
        for path in there.recipes:
            name = path.parent.name
            paths[name] = path
            if name in recipes:
                problems.append(f"{_named(path)}:1: the catalog already has an image {name}, in "
                                f"{recipes[name].folder}; rename one")
                continue
            recipe, whole = _recipe(path, f"{real}/{name}", own, recipe_schema, need_locks, documents, problems)
            if recipe and whole:
                recipes[name] = recipe
            else:
                broken[name] = recipe
    if not recipes and not problems:
        problems.append(f"no image in any folder of farm_catalog ({', '.join(map(str, sorted(seen)))}): one is a "
                        "folder with an image.yml, right in one of these")
    _check_folders(paths, recipes, problems)
    naming.check_names(recipes, broken, documents, problems)
    _check_contracts(recipes, broken, documents, problems)
    naming.check_cycles(recipes, problems)
    if need_locks:
        for recipe in recipes.values():
            locks.check(recipe, naming.at(recipe, LOCK), problems)
        if not problems:  # or nobody knows what images descend from
            problems += [said for recipe in recipes.values()
                         for said in locks.moved_above(recipes, recipe, naming.at(recipe, LOCK))]
    if problems:
        raise BadInput(sorted(dict.fromkeys(map(told, problems)), key=_by_place))
    return recipes


def _unusable(folder: Path, text: str) -> str:
    """Why a folder of images, given as `text`, cannot be used: it does not exist, or this user cannot read it. '' if it
    can."""
    try:
        if stat.S_ISDIR(folder.stat().st_mode):
            return "" if may(folder, os.R_OK | os.X_OK) else "cannot be read: Permission denied"
    except PermissionError:
        return "cannot be read: Permission denied"
    except (OSError, ValueError):  # the latter for a NUL
        pass
    return (f"{'is not a folder' if is_there(folder) else 'does not exist'}{nearest(text, [NAME])}; it lists "
            f"folders of images, each by its absolute path or as {NAME}")


def _named(path: Path) -> str:
    return folders.shown(path, 3)


def _by_place(problem: str) -> tuple[str, int, str]:
    name, _colon, rest = problem.partition(":")
    number = rest.partition(":")[0]
    return name, int(number) if number.isdigit() else 0, problem


def _defaults(folder: Path, base: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    path = folder / DEFAULTS
    base = {key: value for key, value in base.items() if key not in OWNED}
    if not is_there(path) or os.path.islink(path):  # a link is told as such
        return base
    document = Document(path, folders.shown(path, 2))
    document.check(schema.defaults())
    if not document.problems:
        there = [name for name in sorted(os.listdir(folder)) if is_there(folder / name / RECIPE)]
        for number, name in enumerate(document.value.get(IMAGES, ())):
            if name not in there:  # such as `base/`, which is a path to it
                document.say((IMAGES, number), f"{name!r} is not an image of this folder{nearest(name, there)}")
    problems += document.problems
    return base if document.problems else {**base, **document.value}


def _recipe(path: Path, real: str, defaults: dict[str, Any], recipe_schema: dict[str, Any], need_locks: bool,
            documents: dict[str, Document], problems: list[str]) -> tuple[Recipe | None, bool]:
    """A recipe, and whether it is whole. If it has mistakes, the rest is still read, so that those in its Dockerfile
    are reported as well. Its document goes into `documents`. `real` is its folder, without links on the way there."""
    home = path.parent
    folder = look(home)
    problems += folder.problems
    containerfile, lock = home / "Dockerfile", home / LOCK
    if os.path.islink(path) or os.path.islink(containerfile):  # which has been told
        return None, False
    document = Document(path, _named(path))
    document.check(recipe_schema)
    problems += document.problems
    if not is_there(containerfile):
        near = next((f": rename {name}" for name in sorted(folder.files) if folders.CONTAINERFILE.fullmatch(name)), "")
        problems.append(f"{_named(containerfile)}:1: missing; every image needs a Dockerfile{near}")
        return None, False
    try:
        parsed = dockerfile.parse(read_written(containerfile, MOST_DOCKERFILE).replace("\r\n", "\n"))
    except NoText as error:
        problems.append(f"{_named(containerfile)}:{error.line}: {error.reason}")
        return None, False
    problems += [f"{_named(containerfile)}:{line}: {reason}" for line, reason in parsed.refused]
    if not isinstance(document.value, dict) or not parsed.stages:
        return None, False
    whole = not document.problems
    value = {"description": "", "license": "",
             **{key: part for key, part in document.value.items() if key not in document.bad}}
    recipe = Recipe(
        name=home.name,
        folder=real,
        dockerfile=parsed,
        inputs=tuple(kind.input(name, given) for name, given in sorted(value.get("inputs", {}).items())
                     if (kind := kind_of(given))),
        platforms=() if "platforms" in document.bad else _platforms(value, defaults),
        build_platforms=tuple(map(Platform.parse, defaults["build_platforms"])),
        suites=tuple(value.get("suites", defaults["suites"])),
        targets=tuple(value.get("targets", ())),
        args=dict(value.get("args", {})),
        labels=_labels(home.name, value, defaults),
        index=not value.get("targets"),
        compression=defaults.get("compression", "zstd"),
        usual=home.name in defaults.get(IMAGES, [home.name]),
        contract=contract.Contract.parse(value.get("contract", {})),
        lock=locks.read(lock, _named(lock), need_locks and not os.path.islink(lock), problems),
    )
    _check_evaluated(recipe, problems)
    if not folder.problems:  # else it is not known what is in the context
        naming.check_files(recipe, folder.files, lambda name: is_there(home / name), problems)
    documents[recipe.name] = document
    if "inputs" not in document.bad:
        _check_recipe(recipe, document, set(folder.files), problems)
    return recipe, whole


def _platforms(value: dict[str, Any], defaults: dict[str, Any]) -> tuple[Platform, ...]:
    wanted = value.get("platforms", "all")
    everything = defaults["build_platforms"] if value.get("targets") else defaults["platforms"]
    if isinstance(wanted, dict):
        wanted = [name for name in everything if name not in wanted["except"]]
    return tuple(map(Platform.parse, everything if wanted == "all" else wanted))


def _labels(name: str, value: dict[str, Any], defaults: dict[str, Any]) -> dict[str, str]:
    version = value.get("version") or value.get("inputs", {}).get(name, {}).get("version", "")
    found = {
        "title": value.get("title", name), "description": value["description"], "url": value.get("home", ""),
        "licenses": value["license"],
        "version": version, "vendor": defaults.get("vendor", ""), "source": defaults.get("source", ""),
    }
    return {f"org.opencontainers.image.{key}": text for key, text in found.items() if text}


def _check_recipe(recipe: Recipe, document: Document, files: set[str], problems: list[str]) -> None:
    """Checks that the Dockerfile uses exactly the inputs of the recipe, that each ARG, target and contract fits, and
    each input by its kind.

    `files` are those of the main context.
    """
    known, bases = {found.name: found for found in recipe.inputs}, recipe.bases
    used = naming.check_inputs(recipe, known, problems)
    for name in sorted(set(known) - used):
        if not KINDS[known[name].kind].own:  # that code is in the main context
            problems.append(f"{document.name}:{document.line(('inputs', name))}: {name} is an input that the "
                            "Dockerfile does not use")
    taken = recipe.dockerfile.taken
    for name in sorted(set(recipe.args) - taken):
        problems.append(f"{document.name}:{document.line(('args', name))}: the Dockerfile has no ARG"
                        f" {name}{nearest(name, sorted(taken))}; write `ARG {name}` where it is used")
    for number, target in enumerate(recipe.targets):
        if not recipe.dockerfile.stage(target):
            stages = [stage.name for stage in recipe.dockerfile.stages if stage.name]
            problems.append(f"{document.name}:{document.line(('targets', number))}: {target!r} is not a stage of the "
                            f"Dockerfile{nearest(target, stages)}; stages: {', '.join(stages) or 'none has a name'}")
    problems += [f"{document.name}:{document.line(('contract', *path))}: contract: {said}"
                 for path, said in contract.mistakes(recipe.contract)]
    for found in recipe.inputs:
        line = document.line(("inputs", found.name))
        if found.name in bases and (found.name in TAKEN or found.name.startswith(UNPACKED)):
            problems.append(f"{document.name}:{line}: the name {found.name!r} is reserved in FROM; rename the input")
        problems += [f"{document.name}:{line}: {said}"
                     for said in KINDS[found.kind].mistakes(found, files, recipe.platforms_of(found))]


def _check_folders(found: dict[str, Path], recipes: dict[str, Recipe], problems: list[str]) -> None:
    """Checks the names of images (those of their folders): valid in a registry, and each of one thing only."""
    for name, path in found.items():
        where = f"{_named(path)}:1"
        if not FOLDER.match(name):
            problems.append(f"{where}: {name!r} is not a valid image name; rename the folder: lower case letters and "
                            "digits, with . _ __ - between them")
        elif name in TAKEN or name.startswith(UNPACKED):
            problems.append(f"{where}: the name {name!r} is reserved; rename the folder")
        if len(name) > LONGEST:
            problems.append(f"{where}: the folder's name has {len(name)} characters; at most {LONGEST} are allowed")
    owners: dict[str, str] = {}
    for name, recipe in recipes.items():
        for target in recipe.targets:
            whole = f"{name}-{target}"
            if len(whole) > LONGEST >= len(name):
                problems.append(f"{naming.at(recipe, 'image.yml')}:1: its target {target} is named {whole}, which has"
                                f" {len(whole)} characters; at most {LONGEST} are allowed")
            if whole in TAKEN or whole.startswith(UNPACKED):
                problems.append(f"{naming.at(recipe, 'image.yml')}:1: its target {target} is named {whole}, which is "
                                "reserved; rename the stage")
            if whole in recipes:
                problems.append(f"{naming.at(recipe, 'image.yml')}:1: its target {target} is named {whole}, which is "
                                "also an image; rename one")
            elif whole in owners:
                problems.append(f"{naming.at(recipe, 'image.yml')}:1: its target {target} is named {whole}, as is a "
                                f"target of {owners[whole]}; rename one")
            owners.setdefault(whole, name)
        if not recipe.platforms:
            problems.append(f"{naming.at(recipe, 'image.yml')}:1: it has no platform; see `platforms`")


def _check_evaluated(recipe: Recipe, problems: list[str]) -> None:
    """Reports what BuildKit would refuse on some platform."""
    for (line, reason), seen in gathered(recipe, lambda view: view.refused).items():
        problems.append(f"{naming.at(recipe, 'Dockerfile')}:{line}: {reason}{shown(seen)}")


def _check_contracts(recipes: dict[str, Recipe], broken: dict[str, Recipe | None], documents: dict[str, Document],
                     problems: list[str]) -> None:
    """Reports where contracts contradict Dockerfiles: their own, and those of the images that they descend from."""
    for recipe in (*recipes.values(), *filter(None, broken.values())):
        document = documents.get(recipe.name)
        if document is None or "inputs" in document.bad or recipe.contract == contract.Contract():
            continue
        wrong = {path for path, _said in contract.mistakes(recipe.contract)}  # and told: it need not be compared
        lines = dict.fromkeys((seen.view, *above(recipes, seen.view, platform)) for seen in distinct(recipe)
                              for platform in dict.fromkeys(pair[0] for pair in seen.pairs) or (None,))
        for part, said in dict.fromkeys(pair for view, stages, whole in lines
                                        for pair in contract.differences(recipe.contract, view, stages, whole=whole)):
            if (part,) not in wrong:
                problems.append(f"{document.name}:{document.line(('contract', part))}: contract: {said}")
