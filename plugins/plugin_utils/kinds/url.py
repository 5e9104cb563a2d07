# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind `url`: a file at an address. Its hash is taken on first contact, and not again while the address stays the
same."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import download_all, first_contact
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import (
    FOR,
    Desk,
    Kind,
    Resolved,
    Resolver,
    no_host,
    plain,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.licences import Licence
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Recipe

# No credentials, as a recipe is shared; no fragment, as no server sees it; nothing that must be percent-encoded.
ADDRESS = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][!-\x22\x24-~]*)?$"
_ADDRESS = {"type": "string", "pattern": ADDRESS, "examples": ["https://example.org/project-1.2.3.tar.gz"],
            "$comment": "be an address by http or https, without spaces and #"}


class UrlKind(Kind):
    name = key = line = "url"
    fields = ("url",)
    schema = {
        "type": "object", "required": ["url"], "additionalProperties": False,
        "properties": {
            "url": {
                "oneOf": [
                    _ADDRESS,
                    {"type": "object", "minProperties": 1, "propertyNames": {"enum": list(map(str, ALL))},
                     "additionalProperties": _ADDRESS},
                ],
                "description": "One address for all platforms, or one per platform.",
            },
            "for": FOR,
        },
    }

    def spec(self, given: Mapping[str, Any]) -> dict[str, object]:
        return {"url": given["url"]}

    def mistakes(self, found: Input, files: Collection[str], platforms: Sequence[Platform]) -> Iterator[str]:
        addresses = found.spec["url"]
        if isinstance(addresses, dict) and (lacking := [str(platform) for platform in platforms
                                                        if str(platform) not in addresses]):
            yield f"{found.name} has no url for {', '.join(lacking)}"
        given = addresses.values() if isinstance(addresses, dict) else [str(addresses)]
        yield from (f"{found.name}: {said}" for url in dict.fromkeys(given) if (said := no_host(url)))

    def foreign(self, found: Input, entry: Entry) -> str:
        addresses = found.spec["url"]
        said = addresses if isinstance(addresses, dict) else {"": addresses}
        if other := super().foreign(found, entry):
            return other
        if entry.platform not in said:
            return f"a line for {entry.platform or 'all platforms'}, but the recipe has no url for it"
        if said[entry.platform] != entry.fact["url"]:
            return f"the recipe says url {said[entry.platform]}, this line says {entry.fact['url']}"
        return ""

    def label(self, fact: Mapping[str, str]) -> str:
        return fact["url"]

    def path(self, name: str, fact: Mapping[str, str]) -> str:
        return name

    def wrong(self, fact: Mapping[str, str]) -> Iterator[str]:
        if not plain(fact["url"]) or not re.match(r"(https?|file)://", fact["url"]):
            yield f"url {fact['url']!r} is not a valid address"

    def licence(self, fact: Mapping[str, str], path: Path) -> Licence:
        return Licence(note="an address does not tell it")

    def resolver(self, desk: Desk) -> Resolver:
        return _Addresses(desk)

    def fetch(self, wanted: Sequence[tuple[Entry, str]], desk: Desk) -> Iterator[tuple[Entry, FarmError | None]]:
        yield from download_all(wanted, lambda entry, snapshot: [desk.origins.rewritten(entry.fact["url"])],
                                desk.client.plain, desk.store)


class _Addresses(Resolver):
    """Puts what it downloads into the store, so that the fetch step does not fetch it again."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def resolve(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> Resolved:
        url = found.spec["url"]
        texts = {str(platform): str(url[str(platform)])
                 for platform in platforms} if isinstance(url, dict) else {"": str(url)}
        seen = {entry.fact["url"]: (entry.sha256, entry.size) for entry in recipe.lock.entries if entry.kind == "url"}
        entries = []
        for platform, text in texts.items():
            if text not in seen:
                try:
                    path, sha256, size = first_contact(self.desk.client.plain, self.desk.origins.rewritten(text),
                                                       self.desk.store.partial("x").parent)
                except FarmError as error:
                    error.where.setdefault("platform", platform)
                    raise
                self.desk.store.put(path, sha256)
                seen[text] = (sha256, size)
            entries.append(KIND.entry(found.name, *seen[text], platform, {"url": text}))
        return Resolved(tuple(entries))

    def newest(self, recipe: Recipe, found: Input, platforms: Sequence[Platform]) -> list[Version]:
        addresses = dict.fromkeys(entry.fact["url"] for entry in recipe.lock.entries if entry.input == found.name)
        return [Version(address, "", note="an address does not tell what is newer") for address in addresses]


KIND = UrlKind()
