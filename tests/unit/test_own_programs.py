"""The programs whose code is in an image's folder have tests of their own, in Go."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

IMAGES = Path(__file__).resolve().parents[2] / "images"
PROGRAMS = sorted({path.parent for path in IMAGES.glob("*/*/*_test.go")})


@pytest.mark.skipif(not shutil.which("go"), reason="needs go")
@pytest.mark.parametrize("folder", PROGRAMS, ids=lambda folder: str(folder.relative_to(IMAGES)))
def test_the_tests_of_a_program_pass(folder: Path) -> None:
    done = subprocess.run(["go", "test", "-count=1", "./..."], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no test files" not in done.stdout
