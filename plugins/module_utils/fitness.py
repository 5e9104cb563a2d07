# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a host can be a node: everything that is wrong with it at once, each with its remedy. This file does I/O."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from . import abilities, programs, staging, supervisors
from .errors import FarmError
from .platforms import KERNEL
from .proc import Proc
from .renewal import CLOCK
from .supervision import Claims, Service

GB = 1 << 30
DISK_NEW, DISK_RUNNING = 2 * GB, GB // 5  # bytes that must be free: before BuildKit is there, and later
MEMORY = 350 << 20  # bytes; a board with 512 MB leaves some 430 to Linux
CONNECT = 10.0  # seconds for a connection to the registry


@dataclass(frozen=True)
class Needs:
    """What a node is asked for. `clock` is the controller's, in seconds since 1970 (0: not compared); `registry` is
    HOST:PORT ('': not tried)."""

    state_dir: str
    platform: str
    sockets: tuple[str, ...] = ()
    clock: float = 0.0
    registry: str = ""


def mistakes(needs: Needs) -> list[str]:
    """All reasons why this host cannot be a node."""
    here = existing(needs.state_dir)
    free = shutil.disk_usage(here).free
    unwritable = writable(here)
    running = os.path.exists(f"{needs.state_dir}/bin/buildkitd")
    found = [
        architecture(os.uname().machine, needs.platform),
        disk(needs.state_dir, free, DISK_RUNNING if running else DISK_NEW),
        memory(abilities.memory()),
        clock(time.time(), needs.clock) if needs.clock else "",
        cgroups(),
        *([unwritable] if unwritable else [times(here), overlayfs(here), starts(here, needs.platform)]),
        *strangers(needs),
        reachable(needs.registry) if needs.registry else "",
    ]
    return [text for text in found if text]


def existing(path: str) -> str:
    """The path itself, or the nearest folder above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def architecture(machine: str, platform: str) -> str:
    known = platform in {str(each) for each in KERNEL.values()}
    return "" if known else (f"its architecture is {machine}: a node is one of {', '.join(KERNEL)}; set "
                             "buildkitd_platform if its kernel has another name for one of them")


def disk(state_dir: str, free: int, least: int) -> str:
    return "" if free >= least else (
        f"{state_dir} has {_size(free)} of disk left, and a node needs {_size(least)}: make room there, or set "
        "farm_state to a folder on a larger disk")


def memory(found: int) -> str:
    return "" if found >= MEMORY else (
        f"it may use {_size(found)} of memory, and BuildKit needs {_size(MEMORY)}: give it more (a limit of its "
        "container or service counts), or take it out of the group nodes")


def clock(here: float, controller: float) -> str:
    off = here - controller
    if abs(off) <= CLOCK:
        return ""
    minutes = int(abs(off) // 60)
    words = f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440} days"
    return (f"its clock is {words} {'ahead of' if off > 0 else 'behind'} the controller's, so certificates and signed "
            "indexes are not valid for it: set it (`timedatectl set-ntp true`, or chrony where a firewall lets NTP "
            "through), or set the controller's if that one is wrong")


def cgroups() -> str:
    kinds = [line.partition(" - ")[2].split(" ")[0] for line in supervisors.read("/proc/self/mountinfo").splitlines()]
    return "" if {"cgroup", "cgroup2"}.intersection(kinds) else (
        "no cgroups are mounted, which runc needs: mount them (`mount -t cgroup2 none /sys/fs/cgroup`)")


def writable(folder: str) -> str:
    """'' if files can be made there, as in no /proc, and on no disk that is mounted read-only."""
    try:
        with tempfile.TemporaryDirectory(prefix=".written-", dir=folder):
            return ""
    except OSError as error:
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            return (f"user {os.geteuid()} may not write in {folder}: only root can make a node, so leave "
                    "ansible_become as the playbooks have it, or log in as root")
        return (f"nothing can be written in {folder} ({error.strerror}): mount its file system so that it can, or set "
                "farm_state to a folder on another one")


def times(folder: str) -> str:
    """'' if the times of files have nanoseconds there (see staging.py)."""
    with tempfile.NamedTemporaryFile(prefix=".times-", dir=folder) as file:
        os.utime(file.fileno(), ns=(1, 1))
        good = os.fstat(file.fileno()).st_mtime_ns == 1
    return "" if good else (
        f"the file system of {folder} {staging.COARSE}: set farm_state to a folder on another one, or give an ext4 "
        "with inodes of 128 bytes larger ones (`tune2fs -I 256` while it is not mounted)")


def starts(folder: str, platform: str) -> str:
    """'' if BuildKit, compiled for this platform, could start. `architecture` reports what is not a platform."""
    found = [each for each in KERNEL.values() if str(each) == platform]
    try:
        good = not found or abilities.runs(found[0], folder)
    except FarmError as error:
        return f"{error.message}: {error.hint}"
    return "" if good else (
        f"programs for {platform} do not run here (its kernel calls itself {os.uname().machine}), so BuildKit would "
        "not start: set farm_native to what this host runs, its own platform first, or leave it out")


def overlayfs(folder: str) -> str:
    """Mounts one, in a mount namespace that ends with the program, as BuildKit mounts its own."""
    if os.geteuid() != 0:
        return ""
    if missing := [name for name in ("mount", "unshare") if not shutil.which(name)]:
        return (f"overlayfs cannot be tried because {' and '.join(missing)} cannot be found: install the packages "
                "mount and util-linux")
    with tempfile.TemporaryDirectory(prefix=".overlay-", dir=folder) as inside:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{inside}/{name}")
        options = "lowerdir=lower,upperdir=upper,workdir=work"
        words = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, "merged"]
        done = programs.run(words, seconds=60, folder=inside)
    said = " ".join(done.err.split())[-200:]
    return "" if done.code == 0 else (
        f"overlayfs cannot be used in {folder} ({said}), and without it every step copies all files: use a kernel with "
        "overlayfs (`modprobe overlay`), and in a container a volume for farm_state, not an overlay itself")


def strangers(needs: Needs) -> Iterator[str]:
    """Other processes that use the socket or the data of this node's BuildKit."""
    claims = Claims(sockets=needs.sockets, data=(f"{needs.state_dir}/buildkit",))
    service = Service(name="buildkitd", state_dir=needs.state_dir, claims=claims)
    kind = supervisors.KINDS[supervisors.supervisor_of_this_machine()]
    for text in kind(service, programs.call, Proc()).strangers():
        yield f"{text}: end that process, or set farm_state or buildkitd_socket to another path"


def reachable(registry: str) -> str:
    """'' if the registry's name resolves here and something accepts connections there."""
    host, port = re.match(r"\[?(.*?)\]?(?::(\d+))?\Z", registry).groups()  # type: ignore[union-attr]
    try:
        found = socket.getaddrinfo(host, int(port or 443), type=socket.SOCK_STREAM)
    except OSError as error:
        return (f"the name of the registry {registry} does not resolve here ({error.strerror}): give this host a DNS "
                f"server that knows {host}, or a line in /etc/hosts")
    tried = []
    for family, kind, protocol, _name, address in found:
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(CONNECT)
            try:
                connection.connect(address)
                return ""
            except OSError as error:
                tried.append(f"{address[0]}: {error.strerror or error}")
    return (f"the registry {registry} cannot be reached from here ({'; '.join(dict.fromkeys(tried))}): it must run, a "
            "firewall must let this host through, and a node uses no proxy for it")


def _size(count: int) -> str:
    return f"{count / GB:.1f} GB" if count >= GB else f"{count >> 20} MB"
