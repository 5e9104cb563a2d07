"""Writes images/*/README.md (what people wrote in them stays) and docs/catalog.md from the recipes, and docs/map.md."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "collections"), str(PROJECT / "scripts")]

import filemap  # noqa: E402
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog  # noqa: E402
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.page import page  # noqa: E402
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.readme import readme  # noqa: E402

CHAIN = ("debian", "base", "static", "tools")  # one test builds all of them


def made() -> dict[Path, str]:
    """The files as they should be."""
    recipes = load_catalog([str(PROJECT / "images")], need_locks=False)
    found = {}
    for recipe in recipes.values():
        path = Path(recipe.folder) / "README.md"
        found[path] = readme(recipe, path.read_text(encoding="utf-8") if path.exists() else "")
    tests = {name: test for name, recipe in recipes.items() if not recipe.targets and (test := test_of(name))}
    family = yaml.safe_load((PROJECT / "docs/family.yml").read_text(encoding="utf-8"))
    return {**found, PROJECT / "docs/catalog.md": page(recipes, family, tests),
            PROJECT / "docs/map.md": filemap.page(PROJECT)}


def test_of(image: str) -> str:
    """The test of an image, a path from docs/: the one of its name, or the only one of services that names it."""
    own = PROJECT / f"tests/integration/test_{'chain' if image in CHAIN else image.replace('-', '_')}.py"
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(own.parent.glob("test_*.py"))}
    naming = [path for path, text in texts.items() if "pytest.mark.catalog" in text and f'"{image}"' in text]
    found = own if own in texts else naming[0] if len(naming) == 1 else None
    return f"../tests/integration/{found.name}" if found else ""


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
