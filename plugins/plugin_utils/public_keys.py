# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys (ed25519) as people give them. No library: a run that changes nothing loads none for them."""

from __future__ import annotations

import base64
import binascii

SIZE = 32  # bytes of a key
_DER = bytes.fromhex("302a300506032b6570032100")  # what stands before it in a PEM file (RFC 8410)


def public_key(text: str) -> str:
    """The key in base64, from that or from PEM; '' if it is neither. Lines that begin with # or - do not count."""
    lines = [line.strip() for line in text.splitlines()]
    try:
        data = base64.b64decode("".join(line for line in lines if not line.startswith(("#", "-"))), validate=True)
    except (binascii.Error, ValueError):
        return ""
    data = data.removeprefix(_DER) if len(data) > SIZE else data
    return base64.b64encode(data).decode() if len(data) == SIZE else ""
