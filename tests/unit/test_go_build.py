"""The module go_build, which compiles on the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
GO = """#!/bin/sh -eu
[ "$1" = version ] && { echo "go version go1.26.8 linux/amd64"; exit; }
echo >> "${0%/*}/../compiled"
sleep 1 # it takes its time, so the other one asks meanwhile
until [ "$1" = -o ]; do shift; done
echo program > "$2/hello"
"""


def test_two_farms_that_share_a_cache_compile_once(tmp_path: Path) -> None:
    for name, text, mode in (("bin/go", GO, 0o755), ("source/go.mod", "module example.org/hello\n", 0o644)):
        (tmp_path / name).parent.mkdir(mode=0o755)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    asked = {"source": str(tmp_path / "source"), "packages": {"hello": "example.org/hello"}, "toolchain": "go1.26.8",
             "platform": "linux/amd64", "cache": str(tmp_path / "cache")}
    words = [str(Path(sys.executable).with_name("ansible")), "localhost", "-m", "desimages.farm.go_build", "-a",
             json.dumps(asked)]
    both = [subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}) for _each in range(2)]
    said = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert (tmp_path / "compiled").read_text() == "\n"
    assert sorted("CHANGED" in text for text in said) == [False, True], said
