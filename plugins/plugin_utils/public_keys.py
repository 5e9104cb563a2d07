# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys (ed25519) as users give them. No library, because a run that changes nothing loads none for them."""

from __future__ import annotations

import base64
import binascii

SIZE = 32  # bytes of a key
_DER = bytes.fromhex("302a300506032b6570032100")  # what stands before it in a PEM file (RFC 8410)
_OID, _SEED = bytes.fromhex("300506032b6570"), bytes.fromhex("04220420")  # in a private key: the kind, then 32 bytes


def public_key(text: str) -> str:
    """The key in base64, from that or from PEM; '' if it is neither. Lines that begin with # or - do not count."""
    lines = [line.strip() for line in text.splitlines()]
    try:
        data = base64.b64decode("".join(line for line in lines if not line.startswith(("#", "-"))), validate=True)
    except (binascii.Error, ValueError):
        return ""
    data = data.removeprefix(_DER) if len(data) > SIZE else data
    return base64.b64encode(data).decode() if len(data) == SIZE else ""


def is_private_key(text: str) -> bool:
    """Whether it is a PEM file with an ed25519 private key that has no passphrase (RFC 8410, section 7)."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) < 3 or (lines[0], lines[-1]) != ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"):
        return False
    try:
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        return False
    # a sequence of one length byte, then the version, 0 or 1
    return (data[:1] == b"\x30" and data[2:5] in (b"\x02\x01\x00", b"\x02\x01\x01") and data[5:12] == _OID
            and data[12:16] == _SEED and len(data) >= 16 + SIZE)
