"""What each folder of the repository may use, so that data flows one way."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PLUGINS = PROJECT / "plugins"
NAME = "ansible_collections.desimages.farm.plugins."
# each uses only itself and those before it
ROOMS = ("pki", "recipe", "fetch", "registry", "kinds", "catalog", "lock", "plan", "schedule", "build", "verify")
SHARED = {"action.py": ("registry",)}  # what all rooms use, and which room it uses: every action asks one registry
FILES = sorted(path for path in PLUGINS.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The modules that a file imports, at its top or later; ours from below plugins/."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return {name.removeprefix(NAME) for name in found}


@pytest.mark.parametrize("path", [path for path in FILES if "plugin_utils" in path.parts],
                         ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_step_uses_only_what_comes_before_it(path: Path) -> None:
    room = path.relative_to(PLUGINS / "plugin_utils").parts[0]
    used = {name.split(".")[1] for name in imports(path) if name.startswith("plugin_utils.")}
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else SHARED.get(room, ())
    assert {name for name in used if name in ROOMS} <= set(allowed)


@pytest.mark.parametrize("path", [path for path in FILES if "module_utils" in path.parts], ids=lambda path: path.stem)
def test_what_travels_needs_nothing_but_python(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & {"ansible", "ansible_collections", "plugin_utils", "yaml", "urllib3", "jsonschema", "docker",
                       "cattrs"}


@pytest.mark.parametrize("path", [path for path in FILES if "modules" in path.parts], ids=lambda path: path.stem)
def test_a_module_uses_what_travels_alone(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith(("plugin_utils", "action", "lookup"))}


@pytest.mark.parametrize("path", [path for path in FILES if "action" in path.parts], ids=lambda path: path.stem)
def test_an_action_is_arguments_a_call_and_a_result(path: Path) -> None:
    """What else it would have of its own has a room in plugin_utils, where it can be tested without Ansible."""
    made = [node.name for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    assert made == ["ActionModule"]
    assert not imports(path) & {"concurrent.futures", "subprocess", "socket", "urllib3"}


RUN_COMMAND = {  # module -> why it may run programs without a deadline
    "state_folder": "`rm` of a local folder ends, takes as long as there is to remove, and needs an open descriptor",
}


@pytest.mark.parametrize("path", [path for path in FILES if "modules" in path.parts], ids=lambda path: path.stem)
def test_a_module_runs_programs_with_a_deadline(path: Path) -> None:
    """AnsibleModule.run_command has none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert ("run_command" in used) == (path.stem in RUN_COMMAND)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_no_file_is_too_long_to_be_read(path: Path) -> None:
    """What is code: a module's documentation may be as long as it has to be."""
    lines = path.read_text(encoding="utf-8").splitlines()
    documentation = sum(len(node.value.value.splitlines()) for node in ast.parse("\n".join(lines)).body
                        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                        and isinstance(node.value.value, str))
    assert len(lines) - documentation <= 400


def test_lines_can_be_read_side_by_side() -> None:
    """120 characters, where people write them: not in tables, locks or what programs write; the bytes of images/ count
    for their digests."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    long = []
    for name in tracked.rstrip("\0").split("\0"):
        path = PROJECT / name
        if (name.startswith(("images/", "LICENSE")) or path.is_symlink()
                or path.suffix in (".sum", ".json", ".jsonl", ".txt", ".rst")):
            continue
        long += [f"{name}:{number}" for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
                 if len(line) > 120 and not line.startswith("|")]
    assert long == []


def test_loopback_is_known_in_one_place() -> None:
    """Neither a pattern for 127 nor the standard library's own test stands anywhere else."""
    tested = re.compile(r"""127[\\([]|127\.["']|is_loopback""")
    found = [path for folder in ("plugins", "roles", "playbooks") for path in (PROJECT / folder).rglob("*")
             if path.suffix in (".py", ".yml", ".j2") and tested.search(path.read_text(encoding="utf-8"))]
    assert found == [PLUGINS / "module_utils/references.py"]
