# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is locked and what upstream has, input by input; and recipes with the newest versions of chosen inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locked, Locker, write
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import edits, texts
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.documents import Document
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.folders import RECIPE
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.texts import nearest


def newest(locker: Locker, recipes: Iterable[Recipe]) -> Iterator[tuple[Recipe, Input, list[Version] | FarmError]]:
    """Each input of the recipes, with its versions or with why they are not known."""
    for recipe in recipes:
        for found in recipe.inputs:
            locker.say(f"versions of {recipe.name}: {found.name}")
            try:
                yield recipe, found, _newest(locker, recipe, found)
            except FarmError as error:
                yield recipe, found, error


def _newest(locker: Locker, recipe: Recipe, found: Input) -> list[Version]:
    try:
        return locker.resolvers[found.kind].newest(recipe, found, recipe.platforms_of(found))
    except FarmError as error:
        error.where.setdefault("image", recipe.name)
        error.where.setdefault("input", found.name)
        raise


def row(recipe: Recipe, found: Input, version: Version) -> dict[str, Any]:
    """A version as the module documents it."""
    return {
        "image": recipe.name, "input": found.name, "kind": KINDS[found.kind].key, "name": version.name,
        "locked": version.locked, "newest": version.newest, "outdated": version.outdated,
        "withdrawn": version.withdrawn, "note": version.note, "platforms": list(version.platforms),
        "says": " ".join("; ".join(filter(None, (version.withdrawn, version.note))).split()),
    }


def chosen(recipes: Mapping[str, Recipe], names: Iterable[str]) -> dict[str, set[str]]:
    """image -> the inputs to be moved, of names such as `caddy` (all inputs whose version is in the recipe) or
    `caddy.plugin`. Raises BadInput with all names that mean nothing."""
    found: dict[str, set[str]] = {}
    problems = []
    for name in names:
        image, _dot, one = (name, "", "") if name in recipes else name.rpartition(".")
        if image not in recipes:
            problems.append(f"farm_upgrade: {name!r} is not an image of the catalog"
                            f"{nearest(image or name, list(recipes))}; write IMAGE or IMAGE.INPUT")
            continue
        inputs = {each.name: each for each in recipes[image].inputs}
        movable = {each for each, found_ in inputs.items() if KINDS[found_.kind].written}
        if one and one not in inputs:
            problems.append(f"farm_upgrade: {image} has no input {one!r}{nearest(one, list(inputs))}")
        elif one and one not in movable or not movable:
            problems.append(f"farm_upgrade: {name}: image.yml has no version to move; "
                            f"{_instead(inputs[one] if one else None)}")
        else:
            found.setdefault(image, set()).update({one} if one else movable)
    if problems:
        raise BadInput(list(map(texts.told, problems)), what="the choice")
    return found


def _instead(found: Input | None) -> str:
    if found and KINDS[found.kind].own:
        return f"upgrade it in {found.spec['folder']} of the image, and lock it"
    return "lock it: packages, tags and the dependencies of a program of the image's own move by locking alone"


def refuse_unchosen(upgrades: Iterable[str], recipes: Iterable[Recipe]) -> None:
    """Raises BadInput if an image is to be moved that is not to be locked."""
    names = {recipe.name for recipe in recipes}
    if left := sorted(set(upgrades) - names):
        raise BadInput([f"farm_upgrade names {name}, which farm_images or farm_lock_select leaves out"
                        for name in left], what="the choice")


@dataclass(frozen=True)
class Moved:
    """A recipe with other versions: the text of its image.yml before and after, and what moved, a line each."""

    recipe: Recipe
    before: str = ""
    after: str = ""
    lines: tuple[str, ...] = field(default=())

    @property
    def path(self) -> Path:
        return Path(self.recipe.folder) / RECIPE

    @property
    def changed(self) -> bool:
        return self.after != self.before

    @property
    def difference(self) -> dict[str, str]:
        """As --diff shows it."""
        return {"before_header": str(self.path), "after_header": str(self.path), "before": self.before,
                "after": self.after}

    def write(self, locked: Locked) -> None:
        """Writes the recipe and its lock; if the lock cannot be written, the recipe stays as it was."""
        if self.changed:
            files.write(str(self.path), self.after)
        try:
            if locked.changed:
                write(locked)
        except BaseException:
            if self.changed:
                files.write(str(self.path), self.before)
            raise


def moved(locker: Locker, recipe: Recipe, names: Iterable[str]) -> Moved:
    """The recipe with the newest versions of these inputs. Nothing is written. Raises FarmError."""
    before = (Path(recipe.folder) / RECIPE).read_text(encoding="utf-8")
    scalars: dict[edits.Place, str] = {}
    lines = []
    for name in sorted(names):
        versions = [one for one in _newest(locker, recipe, recipe.input(name)) if one.place]
        if not versions:
            raise FarmError(f"{recipe.name}: {name} names a commit or a branch, which has no newer version",
                            hint="name a tag", image=recipe.name, input=name)
        for one in versions:
            if one.outdated:
                scalars[("inputs", name, *one.place)] = one.text
                lines.append(f"image.yml: {name}: {one.name} {one.locked} -> {one.newest}")
    if not scalars:
        return Moved(recipe, before, before)
    after = edits.replaced(before, scalars)
    given = Document(Path(recipe.folder) / RECIPE, RECIPE).value["inputs"]
    for place, text in scalars.items():
        edits.put(given, place[1:], text)
    inputs = tuple(KINDS[found.kind].input(found.name, given[found.name]) for found in recipe.inputs)
    return Moved(replace(recipe, inputs=inputs), before, after, tuple(lines))
