"""A node that is this machine, for tests of the runner, and scripts in the place of buildctl."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import files, renewal
from ansible_collections.desimages.farm.plugins.module_utils.state import MARK
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import Node

GOOD = """#!/bin/sh
for word in "$@"; do
    case $word in --metadata-file=*) metadata=${word#*=} ;; --local=context=*) context=${word#*=context=} ;; esac
done
echo '{"vertexes":[{"digest":"sha256:1","name":"[1/1] RUN make","started":"2026-11-24T10:00:00Z"}]}' >&2
echo '{"logs":[{"vertex":"sha256:1","data":"aGVsbG8K"}]}' >&2
cat "$context/etc/motd" >&2
echo '{"vertexes":[{"digest":"sha256:1","name":"[1/1] RUN make","started":"2026-11-24T10:00:00Z",'\
'"completed":"2026-11-24T10:00:01Z"}]}' >&2
echo '{"containerimage.digest": "sha256:abc"}' > "$metadata"
"""
BAD = """#!/bin/sh
echo '{"vertexes":[{"digest":"sha256:1","name":"[1/1] RUN make","started":"2026-11-24T10:00:00Z",'\
'"error":"exit code: 2"}]}' >&2
echo 'error: failed to solve' >&2
exit 1
"""
SLOW = "#!/bin/sh\nexec sleep 300\n"
PROVEN = {"engine": "sha256:e"}  # what etc/node.json says of a node, at least


class Local:
    """A node that is this machine, with a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.node = Node("here", self.execute, lambda: sys.executable, str(root))
        self.socket = root / "buildkitd.sock"
        self.engine = socket.socket(socket.AF_UNIX)
        self.engine.bind(str(self.socket))
        self.engine.listen()
        (root / MARK).touch()
        (root / "etc").mkdir()
        (root / "etc/node.json").write_text(json.dumps(PROVEN))
        self.node.prepare()
        own = Path(self.node.store)
        own.mkdir(mode=0o700, exist_ok=True)
        files.write(str(own / renewal.SINCE), "0\n")  # the programs that stand for buildctl cannot forget anything

    def execute(self, command: str, stdin: str, seconds: float) -> tuple[int, str, str]:
        done = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def spec(self, name: str, script: str, tree: dict[str, Any]) -> dict[str, Any]:
        program = self.root / "buildctl"
        program.write_text(script)
        program.chmod(0o755)
        folder = f"{self.node.jobs}/{name}"
        return {
            "id": name, "solve": {"contexts": {"context": tree}, "policy": {"rules": []}}, "buildctl": str(program),
            "socket": str(self.socket),
            "store": str(self.root / "store"), "own": self.node.store, "root": str(self.root), "newest": 0,
            "archive": "http://127.0.0.1:9/v2/x/archive",
            "words": ["build", f"--metadata-file={folder}/metadata.json", f"--local=context={folder}/contexts/context"],
        }

    def start(self, name: str, script: str, tree: dict[str, Any]) -> None:
        self.node.turn([self.spec(name, script, tree)], [], [], 0, 1)

    def end(self, name: str) -> dict[str, Any]:
        (state,) = self.node.turn([], [name], [], 30, 1)
        assert state["state"] != "running", "the job did not end"
        return state

    def keep(self, content: bytes) -> list[Any]:
        digest = hashlib.sha256(content).hexdigest()
        path = self.root / "store/sha256" / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (0, 0))
        return [digest, len(content), 0o644, 0]
