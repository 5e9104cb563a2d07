# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Lets a node build only after the time of the newest lock, and its BuildKit forget what it made before. I/O.

BuildKit lowers the times of files in layers to the epoch, and raises none. So a step that ran before the time of a lock
would keep the time at which it ran, where another node, which runs it for that lock, has the epoch.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Sequence

from .errors import FarmError
from .files import locked, text_of, write
from .programs import run

SINCE = "since"  # a file in the node's own folder: a time before which nothing was made that BuildKit keeps
LONGEST = 600.0  # seconds that BuildKit may take to forget
CLOCK = 300.0  # seconds that the clocks of a farm may differ
KEPT = "type!=exec.cachemount"  # cache mounts have no times that enter a layer


def wait_for(newest: int) -> None:
    """Waits until this machine's clock has passed `newest`, the epoch (seconds since 1970) of a run's newest lock.
    Raises OSError if that would take longer than two clocks may differ."""
    while (behind := newest - time.time()) >= 0:
        if behind > 2 * CLOCK:
            now, then = (time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(one)) for one in (time.time(), newest))
            raise OSError(errno.EINVAL, f"the newest lock of this run is from {then}, and the clock says {now}: set "
                                        "the clock, or lock again")
        time.sleep(min(behind + 0.01, 1.0))  # a clock that is set meanwhile counts


def renew(own: str, newest: int, buildctl: Sequence[str]) -> bool:
    """Whether nothing that BuildKit keeps was made before `newest`, the epoch (seconds since 1970) of a run's newest
    lock. BuildKit forgets it if need be; if it cannot, the caller must build without its cache. `buildctl` is a command
    with the address. Before, `wait_for` has waited for that time."""
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
