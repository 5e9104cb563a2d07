"""BuildKit's progress (`buildctl --progress=rawjson`), folded into what a person wants to know.

Source: moby/buildkit client/graph.go, SolveStatus: one JSON object a line, times as text, log data in base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from dataclasses import dataclass, field

WRITING = ("exporting", "pushing ")  # how the names of an exporter's steps begin
FULL = "no space left on device"
RAN = "did not complete successfully"
# What containerd's resolver says of a registry that answers 5xx, or not at all, always with the URL
_UNWELL = re.compile(r"\b50[0-4] |: EOF|unexpected EOF|connection re(fused|set)|broken pipe|timeout|no route to host")


@dataclass
class Progress:
    """The state of one solve. `feed()` takes a line and gives the lines that it adds to the log."""

    started: dict[str, str] = field(default_factory=dict)  # vertex digest -> name, in the order in which they started
    completed: set[str] = field(default_factory=set)
    cached: set[str] = field(default_factory=set)
    known: dict[str, str] = field(default_factory=dict)
    failed: tuple[str, str] = ("", "")  # name of the step, error
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # of what the steps printed
    own: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # of what buildctl itself had to say

    def feed(self, line: str) -> list[str]:
        """A line that is no JSON is an error message of buildctl's own: it goes to the log as it is."""
        try:
            status = json.loads(line)
        except ValueError:
            self.own.append(line.rstrip())
            return [line.rstrip()]
        said: list[str] = []
        for vertex in status.get("vertexes") or []:
            said += self._vertex(vertex)
        for log in status.get("logs") or []:
            text = base64.b64decode(log.get("data") or "").decode(errors="replace")
            for part in text.splitlines():
                said.append(f"    {part}")
                self.tail.append(part)
        return said

    def _vertex(self, vertex: dict[str, object]) -> list[str]:
        digest, name = str(vertex["digest"]), str(vertex.get("name", ""))
        said: list[str] = []
        self.known[digest] = name
        if vertex.get("started") and digest not in self.started:
            self.started[digest] = name
            said.append(f"{vertex['started']} {name}")
        if vertex.get("cached"):
            self.cached.add(digest)
        if vertex.get("completed") and digest not in self.completed:
            self.completed.add(digest)
            said.append(f"{vertex['completed']} {name}: {'cached' if digest in self.cached else 'done'}")
        if vertex.get("error"):
            if "context canceled" not in str(vertex["error"]) or not self.failed[1]:
                self.failed = (name, str(vertex["error"]))
            said.append(f"{name}: {vertex['error']}")
        return said

    @property
    def running(self) -> str:
        """The step that started last and still runs."""
        return next((name for digest, name in reversed(list(self.started.items())) if digest not in self.completed), "")

    @property
    def transport(self) -> bool:
        """True where the solve failed on its way to or from a registry rather than in a step: while it wrote its result, or read a parent.

        The error of a step that ran has its command in it, whatever that says, and its exit code.
        """
        name, error = self.failed
        return name.startswith(WRITING) or ("/v2/" in error and RAN not in error and bool(_UNWELL.search(error)))

    @property
    def full(self) -> bool:
        """True where a disk was full: BuildKit's error says so, or the last words of the step that failed."""
        return any(FULL in text.lower() for text in (self.failed[1], *list(self.tail)[-3:], *self.own))

    def as_dict(self) -> dict[str, object]:
        return {
            "steps": len(self.known), "done": len(self.completed), "cached": len(self.cached), "running": self.running,
            "failed_step": self.failed[0], "error": self.failed[1], "transport": self.transport, "tail": list(self.tail or self.own),
        }
