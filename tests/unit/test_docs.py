"""The documentation holds what it says: its examples are good, its links resolve, its names are those of the code."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.splitter import parse_kv
from ansible_collections.desimages.farm.plugins.module_utils.state import OWN
from ansible_collections.desimages.farm.plugins.plugin_utils import settings
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import schema
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.selection import describe
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import parse
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.documents import Document

from .conftest import Catalog
from .printed import Block, blocks
from .test_docs_of_plugins import check_tasks

PROJECT = Path(__file__).resolve().parents[2]
README, GUIDE, ARCHITECTURE = PROJECT / "README.md", PROJECT / "docs/guide.md", PROJECT / "docs/architecture.md"
FLEET = PROJECT / "docs/fleet.md"
PAGES = [README, GUIDE, ARCHITECTURE, FLEET,
         *(PROJECT / f"docs/{name}.md" for name in ("security", "scheduling", "contract", "map", "measured")),
         *sorted((PROJECT / "roles").glob("*/README.md"))]
MODULES = sorted((PROJECT / "plugins/modules").glob("*.py"))
ROLES = sorted(path.parent.parent for path in (PROJECT / "roles").glob("*/tasks/main.yml"))
PLAYBOOKS = [PROJECT / "build.yml", *sorted((PROJECT / "playbooks").glob("*.yml"))]
SOURCES = [path for folder in ("plugins", "roles", "playbooks") for path in sorted((PROJECT / folder).rglob("*"))
           if path.suffix in (".py", ".yml")]
NEEDED = {"description": "An example", "license": "MIT"}  # by every recipe; examples in the guide show single keys


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(language: str, *words: str) -> list[Any]:
    return [pytest.param(block, id=f"{block.page.name}:{block.line}") for block in BLOCKS
            if block.language == language and set(words) <= set(block.words)]


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, *sorted((PROJECT / "images").glob("*/README.md"))],
                         ids=lambda page: f"{page.parent.name}/{page.name}")
def test_a_fence_has_its_line_for_itself_and_an_end(page: Path) -> None:
    """Otherwise a command is shown as text. What filled the lines of a paragraph once made such fences."""
    fences = [line for line in page.read_text(encoding="utf-8").splitlines() if "```" in line]
    assert [line for line in fences if not re.fullmatch(r" *```([a-z]+( [a-z]+(=\S+)?)*)?", line)] == []
    assert all(line.strip() == "```" for line in fences[1::2])


@pytest.mark.parametrize("block", [pytest.param(block, id=block.file) for block in BLOCKS if block.file])
def test_the_text_above_an_example_file_names_it(block: Block) -> None:
    """The name behind the language is not shown."""
    above = block.page.read_text(encoding="utf-8").partition(f"file={block.file}\n")[0]
    paragraph = above.rpartition("\n```")[0].rpartition("```\n")[2]
    assert f"`{block.file}`" in paragraph


def test_every_yaml_example_says_what_it_is() -> None:
    kinds = ("recipe", "defaults", "inventory", "tasks")
    assert [f"{b.page.name}:{b.line}" for b in BLOCKS if b.language == "yaml"
            and (not b.words or b.words[0] not in kinds)] == []


@pytest.mark.parametrize("block", [*of("yaml", "recipe"), *of("yaml", "defaults")])
def test_an_example_recipe_is_one(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "example.yml"
    path.write_text(block.text, encoding="utf-8")
    document = Document(path, f"{block.page.name}:{block.line}")
    if block.words[0] == "recipe":
        document.value = document.value if block.file else {**NEEDED, **document.value}
        document.check(schema.recipe())
    else:
        document.check(schema.defaults())
    assert document.problems == []


@pytest.mark.parametrize("block", of("dockerfile"))
def test_an_example_dockerfile_is_one_and_takes_only_what_there_is(block: Block) -> None:
    parsed = parse(block.text)
    assert parsed.refused == ()
    assert parsed.stages


def test_the_example_images_are_good_beside_ours(tmp_path: Path) -> None:
    files = [block for block in BLOCKS if block.file]
    for block in files:
        path = tmp_path / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    recipes = {path for path in files if path.file.endswith("/image.yml")}
    folders = sorted({str((tmp_path / block.file).parent.parent) for block in recipes})
    assert folders
    there = load_catalog([*folders, str(PROJECT / "images")], need_locks=False)
    assert {Path(block.file).parent.name for block in recipes} <= set(there)


@pytest.mark.parametrize("block", of("yaml", "inventory"))
def test_an_example_inventory_has_good_settings(block: Block) -> None:
    value = yaml.safe_load(block.text)
    whole = "all" in value
    given = value["all"]["vars"] if whole else value
    named = [name for name in settings.GROUPS if name in value]
    usual = dict.fromkeys(("nodes", "testers"), ["localhost"])
    groups = {name: list(value[name]["hosts"]) for name in named} if whole else usual
    defaults = yaml.safe_load((PROJECT / "roles/farm/defaults/main.yml").read_text(encoding="utf-8"))
    there = {**{name: default for name, default in defaults.items() if "{{" not in str(default)}, **given}
    assert settings.mistakes(there, groups) == []
    assert {name for name in given if name.startswith("farm_")} <= set(settings.SETTINGS)


@pytest.mark.parametrize("block", of("yaml", "tasks"))
def test_an_example_task_gives_options_that_its_module_has(block: Block) -> None:
    check_tasks(yaml.safe_load(block.text))


def test_examples_in_json_are_json() -> None:
    for block in BLOCKS:
        if block.language == "json":
            json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_resolves(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _sign, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_file_of_the_project_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:plugins/)?(?:module_utils|plugin_utils|scripts|tests|playbooks)/[^`\s]*)`",
                       page.read_text(encoding="utf-8"))
    assert [path for path in named if not (PROJECT / path).exists() and not (PROJECT / "plugins" / path).exists()] == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_names_the_makes_targets_and_no_others() -> None:
    there = set(re.findall(r"(?m)^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(encoding="utf-8")))
    text = README.read_text(encoding="utf-8")
    assert set(re.findall(r"\bmake ([a-z-]+)", re.sub(r"Makefile", "", text))) == there


def test_a_page_of_the_docs_names_no_target_that_make_lacks() -> None:
    there = set(re.findall(r"(?m)^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8")))
    for page in (GUIDE, ARCHITECTURE):
        assert set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))) <= there


USED = {name for path in PLAYBOOKS + sorted((PROJECT / "playbooks/tasks").glob("*.yml"))
        for name in re.findall(r"(?<!_)\bfarm_[a-z_]+\b", path.read_text(encoding="utf-8")) if name != "farm_info"}


def test_the_guide_names_every_variable() -> None:
    public = set(yaml.safe_load((PROJECT / "roles/farm/defaults/main.yml").read_text(encoding="utf-8")))
    named = set(re.findall(r"`(\w+)", GUIDE.read_text(encoding="utf-8")))
    assert sorted((public | USED | set(settings.SETTINGS)) - named) == []


def test_every_variable_of_a_playbook_is_known_where_names_are_compared() -> None:
    assert sorted(USED - set(settings.KNOWN)) == []


@pytest.mark.parametrize("name", sorted(schema.FILES))
def test_the_schemas_in_docs_are_what_the_farm_checks_with(name: str) -> None:
    assert json.loads((PROJECT / "docs" / name).read_text(encoding="utf-8")) == schema.FILES[name](), "make schemas"


@pytest.mark.parametrize("name", sorted(schema.FILES))
def test_the_guide_names_every_key_of_the_schemas(name: str) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return {key for one in value for key in keys(one)}
        if not isinstance(value, dict):
            return set()
        return set(value.get("properties", {})) | {key for one in value.values() for key in keys(one)}

    text = GUIDE.read_text(encoding="utf-8") + (PROJECT / "docs/contract.md").read_text(encoding="utf-8")
    assert [key for key in sorted(keys(schema.FILES[name]())) if not re.search(rf"`{key}\b|\b{key}:", text)] == []


def test_the_guide_names_all_that_a_selector_sees(chain: Catalog) -> None:
    plan = chain.plan()
    unit = describe(plan, next(iter(plan.units)))
    text = GUIDE.read_text(encoding="utf-8")
    assert [key for key in (*unit, *unit["platform"]) if f"`{key}`" not in text] == []


def test_the_guide_names_all_that_lies_in_the_state_folder() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert [name for name in sorted(OWN - {"lost+found"}) if f"`{name}`" not in text] == []


@pytest.mark.parametrize(("page", "heading"), [(GUIDE, "Messages"), (FLEET, "When a host is refused")])
def test_every_message_that_a_page_explains_is_one_of_the_code(page: Path, heading: str) -> None:
    section = page.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a string over several lines
    messages = re.findall(r"(?m)^\| `([^`]+)` \|", section)
    assert messages
    assert [message for message in messages if message not in code
            and message.replace(" the catalog", "") not in code] == []


def test_the_architecture_names_every_key_of_a_record(chain: Catalog) -> None:
    unit = next(iter(chain.plan().units.values()))
    section = ARCHITECTURE.read_text(encoding="utf-8").partition("## Build id")[2].partition("\n## ")[0]
    assert [key for key in unit.record if f"`{key}`" not in section] == []


def test_every_decision_that_the_code_names_stands_in_the_architecture() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    named = {name for path in SOURCES for name in re.findall(r"\((?:[^()]*\b)?(D\d+)\b[^()]*\)",
                                                             path.read_text(encoding="utf-8"))}
    assert named
    assert [name for name in sorted(named) if f"**{name} " not in text] == []


def test_the_map_has_every_file_of_python_but_documentation_of_actions() -> None:
    """That each line is the file's own sentence is compared in test_pages.py, with what `make readmes` makes."""
    text = (PROJECT / "docs/map.md").read_text(encoding="utf-8")
    actions = {path.name for path in (PROJECT / "plugins/action").glob("*.py")}
    files = [path for folder in ("plugins", "scripts", "tests") for path in sorted((PROJECT / folder).rglob("*.py"))
             if path.name != "__init__.py" and not (path.parent.name == "modules" and path.name in actions)]
    assert files
    assert [str(path.relative_to(PROJECT)) for path in files if f"](../{path.relative_to(PROJECT)})" not in text] == []


