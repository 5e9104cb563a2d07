"""Files named by URL: their hash is taken on first contact, and never again while the URL stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.lockfile import Entry, Lock
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client, first_contact
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store


def lock_url(name: str, url: object, platforms: Sequence[Platform], old: Lock, origins: Origins, client: Client, store: Store | None,
             scratch: Path) -> list[Entry]:
    """The entries of a url input: one for all platforms where `url` is a text, one a platform where it is a mapping.

    What is downloaded goes into `store` too, where one is given: the fetch step need not ask for it again.
    """
    texts = {str(platform): str(url[str(platform)]) for platform in platforms} if isinstance(url, dict) else {"": str(url)}
    known = {entry.fact["url"]: entry for entry in old.entries if entry.kind == "url"}
    seen: dict[str, tuple[str, int]] = {url: (entry.sha256, entry.size) for url, entry in known.items()}
    found = []
    for platform, text in texts.items():
        if text not in seen:
            path, sha256, size = first_contact(client, origins.rewritten(text), store.partial("x").parent if store else scratch)
            if store:
                store.put(path, sha256)
            else:
                path.unlink()
            seen[text] = (sha256, size)
        found.append(Entry(name, "url", *seen[text], platform, (("url", text),)))
    return found
