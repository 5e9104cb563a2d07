"""Lock lines for tests, made by the kinds themselves."""

from __future__ import annotations

from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry


def deb(name: str, version: str = "1", platform: str = "linux/amd64", *, sha256: str = "0" * 64, size: int = 1,
        given: str = "rootfs", archive: str = "debian", architecture: str = "all", path: str = "") -> Entry:
    facts = {"archive": archive, "name": name, "version": version, "architecture": architecture,
             "path": path or f"pool/{name}_{version}_{architecture}.deb"}
    return KINDS["debian"].entry(given, sha256, size, platform, facts)


def module(name: str, version: str, file: str = "zip", h1: str = "h1:a=", *, sha256: str = "0" * 64, size: int = 1,
           platform: str = "") -> Entry:
    return KINDS["go"].entry("app", sha256, size, platform,
                             {"module": name, "version": version, "file": file, "h1": h1})


def crate(name: str, version: str, file: str = "crate", *, given: str = "app", sha256: str = "c" * 64, size: int = 1,
          platform: str = "") -> Entry:
    return KINDS["cargo"].entry(given, sha256, size, platform, {"name": name, "version": version, "file": file})


def address(url: str, *, name: str = "blob", sha256: str = "b" * 64, size: int = 3, platform: str = "") -> Entry:
    return KINDS["url"].entry(name, sha256, size, platform, {"url": url})