def test_the_architecture_names_every_folder_of_the_house() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    plugins = [f"plugins/{path.name}/" for path in sorted((PROJECT / "plugins").iterdir()) if path.is_dir()
               and path.name != "__pycache__"]
    roles = [f"`{path.name}`" for path in ROLES]
    assert [name for name in (*plugins, *roles) if name not in text] == []


def test_pages_name_no_host_but_their_own_examples_and_sources() -> None:
    allowed = re.compile(r"(127\.0\.0\.1|snapshot\.debian\.org|github\.com|jqlang\.org|distribution\.github\.io"
                         r"|(.+\.)?example\.org)$")
    for page in (README, GUIDE, ARCHITECTURE):
        hosts = set(re.findall(r"https?://([^/:\s\"')>`]+)", page.read_text(encoding="utf-8")))
        assert [host for host in sorted(hosts) if not allowed.match(host)] == [], page


def test_every_setting_has_a_default() -> None:
    defaults = yaml.safe_load((PROJECT / "roles/farm/defaults/main.yml").read_text(encoding="utf-8"))
    assert set(defaults) == set(settings.SETTINGS)


@pytest.mark.parametrize("path", PLAYBOOKS[1:], ids=lambda path: path.name)
def test_every_play_takes_the_settings_in_first(path: Path) -> None:
    """Or only the defaults, where an earlier play has validated the same hosts; or it only looks who they are."""
    validated: set[str] = set()
    for play in yaml.safe_load(path.read_text(encoding="utf-8")):
        first, hosts = play["tasks"][0], set(play["hosts"].split(":"))
        if [task.get("ansible.builtin.include_tasks") for task in play["tasks"]
                if task.get("ansible.builtin.meta") != "end_play"] == ["tasks/verified.yml"]:
            continue  # it validates its hosts if there is something for them
        if first.get("ansible.builtin.import_role") == {"name": "desimages.farm.farm", "tasks_from": "defaults"}:
            assert hosts <= validated, play["name"]
            continue
        if [task.get("ansible.builtin.import_tasks") for task in play["tasks"]] == ["tasks/members.yml"]:
            continue
        once = "tasks/refuse.yml" if "all" in hosts else "tasks/validate.yml"
        assert first.get("ansible.builtin.import_tasks") == once, play["name"]
        validated |= hosts


