# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Lets a node's BuildKit forget what it made before the newest lock. I/O.

BuildKit lowers the times of files in layers to the epoch, and raises none. So a step that ran before the time of a lock
would keep the time at which it ran, where another node, which runs it for that lock, has the epoch.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

from .errors import FarmError
from .files import locked, text_of, write
from .programs import run

SINCE = "since"  # a file in the node's own folder: a time before which nothing was made that BuildKit keeps
LONGEST = 600.0  # seconds that BuildKit may take to forget
KEPT = "type!=exec.cachemount"  # cache mounts have no times that enter a layer


def renew(own: str, newest: int, buildctl: Sequence[str]) -> bool:
    """Whether nothing that BuildKit keeps was made before `newest`, the epoch (seconds since 1970) of a run's newest
    lock. BuildKit forgets it if need be; if it cannot, the caller must build without its cache. `buildctl` is a command
    with the address."""
    path = os.path.join(own, SINCE)
    try:
        with locked(f"{path}.lock", LONGEST):
            since = re.fullmatch(r"([0-9]{1,12})\n", text_of(path, 20))
            if since and int(since[1]) >= newest:
                return True
            began = int(time.time())
            if run([*buildctl, "prune", "--all", "--filter", KEPT], seconds=LONGEST).code:
                return False
            write(path, f"{began}\n")
            return began >= newest
    except (FarmError, OSError):
        return False
