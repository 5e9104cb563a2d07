# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether ansible-playbook can still print.

If a worker sends a line that cannot be printed, the thread of ansible-playbook that takes the workers' results ends,
and it waits for them for ever. Source: results_thread_main() in ansible/plugins/strategy/__init__.py
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import select
import stat

_DEAF = (errno.ENXIO, errno.ENOSPC, errno.EPIPE, errno.EIO)


def can_print(descriptor: int, pid: int = 0) -> bool:
    """Whether a process, by default the ansible-playbook that this is or belongs to, can write to its output (1) or its
    errors (2): whether the program that reads them still runs, the terminal is there, the disk of a log has room. True
    if that is not known.
    """
    parent = multiprocessing.parent_process()
    path = f"/proc/{pid or (parent.pid if parent else os.getpid())}/fd/{descriptor}"
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISREG(kind):
            return os.statvfs(path).f_bavail > 0
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                os.write(opened, b"")  # a device says what it would say of more
                asked = select.poll()
                asked.register(opened, 0)
                return not asked.poll(0)  # a pipe without a reader is an error
            finally:
                os.close(opened)
    except OSError as error:
        return error.errno not in _DEAF
    return True
