# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""What a machine can do: the platforms that it runs, as tried, the cores and memory that it may use, and how fast a
core is. This file does I/O."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import selectors
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator

from . import elf, files, programs
from .errors import FarmError
from .platforms import ALL, Platform

NATIVE, EMULATED, NOT = "native", "emulated", "not"
LONGEST = 20.0  # seconds that a program of some instructions may take to start, on a machine that is busy
MOST = 1 << 16  # bytes of a file in /proc or of a cgroup
VERSION = re.compile(r"([\w.-]+) version ([0-9][0-9.]*[0-9])")  # as QEMU says it
SERVER = 0.01  # seconds in which a core of a server does what `speed` tries


def tried(folder: str) -> dict[Platform, str]:
    """platform -> NATIVE, EMULATED or NOT, by starting a program of each in a folder that is made in `folder`.

    Raises FarmError if programs cannot be started there.
    """
    return {platform: how for platform, (how, _emulator) in ways(folder).items()}


def ways(folder: str) -> dict[Platform, tuple[str, str]]:
    """platform -> the same, and the emulator; see `run_by`."""
    with tempfile.TemporaryDirectory(prefix=".tried-", dir=folder) as inside:
        return {platform: _run_by(platform, inside) for platform in ALL}


def run_by(platform: Platform, folder: str) -> tuple[str, str]:
    """(NATIVE, EMULATED or NOT; the emulator as it names itself, such as `qemu-arm 7.2.22`, or '')."""
    with tempfile.TemporaryDirectory(prefix=".tried-", dir=folder) as inside:
        return _run_by(platform, inside)


def runs(platform: Platform, folder: str) -> bool:
    """Whether programs of a platform run here, by the machine or by an emulator. Raises FarmError as `tried` does."""
    with tempfile.TemporaryDirectory(prefix=".tried-", dir=folder) as inside:
        return _run_by(platform, inside)[0] != NOT


def _run_by(platform: Platform, folder: str) -> tuple[str, str]:
    """What runs the smallest program of a platform: the kernel itself, an emulator that the kernel starts (and which),
    or nothing.

    As root it gets the folder as its root, as in a container: an emulator that the kernel did not open before
    (binfmt_misc's flag F) is not found from there, and does not count.
    """
    path = f"{folder}/{platform.slug}"
    with open(path, "wb") as file:
        file.write(elf.program(platform))
        os.fchmod(file.fileno(), 0o700)
    root = os.geteuid() == 0
    try:
        # pylint: disable-next=ansible-bad-function,subprocess-popen-preexec-fn  # it is looked at while it runs
        process = subprocess.Popen([f"/{platform.slug}" if root else path], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, env={},
                                   start_new_session=True, preexec_fn=_into if root else None)
    except (OSError, subprocess.SubprocessError) as error:
        if not isinstance(error, OSError) or error.errno in (errno.EACCES, errno.EPERM):
            raise FarmError(f"no program can be started in {folder}: {error}",
                            hint="mount the file system of farm_state without noexec") from error
        return NOT, ""  # no handler for it, or no emulator
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            said = os.read(process.stdout.fileno(), 1) if ready.select(LONGEST) else b""  # type: ignore[union-attr]
        if not said:  # it has an instruction that this processor does not know
            return NOT, ""
        program = f"/proc/{process.pid}/exe"
        return (NATIVE, "") if os.path.samefile(program, path) else (EMULATED, _version(program))
    finally:
        process.kill()
        process.communicate()


def _version(program: str) -> str:
    """What an emulator says that it is: `qemu-arm 7.2.22`; '' if it says nothing like that."""
    _code, said, _errors = programs.call([program, "--version"], seconds=LONGEST)
    found = VERSION.match(said)
    return f"{found[1]} {found[2]}" if found else ""


def _into() -> None:
    os.chroot(".")


def cores() -> float:
    """How many processors this process may use at a time, by its mask and its cgroups."""
    shares = [quota / period for quota, period in _quotas() if quota > 0 and period > 0]
    return round(min([float(len(os.sched_getaffinity(0))), *shares]), 2)


def speed() -> float:
    """How fast a core is, beside a server's (1). A rough figure: by how long it takes to compress 256 KiB."""
    text = "".join(hashlib.sha256(b"%d" % number).hexdigest() for number in range(1 << 12)).encode()
    took = []
    for _try in range(3):
        began = time.process_time()
        zlib.compress(text)
        took.append(time.process_time() - began)
    return round(SERVER / max(min(took), 1e-6), 3)


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what a cgroup allows."""
    total = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.M)
    found = [int(total[1]) * 1024] if total else []
    for folder in cgroup_folders("memory", _read("/proc/self/cgroup"), _read("/proc/self/mountinfo")):
        found += [int(text) for name in ("memory.max", "memory.limit_in_bytes")
                  if (text := _read(f"{folder}/{name}").strip()).isdigit()]
    return min(found, default=0)


def _quotas() -> Iterator[tuple[int, int]]:
    """(microseconds of processor time, in which period) of each cgroup that has such a limit; a quota of 0 or less is
    none."""
    for folder in cgroup_folders("cpu", _read("/proc/self/cgroup"), _read("/proc/self/mountinfo")):
        both = _read(f"{folder}/cpu.max") or " ".join(
            _read(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
        words = both.split()
        if len(words) == 2 and all(re.fullmatch(r"-?\d+", word) for word in words):
            yield int(words[0]), int(words[1])


def cgroup_folders(controller: str, cgroup: str, mountinfo: str) -> list[str]:
    """The folders of a process's cgroups that may limit it, from its own up: of version 2, and of version 1 of a
    controller.

    `cgroup` and `mountinfo` are texts of /proc/PID, see cgroups(7) and proc_pid_mountinfo(5).
    """
    paths = {}
    for line in cgroup.splitlines():
        _number, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(","), path))
    found = []
    for line in mountinfo.splitlines():
        before, _dash, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        name = {"cgroup2": "", "cgroup": controller}.get(kind)
        if name is None or name not in paths or (kind == "cgroup" and controller not in options.split(",")):
            continue
        root, point = before.split(" ")[3:5]
        path = os.path.normpath("/" + paths[name].lstrip("/"))
        # a container sees its own part alone
        inner = path[len(root.rstrip("/")):] if f"{path}/".startswith(root.rstrip("/") + "/") else ""
        parts = [part for part in inner.split("/") if part]
        found += ["/".join([point, *parts[:count]]) for count in range(len(parts), -1, -1)]
    return list(dict.fromkeys(found))


def _read(path: str) -> str:
    return files.text_of(path, MOST)
