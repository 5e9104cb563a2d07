"""The catalog: folders of recipes, read and checked as a whole, every mistake of every file at once."""

from __future__ import annotations

import graphlib
import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import dockerfile, lockfile
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.plan import BUILD_INPUTS, INPUTS, UNPACKED
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.module_utils.recipe import Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.documents import Document, load_schema, nearest
from ansible_collections.desimages.farm.plugins.plugin_utils.folders import DEFAULTS, LOCK, WRAPPERS, images, look, shown
from ansible_collections.desimages.farm.plugins.plugin_utils.texts import NoText, is_there, read_text

HOME = Path(__file__).resolve().parents[2]
OWN = HOME / "images"
NAME = "desimages.farm"  # how farm_catalog names that folder, wherever the collection is installed
FOLDER = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*\Z")  # https://github.com/distribution/reference
TAKEN = {INPUTS, BUILD_INPUTS, "scratch", "archive", "context"}  # what these names mean in a Dockerfile, or in the registry
LONGEST = 128  # characters of an image's name and target: a registry allows 255 with the namespace, and so does a file
MOST_DOCKERFILE, MOST_LOCK = 1 << 20, 1 << 26  # bytes


def load_catalog(folders: Iterable[str], *, need_locks: bool = True) -> dict[str, Recipe]:
    """Image name -> Recipe, of all folders. Raises BadInput with every mistake of every file.

    `desimages.farm` is the folder that comes with the collection. A folder may have a defaults.yml; what it does not say holds as
    in the project's own. Without `need_locks`, locks that are missing or bad are taken as empty (the lock step makes them).
    """
    problems: list[str] = []
    defaults = _defaults(OWN, {}, problems)
    recipes: dict[str, Recipe] = {}
    broken: dict[str, Recipe | None] = {}
    paths: dict[str, Path] = {}
    schema = load_schema(HOME / "docs" / "recipe.schema.json")
    for folder in (OWN if text == NAME else Path(text) for text in folders):
        if not os.path.isdir(folder):
            problems.append(f"{folder}: no such folder; farm_catalog lists the folders of images")
            continue
        own = defaults if folder.resolve() == OWN else _defaults(folder, defaults, problems)
        there = images(folder)
        problems += there.problems
        broken.update(dict.fromkeys(there.broken))
        for path in there.recipes:
            name = path.parent.name
            paths[name] = path
            if name in recipes:
                problems.append(f"{_named(path)}:1: {name} is an image of {recipes[name].folder} already")
                continue
            recipe, whole = _recipe(path, own, schema, need_locks, problems)
            if recipe and whole:
                recipes[name] = recipe
            else:
                broken[name] = recipe
    if not recipes and not problems:
        problems.append("no image.yml in any folder of farm_catalog")
    _check_folders(paths, recipes, problems)
    _check_names(recipes, broken, problems)
    _check_cycles(recipes, problems)
    if need_locks:
        for recipe in recipes.values():
            _check_lock(recipe, problems)
    if problems:
        raise BadInput(sorted(set(problems), key=_by_place))
    return recipes


def reference(name: str, recipes: dict[str, Recipe]) -> tuple[str, str] | None:
    """`debian` -> (debian, ""), `builder-go` -> (builder, go); None for what is no image."""
    if name in recipes and not recipes[name].targets:
        return name, ""
    return next(((image, target) for image, recipe in recipes.items() for target in recipe.targets if name == f"{image}-{target}"), None)


def _named(path: Path) -> str:
    return shown(path, 3)


def _at(recipe: Recipe, file: str) -> str:
    return _named(Path(recipe.folder) / file)


def _by_place(problem: str) -> tuple[str, int]:
    name, _, rest = problem.partition(":")
    number = rest.partition(":")[0]
    return name, int(number) if number.isdigit() else 0


