# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Builds Go programs from a module that pins them: the command, its environment, and the key that names the result. No
I/O."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .platforms import Platform, go_environment

FIRST_WITH_TOOLCHAINS = (1, 21)  # from this version on, Go can fetch another toolchain, https://go.dev/doc/toolchain
_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")


def version(text: str) -> tuple[int, ...]:
    """`go version go1.26.8 linux/amd64` -> (1, 26, 8); () if there is none."""
    found = _VERSION.search(text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


@dataclass(frozen=True)
class Program:
    """What to build: `packages` maps the name of a binary to its Go package; `source` maps file names to sha256."""

    packages: tuple[tuple[str, str], ...]
    source: tuple[tuple[str, str], ...]
    platform: Platform
    toolchain: str
    ldflags: str = ""
    tags: str = ""

    @property
    def key(self) -> str:
        """The name of the result: the same inputs give the same bytes on every machine."""
        found = {
            "format": 1,
            "packages": dict(self.packages),
            "source": dict(self.source),
            "platform": str(self.platform),
            "toolchain": self.toolchain,
            "ldflags": self.ldflags,
            "tags": self.tags,
        }
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]

    def command(self, go: str, output: str) -> list[str]:
        """`go build` of all the packages into one folder."""
        words = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", output + "/"]
        words += ["-tags", self.tags] if self.tags else []
        words += ["-ldflags", self.ldflags] if self.ldflags else []
        return [*words, *(package for _name, package in self.packages)]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that decide the bytes. Proxies, checksum database and caches stay the machine's own."""
        return {"CGO_ENABLED": "0", "GOWORK": "off", "GO111MODULE": "on", "GOAMD64": "v1",
                **go_environment(self.platform)}


def toolchains(wanted: str, here: str) -> list[str]:
    """Values of GOTOOLCHAIN to try, best first. `here` is the output of `go version`.

    The pinned toolchain gives the same bytes everywhere. The second choice is a newer Go on the machine.
    """
    local, need = version(here), version(wanted)
    if not local:
        return []
    if local == need:
        return ["local"]
    found = [wanted] if local >= FIRST_WITH_TOOLCHAINS else []
    return found + (["local"] if local > need else [])


def folders(environment: Mapping[str, str], cache: str) -> dict[str, str]:
    """Where the go command keeps its files for a user without a home, as in a cron job."""
    own = {"GOCACHE": f"{cache}/go-build", "GOPATH": f"{cache}/go-path"}
    return {} if environment.get("HOME") else {name: path for name, path in own.items() if not environment.get(name)}


def describe(packages: Mapping[str, str]) -> str:
    """For messages: the names of the binaries."""
    return " and ".join(sorted(packages))
