"""What make refuses, because it would silently do something else than it seems to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "--dry-run", *words], cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("words", "said"), [
    (["build", "farm_images=base"], "farm_images=: this is not for make"),
    (["build", "-e", "farm_images=base"], "farm_images=: this is not for make"),
    (["remove", "image=base"], "image=: this is not for make"),
    (["build", "--check"], "--check: this is not for make"),
])
def test_what_is_for_ansible_is_refused_outside_args(words: list[str], said: str) -> None:
    done = make(*words)
    assert done.returncode == 2 and said in done.stderr and "ARGS='--check" in done.stderr
    assert "ansible-playbook" not in done.stdout


@pytest.mark.parametrize("words", [
    ["build"], ["build", "ARGS=--check -e farm_images=base -e farm_platforms=linux/arm64"],
    ["--keep-going", "--jobs=2", "build", "ARGS=-vL"], ["test", "WORKERS=1"],
])
def test_what_is_in_args_is_taken(words: list[str]) -> None:
    done = make(*words)
    assert done.returncode == 0, done.stderr
