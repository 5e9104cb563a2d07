# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of the contract, by name. docs/contract.md has a line for each. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

# What each promises. A recipe may except a check for some subjects, each with a reason.
CHECKS: Mapping[str, str] = {
    # read from the image
    "labels": "its labels say what it is, of whom, from where, and under which licence",
    "config": "USER, EXPOSE, VOLUME, HEALTHCHECK and CMD of the image are what the recipe promises",
    "root": "it does not run as root",
    "setuid": "no file is setuid or setgid, or has capabilities",
    "world-writable": "nobody but its owner can change a file",
    "secret": "no private key, password or token is in it",
    "compiler": "it has no compiler and no linker",
    "package-manager": "it has no package manager",
    "platform": "each of its programs is for its platform",
    "pie": "its programs are loaded at random addresses",
    "relro": "tables that the loader fills are read-only afterwards",
    "bind-now": "all symbols are bound at the start, so that their table can be read-only",
    "canary": "its programs notice when a buffer on the stack overflows",
    "fortify": "its programs use the checked variants of the C library's functions",
    "stack": "no program has an executable stack",
    "rpath": "no program looks for libraries in the folder of a build",
    # seen when it runs: read-only root, no capabilities, no new privileges, its user, no network but its own loopback
    "starts": "it starts, and does not end by itself; a command ends with 0",
    "read-only": "it runs on a read-only root, and writes to its volumes and tmpfs alone",
    "capabilities": "it needs no capabilities",
    "privileges": "it needs no new privileges",
    "user": "all its processes run as the promised user",
    "any-user": "it runs as an arbitrary user who can write to its volumes",
    "healthy": "it is healthy within the promised time",
    "unhealthy": "its health check fails while the service does not answer",
    "ports": "its ports accept connections",
    "metrics": "its metrics can be parsed",
    "answers": "it answers requests as promised",
    "logs": "it logs to stdout or stderr, and not to files",
    "processes": "it is one process",
    "stops": "it ends within ten seconds of SIGTERM, with code 0 or 143",
    "restarts": "it starts again with its data",
    "refuses": "it refuses a wrong configuration, with a message",
}
