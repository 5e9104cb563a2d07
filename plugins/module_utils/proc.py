# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Finds out from /proc who uses a port, a unix socket or a folder. Tests use another root than /proc."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

_ENDED = ("Z", "X")  # states of a process that no longer runs
_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
SHOWN = 300  # characters of a command line, which may have megabytes
CONNECT = 2  # seconds to wait for a unix socket whose listener accepts nothing


@dataclass(frozen=True)
class Listening:
    """A listening TCP socket."""

    address: str
    port: int
    inode: int


def decode_address(text: str, byteorder: str = sys.byteorder) -> str:
    """`0100007F` -> 127.0.0.1: /proc/net/tcp prints each 32-bit word in the machine's own byte order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, "little" if byteorder == "little" else "big")
             for at in range(0, len(text), 8)]
    packed = b"".join(words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def parse_tcp(text: str, byteorder: str = sys.byteorder) -> list[Listening]:
    """The listening sockets of a /proc/net/tcp or tcp6."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            address, port = fields[1].split(":")
            found.append(Listening(decode_address(address, byteorder), int(port, 16), int(fields[9])))
    return found


def listener(path: str) -> int:
    """The process that listens on a unix socket; 0 if none does.

    This connects to the socket: /proc/net/unix does not escape names, so a line break in one forges a line.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONNECT)
        try:
            connection.connect(path)
            pid, _uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return 0
    return int(pid)


def same_address(one: str, other: str) -> bool:
    """Whether two listeners on one port would collide."""
    return one == other or bool({one, other} & {"0.0.0.0", "::"}) or f"::ffff:{one}" == other


def started(pid: int) -> str:
    """When a process started, in the kernel's ticks; '' if it is gone, or has ended. proc_pid_stat(5)

    A process that has ended stays until its parent waits for it: forever in a container whose first process never does.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return "" if fields[0] in _ENDED else fields[19]
    except (OSError, IndexError):
        return ""


def age(pid: int) -> float:
    """For how many seconds a process has run; 0 if it does not exist."""
    ticks = started(pid)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK") if ticks else 0.0


class Proc:
    """The processes of this machine, as far as this user may see them."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root

    def _read(self, *parts: str) -> bytes:
        try:
            with open(os.path.join(self.root, *parts), "rb") as file:
                return file.read()
        except OSError:  # gone, or another user's
            return b""

    def _link(self, *parts: str) -> str:
        try:
            return os.readlink(os.path.join(self.root, *parts))
        except OSError:
            return ""

    def pids(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self.root) if name.isdigit())

    def command(self, pid: int) -> str:
        """The beginning of the command line as a person would type it, or [name] if it has none."""
        words = self._read(str(pid), "cmdline").decode(errors="replace").rstrip("\0").split("\0")
        return " ".join(words)[:SHOWN] or "[" + self._read(str(pid), "comm").decode(errors="replace").strip() + "]"

    def parent(self, pid: int) -> int:
        fields = self._read(str(pid), "stat").decode(errors="replace").rpartition(")")[2].split()
        return int(fields[1]) if len(fields) > 1 else 0

    def user(self, pid: int) -> int:
        """Whose rights a process has; -1 if it does not exist. (A process can have its folder in /proc be root's.)"""
        found = re.search(rb"(?m)^Uid:\s+\d+\s+(\d+)", self._read(str(pid), "status"))
        return int(found[1]) if found else -1

    def zombie(self, pid: int) -> bool:
        """Whether a process has ended, but its parent has not waited for it."""
        fields = self._read(str(pid), "stat").decode(errors="replace").rpartition(")")[2].split()
        return not fields or fields[0] in _ENDED

    def same_space(self, pid: int) -> list[int]:
        """The processes in the same PID namespace as a process, itself included; [] if it does not exist.
        pid_namespaces(7)"""
        space = self._link(str(pid), "ns", "pid")
        return [each for each in self.pids() if space and self._link(str(each), "ns", "pid") == space]

    def has_variable(self, pid: int, assignment: str) -> bool:
        """Whether the process was started with `NAME=value` in its environment."""
        return assignment.encode() in self._read(str(pid), "environ").split(b"\0")

    def marked(self, assignment: str) -> list[int]:
        """The live processes that were started with `NAME=value`; not those in containers, which may have a farm of
        their own at the same place."""
        space = self._link("self", "ns", "pid")
        return [pid for pid in self.pids() if self.has_variable(pid, assignment) and not self.zombie(pid)
                and self._link(str(pid), "ns", "pid") == space]

    def ancestors(self, pid: int) -> Iterator[int]:
        """The process itself, its parent, and so on."""
        while pid > 0:
            yield pid
            pid = self.parent(pid)

    def _descriptors(self) -> Iterator[tuple[int, str]]:
        for pid in self.pids():
            for number in _listed(os.path.join(self.root, str(pid), "fd")):
                yield pid, self._link(str(pid), "fd", number)

    def listening(self) -> list[Listening]:
        """All listening TCP sockets of this network namespace."""
        return [one for name in ("tcp", "tcp6") for one in parse_tcp(self._read("net", name).decode())]

    def owners(self, inode: int) -> list[int]:
        """The processes that have the socket with this inode open."""
        wanted = f"socket:[{inode}]"
        return sorted({pid for pid, target in self._descriptors() if target == wanted})

    def users(self, folder: str) -> list[int]:
        """The processes that have a file in the folder open, or have their working directory in it."""
        return sorted({pid for which in ("fd", "cwd") for pid, _path in self.opened(folder, which)})

    def opened(self, folder: str, which: str) -> Iterator[tuple[int, str]]:
        """The processes that have something in a folder open, and what: with all their descriptors (`fd`), one of
        them (`fd/2`), or as their working directory (`cwd`).

        A container's files may have names as if they were in the folder: the kernel writes each name as the container
        sees it.
        """
        folder = os.path.realpath(folder)
        for pid in self.pids():
            link = os.path.join(self.root, str(pid), which)
            for each in [f"{link}/{number}" for number in _listed(link)] if which == "fd" else [link]:
                path = self._link(each)
                if (path == folder or path.startswith(f"{folder}/")) and _is_here(each, path, folder):
                    yield pid, path


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # the process has ended, or is another user's
        return []


def _is_here(link: str, path: str, folder: str) -> bool:
    """Whether what a process has open (its link in /proc) is what has that path for this process, or, if nothing has it
    any more, is in the folder's file system."""
    try:
        opened = os.stat(link)
        return os.path.samestat(opened, os.stat(path)) if os.path.exists(path) else (
            opened.st_dev == os.stat(folder).st_dev)
    except OSError:
        return False
