"""Our parser of names in Dockerfiles, held against BuildKit's own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.dockerfile import parse

from .conftest import PROJECT, sh

MODULE = PROJECT / "roles/buildkitd/files/module"
TRICKY = [
    "FROM debian\n",
    "# comment\n\n  from   debian   as   Build\nFROM scratch\ncopy --from=build /a /b\n",
    "ARG A=base\nARG B=${A}-x\nFROM ${B}\nFROM $A AS b\nFROM ${C:-static} AS c\n",
    "# escape=`\nFROM debian\nRUN a `\n  b `\n\n  c\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN echo a \\\n# comment in between\n  && echo b \\   \n  && echo c\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN <<EOF\nFROM no\nCOPY --from=no / /\nEOF\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN <<-EOF cat\n\tFROM no\n\tEOF\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN <<'E' cat && <<\"F\" cat\nFROM no\nE\nFROM no\nF\nCOPY --from=tools /a /\n",
    "FROM debian\nCOPY <<one <<two /dest/\nFROM no\none\nCOPY --from=no / /\ntwo\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN echo $((1<<3)) && cat 3<<E\nFROM no\nE\nCOPY --from=tools /a /\n",
    "FROM debian\nRUN echo 'COPY --from=no / /' \"<<E\"\nCOPY --from=tools /a /\n",
    'FROM debian\nRUN --mount=type=bind,from=inputs,source=/x,target=/y --mount=type=cache,target=/c --mount="from=q,target=/z" true\n',
    "FROM debian\nRUN --network=none --mount=from=inputs,target=/x ls\nCOPY --chown=1:1 --from=tools --link /a /\n",
    'FROM debian\nCOPY --from=tools ["/a b", "/c"]\nENTRYPOINT ["x", "--from=no"]\n',
    "FROM --platform=$BUILDPLATFORM debian AS a\nFROM a AS b\nFROM scratch\nCOPY --from=a / /\nCOPY --from=1 / /\n",
    "FROM debian\nENV A=b \\\n    C=d\nLABEL x=\"FROM no\"\nRUN echo \\\\\nCOPY --from=tools /a /\n",
    "FROM debian\r\nRUN a \\\r\n  b\r\nCOPY --from=tools /a /\r\n",
    "\n\n# syntax = x/y\nFROM debian\nCMD echo <<E\nCOPY --from=tools /a /\n",
]


def test_names_are_those_that_buildkit_sees(tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(MODULE / name, tmp_path)
    shutil.copy(PROJECT / "tests/integration/names/main.go", tmp_path)
    files = [tmp_path / f"Dockerfile.{number}" for number in range(len(TRICKY))]
    for path, text in zip(files, TRICKY):
        path.write_bytes(text.encode())
    files += sorted((PROJECT / "images").glob("*/Dockerfile"))
    output = sh("go", "run", "-mod=mod", ".", *map(str, files), cwd=tmp_path, env={**os.environ, "CGO_ENABLED": "0"})
    theirs: dict[str, Any] = json.loads(output)
    for path in files:
        parsed = parse(path.read_bytes().decode())
        ours = [{"base": stage.uses[0].name, "from": [use.name for use in stage.uses[1:]], "line": stage.line,
                 "name": "" if stage.name == str(stage.number) else stage.name.lower()} for stage in parsed.stages]
        assert ours == [{**stage, "name": stage["name"].lower()} for stage in theirs[str(path)]], path.read_text()
