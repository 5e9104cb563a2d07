"""What of a catalog's folders is refused by name."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog

from .conftest import Catalog

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def a(empty: Catalog) -> Path:
    """The folder of a good image, beside another that has a mistake of its own."""
    empty.image("a", "FROM scratch\nCOPY . /\n")
    empty.write("a/file", "x\n")
    empty.image("b", "FROM nothing\n")
    return empty.root / "a"


def told(catalog: Catalog) -> list[str]:
    """What is said beside the mistake of b, which nothing hides."""
    found = catalog.problems()
    (other,) = (problem for problem in found if problem.startswith("images/b/Dockerfile:1: 'nothing'"))
    return [problem for problem in found if problem != other]


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def full_folder(path: Path) -> Path:
    path.mkdir()
    (path / "x").touch()
    return path


MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "fifo": (os.mkfifo, "a FIFO; a context has only files and folders"),
    "socket": (make_socket, "a socket; a context has only files and folders"),
    "link": (lambda path: path.symlink_to("file"),
             "a symbolic link, which may not exist in another checkout; make it in the Dockerfile"),
    "dangling": (lambda path: path.symlink_to("/no/such"), "a symbolic link"),
    "loop": (lambda path: path.symlink_to(path.name), "a symbolic link"),
    "linked folder": (lambda path: path.symlink_to("/etc"), "a symbolic link"),
    "empty": (lambda path: path.mkdir(), "an empty folder, which git does not keep"),
    "setuid": (lambda path: (path.touch(), path.chmod(0o4755)), "it has the setuid bit, which git does not keep"),
    "both": (lambda path: (path.touch(), path.chmod(0o6755)), "it has the setuid and setgid bit, which git"),
    "sticky": (lambda path: full_folder(path).chmod(0o1777), "it has the sticky bit, which git does not keep"),
    "setgid folder": (lambda path: full_folder(path).chmod(0o2755), "it has the setgid bit, which git does not keep"),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("place", ["x", "deep/er/.x"])
def test_what_no_context_can_have_is_refused_by_name(empty: Catalog, a: Path, kind: str, place: str) -> None:
    make, said = MAKERS[kind]
    (a / place).parent.mkdir(parents=True, exist_ok=True)
    make(a / place)
    (problem,) = told(empty)
    assert problem.startswith(f"images/a/{place}:1: {said}")
    (a / ".dockerignore").write_text(f"{place.split('/')[0]}\n")
    assert told(empty) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_refused_by_name(empty: Catalog, a: Path) -> None:
    try:
        os.mknod(a / "null", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may not make devices")
    (problem,) = told(empty)
    assert problem.startswith("images/a/null:1: a device; a context has only files and folders")


def test_a_folder_that_was_made_in_a_setgid_folder_is_fine(empty: Catalog, a: Path) -> None:
    (a / "sub").mkdir()
    (a / "sub/x").touch()
    (a / "sub").chmod(0o2755)
    a.chmod(0o2755)
    assert told(empty) == []
    (a / "file").chmod(0o2644)
    assert [problem[:38] for problem in told(empty)] == ["images/a/file:1: it has the setgid bit"]


@pytest.mark.parametrize("name", ["image.yml", "Dockerfile", "lock.jsonl"])
def test_nothing_waits_for_a_fifo_where_a_file_is_read(empty: Catalog, a: Path, name: str) -> None:
    (a / name).unlink(missing_ok=True)
    os.mkfifo(a / name)
    assert f"images/a/{name}:1: cannot be read: it is a FIFO" in told(empty)


def test_nothing_waits_for_a_fifo_of_defaults(empty: Catalog, a: Path) -> None:
    (empty.root / "defaults.yml").unlink()
    os.mkfifo(empty.root / "defaults.yml")
    assert told(empty) == ["images/defaults.yml:1: cannot be read: it is a FIFO"]


@pytest.mark.parametrize("name", [b"bad\xff", b"dir\xff/x", b"a/b\xc3/c"])
def test_a_name_that_is_not_utf_8_is_told(empty: Catalog, a: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(a), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w"):
        pass
    (problem,) = told(empty)
    assert problem.encode().decode() == problem
    assert "\\xff" in problem or "\\xc3" in problem
    assert problem.endswith(":1: its name is not UTF-8; rename it")


def test_an_image_whose_name_is_not_utf_8_is_told(empty: Catalog, a: Path) -> None:
    shutil.copytree(os.fsencode(a), os.path.join(os.fsencode(empty.root), b"x\xff"))
    assert any(re.match(r"images/x\\xff/image.yml:1: '.*' is not a valid image name", said) for said in told(empty))


def test_a_name_with_a_line_feed_stays_in_one_line(empty: Catalog, a: Path) -> None:
    (a / "x\ny").mkdir()
    (problem,) = told(empty)
    assert problem.startswith("images/a/x\\ny:1: an empty folder, which git does not keep")


def test_a_path_that_is_too_long_to_be_staged_is_told(empty: Catalog, a: Path) -> None:
    folder = "/".join(["x" * 250] * 8)
    (a / folder).mkdir(parents=True)
    (a / folder / "fits").touch()
    assert told(empty) == []
    (a / folder / ("y" * 60)).touch()
    (problem,) = told(empty)
    assert problem.endswith(":1: its path has 2068 bytes; at most 2048 are allowed")


def test_mistakes_of_an_ignore_file_are_told_with_their_lines(empty: Catalog, a: Path) -> None:
    (a / ".dockerignore").write_text("x\n[a\n!\n\\d\n")
    assert [problem.partition(": ")[0] for problem in told(empty)] == [
        "images/a/.dockerignore:2", "images/a/.dockerignore:3", "images/a/.dockerignore:4"]
    (a / ".dockerignore").write_bytes(b"x\n\xff\n")
    assert told(empty) == ["images/a/.dockerignore:2: not UTF-8: byte 0xff"]
    (a / ".dockerignore").unlink()
    (a / ".dockerignore").mkdir()
    (a / ".dockerignore/x").touch()
    assert told(empty) == ["images/a/.dockerignore:1: cannot be read: it is a folder"]


def test_a_file_that_buildkit_would_send_empty_is_told(empty: Catalog, a: Path) -> None:
    (a / "d").mkdir()
    (a / "d/x").write_text("x")
    (a / ".dockerignore").write_text("d\n!d/x\nd\n")
    (problem,) = told(empty)
    assert problem.startswith("images/a/d/x:1: .dockerignore leaves this out, brings it back and leaves it out")
    (a / ".dockerignore").write_text("d\n!d/x\n")
    assert told(empty) == []


@pytest.mark.parametrize("path", ["go", "go/file", "go/x/sub/y", "npm", "npm/file", "npm/x/sub/y"])
def test_what_would_be_lost_in_the_folder_of_wrappers_is_told(empty: Catalog, a: Path, path: str) -> None:
    (a / path).parent.mkdir(parents=True, exist_ok=True)
    (a / path).touch()
    (problem,) = told(empty)
    assert f"{path.partition('/')[0]}/ is for the wrappers that `make lock` writes" in problem


@pytest.mark.parametrize("path", ["go", "go/x", "go/x/go.mod", "npm", "npm/x", "image.yml", "Dockerfile", "lock.jsonl",
                                  "README.md"])
def test_links_are_refused_outside_of_the_context_too(empty: Catalog, a: Path, tmp_path: Path, path: str) -> None:
    place = a / path
    if place.exists():
        place.rename(tmp_path / "elsewhere")
    elif path in ("go", "go/x", "npm", "npm/x"):
        (tmp_path / "elsewhere").mkdir()
    else:
        (tmp_path / "elsewhere").write_text('{"lock":2}\n')
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(tmp_path / "elsewhere")
    (problem,) = told(empty)
    assert problem.startswith(f"images/a/{path}:1: a symbolic link")


# --- the catalog ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
def test_an_image_whose_folder_is_a_link_is_told(empty: Catalog, a: Path, tmp_path: Path, there: bool) -> None:
    empty.image("c", "FROM a2\n")
    if there:
        a.rename(tmp_path / "elsewhere")
    (empty.root / "a2").symlink_to(tmp_path / "elsewhere")
    assert told(empty) == [
        "images/a2:1: a symbolic link, which may not exist in another checkout; move the folder or file itself here"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("x/image.yaml", "images/x/image.yaml:1: a recipe must be named image.yml; rename it"),
        ("x/Image.yml", "images/x/Image.yml:1: a recipe must be named image.yml; rename it"),
        ("a/image.yaml",
         "images/a/image.yaml:1: a recipe must be named image.yml; remove this one or the image.yml beside it"),
        ("x/Dockerfile", "images/x/Dockerfile:1: there is no image.yml beside it; write one, or move the folder away"),
        ("x/dockerfile", "images/x/dockerfile:1: there is no image.yml beside it; write one, or move the folder away"),
        ("x/Containerfile",
         "images/x/Containerfile:1: there is no image.yml beside it; write one, or move the folder away"),
        ("defaults.yaml", "images/defaults.yaml:1: a catalog's defaults must be named defaults.yml; rename it"),
        ("Defaults.yml", "images/Defaults.yml:1: a catalog's defaults must be named defaults.yml; rename it"),
        ("default.yml", "images/default.yml:1: a catalog's defaults must be named defaults.yml; rename it"),
        ("image.yml", "images/image.yml:1: an image has a folder of its own: move its files into one, such as "
                      "images/NAME, or let farm_catalog name the folder above this one"),
        ("a/.Dockerignore", "images/a/.Dockerignore:1: an ignore file must be named .dockerignore; rename it"),
        ("a/dockerignore", "images/a/dockerignore:1: an ignore file must be named .dockerignore; rename it"),
        ("a/.containerignore", "images/a/.containerignore:1: an ignore file must be named .dockerignore; rename it"),
        ("a/README.md/x", "images/a/README.md:1: a folder; this name is for a page about the image, and is not in its "
                          "context"),
    ],
)
def test_what_was_meant_to_be_an_image_is_told(empty: Catalog, a: Path, path: str, said: str) -> None:
    empty.write(path, "")
    assert told(empty) == [said]


def test_an_image_in_a_folder_of_folders_is_told(empty: Catalog, a: Path) -> None:
    empty.write("group/x/image.yml", "")
    assert told(empty) == ["images/group/x/image.yml:1: images are looked for only right in images: move this one "
                           f"there, or add {empty.root}/group to farm_catalog"]


def test_the_folder_in_which_a_run_was_started_has_a_name(
    empty: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty.write("group/x/image.yml", "")
    monkeypatch.chdir(empty.root)
    with pytest.raises(BadInput) as found:
        load_catalog(["."])
    assert found.value.problems == ["images/group/x/image.yml:1: images are looked for only right in images: move this "
                                    f"one there, or add {empty.root}/group to farm_catalog"]


@pytest.mark.parametrize("name", ["Containerfile", "dockerfile", "Dockerfile.txt"])
def test_a_dockerfile_of_another_name_is_named(empty: Catalog, a: Path, name: str) -> None:
    (a / "Dockerfile").rename(a / name)
    assert told(empty) == [
        f"images/a/Dockerfile:1: missing; every image needs a Dockerfile: rename {name}"]


@pytest.mark.parametrize("name", ["image.yml", "Dockerfile", "lock.jsonl", ".dockerignore"])
def test_a_link_is_told_once_and_not_read(empty: Catalog, a: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "words").write_text("what\na: [\n")
    (a / name).unlink(missing_ok=True)
    (a / name).symlink_to(tmp_path / "words")
    (said,) = told(empty)
    assert said.startswith(f"images/a/{name}:1: a symbolic link")


CONFLICT = "{0}\n<<<<<<< HEAD\n{0}\n||||||| base\n=======\n{0}\n>>>>>>> theirs\n"


@pytest.mark.parametrize(("name", "line"), [
    ("a/image.yml", "description: x"), ("a/Dockerfile", "FROM scratch"), ("a/.dockerignore", "x"),
    ("a/Dockerfile.dockerignore", "y\r"), ("defaults.yml", "suites: [trixie]"),
])
def test_a_conflict_that_git_left_is_told_once_as_such(empty: Catalog, a: Path, name: str, line: str) -> None:
    empty.write(name, CONFLICT.format(line))
    (said,) = told(empty)
    assert said.startswith(f"images/{name}:2: git left a conflict here: keep one side of it")


@pytest.mark.parametrize("text", ["<<<<<<< a\n", "=======\n>>>>>>> b\n", "x <<<<<<< a\n=======\n>>>>>>> b\n"])
def test_a_part_of_a_conflict_may_be_a_pattern(empty: Catalog, a: Path, text: str) -> None:
    empty.write("a/.dockerignore", text)
    assert told(empty) == []


def test_a_fifo_of_patterns_is_told_once(empty: Catalog, a: Path) -> None:
    os.mkfifo(a / ".dockerignore")
    (said,) = told(empty)
    assert said.startswith("images/a/.dockerignore:1: a FIFO")


def test_a_fifo_in_the_place_of_the_page_about_an_image_is_told(empty: Catalog, a: Path) -> None:
    os.mkfifo(a / "README.md")
    assert told(empty) == ["images/a/README.md:1: a FIFO; this name is for a page about the image, and is not in its "
                           "context"]


def test_more_patterns_than_a_person_writes_are_refused(empty: Catalog, a: Path) -> None:
    empty.write("a/.dockerignore", "".join(f"**/x{number}*y\n" for number in range(2000)))
    assert told(empty) == ["images/a/.dockerignore:1001: more than 1000 patterns, and each is compared with each file"]


def test_what_is_no_image_is_let_be(empty: Catalog, a: Path) -> None:
    for path in ("README.md", "scripts/x.sh", ".git/HEAD", ".devcontainer/Dockerfile", "Dockerfile",
                 ".old/x/image.yml"):
        empty.write(path, "")
    (empty.root / "nothing").mkdir()
    (empty.root / ".#lock").symlink_to("somebody@somewhere")
    (empty.root / "link.md").symlink_to("README.md")
    assert told(empty) == []


@pytest.mark.parametrize("length", [128, 129, 250])
def test_a_name_must_fit_a_registry_and_a_file_system(empty: Catalog, a: Path, length: int) -> None:
    name = "a" * length
    empty.image(name, "FROM scratch\n")
    said = f"images/{name}/image.yml:1: the folder's name has {length} characters; at most 128 are allowed"
    assert told(empty) == ([] if length == 128 else [said])


def test_a_name_is_as_long_as_that_of_its_target(empty: Catalog, a: Path) -> None:
    name, target = "a" * 100, "b" * 28
    dockerfile = f"FROM scratch AS {target}\nFROM scratch AS {target[1:]}\n"
    empty.image(name, dockerfile, f"targets: [{target}, {target[1:]}]\n")
    assert [problem.rpartition(", ")[2] for problem in told(empty)] == [
        "which has 129 characters; at most 128 are allowed"]


READ = """
import sys
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
try:
    load_catalog([sys.argv[1]])
