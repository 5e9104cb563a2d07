"""npm-build of the builder image refuses tarballs that its package-lock.json does not name. What it installs is tested
with images."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

HELPER = Path(__file__).resolve().parents[2] / "images/builder/npm-build"
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="needs node")


def sri(data: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that needs a and @b/c, of which npm-build has no tarballs yet; it needs d only in development."""
    folder = tmp_path / "program"
    (folder / "tarballs").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "program"}')
    (folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": {
        "": {"name": "program"},
        "node_modules/a": {"version": "1.0.0", "integrity": sri(b"a")},
        "node_modules/@b/c": {"version": "2.0.0", "integrity": sri(b"c")},
        "node_modules/@b/c/node_modules/a": {"version": "1.0.0", "integrity": sri(b"a")},
        "node_modules/@b/c/node_modules/inner": {"version": "1.0.0", "inBundle": True},
        "node_modules/d": {"version": "1.0.0", "integrity": sri(b"d"), "dev": True}}}))
    return folder


def put(folder: Path, **files: bytes) -> None:
    for name, data in files.items():
        (folder / f"tarballs/{name}.tgz").write_bytes(data)


def build(*words: str | Path) -> tuple[int, str]:
    done = subprocess.run(["node", str(HELPER), *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_tarball_that_differs_is_named_with_its_package(program, tmp_path):
    put(program, a=b"a", c=b"not c")
    assert build("-o", tmp_path / "out", program) == (1, (
        "npm-build: the tarballs are not those of package-lock.json:\n"
        "  @b/c 2.0.0: no tarball has the sha512 that package-lock.json says\n"
        "  c.tgz: package-lock.json names no package with this content\n"))
    assert not (tmp_path / "out").exists()


def test_all_that_is_missing_is_named_once(program, tmp_path):
    code, said = build("-o", tmp_path / "out", program)
    assert code == 1
    assert [line.split(":")[0] for line in said.splitlines()[1:]] == ["  @b/c 2.0.0", "  a 1.0.0"]


def test_tarballs_of_what_is_left_out_are_not_taken(program, tmp_path):
    put(program, a=b"a", c=b"c", d=b"d")
    code, said = build("-o", tmp_path / "out", program)
    assert (code, said.splitlines()[1:]) == (1, ["  d.tgz: package-lock.json names no package with this content"])


@pytest.mark.parametrize(("words", "said"), [
    ([], "where to? say -o OUTPUT"),
    (["-o", "out"], "what? say FOLDER"),
    (["-x", "-o", "out", "."], "usage: npm-build"),
    (["-o", "out", "a", "b"], "usage: npm-build"),
    (["-o", "out", "/nowhere"], "/nowhere/package.json"),
])
def test_it_says_what_it_wants(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, told = build(*words)
    assert code == 1
    assert said in told


def test_a_folder_with_files_is_left_alone(program, tmp_path):
    put(program, a=b"a", c=b"c")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert build("-o", tmp_path / "out", program) == (1, f"npm-build: {tmp_path}/out is not empty\n")
