# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""A network for services that join a multicast group when they start, such as that of mDNS. I/O.

Only its own loopback is there, as in engines' network `none`. But a route leads to multicast groups; without one, the
kernel refuses to join any. A container's network begins with its program, so the route is made in the network of
another container, which only holds it.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import platforms, trial_network
from .elf import program
from .errors import FarmError
from .trial_container import unless_gone

LOOPBACK = 1  # its index in every network
GROUPS = ("224.0.0.0", 4)  # RFC 5771

# netlink(7), rtnetlink(7)
NEWROUTE, REQUEST, ACK, EXCL, CREATE = 24, 0x1, 0x4, 0x200, 0x400
TABLE_MAIN, BY_BOOT, ON_LINK, UNICAST = 254, 3, 253, 1
DST, OIF = 1, 4


@contextmanager
def lan(engine: Any, image: str, label: dict[str, str]) -> Iterator[str]:
    """The network mode of containers that run in a network with such a route. It ends with its holder, a container of
    `image` with `label`."""
    holder = engine.containers.create(image, ["/holder"], network_mode="none", stdin_open=True, read_only=True,
                                      cap_drop=["ALL"], security_opt=["no-new-privileges"], labels=label)
    try:
        holder.start()
        holder.reload()
        trial_network.inside(holder.attrs["State"]["Pid"], add_route)
        yield f"container:{holder.id}"
    finally:
        with unless_gone():
            holder.remove(force=True)


def holder_image(engine: Any, label: dict[str, str]) -> str:
    """Makes the image of the holder: a program that waits until its input ends. The caller removes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        machine = os.uname().machine
        if machine not in platforms.KERNEL:
            raise FarmError(f"a network with multicast cannot be made on a machine of the architecture {machine}",
                            hint=f"use a tester whose architecture is one of {', '.join(platforms.KERNEL)}")
        found = program(platforms.KERNEL[machine])
        member = tarfile.TarInfo("holder")
        member.mode, member.size = 0o755, len(found)
        tar.addfile(member, io.BytesIO(found))
    said = engine.api.import_image_from_data(packed.getvalue(), changes=[f"LABEL {name}={value}"
                                                                         for name, value in label.items()])
    return str(engine.images.get(_digest(said)).id)


def _digest(said: str) -> str:
    """The image in what an engine says of an import: `{"status":"sha256:..."}`."""
    return "sha256:" + said.rpartition("sha256:")[2][:64]


def add_route() -> None:
    """Leads multicast groups to the loopback of this thread's network. OSError if the kernel refuses."""
    group, bits = GROUPS
    route = struct.pack("=BBBBBBBBI", socket.AF_INET, bits, 0, 0, TABLE_MAIN, BY_BOOT, ON_LINK, UNICAST, 0)
    route += struct.pack("=HH4s", 8, DST, socket.inet_aton(group)) + struct.pack("=HHI", 8, OIF, LOOPBACK)
    head = struct.pack("=IHHII", 16 + len(route), NEWROUTE, REQUEST | ACK | EXCL | CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:  # 0: NETLINK_ROUTE
        kernel.bind((0, 0))
        kernel.send(head + route)
        error = struct.unpack_from("=i", kernel.recv(4096), 16)[0]
    if error:
        raise OSError(-error, f"no route to multicast groups: {os.strerror(-error)}")
