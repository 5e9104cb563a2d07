# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `go`: a program from an upstream module, with every module that its build reads; or a Go toolchain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import go_versions, golang, licences
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.go_modules import (
    MADE,
    WRAPPER,
    File,
    Modules,
    of_platform,
    proxy_path,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.golang import TOOLCHAIN
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Kind,
    Read,
    Resolved,
    Resolver,
    Wrapper,
    hash_of,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

FILES = ("mod", "zip")
MODULE = r"^[A-Za-z0-9][A-Za-z0-9._~+-]*(/[A-Za-z0-9_~][A-Za-z0-9._~+-]*)*$"  # https://go.dev/ref/mod#go-mod-file-ident
PACKAGE = r"^(?!(.*/)?\.\.(/|$))(\./)?[A-Za-z0-9_.][A-Za-z0-9._~+/-]*$"  # of a module
VERSION = r"^v[A-Za-z0-9.+-]+$"
# see own_go.py
OWN: Mapping[str, Any] = {"required": ["go"], "properties": {"go": {"type": "string", "pattern": r"^\./"}}}


class GoKind(Kind):
    name = key = line = "go"
    fields = ("module", "version", "file", "h1")
    wrapper: ClassVar[Wrapper | None] = Wrapper(WRAPPER, marked="tools.go", mark=MADE)
    sums = ("go.mod", "go.sum")
    written = True
    schema = {
        "type": "object", "required": ["go", "version"], "additionalProperties": False,
        "properties": {
            "go": {"type": "string", "pattern": MODULE, "examples": ["github.com/coredns/coredns"],
                   "$comment": "be the path of a module (a program of the image's own: ./folder)",
                   "description": "A module path."},
            "version": {"type": "string", "pattern": r"^v([A-Za-z0-9.+-]|\{goarch\}|\{goos\})+$",
                        "examples": ["v1.2.3"], "$comment": "be a version of Go, which begins with v",
                        "description": "The module's version. `{goarch}` becomes the platform's."},
            "package": {"type": "string", "pattern": PACKAGE, "examples": ["./cmd/server"],
                        "$comment": "be a folder of the module, without ..",
                        "description": "The package of the module that is built."},
            "for": FOR,
        },
    }

    def takes(self, given: Mapping[str, Any]) -> bool:
        return "go" in given and not str(given["go"]).startswith("./")

    @property
    def when(self) -> Mapping[str, Any]:
        return {"required": ["go"], "not": OWN}

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"module": given["go"], "version": given.get("version", ""), "package": given.get("package", ".")}

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        """The wrapper counts too: someone may have edited it since the lock was made."""
        said = super().made_for(found, suites, read)
        if found.spec["module"] == TOOLCHAIN:
            return said
        return {**said, "wrapper": hash_of(read, f"go/{found.name}", WRAPPER)}

    def foreign(self, found: Input, entry: Entry) -> str:
        """A toolchain is one module for each platform; the modules of a program are for all."""
        if other := super().foreign(found, entry):
            return other
        if found.spec.get("module") != TOOLCHAIN:
            return f"a line for {entry.platform} only, but modules are for all platforms" if entry.platform else ""
        version, fact = str(found.spec["version"]), entry.fact
        wanted = of_platform(version, Platform.parse(entry.platform)) if entry.platform else version
        if (fact["module"], fact["version"]) == (TOOLCHAIN, wanted):
            return ""
        where = f"for {entry.platform}" if entry.platform else "for all platforms"
        return f"the recipe says {TOOLCHAIN} {wanted} {where}, this line says {fact['module']} {fact['version']}"

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        have = {(entry.fact["module"], entry.fact["version"]) for entry in entries if entry.fact["file"] == "zip"}
        module, version = str(found.spec["module"]), str(found.spec["version"])
        for wanted in dict.fromkeys(of_platform(version, platform) for platform in platforms):
            if (module, wanted) not in have:
                yield f"the lock has no zip of {module} {wanted}"

    def label(self, fact: Mapping[str, str]) -> str:
        return f"{fact['module']} {fact['version']} {fact['file']}"

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return f"{name}/proxy/{proxy_path(fact)}"

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        if fact["file"] not in FILES:
            yield f"file is {fact['file']!r}, it must be one of {', '.join(FILES)}"
        if not re.fullmatch(r"h1:[A-Za-z0-9+/]{43}=", fact["h1"]):
            yield f"h1 {fact['h1']!r} is not a valid hash of a module"
        for name, pattern in (("module", MODULE), ("version", VERSION)):
            if not re.match(pattern, fact[name]):
                yield f"{name} {fact[name]!r} is not valid for a Go module"

    def licensed(self, fact: Mapping[str, str]) -> bool:
        return fact["file"] == "zip"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return licences.read(licences.module, path)

    def resolver(self, desk: Desk) -> Resolver:
        return _Programs(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        yield from golang.fetch([entry for entry, _snapshot in wanted], desk.store, desk.state / "cache" / "go",
                                proxy=desk.origins.goproxy,
                                go=desk.go, patience=desk.client.patience, sleep=desk.client.sleep)


def modules(desk: Desk) -> Modules:
    """What resolves modules during a lock step."""
    return Modules(desk.state / "lock" / "go", proxy=desk.origins.goproxy, go=desk.go, store=desk.store, say=desk.say)


class _Programs(Resolver):
    def __init__(self, desk: Desk) -> None:
        self.desk, self.modules = desk, modules(desk)

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        wrapper: dict[str, str] = {}
        if found.spec["module"] == TOOLCHAIN:
            files = [(self.modules.toolchain(found.name, str(found.spec["version"]), platform, recipe.lock),
                      str(platform)) for platform in platforms]
        else:
            some, wrapper = self.modules.module(recipe.name, found, platforms, Path(recipe.folder), recipe.lock)
            files = [(file, "") for file in some]
        self.desk.say(f"lock {recipe.name}: {amount(len(files), 'module file')} for {found.name}")
        return Resolved(entries(found.name, files), {f"go/{found.name}/{name}": text for name, text in wrapper.items()})

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        module, version, folder = str(found.spec["module"]), str(found.spec["version"]), self.modules.folder / "empty"
        if module == TOOLCHAIN:
            return [go_versions.toolchain(self.modules.go, folder, version)]
        have = {**go_versions.locked(recipe.lock.entries, found.name), module: version}
        return go_versions.modules(self.modules.go, folder, have, (module,), ("version",))


def entries(name: str, files: Sequence[tuple[File, str]]) -> tuple[Entry, ...]:
    """The lock lines for pairs of a module file and its platform."""
    return tuple(KIND.entry(name, file.sha256, file.size, platform, file.facts) for file, platform in files)


KIND = GoKind()
