# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of `go: ./folder`: a program whose code is in the image's own folder. The modules that its go.mod requires
are locked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import go, go_versions
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.go_modules import needs_modules
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Read,
    Resolved,
    Resolver,
    folder_mistakes,
    hash_of,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


class OwnGoKind(go.GoKind):
    name = "own_go"
    wrapper = None
    own = True
    written = False
    schema = {
        "type": "object", "required": ["go"], "additionalProperties": False,
        "properties": {
            "go": {"type": "string", "pattern": r"^\./", "description": "`./folder`: a program of the image's own."},
            "package": {"type": "string", "pattern": go.PACKAGE, "examples": ["./cmd/server"],
                        "$comment": "be a folder of the module, without ..",
                        "description": "The package of the folder's module that is built."},
            "for": FOR,
        },
    }

    def takes(self, given: Mapping[str, Any]) -> bool:
        return str(given.get("go", "")).startswith("./")

    @property
    def when(self) -> Mapping[str, Any]:
        return go.OWN

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"folder": given["go"], "package": given.get("package", ".")}

    def mistakes(self, found: Input, files: Collection[str], platforms: Sequence[Platform]) -> Iterator[str]:
        yield from folder_mistakes(str(found.spec["folder"]), files, {"go.mod": "`go mod init` and `go mod tidy`"})

    def has_lines(self, found: Input, read: Read) -> bool:
        text = read(f"{found.spec['folder']}/go.mod")
        return text is None or needs_modules(text)  # None: it cannot be read, which the go command reports

    def made_for(self, found: Input, suites: Sequence[str], read: Read) -> dict[str, object]:
        return {"folder": found.spec["folder"], "package": found.spec["package"],
                "sums": hash_of(read, str(found.spec["folder"]), self.sums),
                **({"for": "build"} if found.build else {})}

    def lacking(self, found: Input, entries: Sequence[Entry], platforms: Sequence[Platform]) -> Iterator[str]:
        yield from ()

    def resolver(self, desk: Desk) -> Resolver:
        return _OwnPrograms(desk)


class _OwnPrograms(Resolver):
    def __init__(self, desk: Desk) -> None:
        self.desk, self.modules = desk, go.modules(desk)

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        files = self.modules.own(found.name, Path(recipe.folder) / str(found.spec["folder"]),
                                 str(found.spec["package"]), platforms, recipe.lock)
        self.desk.say(f"lock {recipe.name}: {amount(len(files), 'module file')} for {found.name}")
        return Resolved(go.entries(found.name, [(file, "") for file in files]))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        """Of the modules that its go.mod requires."""
        have = go_versions.locked(recipe.lock.entries, found.name)
        named = go_versions.direct(self.modules.go, Path(recipe.folder) / str(found.spec["folder"])) if have else ()
        return go_versions.modules(self.modules.go, self.modules.folder / "empty", have, named, ())


KIND = OwnGoKind()
