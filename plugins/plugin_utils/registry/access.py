# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the settings say that one registry is reached: whom to trust, and who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.registry.login import Login


@dataclass(frozen=True)
class Access:
    """`ca` is the path of a PEM file on the controller whose certificates alone are trusted; '' means the CAs of the
    system. Without a password there is no login here: the Docker client's is used. `farms` says that the registry is
    the farm's own, which has settings for all this."""

    ca: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    farms: bool = True

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Access:
        """From an action's arguments `ca`, `user` and `password`, each of which may be missing."""
        ca, user, password = (str(arguments.get(name) or "") for name in ("ca", "user", "password"))
        return cls(ca, user, password)

    @property
    def login(self) -> Login | None:
        return Login(self.user, self.password) if self.password else None
