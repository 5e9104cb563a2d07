# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All kinds of input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import (
    cargo,
    debian,
    git,
    go,
    image,
    maven,
    own_cargo,
    own_go,
    url,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Kind

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (
    cargo.KIND, debian.KIND, git.KIND, go.KIND, image.KIND, maven.KIND, own_cargo.KIND, own_go.KIND, url.KIND)}
# kind of a lock line -> who reads it
LINES: Mapping[str, Kind] = {kind.name: kind for kind in KINDS.values() if kind.line == kind.name}


def kind_of(given: Mapping[str, Any]) -> Kind | None:
    """The kind of an input in a recipe; None if no kind takes it."""
    return next((kind for kind in KINDS.values() if kind.takes(given)), None)
