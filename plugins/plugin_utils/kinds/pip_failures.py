# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what pip says when it fails into an error. No I/O.

An index that cannot be reached looks like one that lacks the project: the last line is the same. Only pip's log of all
details tells.
"""

from __future__ import annotations

import re

from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    CHANGED,
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
    redacted,
)


class Conflict(FarmError):
    """Requirements that no wheels of the index fulfil together; perhaps because the newest have no build for a
    platform."""


REFUSED = "the farm does not run what pip asks for"
UNFORESEEN = "ERROR: Exception:"  # what it is stands at the end of the trace that follows
INDEX = "is the package index reachable from here? (pip config list)"
RULES: tuple[tuple[str, type[FarmError], str], ...] = (
    (REFUSED, FarmError, "a wheel requires something of an address or a repository (`name @ https://...`), but only "
                         "packages of an index can be locked: choose another version"),
    (r"DO NOT MATCH THE HASHES", HashMismatch, CHANGED),
    (r"No space left on device|Disk quota exceeded", NoSpace, "make room and run again"),
    (r"problem confirming the ssl certificate|SSLError|CERTIFICATE_VERIFY_FAILED", FarmError,
     "this machine does not trust the certificate of the index, or of a proxy in front of it: name its CA certificate "
     "to pip (pip config set global.cert)"),
    (r"Proxy Authentication Required|\b407 Client Error", FarmError, "does the proxy need a login? (pip's `proxy`)"),
    (r"Max retries exceeded|connection error|[Tt]imed out|too many \d{3} error|\b5\d\d Server Error"
     r"|\b4(08|25|29) Client Error|IncompleteRead|ProtocolError|Connection broken", Unreachable, INDEX),
    (r"\b40[13] (Client Error|Error)|HTTP error 40[13]", FarmError,
     "does the index need a login? (netrc, or a keyring; pip config list)"),
    (r"is not a trusted or secure host", FarmError,
     "pip does not use an index in plain HTTP unless `trusted-host` names it: use an https address"),
    (r"No matching distribution|Could not find a version|HTTP error 4(04|10)", Missing,
     "does the index have a wheel of this version? (pip config list; farm_origins: {pypi: ...})"),
    (r"ResolutionImpossible|conflicting dependencies", Conflict,
     "its packages need versions that exclude each other: name other versions"),
)


def failure(what: str, err: str, log: str, exit_code: int = 0) -> FarmError:
    """The error that pip's output means; `log` is what pip wrote with --log."""
    said = [line for line in err.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ") and line != UNFORESEEN]
    errors = errors or said[-8:]
    text = "\n    ".join(redacted(line) for line in errors[-8:])
    kind, hint = judged(err + log)
    if kind is Conflict:
        _before, _cause, after = log.partition("The conflict is caused by")
        first = dict.fromkeys(re.findall(r"\S+ \S+ depends on .+", after)[:2])
        text = "\n    ".join(first) or text
    if REFUSED in err + log and (asked := re.findall(r"Collecting (\S+ ?@ \S+) \(from (\S+?)(?:->|\))", log)):
        text = f"{asked[-1][1]} asks for {redacted(asked[-1][0])}"
    return kind(f"{what} failed:\n    {text}", hint=hint, exit_code=exit_code or "")


def judged(output: str) -> tuple[type[FarmError], str]:
    """The kind of the error, and what to do about it."""
    return next(((kind, hint) for pattern, kind, hint in RULES if re.search(pattern, output)), (FarmError, ""))


def culprit(error: FarmError) -> str:
    """Which requirements pip found nothing for, or ''."""
    if found := re.search(r"No matching distribution found for ([^\s;]+)", error.message):
        return found[1]
    needs = {need.strip(): who for who, need in re.findall(r"(\S+ \S+) depends on ([^;\n]+)", error.message)}
    return " and ".join(f"{need} ({who})" for need, who in needs.items())
