"""Whatever locale a node has, the names of files in contexts are those of the recipe."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .local_node import Local

CHARSETS = Path("/usr/share/i18n/charmaps/ISO-8859-1.gz")
LISTS = """#!/bin/sh
for word in "$@"; do
    case $word in --local=context=*) ls "${word#*=context=}" >"$(dirname "$0")/seen" ;; esac
done
exit 1
"""


@pytest.mark.skipif(not (shutil.which("localedef") and CHARSETS.exists()), reason="makes a locale")
def test_a_name_in_a_context_is_utf8_also_on_a_node_with_another_encoding(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / "locales/xx_XX")]
    (tmp_path / "locales").mkdir()
    subprocess.run(made, check=False, capture_output=True)  # it warns
    assert (tmp_path / "locales/xx_XX").is_dir()
    for name in [name for name in os.environ if name.startswith(("LC_", "LANG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOCPATH", str(tmp_path / "locales"))
    monkeypatch.setenv("LC_ALL", "xx_XX")
    (tmp_path / "node").mkdir()
    local = Local(tmp_path / "node")
    try:
        local.start("a", LISTS, {"größe.txt": local.keep(b"x")})
        local.end("a")
    finally:
        local.engine.close()
    assert (tmp_path / "node/seen").read_bytes() == "größe.txt\n".encode()
