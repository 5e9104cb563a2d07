# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the output of a go command that failed into an error. Only a hash that differs counts as a change; only what
may pass by itself counts as worth another try. No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple

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

PROXY = "is the Go proxy reachable from here? (go env GOPROXY)"
CERTIFICATES = ("this machine does not trust the certificate of that server, or of a proxy in front of it"
                ": install its CA certificate")
LOGIN = "does it need a login? (netrc; a proxy's in https_proxy)"
PAGE = "what answers is no Go proxy: a login, or a proxy in front of it? (go env GOPROXY; farm_origins: {go: ...})"
DENIED = f"is the module's name right, and {LOGIN}"
NEWER = ("it needs a newer Go than there is, and the Go proxy does not have that either: choose an older version, or "
         "install that Go on the controller")
DAMAGED = ("what the Go proxy has of it is no module that Go takes: choose another version, or another proxy "
           "(farm_origins: {go: ...})")
INSIDE = "a folder that replaces a module in go.mod (replace) must be inside the program's folder"
ANY_STATUS = re.compile(r"reading \S+: (\d{3})\b")
# URLs, modules with versions, hashes: words in them mean nothing
NAMES = re.compile(r"\w+://[^\s\"]+|\S+@v[^\s:]*|h1:\S+")


class Rule(NamedTuple):
    """A pattern to look for in the output without NAMES, and what it means."""

    pattern: str
    kind: type[FarmError]
    hint: str


FIRST = (
    Rule(r"checksum mismatch|SECURITY ERROR", HashMismatch, CHANGED),
    Rule(r"no space left on device|disk quota exceeded", NoSpace, "make room and run again"),
    Rule(r"missing \$GOPATH|GOPATH is set|build cache is required|module cache not found|could not locate sumdb file",
         FarmError, "the go command does not know where to keep its files: set HOME, or GOPATH and GOCACHE"),
    Rule(r"x509:|tls: failed to verify certificate", FarmError, CERTIFICATES),
    Rule(r"Proxy Authentication Required", FarmError, LOGIN),
    Rule(r"proxyconnect", Unreachable, "is the proxy that https_proxy or http_proxy names reachable from here?"),
    Rule(r"replaced by \.{0,2}/|replacement directory", FarmError, INSIDE),
    Rule(r"(?s)requires go >= [^\n]*\(running go .*(no such file|Not Found|\bGone\b)", FarmError, NEWER),
    Rule(r"signal: killed", FarmError, "someone killed it, or the machine has too little memory"),
)
TRANSPORT = Rule(
    r"\bdial (tcp|udp)|i/o timeout|handshake timeout|deadline exceeded|connection (reset|refused)|: EOF\s*$"
    r"|unexpected EOF|no such host"
    r"|server misbehaving|(network is|host is) unreachable|no route to host|GOAWAY|stream error|Temporary failure",
    Unreachable, PROXY)
ABSENT = Rule(r"unknown revision|invalid version|no matching versions|not found: |no such file or directory"
              r"|module lookup disabled|unrecognized import path",
              Missing, "does the Go proxy have this module and version? (go env GOPROXY; farm_origins: {go: ...})")
LAST = (
    Rule(r"invalid response from proxy", FarmError, PAGE),
    Rule(r"terminal prompts disabled|could not read (Username|Password)|Permission denied \(publickey", FarmError,
         LOGIN),
    Rule(r"\bunzip /|has unexpected file|not a valid zip file|parsing go\.mod", FarmError, DAMAGED),
    ABSENT,
    Rule(r"missing go.sum entry|updates to go.mod needed", FarmError,
         "run `go mod tidy` there and commit what it writes"),
    TRANSPORT,
)
PASSES = set(map(str, PASSING))
GONE = {"404", "410"}


def failure(what: str, output: str, exit_code: int = 0) -> FarmError:
    """The error that the output means: HashMismatch, Missing, Unreachable (worth another try), NoSpace, or another
    FarmError."""
    kind, hint = judged(output)
    lines = [redacted(line) for line in output.strip().splitlines() if line.strip()]
    text = "\n    ".join(lines[-8:])
    return kind(f"{what} failed:\n    {text}", hint=hint, exit_code=exit_code or "")


def judged(output: str) -> tuple[type[FarmError], str]:
    """The kind of the error, and what to do about it."""
    said = NAMES.sub(" ", output)
    statuses = set(ANY_STATUS.findall(output))
    for rule in FIRST:
        if re.search(rule.pattern, said):
            return rule.kind, rule.hint
    if re.search(r"\bverifying\b|/sumdb/|sumdb\.", output):
        if statuses & PASSES or re.search(TRANSPORT.pattern, said, re.M):
            return Unreachable, "is the checksum database reachable from here? (go env GOSUMDB GOPROXY)"
        return FarmError, ("the checksum database does not know it, or refuses: is the module private? "
                           "(go env -w GOPRIVATE=...)")
    if statuses & PASSES:
        return Unreachable, PROXY
    if statuses & GONE:
        return Missing, ABSENT.hint
    if statuses & {"401", "403", "407"}:
        return FarmError, DENIED
    return next(((rule.kind, rule.hint) for rule in LAST if re.search(rule.pattern, said, re.M)), (FarmError, ""))
