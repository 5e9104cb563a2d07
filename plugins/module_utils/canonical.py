# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON and its hashes: the same value gives the same bytes everywhere."""

from __future__ import annotations

import hashlib
import json


def encode(value: object) -> bytes:
    """Sorted keys, no spaces, UTF-8 (floats do not occur): the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(value: object) -> str:
    """The hex sha256 of the canonical form."""
    return hashlib.sha256(encode(value)).hexdigest()
