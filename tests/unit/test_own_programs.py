"""The programs whose code is in an image's folder have tests of their own, in Go."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.locks import NO_LOCK

from .conftest import Catalog

IMAGES = Path(__file__).resolve().parents[2] / "images"
PROGRAMS = sorted({path.parent for path in IMAGES.glob("*/*/*_test.go")})


@pytest.mark.skipif(not shutil.which("go"), reason="needs go")
@pytest.mark.parametrize("folder", PROGRAMS, ids=lambda folder: str(folder.relative_to(IMAGES)))
def test_the_tests_of_a_program_pass(folder: Path) -> None:
    done = subprocess.run(["go", "test", "-count=1", "./..."], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no test files" not in done.stdout


@pytest.mark.parametrize(("kind", "files"), [
    ("cargo", {"Cargo.toml": "", "Cargo.lock": "garbage ["}), ("go", {"go.mod": "garbage\n"}),
    ("npm", {"package.json": "{}", "package-lock.json": "garbage"}),
])
def test_what_cannot_be_read_needs_the_lock_step_which_tells_it(
    chain: Catalog, kind: str, files: dict[str, str]
) -> None:
    """A build would end in a RUN with a message of its own."""
    chain.image("own", "FROM static\nCOPY . /x\n", f"inputs: {{own: {{{kind}: ./prog}}}}\n")
    for name, text in files.items():
        chain.write(f"own/prog/{name}", text)
    assert chain.problems() == [f"images/own/lock.jsonl:1: {NO_LOCK}"]