except BadInput as error:
    print("\\n".join(error.problems))
"""


def bound(catalog: Catalog) -> list[str]:
    """The same as `told`, for a process that modes bind. (Root's may read everything by a capability.)"""
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*without, sys.executable, "-c", READ, str(catalog.root)], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(PROJECT / "collections")})
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("images/b/Dockerfile:1: 'nothing'")]


@pytest.mark.parametrize(
    ("path", "mode", "said"),
    [
        ("a/sub", 0, "images/a/sub:1: cannot be read: Permission denied"),
        ("a/sub", 0o444, "images/a/sub/file:1: cannot be read: Permission denied"),
        ("a/file", 0, "images/a/file:1: cannot be read: Permission denied"),
        ("a", 0, "images/a:1: cannot be read: Permission denied"),
        ("a", 0o111, "images/a:1: cannot be read: Permission denied"),
        ("a", 0o444, "images/a/image.yml:1: cannot be read: Permission denied"),
        ("a/image.yml", 0, "images/a/image.yml:1: cannot be read: Permission denied"),
        ("a/Dockerfile", 0, "images/a/Dockerfile:1: cannot be read: Permission denied"),
        ("defaults.yml", 0, "images/defaults.yml:1: cannot be read: Permission denied"),
        *((path, mode, "farm_catalog: {root!r} cannot be read: Permission denied")
          for path, mode in ((".", 0o111), (".", 0o444), ("..", 0o600))),
    ],
)
def test_what_cannot_be_read_is_told(empty: Catalog, a: Path, path: str, mode: int, said: str) -> None:
    empty.write("a/sub/file", "x\n")
    (empty.root / path).chmod(mode)
    try:
        found = bound(empty)
        assert said.format(root=str(empty.root)) in found
        assert not any("missing" in problem for problem in found)
        assert len(found) == 1 or not found[0].startswith("farm_catalog")
    finally:
        (empty.root / path).chmod(0o755)


def test_a_folder_that_is_ignored_need_not_be_read(empty: Catalog, a: Path) -> None:
    empty.write("a/sub/file", "x\n")
    (a / "sub").chmod(0)
    try:
        empty.write("a/.dockerignore", "sub\n")
        assert bound(empty) == []
        empty.write("a/.dockerignore", "sub\n!sub/other\n")
        assert bound(empty) == ["images/a/sub:1: cannot be read: Permission denied"]
    finally:
        (a / "sub").chmod(0o755)
