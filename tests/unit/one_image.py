"""A catalog in which one image is a real one of this catalog, and those that it needs are stubs; and whether what is
said about it is for a person."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import OWN, load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import make
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import select
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.documents import Document
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Recipe

from . import mutations

PYTHON = re.compile(r"Traceback|NoneType|object is not|unhashable|<class|<[a-z_.]+ object|0x[0-9a-f]{8}|codec can't")
ABOVE = ("buildkit-rootless",)  # whose contract needs that of another image
IMAGES = sorted({path.parent.name for path in OWN.glob("*/image.yml")} - set(ABOVE))


def plain(path: Path) -> Any:
    found = Document(path, path.name)
    assert found.problems == []
    return found.value


class Bench:
    """A catalog in which one image is the real one, and those that it needs are stubs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.real = load_catalog([str(OWN)], need_locks=False)

    def take(self, name: str) -> Path:
        """The folder of an image, copied from the catalog."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        defaults = plain(OWN / "defaults.yml")
        self.write("defaults.yml", mutations.yaml_of({**defaults, "images": ["zero", name]}).encode())
        shutil.copytree(OWN / name, self.root / name, ignore=shutil.ignore_patterns("lock.jsonl"))
        self.write("zero/image.yml", b"description: x\nlicense: MIT\n")  # that there is one to build
        self.write("zero/Dockerfile", b"FROM scratch\n")
        self.stubs({name})
        return self.root / name

    def stubs(self, names: set[str]) -> None:
        needed = {use.name for name in names for target in self.real[name].targets or ("",)
                  for views in self.real[name].views(target).values() for view in views.values()
                  for use in view.all_outside}
        for image, recipe in self.real.items():
            targets = [target for target in recipe.targets if f"{image}-{target}" in needed]
            if (image in needed or targets) and image not in names:
                said = f"targets: [{', '.join(targets)}]\n" if targets else ""
                self.write(f"{image}/image.yml", f"description: {image}\nlicense: MIT\n{said}".encode())
                stages = "".join(f"FROM scratch AS {target}\nUSER 2000\n" for target in targets or ["x"])
                self.write(f"{image}/Dockerfile", stages.encode())

    def write(self, path: str, data: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def load(self, *, locks: bool = False) -> dict[str, Recipe]:
        """What a run does with a catalog before anything starts."""
        recipes = load_catalog([str(self.root)], need_locks=locks)
        plan = make(recipes, {name: read_sources(recipe) for name, recipe in recipes.items()}, "e", "n")
        select(plan, None, [], [], "")
        return recipes

    def said(self, *, locks: bool = False) -> list[str]:
        """The mistakes in it, each of which must be one that a person can read."""
        try:
            self.load(locks=locks)
        except FarmError as error:
            problems = list(getattr(error, "problems", [str(error)]))
            for problem in problems:
                readable(problem, self.root)
            assert problems and len(set(problems)) == len(problems)
            return problems
        return []


def readable(problem: str, root: Path) -> None:
    """A message of one line, for a person, which names a file that is there, and a line that it has."""
    assert problem.isprintable() and len(problem) <= 1500 and not PYTHON.search(problem), problem
    if problem.startswith(("farm_", "no image in any")):
        return
    name, line, words = problem.split(":", 2)
    # the first part is the catalog's own folder, as others may have images of the same name
    path = root.parent / name
    assert int(line) > 0 and len(words) > 10, problem
    if path.is_file():
        assert int(line) <= path.read_bytes().count(b"\n") + path.read_bytes().count(b"\r") + 1, problem
    else:
        assert path.parent.is_dir(), problem
