"""A lock of crates is for its recipe, and for the Cargo.lock of a program of the image's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.locks import NO_LOCK, reader
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.moves import moved
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock

from .conftest import Catalog
from .entries import crate

TAKES = "FROM scratch\nCOPY --from=inputs /app /app\n"
OWN = "FROM --platform=$BUILDPLATFORM scratch AS made\nCOPY tool /src\nFROM scratch\nCOPY --from=made / /\n"
LINES = (crate("app", "1.2.0", "program", sha256="a" * 64), crate("leaf", "1.0.0"))
PINNED = """version = 4

[[package]]
name = "leaf"
version = "{version}"
source = "registry+https://index.example/"
checksum = "x"
"""


def lock(catalog: Catalog, entries: tuple[Entry, ...] = LINES) -> None:
    """Gives the image `a` a lock for what its recipe says now."""
    recipe = load_catalog([str(catalog.root)], need_locks=False)["a"]
    made_for = {found.name: KINDS[found.kind].made_for(found, recipe.suites, reader(Path(recipe.folder)))
                for found in recipe.inputs}
    catalog.write("a/lock.jsonl", lockfile.dump(Lock(entries, made_for=made_for)))


@pytest.fixture
def program(empty: Catalog) -> Catalog:
    empty.image("a", TAKES, "inputs:\n  app: {cargo: app, version: 1.2.0}\n")
    lock(empty)
    return empty


@pytest.fixture
def own(empty: Catalog) -> Catalog:
    empty.image("a", OWN, "inputs:\n  app: {cargo: ./tool}\n")
    empty.write("a/tool/Cargo.toml", "[package]\n")
    empty.write("a/tool/Cargo.lock", PINNED.format(version="1.0.0"))
    lock(empty, LINES[1:])
    return empty


def problems(catalog: Catalog) -> list[str]:
    with pytest.raises(BadInput) as error:
        catalog.plan()
    return error.value.problems


def test_every_platform_has_the_program_and_its_crates(program: Catalog) -> None:
    plan = program.plan()
    unit = plan.units[Key("a", "", AMD64)]
    assert [entry.path for entry in plan.entries(unit, AMD64)] == ["app/program.crate", "app/crates/leaf-1.0.0.crate"]


def test_a_line_is_what_it_is_read_as() -> None:
    text = lockfile.dump(Lock(LINES))
    assert lockfile.parse(text, "x").entries == LINES
    assert text.splitlines()[1] == ('{"input":"app","kind":"cargo","name":"app","version":"1.2.0","file":"program",'
                                    f'"sha256":"{"a" * 64}","size":1}}')
    assert [entry.label for entry in LINES] == ["app 1.2.0", "leaf 1.0.0"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version: 1.2.0", "version: 1.3.0", "app: the recipe says version 1.3.0, the lock was made for 1.2.0"),
        ("cargo: app", "cargo: fork", "app: the recipe says crate fork, the lock was made for app"),
        ("{cargo: app, version: 1.2.0}", "{cargo: app, version: 1.2.0, for: build}", "app: the recipe says for build"),
    ],
)
def test_a_recipe_that_says_something_else_is_refused(program: Catalog, old: str, new: str, said: str) -> None:
    text = (program.root / "a/image.yml").read_text()
    assert old in text
    program.write("a/image.yml", text.replace(old, new))
    program.write("a/Dockerfile", TAKES.replace("=inputs", "=build-inputs") if "build" in new else TAKES)
    assert [problem for problem in problems(program) if said in problem and "make lock" in problem]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"name":"app","version":"1.2.0"', '"name":"app","version":"1.1.0"',
         "app: the recipe says app 1.2.0, this line says app 1.1.0"),
        ('"name":"app","version":"1.2.0","file":"program"', '"name":"app","version":"1.2.0","file":"crate"',
         "app: the lock has no program app 1.2.0"),
        ('"kind":"cargo","name":"leaf"', '"kind":"cargo","platform":"linux/amd64","name":"leaf"',
         "app: a line for linux/amd64 only, but crates are for all platforms"),
        ('"file":"crate"', '"file":"other"', "file is 'other', it must be one of program, crate"),
        ('"name":"leaf"', '"name":"../../leaf"', "name '../../leaf' is not valid for a crate"),
        ('"version":"1.0.0"', '"version":"1.0.0/../.."', "version '1.0.0/../..' is not valid for a crate"),
        ('"name":"leaf"', '"name":"le.af"', "name 'le.af' is not valid for a crate"),
        ('"version":"1.0.0"', '"version":"1.0"', "version '1.0' is not valid for a crate"),
        ('"file":"crate"', '"file":"crate","source":"x"', "unknown 'source'"),
    ],
)
def test_lines_that_are_not_of_this_program_are_refused(program: Catalog, old: str, new: str, said: str) -> None:
    text = (program.root / "a/lock.jsonl").read_text()
    assert old in text
    program.write("a/lock.jsonl", text.replace(old, new))
    assert [problem for problem in problems(program) if said in problem]


@pytest.mark.parametrize("file", ["Cargo.toml", "Cargo.lock"])
def test_what_the_programs_own_files_say_is_what_was_locked(own: Catalog, file: str) -> None:
    own.plan()
    own.write(f"a/tool/{file}", (own.root / f"a/tool/{file}").read_text() + "\n")
    assert [problem for problem in problems(own) if "app: its Cargo.toml or Cargo.lock has changed since" in problem]


def test_a_program_of_a_registry_is_not_the_images_own(own: Catalog) -> None:
    lock(own, LINES)
    assert [problem for problem in problems(own)
            if "app 1.2.0 is a program of a registry, but the recipe says ./tool" in problem]


def test_a_program_of_the_images_own_needs_a_lock_only_if_it_needs_crates(own: Catalog) -> None:
    (own.root / "a/lock.jsonl").unlink()
    assert problems(own) == [f"images/a/lock.jsonl:1: {NO_LOCK}"]
    own.write("a/tool/Cargo.lock", 'version = 4\n\n[[package]]\nname = "tool"\nversion = "0.1.0"\n')
    own.plan()


@pytest.mark.parametrize(
    ("folder", "files", "said"),
    [
        ("./gone", (), "./gone is not a folder beside image.yml"),
        ("./../b", (), "./../b is not a folder"),
        ("./go", ("go/x/Cargo.toml",), "./go is for the wrappers"),
        ("./tool", ("tool/Cargo.toml",), "./tool has no Cargo.lock; make it with `cargo generate-lockfile`"),
        ("./tool", ("tool/Cargo.lock",), "./tool has no Cargo.toml; make it with `cargo init`"),
        ("./tool", ("tool/Cargo.toml", "tool/Cargo.lock", "tool/target/CACHEDIR.TAG"),
         "./tool/target was left by builds on this machine"),
    ],
)
def test_a_program_of_the_images_own_has_its_files(empty: Catalog, folder: str, files: tuple[str, ...],
                                                   said: str) -> None:
    empty.image("a", OWN, f"inputs:\n  app: {{cargo: {folder}}}\n")
    for file in files:
        empty.write(f"a/{file}", "")
    assert [problem for problem in problems(empty) if said in problem]


def test_a_program_may_be_the_whole_folder_of_the_image(own: Catalog) -> None:
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.move(own.root / "a/tool" / name, own.root / "a" / name)
    (own.root / "a/tool").rmdir()
    own.image("a", OWN.replace("COPY tool", "COPY ."), "inputs:\n  app: {cargo: ./}\n")
    lock(own, LINES[1:])
    own.plan()


def test_what_moved_is_told_by_name() -> None:
    new = (crate("app", "1.3.0", "program", sha256="b" * 64), *LINES[1:])
    assert moved(Lock(LINES), Lock(new)) == ["app 1.2.0 -> 1.3.0"]


def test_images_without_crates_are_locked_without_cargo(empty: Catalog, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    empty.write("a/x", "")
    empty.image("a", "FROM scratch\nCOPY --from=inputs /x /x\n",
                "inputs:\n  x: {url: 'https://example.org/x'}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    origins = Origins({"url": {"https://example.org/": f"file://{empty.root}/a/"}}, here=Machine(), snapshots=False)
    recipe = load_catalog([str(empty.root)], need_locks=False)["a"]
    found = Locker(origins, tmp_path).lock(recipe)
    assert [entry.fact for entry in found.lock.entries] == [{"url": "https://example.org/x"}]
    assert json.loads(lockfile.dump(found.lock).splitlines()[0])["made_for"] == {"x": {"url": "https://example.org/x"}}