@pytest.mark.parametrize("path", PLAYBOOKS[1:], ids=lambda path: path.name)
def test_a_play_has_the_strategy_that_it_needs(path: Path) -> None:
    """Whatever ANSIBLE_STRATEGY says: with others, each host takes what is for the first one, and none waits for it."""
    for play in yaml.safe_load(path.read_text(encoding="utf-8")):
        assert play["strategy"] == "linear", play["name"]


@pytest.mark.parametrize("path", PLAYBOOKS[1:], ids=lambda path: path.name)
def test_no_limit_leaves_out_what_the_controller_does(path: Path) -> None:
    """A play of `localhost` alone would be skipped. If it is of all hosts, one of them takes each step; what connects
    goes to the controller."""
    for play in yaml.safe_load(path.read_text(encoding="utf-8")):
        hosts = play["hosts"].split(":")
        assert ("localhost" in hosts) == ("all" in hosts), play["name"]
        if "all" in hosts:
            assert play["hosts"] == "localhost:all", "the controller takes the steps if it can"
            assert play["run_once"], play["name"]
            for task in play["tasks"]:
                (kind,) = [key for key in task if "." in key]
                action = PROJECT / f"plugins/action/{kind.rpartition('.')[2]}.py"
                assert (task.get("delegate_to") == "localhost" or action.exists()
                        or kind.endswith((".import_role", ".fail", ".assert", ".debug", ".set_fact", ".meta"))
                        or task.get(kind) in [f"tasks/{name}.yml" for name in ("refuse", "begin", "members", "verdict")]
                        ), task["name"]


def _commands() -> list[Any]:
    """The commands with ansible-playbook in the headers of playbooks and in the pages, also those in make's ARGS."""
    found = []
    for path in (*PLAYBOOKS, *PAGES):
        text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
        for line in re.findall(r"(?m)^(?:# +)?((?:\S*ansible-playbook|make [a-z-]+) .*)$", text):
            found.append(pytest.param(line, id=f"{path.stem}: {line[:60]}"))
    return found


@pytest.mark.parametrize("command", _commands())
def test_each_value_of_a_shown_command_arrives_whole(command: str) -> None:
    """Ansible splits what follows -e at spaces, after the shell did, unless it is JSON or a quoted value."""
    def values(line: str) -> list[str]:
        words = shlex.split(line, comments=True)
        nested = [value for word in words if word.startswith("ARGS=") for value in values(word[5:])]
        return nested + [value for name, value in pairwise(words) if name in ("-e", "--extra-vars")]

    for value in values(command):
        if value.startswith(("{", "@")):
            continue
        parsed = parse_kv(value, check_raw=False)
        assert "_raw_params" not in parsed, parsed
        assert len(parsed) == 1, parsed


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_playbook_begins_with_what_it_is(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line != "---"]
    assert lines[0].startswith("# ")
