# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what npm says when it fails into an error, by npm's own error codes. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    PASSING,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
    redacted,
)

REGISTRY = "is the registry reachable from here? (npm config get registry proxy https-proxy noproxy)"
LOGIN = "does the registry need a login? (npm login, or _authToken in ~/.npmrc)"
CERTIFICATES = ("this machine does not trust the certificate of the registry, or of a proxy in front of it: name its "
                "CA certificate to npm (npm config set cafile)")
GONE = ("does the registry have this package and version? (npm config get registry; farm_origins: {npm: ...}). A "
        "registry may also answer like this if it needs a login")
PAGE = ("what answers is no registry: a login, or a proxy in front of it? (npm config get registry; farm_origins: "
        "{npm: ...})")
GIT = ("something is required of a git repository, but only packages of a registry can be locked: choose another "
       "version or package, or replace it (`overrides` in package.json)")
KINDS: Mapping[str, tuple[type[FarmError], str]] = {
    "EINTEGRITY": (HashMismatch, CHANGED),
    **dict.fromkeys(("E404", "ETARGET", "ENOVERSIONS"), (Missing, GONE)),
    **dict.fromkeys(("ENOSPC", "EDQUOT"), (NoSpace, "make room and run again")),
    **dict.fromkeys(("E401", "E403", "E407", "ENEEDAUTH", "EOTP"), (FarmError, LOGIN)),
    **dict.fromkeys((*(f"E{status}" for status in PASSING), "ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "EAI_AGAIN",
                     "ETIMEDOUT", "ESOCKETTIMEDOUT", "ERR_SOCKET_TIMEOUT", "EIDLETIMEOUT", "EHOSTUNREACH",
                     "ENETUNREACH", "EPIPE", "ERR_STREAM_PREMATURE_CLOSE", "EPROTO"), (Unreachable, REGISTRY)),
    **dict.fromkeys(("SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "UNABLE_TO_GET_ISSUER_CERT",
                     "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "DEPTH_ZERO_SELF_SIGNED_CERT", "CERT_HAS_EXPIRED",
                     "ERR_TLS_CERT_ALTNAME_INVALID"), (FarmError, CERTIFICATES)),
    "ENOTCACHED": (FarmError, "npm is set to work offline: `npm config delete offline`"),
    "FETCH_ERROR": (FarmError, PAGE),  # of an answer that is not JSON
    "EJSONPARSE": (FarmError, "correct the JSON of the file that it names"),
    "EALLOWGIT": (FarmError, GIT),
    "EBADPLATFORM": (FarmError, "a package is only for other machines: choose another version or package"),
    "ERESOLVE": (FarmError, "its packages need versions that exclude each other: choose another version, or use "
                            "`overrides` in package.json"),
}


def failure(what: str, out: str, err: str, exit_code: int = 0) -> FarmError:
    """The error that npm's output means. `out` is what it wrote with --json."""
    code, said = _told(out)
    if not code:
        match = re.search(r"^npm (?:ERR!|error) code (\S+)", err, re.M)
        code, said = match[1] if match else "", ""
    kind, hint = KINDS.get(code, (FarmError, GIT if "unknown git error" in said + err else ""))  # of npm before 11.10
    lines = [redacted(line) for line in (said or err or out).strip().splitlines() if line.strip()]
    text = "\n    ".join(lines[-8:])
    return kind(f"{what} failed{f' ({code})' if code else ''}:\n    {text}", hint=hint, exit_code=exit_code or "")


def _told(out: str) -> tuple[str, str]:
    """The code and the text of the error in npm's JSON."""
    try:
        error: Any = json.loads(out)["error"]
        return str(error.get("code") or ""), "\n".join(filter(None, (error.get("summary"), error.get("detail"))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""
