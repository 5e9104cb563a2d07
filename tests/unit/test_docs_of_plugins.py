"""The documentation of modules, other plugins and roles: ansible-doc shows it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.desimages.farm.plugins.doc_fragments.farm import ModuleDocFragment
from ansible_collections.desimages.farm.plugins.plugin_utils.action import argument_spec, documented

PROJECT = Path(__file__).resolve().parents[2]
MODULES = sorted((PROJECT / "plugins/modules").glob("*.py"))
ROLES = sorted(path.parent.parent for path in (PROJECT / "roles").glob("*/tasks/main.yml"))
SPEC = ("type", "required", "default", "choices", "elements", "aliases")


def spec(arguments: dict[str, Any]) -> dict[str, Any]:
    """The part of an argument spec that documentation states, without what is so unless said."""
    found = {}
    for name, option in arguments.items():
        kept: dict[str, Any] = {key: option[key] for key in SPEC if option.get(key) not in (None, False)}
        kept["type"] = option.get("type", "str")
        if option.get("options"):
            kept["options"] = spec(option["options"])
        found[name] = kept
    return found


def _module(path: Path) -> Any:
    return importlib.import_module(f"ansible_collections.desimages.farm.plugins.modules.{path.stem}")


def check_tasks(tasks: list[dict[str, Any]]) -> None:
    assert tasks
    for task in tasks:
        for name, given in task.items():
            if name.startswith("desimages.farm."):
                module = _module(PROJECT / "plugins/modules" / f"{name.rpartition('.')[2]}.py")
                options = documented(module.DOCUMENTATION)
                assert set(given) <= set(options)
                assert {option for option, said in options.items() if said.get("required")} <= set(given)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_documented(path: Path) -> None:
    module = _module(path)
    found = yaml.safe_load(module.DOCUMENTATION)
    assert found["module"] == path.stem
    assert found["short_description"] and found["description"] and found["version_added"]
    for option, said in documented(module.DOCUMENTATION).items():
        assert said.get("description"), option
    check_tasks(yaml.safe_load(module.EXAMPLES))
    for name, said in yaml.safe_load(module.RETURN).items():
        assert said.get("description") and said.get("type"), name


DOCUMENTED = MODULES + sorted(path for kind in ("filter", "lookup", "test")
                              for path in (PROJECT / "plugins" / kind).glob("*.py"))


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_ansible_doc_reads_a_plugin_without_a_warning(path: Path) -> None:
    """It takes the target of every assignment of a plugin's file for one name."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            assert all(isinstance(target, ast.Name) for target in node.targets), ast.unparse(node)


def _returned(path: Path) -> Iterator[str]:
    """The keys of a module's or action's results, as far as they are literals."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "exit_json":
            yield from (word.arg for word in node.keywords if word.arg)
        elif isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            yield from keys if "changed" in keys else ()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_documents_all_that_it_returns(path: Path) -> None:
    sources = [each for each in (path, PROJECT / "plugins/action" / path.name) if each.exists()]
    usual = {"changed", "failed", "msg", "diff", "warnings"}
    found = {key for source in sources for key in _returned(source)} - usual
    assert found <= set(yaml.safe_load(_module(path).RETURN))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_says_what_it_can_do_and_it_is_true(path: Path) -> None:
    attributes = yaml.safe_load(_module(path).DOCUMENTATION)["attributes"]
    assert set(attributes) == {"check_mode", "diff_mode", "idempotent"}
    for name, said in attributes.items():
        assert set(said) == {"support", "description"}, (name, said)
        assert said["support"] in ("full", "partial", "none"), name
        assert said["description"], name
    action = PROJECT / "plugins/action" / path.name
    text = action.read_text(encoding="utf-8") if action.exists() else ""
    if text and not hasattr(_module(path), "main"):
        assert ("self.diff" in text) is (attributes["diff_mode"]["support"] == "full")
        # others change nothing in any mode
        assert "self.check" in text or path.stem.endswith("_info") or path.stem in ("verify", "verdict")
    else:
        module = _module(path)
        text = path.read_text(encoding="utf-8")
        for prose in (module.__doc__, module.DOCUMENTATION, module.EXAMPLES, module.RETURN):
            text = text.replace(prose, "")
        assert bool(re.search(r"(\b|_)diff\b", text)) is (attributes["diff_mode"]["support"] == "full")
        assert ("supports_check_mode=True" in text) is (attributes["check_mode"]["support"] != "none")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_options_of_a_module_are_those_of_its_argument_spec(path: Path) -> None:
    module = _module(path)
    if hasattr(module, "ARGUMENTS"):
        assert spec(argument_spec(documented(module.DOCUMENTATION))) == spec(module.ARGUMENTS)
    else:  # an action reads its spec from this very documentation
        assert (PROJECT / "plugins/action" / path.name).exists()


@pytest.mark.parametrize("path", sorted((PROJECT / "plugins/action").glob("*.py")), ids=lambda path: path.stem)
def test_every_action_has_its_documentation(path: Path) -> None:
    assert (PROJECT / "plugins/modules" / path.name) in MODULES


@pytest.mark.parametrize("name", ["lookup.settings", "filter.table"])
def test_a_plugin_is_documented(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.desimages.farm.plugins.{name}")
    found = yaml.safe_load(module.DOCUMENTATION)
    assert found["name"] == name.partition(".")[2]
    assert found["short_description"] and found["description"]
    assert yaml.safe_load(module.EXAMPLES) and yaml.safe_load(module.RETURN)


def test_the_shared_options_are_documented() -> None:
    assert all(option["description"] for option in yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"].values())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_specs_of_a_role_are_its_defaults(role: Path) -> None:
    found = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    assert found["short_description"] and found["description"]
    assert set(found["options"]) == set(defaults)
    assert all(name.startswith(f"{role.name}_") for name in defaults)
    for name, option in found["options"].items():
        assert option["description"], name
        if "default" in option:
            assert str(option["default"]) == str(defaults[name]), name
        else:  # worked out from facts: nothing that documentation could state
            assert "{{" in str(defaults[name]), name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_of_a_role_names_its_variables(role: Path) -> None:
    text = (role / "README.md").read_text(encoding="utf-8")
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    assert [name for name in defaults if f"`{name}`" not in text] == []
