# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who this controller is, for nodes: they work for one controller at a time."""

from __future__ import annotations

import getpass
import json
import secrets
import socket
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import files


def identity(state: str) -> dict[str, str]:
    """`id`, a random one that is made once and kept in the controller's folder, and `name`, for people."""
    path = Path(state) / "runs" / "controller.json"
    try:
        known = str(json.loads(path.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        known = secrets.token_hex(16)
        files.write(str(path), json.dumps({"id": known}))
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = "somebody"
    return {"id": known, "name": f"{user} on {socket.gethostname()}"}
