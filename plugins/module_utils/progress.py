# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Condenses BuildKit's progress (`buildctl --progress=rawjson`) to what people want to know.

Source: moby/buildkit client/graph.go, SolveStatus: one JSON object on each line, times as text, log data in base64.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections import deque
from dataclasses import dataclass, field

WRITING = ("exporting", "pushing ")  # how the names of an exporter's steps begin
FULL = "no space left on device"
LONGEST = 1 << 16  # characters that are kept of a line, name or error
SHOWN = 2000  # characters that people see of a line
RAN = "did not complete successfully"
# How the error of a step ends if the kernel killed it: BuildKit says ENOMEM where the cgroup counts such kills
_KILLED = re.compile(RAN + r": (exit code: 137|cannot allocate memory)\b")
# What a kernel or a disk says that is at its end, in errors of BuildKit itself
_BROKEN = re.compile(r"input/output error|read-only file system|structure needs cleaning|cannot allocate memory"
                     r"|too many open files|error mounting|failed to mount|mount callback failed")
# What runc says if it cannot start a step; but for a program that the step names and the image does not have
_RUNTIME = re.compile(r"runc run failed: (?!.*\bexec: )")
# What containerd's resolver says if a registry answers 5xx, or not at all; always with the URL
_UNWELL = re.compile(r"\b50[0-4] |: EOF|unexpected EOF|connection re(fused|set)|broken pipe|timeout|no route to host")

# What Go's TLS and the resolver say if trying again is no use, and what to do
_REFUSED = (
    (re.compile(r"x509: certificate has expired or is not yet valid"),
     "check this node's clock, and run playbooks/provision.yml: it renews the certificate of the farm's own registry"),
    (re.compile(r"x509: certificate signed by unknown authority"),
     "run playbooks/provision.yml, which gives nodes the CA in farm_registry_ca"),
    (re.compile(r"x509: "), "farm_registry must be one of the names or addresses in the registry's certificate"),
    (re.compile(r"\b40[13] (?:Unauthorized|Forbidden)|insufficient_scope"),
     "check farm_registry_user and farm_registry_password: may this user push there?"),
)


@dataclass
class Progress:
    """The state of one solve. `feed()` takes a line and returns the lines that it adds to the log."""

    started: dict[str, str] = field(default_factory=dict)  # vertex digest -> name, in the order in which they started
    completed: set[str] = field(default_factory=set)
    cached: set[str] = field(default_factory=set)
    known: dict[str, str] = field(default_factory=dict)
    failed: tuple[str, str] = ("", "")  # name of the step, error
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # of what the steps printed
    own: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # of what buildctl itself printed

    def feed(self, line: str) -> list[str]:
        """Takes any line. One that is not a JSON object is a message of buildctl itself, and goes to the log."""
        status = _object(line)
        if status is None:
            said = _text(line.rstrip())
            self.own.append(said[:SHOWN])
            return [said]
        return [said for vertex in _objects(status.get("vertexes")) for said in self._vertex(vertex)] + \
            [said for log in _objects(status.get("logs")) for said in self._log(log)]

    def _log(self, log: dict[str, object]) -> list[str]:
        data = log.get("data")
        text = _text(data)
        with contextlib.suppress(ValueError):  # not base64: shown as it is
            text = base64.b64decode(data, validate=True).decode(errors="replace") if isinstance(data, str) else ""
        parts = [part[:LONGEST] for part in text.splitlines()]
        self.tail.extend(part[:SHOWN] for part in parts)
        return [f"    {part}" for part in parts]

    def _vertex(self, vertex: dict[str, object]) -> list[str]:
        name, started, completed, error = (_text(vertex.get(key)) for key in ("name", "started", "completed", "error"))
        digest = _text(vertex.get("digest")) or name
        said: list[str] = []
        self.known[digest] = name
        if started and digest not in self.started:
            self.started[digest] = name
            said.append(f"{started} {name}")
        if vertex.get("cached"):
            self.cached.add(digest)
        if completed and digest not in self.completed:
            self.completed.add(digest)
            said.append(f"{completed} {name}: {'cached' if digest in self.cached else 'done'}")
        if error:
            if "context canceled" not in error or not self.failed[1]:
                self.failed = (name, error)
            said.append(f"{name}: {error}")
        return said

    @property
    def running(self) -> str:
        """The step that started last and still runs."""
        return next((name for digest, name in reversed(list(self.started.items())) if digest not in self.completed), "")

    @property
    def transport(self) -> bool:
        """Whether the solve failed on its way to or from a registry, not in a step: while it wrote its result, or read
        a parent.

        (The error of a step that ran contains its command, which may say anything, and its exit code.)
        """
        name, error = self.failed
        unwell = "/v2/" in error and RAN not in error and bool(_UNWELL.search(error))
        return (name.startswith(WRITING) or unwell) and not self.refused

    @property
    def refused(self) -> str:
        """What to do if the registry and this node do not trust each other, which trying again does not change; else
        ''."""
        error = self.failed[1]
        if "/v2/" not in error or RAN in error:
            return ""
        return next((hint for sign, hint in _REFUSED if sign.search(error)), "")

    @property
    def fault(self) -> str:
        """Why the machine, and not the unit, is the cause of the failure; else ''. Then another node may do better."""
        error = self.failed[1]
        if _KILLED.search(error):
            return "a step was killed, as the kernel does when memory runs out"
        if RAN in error:
            said = next((text for text in reversed(self.tail) if text.strip()), "")
            return "runc could not start a step" if _RUNTIME.match(said.strip()) else ""
        broken = _BROKEN.search(error)
        return f"BuildKit says: {broken[0]}" if broken else ""

    @property
    def full(self) -> bool:
        """Whether a disk was full: BuildKit's error says so, or the last output of the step that failed."""
        return any(FULL in text.lower() for text in (self.failed[1], *list(self.tail)[-3:], *self.own))

    def as_dict(self) -> dict[str, object]:
        return {
            "steps": len(self.known), "done": len(self.completed), "cached": len(self.cached), "running": self.running,
            "failed_step": self.failed[0], "error": self.failed[1], "transport": self.transport,
            "refused": self.refused, "fault": self.fault,
            "tail": list(self.tail or self.own),
        }


def _object(line: str) -> dict[str, object] | None:
    """Parses a line as a JSON object; None if it is anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _objects(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    """A JSON value as a text that can be written: without lone surrogates, and at most LONGEST characters.

    Lists and objects become ''.
    """
    text = value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) and value else ""
    return text[:LONGEST].encode(errors="replace").decode()
