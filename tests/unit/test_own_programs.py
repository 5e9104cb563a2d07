"""The program `health` of the image tools has tests of its own, in Go."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "images/tools/health"


@pytest.mark.skipif(not shutil.which("go"), reason="needs go")
def test_the_tests_of_health_pass() -> None:
    done = subprocess.run(["go", "test", "-count=1", "./..."], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no test files" not in done.stdout
