# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How this machine's cargo reaches its registry: proxy, CA and token, from its configuration files and environment.
Read here, so that the farm's own client downloads crates as cargo would. I/O: `read` alone.

Source: https://doc.rust-lang.org/cargo/reference/config.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomllib
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine

DEFAULT = "crates-io"  # what cargo's settings call the registry that it uses by default
PROVIDER = "cargo:token"  # reads credentials.toml and the environment


@dataclass(frozen=True)
class Settings:
    """What cargo's files say, merged: the configuration, and the credentials (registry -> token)."""

    config: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def http(self, name: str) -> str:
        """A setting of `http`; the environment comes first."""
        said = self.environment.get(f"CARGO_HTTP_{name.upper()}") or _table(self.config, "http").get(name, "")
        return str(said)

    def machine(self, here: Machine) -> Machine:
        """This machine as cargo sees it."""
        proxy, ca = self.http("proxy"), self.http("cainfo")
        return replace(here, environment={
            **here.environment,
            **({"http_proxy": proxy, "https_proxy": proxy} if proxy else {}),
            **({"SSL_CERT_FILE": ca} if ca else {}),
        })

    def registry(self, index: str = "") -> str:
        """The name of a registry: the one with this index, or the one that stands in for the default one."""
        named = {name: self.environment.get(_variable(name, "INDEX")) or str(table.get("index", ""))
                 for name, table in _tables(self.config, "registries")}
        if not index:
            sources = dict(_tables(self.config, "source"))
            name = DEFAULT
            for _step in sources:  # as many as there can be without a circle
                name = str(sources.get(name, {}).get("replace-with", name))
            if name in named:
                return name
            index = str(sources.get(name, {}).get("registry", ""))
            if not index:
                return name
        return next((name for name, said in named.items() if said.rstrip("/") == index.rstrip("/")), "")

    def token(self, name: str) -> str:
        """The token of a registry, '' if there is none; what helpers of cargo keep is not asked for."""
        return self.environment.get(_variable(name, "TOKEN")) or self.tokens.get(name, "") if name else ""


def _variable(name: str, key: str) -> str:
    return f"CARGO_REGISTRIES_{re.sub('[-.]', '_', name).upper()}_{key}"


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name, {})
    return found if isinstance(found, dict) else {}


def _tables(config: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(key, value) for key, value in _table(config, name).items() if isinstance(value, dict)]


def merged(files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Configurations, the nearest first: tables are merged, and of everything else the nearest counts."""
    found: dict[str, Any] = {}
    for config in files:
        for key, value in config.items():
            if isinstance(value, dict) and isinstance(found.get(key, {}), dict):
                found[key] = merged([found.get(key, {}), value])
            else:
                found.setdefault(key, value)
    return found


def read(folder: Path, home: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of a cargo that is started in `folder`, with `home` as CARGO_HOME."""
    places = dict.fromkeys([*(parent / ".cargo" for parent in (folder, *folder.parents)), home])
    configs = [_rooted(config, place) for place in places if (config := _first(place, "config"))]
    credentials = merged([*configs, _first(home, "credentials")])
    tokens = {name: str(table["token"]) for name, table in _tables(credentials, "registries") if "token" in table}
    return Settings(merged(configs), tokens, environment)


def _first(place: Path, name: str) -> dict[str, Any]:
    """A file of cargo's; the name without an ending is the older one, and counts if both are there."""
    for path in (place / name, place / f"{name}.toml"):
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))
    return {}


def _rooted(config: dict[str, Any], place: Path) -> dict[str, Any]:
    """The same with the whole path of the CA: cargo takes it from the folder that `place` is in."""
    ca = _table(config, "http").get("cainfo")
    return merged([{"http": {"cainfo": os.path.join(place.parent, ca)}}, config]) if ca else config
