# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection between a run's broker and its sessions: a unix socket in the run's folder; one JSON object in a line
each way."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

SOCKET = "broker.sock"
LOG = "broker.log"  # what the broker says if something unforeseen happens
LONGEST = 64 << 20  # bytes of a line: the orders for a batch have all paths of its contexts
CONNECT = 10  # seconds


def socket_name(folder: int) -> str:
    """The socket's address, from a descriptor of its folder: the folder's path may be longer than a socket's may be."""
    return f"/proc/self/fd/{folder}/{SOCKET}"


class Link:
    """A connection to the broker of a run. Not safe to use from several threads."""

    def __init__(self, run: Path) -> None:
        self._log = run / LOG
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(CONNECT)
        folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.connect(socket_name(folder))
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error
        finally:
            os.close(folder)
        self._socket.settimeout(None)
        self._file = self._socket.makefile("rb")

    def ask(self, message: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Says something to the broker and returns its answer. Raises FarmError if it has ended, or says nothing for
        `seconds`."""
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error
        if not line.endswith(b"\n"):
            raise self._gone("it has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _gone(self, why: str) -> FarmError:
        return FarmError(f"the broker of this run does not answer: {why}", hint=f"run again; {self._log} says more")
