"""What the collection says of itself, for those who package and install it: licences, and the libraries that it
needs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from ansible_collections.desimages.farm.plugins.plugin_utils import libraries

PROJECT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path for path in (PROJECT / "plugins").rglob("*.py") if path.stat().st_size)
TRAVELS = PROJECT / "plugins/module_utils"
GPL = """\
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
APACHE = """\
# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""


def imported(path: Path) -> set[str]:
    """The packages that a file imports, the whole path of their modules cut to the first name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_plugin_names_its_licence(path: Path) -> None:
    text = path.read_text(encoding="utf-8").removeprefix("#!/usr/bin/python\n")
    assert text.startswith(APACHE if path.is_relative_to(TRAVELS) else GPL)


def test_what_is_under_the_apache_licence_does_not_import_ansible() -> None:
    assert {path for path in PLUGINS if path.is_relative_to(TRAVELS) and "ansible" in imported(path)} == set()


def test_the_collection_names_the_licences_whose_texts_it_has() -> None:
    named = yaml.safe_load((PROJECT / "galaxy.yml").read_text(encoding="utf-8"))["license"]
    assert sorted(named) == sorted(path.stem for path in (PROJECT / "LICENSES").iterdir())
    for page in ("LICENSE", "README.md"):
        text = (PROJECT / page).read_text(encoding="utf-8")
        assert [name for name in named if name not in text] == [], page


@pytest.mark.parametrize(
    ("needs", "unmet"), [
        ("# a comment\n\nPyYAML >=6.0.1\n", []),
        ("PyYAML >=6.0.1  # a comment\nno-such-library >=1.2\n", ["no-such-library >=1.2"]),
        ("pytest >=1.10", []), ("pytest >=1000.1", [f"pytest >=1000.1 ({pytest.__version__} is installed)"]),
    ],
)
def test_a_library_that_is_missing_or_too_old_is_told(needs: str, unmet: list[str]) -> None:
    assert libraries.unmet(needs) == unmet


def test_every_library_that_a_plugin_imports_is_among_the_needs() -> None:
    needs = {line.split()[0] for line in libraries.NEEDS.read_text(encoding="utf-8").splitlines()
             if not line.startswith("#")}
    packages = {"bcrypt": "bcrypt", "cattrs": "cattrs", "cryptography": "cryptography", "docker": "docker",
                "elftools": "pyelftools", "jmespath": "jmespath", "jsonschema": "jsonschema",
                "prometheus_client": "prometheus_client", "urllib3": "urllib3", "yaml": "PyYAML",
                "zstandard": "zstandard"}
    assert set(packages.values()) == needs
    guarded = {"bcrypt", "cattrs", "elftools", "jmespath", "jsonschema", "prometheus_client", "urllib3"}
    assert {str(path) for path in PLUGINS if path.stem != "libraries" and imported(path) & guarded} == set()


def test_the_changelog_has_what_the_fragments_say() -> None:
    version = yaml.safe_load((PROJECT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    changelog = yaml.safe_load((PROJECT / "changelogs/changelog.yaml").read_text(encoding="utf-8"))
    written = changelog["releases"][version]["changes"]
    said = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (PROJECT / "changelogs/fragments").iterdir()]
    wanted = {section: sorted(text for part in said for text in part.get(section, []))
              for section in set(written) - {"release_summary"}}
    assert {section: sorted(texts) for section, texts in written.items() if section in wanted} == wanted
    assert {section for part in said for section in part} == set(written)
