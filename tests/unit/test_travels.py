"""What travels to hosts is found by its imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils import settings, travels

MODULES = sorted([*(travels.PLUGINS / "modules").glob("*.py"), *travels.SHARED.glob("*.py")])


def imported(path: Path) -> set[str]:
    """The same, as Python's own parser sees it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            prefix = "ansible_collections.desimages.farm.plugins.module_utils"
            module = node.module or ""
            if node.level == 1 or module.startswith(prefix):
                rest = module if node.level else module[len(prefix):].lstrip(".")
                found |= {rest} if rest else {name.name for name in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_are_read_as_python_reads_them(path: Path) -> None:
    assert {needed.stem for needed in travels.needs(path)} == imported(path)
    assert all(needed.is_file() for needed in travels.needs(path))


def test_the_runner_has_all_that_it_needs() -> None:
    assert {"runner", "runner_job", "wellness",
            "errors"} <= {path.stem for path in travels.closure([travels.SHARED / "runner.py"])}


def test_what_provisions_is_what_roles_name_and_what_that_needs() -> None:
    names = {str(path.relative_to(travels.PLUGINS.parent)) for path in travels.provisioning(settings.ROLES)}
    assert {"roles/buildkitd/templates/buildkitd.toml.j2", "plugins/modules/supervised.py",
            "plugins/module_utils/supervisors.py",
            "plugins/modules/binfmt.py", "plugins/module_utils/errors.py", "plugins/module_utils/runner.py"} <= names
    assert not {"roles/buildkitd/README.md", "plugins/modules/farm_info.py"} & names
