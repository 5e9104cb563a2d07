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


def identity(state: str, *, make: bool = True) -> dict[str, str]:
    """`id`, a random one that is made once and kept in the controller's folder ('' if there is none, and none is to be
    made); `name`, for people; `version` of the farm's code."""
    path = Path(state) / "runs" / "controller.json"
    try:
        known = str(json.loads(path.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        known = secrets.token_hex(16) if make else ""
        if make:
            files.write(str(path), json.dumps({"id": known}))
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = "somebody"
    return {"id": known, "name": f"{user} on {socket.gethostname()}", "version": version()}


def version() -> str:
    """Of this collection: from its manifest if it is installed, else from galaxy.yml."""
    root = Path(__file__).parents[2]
    if (root / "MANIFEST.json").exists():
        return str(json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]["version"])
    return next(line.split()[1] for line in (root / "galaxy.yml").read_text(encoding="utf-8").splitlines()
                if line.startswith("version:"))
