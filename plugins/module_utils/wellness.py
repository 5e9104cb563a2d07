# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Checks whether a host's part of the farm is healthy: as it was provisioned, and running. This file does I/O."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from . import files, lease, readiness, supervisors
from .proc import Proc
from .supervision import FORMAT, Claims, Service, digest

_MOVED = {
    "fingerprint": "the roles or the variables have changed since it was provisioned",
    "engine": "the engine is not the one that was proven",
    "services": "a service's definition has changed since it was provisioned",
}


class Host:
    """One host's part of the farm. `fingerprint` is a hash of roles and variables; `run` runs a program like
    programs.call.

    `recorded` is what the last provisioning recorded, `now` is what it would record now. `controller` is who asks: its
    `id`, `name` and `version` of the farm.
    """

    def __init__(self, state_dir: str, fingerprint: str, services: list[str],
                 run: Callable[[list[str]], tuple[int, str, str]], controller: dict[str, str] | None = None) -> None:
        self.state_dir, self.run, self.controller = state_dir.rstrip("/"), run, controller or {}
        self.path = os.path.join(self.state_dir, "provisioned.json")
        self.recorded = _load(self.path)
        self.engine: str = _load(os.path.join(self.state_dir, "engine.json")).get("id", "")
        self.node = _load(os.path.join(self.state_dir, "etc", "node.json"))
        self.now: dict[str, Any] = {"fingerprint": fingerprint, "engine": self.engine, "services": {}}
        self.problems = [problem for problem in map(self._look_at, services) if problem]
        self.proven = "buildkitd" not in services or bool(self.engine and self.node.get("engine"))

    def moved(self) -> list[str]:
        """How the host differs from what was recorded."""
        if not self.recorded:
            return ["it was never provisioned"]
        found = [text for key, text in _MOVED.items() if self.recorded.get(key) != self.now[key]]
        found += [] if self.proven else ["its BuildKit has not been proven to give the expected bytes"]
        return found + [f"it was provisioned by {self.by}"] if found and self.by else found

    @property
    def by(self) -> str:
        """Who provisioned it, and with which version of the farm, if that is not who asks now."""
        by = self.recorded.get("by")
        if not isinstance(by, dict) or not by or by == self._me:
            return ""
        return f"{by.get('name')}, with version {by.get('version')} of the farm"

    @property
    def _me(self) -> dict[str, str]:
        return {key: self.controller[key] for key in ("name", "version") if key in self.controller}

    @property
    def due(self) -> dict[str, Any]:
        """What is to be recorded."""
        return {**self.now, "by": self._me}

    def record(self) -> None:
        files.write(self.path, json.dumps(self.due, indent=1, sort_keys=True) + "\n", 0o644)

    def as_result(self) -> dict[str, Any]:
        """What M(desimages.farm.probe) returns."""
        reasons = self.problems + self.moved()
        return {"changed": False, "well": not reasons, "reasons": reasons, "engine": self.engine, "node": self.node,
                "other": lease.held(f"{self.state_dir}/jobs", self.controller.get("id", ""))}

    def _look_at(self, name: str) -> str:
        """'' if the service is healthy, otherwise the reason."""
        found, text = supervisors.definition_of(self.state_dir, name)
        if not found:
            return f"{name} is missing"
        if found.get("format") != FORMAT or "supervisor" not in found:
            return f"the definition of {name} has another format"
        self.now["services"][name] = digest(text)
        path = found["command"][0] if found.get("command") else ""
        if supervisors.program(path) != found.get("program"):
            return f"{path} is not the program that {name} was started with"
        for needed in found.get("needs", []):  # it may be another version: its owner may upgrade it
            if not (os.path.isfile(needed) and os.access(needed, os.X_OK)):
                return f"{needed}, which {name} runs, is missing or not executable"
        service = Service(name=name, state_dir=self.state_dir)
        if os.path.lexists(service.unfinished):
            return f"the last change of {name} was not completed"
        if not supervisors.KINDS[found["supervisor"]](service, self.run, Proc()).status().running:
            return f"{name} is not running"
        claims = found.get("claims", {})
        problem = readiness.claims_answer(Claims(**{key: tuple(claims.get(key, ())) for key in ("ports", "sockets")}))
        return f"{name} does not answer: {problem}" if problem else ""


def _load(path: str) -> dict[str, Any]:
    try:
        found = json.loads(supervisors.read(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
