# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the output of a cargo command that failed into an error. Only a hash that differs counts as a change; only what
may pass by itself counts as worth another try. No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
    redacted,
)

REGISTRY = "is the registry that cargo uses reachable from here? (cargo's config.toml; farm_origins: {cargo: ...})"
PAGE = ("what answers is no registry of crates: a login, or a proxy in front of it? (cargo's config.toml; "
        "farm_origins: {cargo: ...})")
INSIDE = "what a Cargo.toml requires by `path` must be in the image's folder, and not in .dockerignore"
STALE = "--locked was passed"  # cargo would write a lock that it may not write
_NAMES = re.compile(r"\w+://[^\s\"`]+|`[^`\n]*`")  # words in URLs, names and paths mean nothing


class Rule(NamedTuple):
    """A pattern to look for in the output without names, and what it means."""

    pattern: str
    kind: type[FarmError]
    hint: str


RULES = (
    Rule(r"changed between lock files|failed to verify the checksum", HashMismatch, CHANGED),
    Rule(r"No space left on device|[Dd]isk quota exceeded|\(os error (28|122)\)", NoSpace, "make room and run again"),
    Rule(r"offline mode|--offline was specified|you may have used --offline", FarmError,
         "cargo is configured to stay offline: unset net.offline in its config.toml, or CARGO_NET_OFFLINE"),
    Rule(r"SSL certificate problem|certificate verif|\[60\]|\[77\]", FarmError,
         "this machine does not trust the certificate of that server, or of a proxy in front of it: install its CA "
         "certificate, or name it in cargo's http.cainfo"),
    Rule(r"authenticated registries require|no token found|token rejected|got 40[137]\b|40[13] (Unauthorized|Forbidden)"
         r"|tunnel failed, response 407", FarmError,
         "does it need a login? (cargo login; registries.NAME.credential-provider in cargo's config.toml)"),
    Rule(r"[Cc]ould(n't| not) (resolve|connect)|[Ff]ailed to connect|[Tt]imed? ?out|spurious network error"
         r"|[Cc]onnection (reset|refused|was closed)|got (5\d\d|408|425|429)\b|tunnel failed|Recv failure"
         r"|Send failure",
         Unreachable, REGISTRY),
    Rule(r"no matching package|failed to select a version for the requirement|does not have these features",
         Missing, "does the registry that cargo uses have this crate and version? (farm_origins: {cargo: ...})"),
    Rule(r"(?s)failed to (load source for dependency|read|load manifest).*No such file or directory", FarmError,
         INSIDE),
    Rule(r"does not understand this lock file|this version of Cargo is older|edition.{0,40}(required|not stable)",
         FarmError, "install a newer cargo"),
    Rule(r"(?s)failed to query replaced source registry.*(expected |missing field|EOF while parsing)", FarmError, PAGE),
)


def failure(what: str, output: str, exit_code: int = 0) -> FarmError:
    """The error that the output means: HashMismatch, Missing, Unreachable (worth another try), NoSpace, or another
    FarmError."""
    kind, hint = judged(output)
    lines = [redacted(line) for line in output.splitlines()
             if line.strip() and not line.startswith(("warning: spurious", "    Updating"))]
    text = "\n    ".join(lines[:12])  # the reason comes first, and its causes after it
    return kind(f"{what} failed:\n    {text}", hint=hint, exit_code=exit_code or "")


def judged(output: str) -> tuple[type[FarmError], str]:
    """The kind of the error, and what to do about it."""
    said = _NAMES.sub(" ", output)
    return next(((rule.kind, rule.hint) for rule in RULES if re.search(rule.pattern, said)), (FarmError, ""))
