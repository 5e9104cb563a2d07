"""docs/map.md: one line for each file of the code, from the sentence that it begins with."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yaml

HEAD = """\
# Map

Made by `make readmes` from the first sentence of each file. [architecture.md](architecture.md) says how the parts work
together.
"""
FOLDERS = {  # a folder -> what else is to be said of it
    "playbooks": "", "playbooks/tasks": "What playbooks share.", "scripts": "",
    "plugins/action": "Actions run on the controller. The module of the same name is their documentation.",
    "plugins/modules": "Modules run on hosts.",
    "plugins/module_utils": "Travels to hosts, or is shared by both sides.",
}
REST = ("plugins", "tests")  # each folder in these that has Python files


def page(project: Path) -> str:
    """The map of the files in a project."""
    folders = list(FOLDERS)
    for root in REST:
        found = {str(path.parent.relative_to(project)) for path in (project / root).rglob("*.py")}
        folders += sorted(name for name in found - set(FOLDERS) if "__pycache__" not in name)
    parts = [HEAD]
    for folder in folders:
        lines = {path.name: line for path in sorted((project / folder).iterdir()) if (line := sentence(path))}
        if lines:
            table = "".join(f"| [{name}](../{folder}/{name}) | {line} |\n" for name, line in lines.items())
            about = FOLDERS.get(folder)
            parts.append(f"## {folder}\n\n" + (f"{about}\n\n" if about else "") + f"| file | |\n|---|---|\n{table}")
    return "\n".join(parts)


def sentence(path: Path) -> str:
    """What a file says of itself in its first sentence. Nothing for a file that only documents an action."""
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if text.startswith("Documentation of the action"):
            return ""
    elif path.suffix in (".sh", ".yml"):
        text = _comment(path.read_text(encoding="utf-8"))
    else:
        return ""
    first = re.split(r"(?<=[.:])\n|(?<=\.)\s(?=[A-Z`])|\n\n", text.strip())[0]
    return " ".join(first.split()).rstrip(":").replace("|", "\\\\|")


def _comment(text: str) -> str:
    """The comment that a script or a playbook begins with, or the name of its first task."""
    lines = text.splitlines()[1:]  # #! or ---
    found = re.match(r"(?:#.*\n)+", "\n".join(lines) + "\n")
    if found:
        return "\n".join(line[1:].strip() for line in found[0].splitlines())
    first = yaml.safe_load(text)
    return str(first[0].get("name", "")).rpartition("| ")[2] + "." if isinstance(first, list) else ""
