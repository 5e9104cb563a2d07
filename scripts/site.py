#!/usr/bin/env python
"""Makes the documentation site: the pages of the project, those of the plugins from what ansible-doc knows of them, and
one of the playbooks from the comments that they begin with. A link that leads nowhere is an error.

    scripts/site.py    # in the environment that scripts/galaxy.sh makes; `make docs`

Pages lie in the site as they lie in the project, so that their links work in both. A link to a file that is no page
leads to the project's repository.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from antsibull_docs_parser.md import to_md
from antsibull_docs_parser.parser import Context, parse

PROJECT = Path(__file__).resolve().parents[1]
PAGES = PROJECT / ".cache/site/pages"
GUIDES = ("guide", "fleet", "contract", "catalog", "security", "scheduling", "architecture", "map", "measured")
KINDS = {"module": "modules", "lookup": "lookup", "test": "test", "filter": "filter"}  # ansible-doc's name -> folder
LINK = re.compile(r"(\[[^\]\n]*(?:\n[^\]\n]*)?\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^(```\w+) [^\n]*$", re.MULTILINE)  # our tests read words after the language; mkdocs knows none
NO_MARKUP = re.compile(r"\\([^\w\s\\`*_{}\[\]()#+.!|-])")  # what Markdown lets nobody escape
CODE = re.compile(r"(```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)


def main() -> int:
    shutil.rmtree(PAGES.parent, ignore_errors=True)
    pages = {path.relative_to(PROJECT): path.read_text(encoding="utf-8") for path in written()}
    for kind, folder in KINDS.items():
        pages.update(plugins(kind, folder))
    pages[Path("playbooks/index.md")] = playbooks()
    repository = yaml.safe_load((PROJECT / "galaxy.yml").read_text(encoding="utf-8"))["repository"]
    for path, text in pages.items():
        target = PAGES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(linked(text, path.parent, set(pages), f"{repository}/blob/main"), encoding="utf-8")
    settings = yaml.safe_load((PROJECT / "docs/mkdocs.yml").read_text(encoding="utf-8"))
    settings.update(docs_dir=str(PAGES), site_dir=str(PAGES.with_name("html")), nav=navigation(pages))
    file = PAGES.with_name("mkdocs.yml")
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    done = subprocess.run([Path(sys.executable).with_name("mkdocs"), "build", "--strict", "-f", file], check=False,
                          capture_output=True, text=True)  # quiet it would not count its warnings
    print(done.stderr if done.returncode else f"site: {PAGES.with_name('html')}/index.html")
    return done.returncode


def written() -> Iterator[Path]:
    """The pages that people wrote, and those that `make readmes` makes."""
    yield PROJECT / "README.md"
    for pattern in ("docs/*.md", "roles/*/README.md", "images/*/README.md"):
        yield from sorted(PROJECT.glob(pattern))


def linked(text: str, folder: Path, pages: set[Path], source: str) -> str:
    """The text of a page in `folder`; links to files of the project that are no pages lead to `source`."""
    def place(found: re.Match[str]) -> str:
        if ":" in found[2]:
            return found[0]
        to = Path(os.path.normpath(folder / found[2]))
        if to in pages or not (PROJECT / to).exists():  # mkdocs says what is wrong with the latter
            return found[0]
        if to / "README.md" in pages or to / "index.md" in pages:
            name = "README.md" if to / "README.md" in pages else "index.md"
            return f"{found[1]}{found[2].rstrip('/')}/{name}{found[3]}"
        return f"{found[1]}{source}/{to}{found[3]}"

    parts = CODE.split(FENCE.sub(r"\1", text))  # what is in code is no link
    return "".join(part if number % 2 else LINK.sub(place, part) for number, part in enumerate(parts))


def navigation(pages: Mapping[Path, str]) -> list[dict[str, Any]]:
    def below(*folders: str) -> list[dict[str, str]]:
        found = [path for path in sorted(pages) if path.parent.as_posix().rpartition("/")[0] in folders
                 or path.parent.as_posix() in folders]
        return [{path.parent.name if path.name == "README.md" else path.stem: path.as_posix()} for path in found]

    return [{"Desimages": "README.md"},
            *({title(pages[Path(f"docs/{name}.md")]): f"docs/{name}.md"} for name in GUIDES),
            {"Playbooks": "playbooks/index.md"},
            {"Modules": below("plugins/modules")},
            {"Other plugins": below(*(f"plugins/{folder}" for folder in KINDS.values() if folder != "modules"))},
            {"Roles": below("roles")}, {"Images": below("images")}]


def title(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ")


def playbooks() -> str:
    """The comments that the playbooks begin with."""
    found = ["# Playbooks", "",
             "`build.yml` at the top of the project is `playbooks/build.yml`. From an installed collection a playbook "
             "is `desimages.farm.NAME`."]
    for path in sorted((PROJECT / "playbooks").glob("*.yml")):
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        head = [line[2:] for line in lines[:next(at for at, line in enumerate(lines) if not line.startswith("#"))]]
        found += ["", f"## {path.stem}", "", *head]
    return "\n".join(found) + "\n"


def plugins(kind: str, folder: str) -> Iterator[tuple[Path, str]]:
    names = [f"desimages.farm.{path.stem}" for path in sorted((PROJECT / "plugins" / folder).glob("*.py"))
             if path.stem != "__init__"]
    done = subprocess.run([Path(sys.executable).with_name("ansible-doc"), "-t", kind, "--json", *names], check=True,
                          capture_output=True, text=True, cwd=PROJECT,
                          env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / "collections")})
    for name, said in json.loads(done.stdout).items():
        yield Path(f"plugins/{folder}/{name.rpartition('.')[2]}.md"), plugin(name, kind, said)


def plugin(name: str, kind: str, said: Mapping[str, Any]) -> str:
    doc = said["doc"]
    found = [f"# {name}", "", plain(doc["short_description"]) + ".", ""]
    found += [line for text in texts(doc["description"]) for line in (plain(text), "")]
    if options := doc.get("options"):
        found += ["## Options", "", "| option | type | |", "|---|---|---|", *rows(options), ""]
    if attributes := doc.get("attributes"):
        found += ["## Attributes", "", "| | support | |", "|---|---|---|"]
        found += [f"| {one} | {value['support']} | {cell(value['description'])} |" for one, value in attributes.items()]
        found += [""]
    if said.get("examples"):
        found += ["## Examples", "", "```yaml", str(said["examples"]).strip("\n"), "```", ""]
    if values := said.get("return"):
        found += ["## Returned", "", "| | type | |", "|---|---|---|"]
        found += [f"| `{one}` | {value.get('type', '')} | {cell(value['description'])} |"
                  for one, value in values.items()]
        found += [""]
    return "\n".join(found)


def rows(options: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, option in sorted(options.items(), key=lambda pair: (not pair[1].get("required"), pair[0])):
        notes = []
        if option.get("required"):
            notes.append("Required.")
        if option.get("choices"):
            notes.append("One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + ".")
        if option.get("default") not in (None, "", [], {}):
            notes.append(f"By default `{json.dumps(option['default'])}`.")
        kind = option.get("type", "str") + (f" of {option['elements']}" if option.get("elements") else "")
        yield f"| `{above}{name}` | {kind} | {' '.join([cell(option['description']), *notes])} |"
        yield from rows(option.get("suboptions") or {}, f"{above}{name}.")


def cell(text: Any) -> str:
    return " ".join(plain(one) for one in texts(text))


def texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def plain(text: str) -> str:
    """Markdown for a text with Ansible's markup. Every sign in it is escaped, also those that mean nothing here."""
    escaped = " ".join(to_md(parse(text, Context())).split())
    return NO_MARKUP.sub(lambda found: html.escape(found[1], quote=False), escaped)


if __name__ == "__main__":
    sys.exit(main())
