# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""What a registry asks for who is not known: its challenges, and whether a password may go where they lead. No I/O.

Sources: RFC 9110, 11; https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from .references import loopback

_WORDS = re.compile(r'(?:([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([^\s,="]+))')
_TOKEN = re.compile(r"[!-~]+\Z")  # what a header may contain


def challenges(text: str) -> dict[str, dict[str, str]]:
    """Parses a WWW-Authenticate header: scheme in lower case -> parameters. It may have several schemes."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for match in _WORDS.finditer(text):
        if match[4]:
            current = {}  # of two of one scheme the first counts, and not a mixture
            found.setdefault(match[4].lower(), current)
        else:
            current[match[1].lower()] = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
    return found


def trusted(realm: str, host: str) -> bool:
    """Whether a password of a registry at `host` may be sent to the token service that it names: in TLS, or from
    loopback to loopback."""
    try:
        parts = urlsplit(realm)
        here = parts.scheme == "http" and loopback(parts.netloc) and loopback(host)
        whole = bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        return whole and (parts.scheme == "https" or here)
    except ValueError:
        return False


def token(data: bytes) -> str:
    """The token in the answer of a token service; '' if there is none that a header may contain."""
    try:
        value = json.loads(data)
        found = value.get("token") or value.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return found if isinstance(found, str) and _TOKEN.match(found) else ""