def _defaults(folder: Path, base: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    path = folder / DEFAULTS
    if not is_there(path):
        return base
    document = Document(path, shown(path, 2))
    document.check(load_schema(HOME / "docs" / "defaults.schema.json"))
    problems += document.problems
    return base if document.problems else {**base, **document.value}


def _recipe(path: Path, defaults: dict[str, Any], schema: dict[str, Any], need_locks: bool, problems: list[str]) -> tuple[Recipe | None, bool]:
    """A recipe, and whether it is whole: of one with mistakes the rest is still read, so that its Dockerfile's mistakes are told with them."""
    document = Document(path, _named(path))
    document.check(schema)
    problems += document.problems
    folder = look(path.parent)
    problems += folder.problems
    containerfile = path.parent / "Dockerfile"
    if not is_there(containerfile):
        problems.append(f"{_named(containerfile)}:1: missing; every image has a Dockerfile")
        return None, False
    try:
        parsed = dockerfile.parse(_lines(read_text(containerfile, MOST_DOCKERFILE)))
    except NoText as error:
        problems.append(f"{_named(containerfile)}:{error.line}: {error.reason}")
        return None, False
    problems += [f"{_named(containerfile)}:{line}: {reason}" for line, reason in parsed.refused]
    if not isinstance(document.value, dict) or not parsed.stages:
        return None, False
    whole = not document.problems
    value = {"description": "", "license": "", **{key: part for key, part in document.value.items() if key not in document.bad}}
    recipe = Recipe(
        name=path.parent.name,
        folder=str(path.parent.resolve()),
        dockerfile=parsed,
        inputs=tuple(_input(name, spec) for name, spec in sorted(value.get("inputs", {}).items())),
        platforms=() if "platforms" in document.bad else _platforms(value, defaults),
        build_platforms=tuple(map(Platform.parse, defaults["build_platforms"])),
        suites=tuple(value.get("suites", defaults["suites"])),
        targets=tuple(value.get("targets", ())),
        args=dict(value.get("args", {})),
        labels=_labels(path.parent.name, value, defaults),
        index=not value.get("targets"),
        contract=value.get("contract", {}),
        lock=_lock(path.parent / LOCK, need_locks and bool(_locked(value)), need_locks, problems),
    )
    if "inputs" not in document.bad:
        _check_recipe(recipe, document, set(folder.files), problems)
    return recipe, whole


def _lines(text: str) -> str:
    """A text with the line ends of Unix."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _locked(value: dict[str, Any]) -> list[str]:
    """The inputs that have lines in a lock: all but programs of the image's own."""
    return [name for name, spec in value.get("inputs", {}).items() if not str(spec.get("go", "")).startswith("./")]


def _platforms(value: dict[str, Any], defaults: dict[str, Any]) -> tuple[Platform, ...]:
    wanted = value.get("platforms", "all")
    everything = defaults["build_platforms"] if value.get("targets") else defaults["platforms"]
    if isinstance(wanted, dict):
        wanted = [name for name in everything if name not in wanted["except"]]
    return tuple(map(Platform.parse, everything if wanted == "all" else wanted))


def _input(name: str, spec: dict[str, Any]) -> Input:
    kind = next(kind for kind in ("debian", "go", "url") if kind in spec)
    build = spec.get("for") == "build"
    if kind == "debian":
        return Input(name, kind, {"packages": list(spec["debian"]), "essential": bool(spec.get("essential"))}, build)
    if kind == "go":
        return Input(name, kind, {"module": spec["go"], "version": spec.get("version", ""), "package": spec.get("package", ".")}, build)
    return Input(name, kind, {"url": spec["url"]}, build)


def _labels(name: str, value: dict[str, Any], defaults: dict[str, Any]) -> dict[str, str]:
    version = value.get("version") or value.get("inputs", {}).get(name, {}).get("version", "")
    found = {
        "title": value.get("title", name), "description": value["description"], "url": value.get("home", ""), "licenses": value["license"],
        "version": version, "vendor": defaults.get("vendor", ""), "source": defaults.get("source", ""),
    }
    return {f"org.opencontainers.image.{key}": text for key, text in found.items() if text}


def _lock(path: Path, needed: bool, strict: bool, problems: list[str]) -> lockfile.Lock:
    if not is_there(path):
        if needed:
            problems.append(f"{_named(path)}:1: missing; make it with `make lock`")
        return lockfile.Lock()
    try:
        return lockfile.parse(_lines(read_text(path, MOST_LOCK)), _named(path))
    except NoText as error:
        problems += [f"{_named(path)}:{error.line}: {error.reason}"] if strict else []
    except BadInput as error:
        problems += error.problems if strict else []
    return lockfile.Lock()


def _check_recipe(recipe: Recipe, document: Document, files: set[str], problems: list[str]) -> None:
    """Inputs that the Dockerfile uses but the recipe does not have, and the reverse; targets; inputs that say too little.

    `files` are those of the main context.
    """
    named = _at(recipe, "Dockerfile")
    known = {found.name: found for found in recipe.inputs}
    used: set[str] = set()
    paths: tuple[str, ...]
    for use in recipe.dockerfile.all_outside:
        if use.name.startswith(UNPACKED):
            wanted, context, paths = use.name[len(UNPACKED):], BUILD_INPUTS, ("/" + use.name[len(UNPACKED):],)
        elif use.name in (INPUTS, BUILD_INPUTS):
            wanted, context, paths = "", use.name, use.paths
        else:
            continue
        for path in paths:
            name = wanted or path.strip("/").partition("/")[0]
            used.add(name)
            if wanted and wanted in known and known[wanted].kind != "debian":
                problems.append(f"{named}:{use.line}: {use.name}: only Debian packages are unpacked; take {wanted} from {BUILD_INPUTS}")
            if name not in known:
                where = f"{named}:{use.line}: "
                problems.append(f"{where}{(name or context)!r} is no input of image.yml{nearest(name, sorted(known))}"
                                f"; inputs: {', '.join(sorted(known)) or 'none'}")
            elif known[name].build != (context == BUILD_INPUTS):
                right = BUILD_INPUTS if known[name].build else INPUTS
                problems.append(f"{named}:{use.line}: {name} comes from {right}, not from {context} (`for:` in image.yml)")
    for name in sorted(set(known) - used):
        if not str(known[name].spec.get("module", "")).startswith("./"):
            problems.append(f"{document.name}:{document.line(('inputs', name))}: {name} is an input that the Dockerfile does not use")
    for name in sorted(set(recipe.args) & recipe.dockerfile.arguments):
        problems.append(f"{document.name}:{document.line(('args', name))}: {name} is declared before the first FROM, where it could change what the"
                        " image descends from; declare it in the stage that uses it")
    for number, target in enumerate(recipe.targets):
        if not recipe.dockerfile.stage(target):
            stages = [stage.name for stage in recipe.dockerfile.stages]
            problems.append(f"{document.name}:{document.line(('targets', number))}: {target!r} is no stage of the Dockerfile"
                            f"{nearest(target, stages)}; stages: {', '.join(stages)}")
    for found in recipe.inputs:
        module = str(found.spec.get("module", ""))
        line = document.line(("inputs", found.name))
        if found.kind == "go" and not module.startswith("./") and not found.spec["version"]:
            problems.append(f"{document.name}:{line}: {found.name} names the module {module} without a version")
        own = posixpath.normpath(module)
        if module.startswith("./") and own == WRAPPERS:
            problems.append(f"{document.name}:{line}: {module} is for the wrappers of `make lock`; rename the folder")
        elif module.startswith("./") and not any(own == "." or file.startswith(f"{own}/") for file in files):
            problems.append(f"{document.name}:{line}: {module} is no folder beside image.yml, or not in the context")
        addresses = found.spec.get("url")
        if isinstance(addresses, dict):
            lacking = [str(platform) for platform in (recipe.build_platforms if found.build else recipe.platforms) if str(platform) not in addresses]
            if lacking:
                problems.append(f"{document.name}:{line}: {found.name} has no url for {', '.join(lacking)}")


def _check_folders(found: dict[str, Path], recipes: dict[str, Recipe], problems: list[str]) -> None:
    """The names of images, which are those of their folders: fit for a registry, and each for one thing."""
    for name, path in found.items():
        where = f"{_named(path)}:1"
        if not FOLDER.match(name):
            problems.append(f"{where}: an image is named by its folder, and {name!r} cannot be: lower case letters, digits, "
                            "and . _ __ - between them")
        elif name in TAKEN or name.startswith(UNPACKED):
            problems.append(f"{where}: {name!r} means something else already; name the folder otherwise")
        if len(name) > LONGEST:
            problems.append(f"{where}: the folder's name has {len(name)} characters; an image's has {LONGEST} at most")
    owners: dict[str, str] = {}
    for name, recipe in recipes.items():
        for target in recipe.targets:
            whole = f"{name}-{target}"
            if len(whole) > LONGEST >= len(name):
                problems.append(f"{_at(recipe, 'image.yml')}:1: its target {target} is named {whole}, which has"
                                f" {len(whole)} characters; at most {LONGEST}")
            if whole in recipes:
                problems.append(f"{_at(recipe, 'image.yml')}:1: its target {target} is named {whole}, which is another image too")
            elif whole in owners:
                problems.append(f"{_at(recipe, 'image.yml')}:1: its target {target} is named {whole}, as is one of {owners[whole]}")
            owners.setdefault(whole, name)
        if not recipe.platforms:
            problems.append(f"{_at(recipe, 'image.yml')}:1: it is for no platform")


def _check_names(recipes: dict[str, Recipe], broken: dict[str, Recipe | None], problems: list[str]) -> None:
    """Every FROM and --from is a stage, an input, or an image of the catalog that has the platforms asked of it.

    Of uses of an image whose own recipe is broken nothing can be said.
    """
    known = sorted(name for name, recipe in recipes.items() if not recipe.targets)
    known += [f"{name}-{target}" for name, recipe in recipes.items() for target in recipe.targets]
    for recipe in (*recipes.values(), *filter(None, broken.values())):
        for use in {use for target in recipe.targets or ("",) for use in recipe.dockerfile.outside(target)}:
            if use.name in (INPUTS, BUILD_INPUTS) or use.name.startswith(UNPACKED) or any(use.name in (b, f"{b}-{use.name[len(b) + 1:]}") for b in broken):
                continue
            where = f"{_at(recipe, 'Dockerfile')}:{use.line}: "
            found = reference(use.name, recipes)
            if not found:
                problems.append(f"{where}{use.name!r} is no image of the catalog{nearest(use.name, known)}; images: {', '.join(known)}")
                continue
            wanted = recipe.build_platforms if use.build else recipe.platforms
            lacking = [str(platform) for platform in wanted if platform not in recipes[found[0]].platforms]
            if lacking:
                problems.append(f"{where}{use.name} is not built for {', '.join(lacking)}")


def _check_cycles(recipes: dict[str, Recipe], problems: list[str]) -> None:
    """What cannot be built because it needs itself: an image, or a target of one (`builder-go`). Each is in one of the cycles told."""
    graph: dict[str, set[str]] = {}
    owner: dict[str, Recipe] = {}
    for name, recipe in recipes.items():
        for target in recipe.targets or ("",):
            node = f"{name}-{target}" if target else name
            owner[node] = recipe
            graph[node] = {use.name for use in recipe.dockerfile.outside(target) if reference(use.name, recipes)}
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
            return
        except graphlib.CycleError as error:
            cycle = list(reversed(error.args[1]))
            problems.append(f"{_at(owner[cycle[0]], 'Dockerfile')}:1: images that need each other: {' -> '.join(cycle)}")
            for node in cycle:
                graph.pop(node, None)


def _check_lock(recipe: Recipe, problems: list[str]) -> None:
    """Every input has lines for every platform it is needed on; no line is for an input that is gone."""
    where = _at(recipe, LOCK)
    if any(problem.startswith(f"{where}:") for problem in problems):
        return  # missing or bad, and said so already
    have = {(entry.input, entry.platform) for entry in recipe.lock.entries}
    names = {found.name for found in recipe.inputs}
    lacking: dict[str, list[str]] = {}
    for found in recipe.inputs:
        if str(found.spec.get("module", "")).startswith("./"):
            continue
        for platform in map(str, recipe.build_platforms if found.build else recipe.platforms):
            if (found.name, platform) not in have and (found.name, "") not in have:
                lacking.setdefault(found.name, []).append(platform)
    problems += [f"{where}:1: nothing for {name} on {', '.join(platforms)}; make it with `make lock`" for name, platforms in lacking.items()]
    problems += [f"{where}:1: lines for {name!r}, which is no input of image.yml; make it anew with `make lock`"
                 for name in sorted({entry.input for entry in recipe.lock.entries} - names)]
