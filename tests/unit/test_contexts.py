"""What is in an image's context, also while somebody edits it."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import NO_IGNORES, definition
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import keep, read_sources
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store

from .conftest import Catalog

PROJECT = Path(__file__).resolve().parents[2]


def test_a_context_is_the_folder_but_for_what_the_farm_leaves_out(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    inside = [".bashrc", ".config/x", "backup~", "main_test.go", "docs/image.yml", "docs/README.md", "docs/go/x",
              "readme.md", "docs/Dockerfile", "new\nline", "tab\tx", "back\\slash", "star*", "trailing ", "ünïcödé-☃",
              ".dockerignore", "Dockerfile.dockerignore", "x/lock.jsonl", "module/x"]
    outside = ["README.md", "lock.jsonl", "go/x/go.mod", ".git", "module/.git", ".lock.jsonl.half"]
    for path in inside + outside:
        empty.write(f"a/{path}", '{"lock":2}\n' if path == "lock.jsonl" else "")
    assert set(empty.sources("a").files) == set(inside)


def test_our_own_images_are_made_of_no_tests_and_no_ignore_files() -> None:
    files = {path for recipe in load_catalog(["desimages.farm"]).values() for path in read_sources(recipe).files}
    assert {path for path in files if path.endswith(("_test.go", "ignore"))} == set()
    assert "health/main.go" in files


def test_modes_are_those_that_git_keeps(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    for mode in (0o400, 0o440, 0o600, 0o604, 0o644, 0o700, 0o744, 0o755, 0o611):
        empty.write(f"a/{mode:o}", "")
        (empty.root / f"a/{mode:o}").chmod(mode)
    assert {name: mode for name, (mode, _sha, _size) in empty.sources("a").files.items()} == {
        "400": 0o644, "440": 0o644, "600": 0o644, "604": 0o644, "644": 0o644, "611": 0o644,
        "700": 0o755, "744": 0o755, "755": 0o755}


@pytest.mark.parametrize(
    ("ignores", "left"),
    [
        ({}, {"a", "d/a", "d/b.log", ".env", "node_modules/m/x"}),
        ({".dockerignore": "node_modules\n.env\n**/*.log\n"}, {"a", "d/a", ".dockerignore"}),
        ({".dockerignore": ".dockerignore\n*\n!d\n"}, {"d/a", "d/b.log"}),
        ({".dockerignore": "d\n", "Dockerfile.dockerignore": "a\n"},
         {"d/a", "d/b.log", ".env", "node_modules/m/x", ".dockerignore", "Dockerfile.dockerignore"}),
        ({".dockerignore": "*\n", "Dockerfile.dockerignore": ""},
         {"a", "d/a", "d/b.log", ".env", "node_modules/m/x", ".dockerignore", "Dockerfile.dockerignore"}),
        ({".dockerignore": "**\n!**/b.log\n"}, {"d/b.log"}),
        ({"d/.dockerignore": "*\n"}, {"a", "d/a", "d/b.log", ".env", "node_modules/m/x", "d/.dockerignore"}),
    ],
)
def test_what_is_ignored_is_not_in_the_id_either(empty: Catalog, ignores: dict[str, str], left: set[str]) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    everything = {"a", "d/a", "d/b.log", ".env", "node_modules/m/x"}
    for path, text in {**dict.fromkeys(everything, "x"), **ignores}.items():
        empty.write(f"a/{path}", text)
    assert set(empty.sources("a").files) == left
    before = {unit.id for unit in empty.plan().units.values()}
    for path in everything - left:
        empty.write(f"a/{path}", "y")
    assert {unit.id for unit in empty.plan().units.values()} == before


def test_a_context_that_is_staged_is_not_filtered_again(empty: Catalog, tmp_path: Path) -> None:
    """BuildKit would read the .dockerignore that is in it, though Dockerfile.dockerignore stands before that."""
    empty.image("a", "FROM scratch\nCOPY . /\n")
    empty.write("a/x", "x")
    recipe = load_catalog([str(empty.root)])["a"]
    assert set(definition(recipe, read_sources(recipe))) == {"Dockerfile"}
    empty.write("a/.dockerignore", "x\n")
    empty.write("a/Dockerfile.dockerignore", "Dockerfile.dockerignore\n")
    sources, store = read_sources(recipe), Store(tmp_path / "store")
    tree = definition(recipe, sources)
    assert (set(tree), set(sources.files)) == ({"Dockerfile", "Dockerfile.dockerignore"}, {"x", ".dockerignore"})
    keep(recipe, sources, store)
    assert store.path(tree["Dockerfile.dockerignore"].sha256).read_bytes() == NO_IGNORES
    assert all(store.has(file.sha256, file.size) for file in tree.values())


def test_a_program_of_the_image_s_own_must_be_in_the_context(empty: Catalog) -> None:
    dockerfile = "FROM scratch\nCOPY . /\n"
    for name, module in (("a", "./prog"), ("b", "./go"), ("c", "./gone"), ("d", "./../a"), ("e", "."), ("f", "./")):
        version = "" if module.startswith("./") else ", version: v1"
        empty.image(name, dockerfile, f"inputs:\n  p: {{go: '{module}'{version}}}\n")
        empty.write(f"{name}/prog/main.go", "")
        empty.write(f"{name}/go.mod", "module x\n")
    empty.write("a/.dockerignore", "prog\n")
    empty.write("b/go/main/go.mod", "")
    said = [problem for problem in empty.problems() if "wrappers" in problem or "beside image.yml" in problem]
    assert said == [
        "images/a/image.yml:6: ./prog is not a folder beside image.yml, or the context leaves it out",
        "images/b/image.yml:6: ./go is for the wrappers of `make lock`; rename the folder",
        "images/c/image.yml:6: ./gone is not a folder beside image.yml, or the context leaves it out",
        "images/d/image.yml:6: ./../a is not a folder beside image.yml, or the context leaves it out",
    ]


@pytest.mark.parametrize("what", ["gone", "changed", "fifo", "link"])
def test_a_file_that_changes_meanwhile_is_named_with_its_image(empty: Catalog, tmp_path: Path, what: str) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    empty.write("a/x", "x")
    recipe = load_catalog([str(empty.root)])["a"]
    sources = read_sources(recipe)
    path = empty.root / "a/x"
    path.unlink()
    if what == "changed":
        path.write_text("y")
    if what == "fifo":
        os.mkfifo(path)
    if what == "link":
        (tmp_path / "x").write_text("x")
        path.symlink_to(tmp_path / "x")
    with pytest.raises(FarmError, match=r"^a: x (was changed during the run|can no longer be read)"):
        keep(recipe, sources, Store(tmp_path / "store"))
    assert list((tmp_path / "store/partial").glob("*")) == []
    with pytest.raises(BadInput) if what in ("fifo", "link") else pytest.MonkeyPatch.context():
        load_catalog([str(empty.root)])


@pytest.mark.parametrize("what", ["no folder", "fifo", "link", "empty"])
def test_a_folder_that_changes_before_its_files_are_hashed_is_named(empty: Catalog, what: str) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    empty.write("a/x", "x")
    recipe = load_catalog([str(empty.root)])["a"]
    (empty.root / "a/x").unlink()
    if what == "no folder":
        shutil.rmtree(empty.root / "a")
    elif what == "fifo":
        os.mkfifo(empty.root / "a/x")
    elif what == "link":
        (empty.root / "a/x").symlink_to("Dockerfile")
    else:
        (empty.root / "a/x").mkdir()
    with pytest.raises(FarmError, match=r"^a(: .*/a can no longer be read| was changed during the run: .*a/x:1: )"):
        read_sources(recipe)


def test_a_large_file_is_read_in_pieces(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    with (empty.root / "a/large").open("wb") as file:
        file.truncate(300 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert empty.sources("a").files["large"][2] == 300 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_name_that_removes_another_file_in_a_layer_is_refused(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    empty.write("a/.wh.passwd", "x")
    empty.write("a/etc/.wh..wh..opq", "x")
    assert [found.partition(":1: its name begins with .wh.")[0] for found in empty.problems()] == [
        "images/a/.wh.passwd", "images/a/etc/.wh..wh..opq"]


def test_a_file_that_is_too_large_to_read_each_time_is_refused_unread(empty: Catalog) -> None:
    empty.image("a", "FROM scratch\nCOPY . /\n")
    for size, told in ((10 << 30, 10240), ((1 << 30) + 1, 1025)):
        with (empty.root / "a/disk.img").open("wb") as file:
            file.truncate(size)
        (found,) = empty.problems()
        assert found.startswith(f"images/a/disk.img:1: it has {told} MiB; at most 1024")
    empty.write("a/.dockerignore", "*.img\n")
    empty.plan()
