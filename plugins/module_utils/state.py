# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""A farm's state folder: its parts, their owners, and who holds the farm. Does I/O."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import Busy, FarmError
from .files import may, open_file, open_folder, text_of, write
from .proc import Proc, started

MARK = ".desimages"  # the file that makes a folder a farm's state folder
# What ansible-playbook's own process makes there: plan, fetch, index, context and lock run in it, as the user who
# started it.
CONTROLLER = ("cache", "holder.json", "holder.lock", "known", "lock", "relocked", "runs", "secrets", "store")
# What modules and the runner make there, as root.
HOST = ("bin", "buildkit", "buildkitd.sock", "engine.json", "etc", "jobs", "jobs.lease", "jobs.lock", "log", "node",
        "otel.sock", "provisioned.json", "registry", "services", "tester")
OWN = frozenset((*CONTROLLER, *HOST, MARK, "lost+found"))
# Names that others hardly give: somebody's folder may well have the others, as `bin`, `etc` and `log`.
TELLING = frozenset(("holder.json", "holder.lock", "engine.json", "provisioned.json"))
_FILES = {"holder.json": 0o644, "holder.lock": 0o600}  # with their modes; the others are folders
# What is left of the farm's first look at a folder, or of marking it, if the host went down meanwhile: files.write,
# fitness.py and abilities.py make these.
_LEFT = re.compile(r"\.(\.desimages\.[0-9a-f]{12}|(written|overlay|tried)-[a-z0-9_]{8})\Z")
_DEEPEST = 200  # levels of folders; nothing that the farm makes comes near
_LINKS = 40  # that the kernel follows on one way, path_resolution(7)
_LAST = 1 << 22  # process ids are smaller, proc_sys_kernel(5)


@dataclass(frozen=True)
class Holder:
    """Who holds the farm: a process, its start time (kernel's ticks), since when it holds the farm, and its user."""

    pid: int
    started: str
    since: str = ""
    user: str = ""

    @property
    def alive(self) -> bool:
        return bool(self.started) and started(self.pid) == self.started

    def __str__(self) -> str:
        of, since = (f" {word} {text}" if text else "" for word, text in (("of", self.user), ("since", self.since)))
        return f"process {self.pid}{of}{since}"


def holder(path: str) -> Holder | None:
    """What holder.json in a state folder says; None if it is empty or not valid, as after a power cut."""
    try:
        found = json.loads(text_of(f"{path}/holder.json", 4096))
        pid, texts = found["pid"], [found["started"], found.get("since", ""), found.get("user", "")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if isinstance(pid, bool) or not isinstance(pid, int) or not 0 < pid < _LAST:
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    return Holder(pid, *("".join(filter(str.isprintable, text))[:100] for text in texts))


def refuse_foreign(path: str) -> None:
    """Refuses a folder that contains anything but a farm, as `clean` removes it whole; one of another user, who could
    change what is run from it; and one in a folder where everyone may write, who could replace it."""
    if loose := open_above(path):
        raise FarmError(f"everyone may write to {loose[0]}, so anyone could replace {path}",
                        hint=f"choose another farm_state, or `chmod o-w {loose[0]}`")
    if os.geteuid() == 0 and (theirs := _owned_above(path)):
        raise FarmError(f"{theirs[0]} belongs to user {os.stat(theirs[0]).st_uid}, who could replace {path} and what "
                        "root runs from it",
                        hint=f"choose another farm_state, run this as that user with sudo, or `chown root {theirs[0]}`")
    if os.geteuid() == 0 and (lent := _lent_above(path)):
        raise FarmError(f"{lent[0]} is writable for others, by its group {os.stat(lent[0]).st_gid} or an ACL: they "
                        f"could replace {path} and what root runs from it",
                        hint=f"choose another farm_state, or `chmod g-w {lent[0]}`")
    if not os.path.isdir(path):
        _refuse_in_the_way(os.path.abspath(path))
        return
    if whose := others(path):
        raise FarmError(f"{path} {whose}: anyone who can write there decides what user {os.geteuid()} runs",
                        hint="choose another farm_state, or run as its owner. To take the right to write "
                             f"from others: `chmod go-w {path}`, and if it has an ACL `setfacl -bk {path}`")
    if os.path.exists(f"{path}/{MARK}"):
        return
    found = {name for name in os.listdir(path) if not _LEFT.match(name)} - {"lost+found"} - bare_disks(path)
    foreign = sorted(found - OWN if found & TELLING else found)
    if foreign:
        raise FarmError(
            f"{path} is not empty and not a farm's state folder: it has {', '.join(foreign[:5])}",
            hint=f"choose another farm_state, or create the file {path}/{MARK} if everything in it may be removed with "
                 "the farm",
        )


def _refuse_in_the_way(path: str) -> None:
    """Refuses a folder that cannot be made, as what has its name, or that of one above it, is none."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if os.path.islink(path) and not os.path.exists(path):
        raise FarmError(f"{path} is a link to {os.readlink(path)}, which does not exist",
                        hint="is its disk mounted? else make that folder, or choose another farm_state")
    if not os.path.isdir(path):
        raise FarmError(f"{path} exists and is not a folder", hint="choose another farm_state, or remove it")


def mounts_below(folder: str, text: str = "") -> list[str]:
    """The mount points below a folder, by a /proc/self/mountinfo (this process's own unless given), the newest first.
    Octal escapes: proc_pid_mountinfo(5)."""

    def plain(field: str) -> str:
        return field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")

    if not text:  # whoever may mount can give a mount any name
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read()
    points = [plain(line.split(" ")[4]) for line in text.split("\n") if line]
    return [point for point in reversed(points) if point.startswith(folder + "/")]


def disks(path: str) -> set[str]:
    """The farm's own folders in a state folder at which something is mounted. The farm mounts nothing right there, so
    it is a disk that the host's owner gave to that folder."""
    real = os.path.realpath(path)
    names = {point[len(real) + 1 :] for point in mounts_below(real)}
    return {name for name in names & OWN if os.path.isdir(f"{real}/{name}")}


def bare_disks(path: str) -> set[str]:
    """Those of them that have nothing of the farm's, or of somebody else's."""
    return {name for name in disks(path) if not {*os.listdir(f"{path}/{name}")} - {"lost+found"}}


def open_above(path: str) -> list[str]:
    """The folders above a path in which everybody can replace the next one."""
    return sorted(folder for folder, seen in _all_above(path).items()
                  if seen.st_mode & stat.S_IWOTH and not seen.st_mode & stat.S_ISVTX)


def others_above(path: str) -> list[str]:
    """The folders above a path in which another user can replace the next one. Who called sudo counts as root."""
    return sorted({*_owned_above(path), *_lent_above(path)})


def _owned_above(path: str) -> list[str]:
    """The folders above a path that belong to another user, who counts as root if he called sudo."""
    mine = {"0", str(os.geteuid()), os.environ.get("SUDO_UID", "0")}
    return sorted(folder for folder, seen in _all_above(path).items() if str(seen.st_uid) not in mine)


def _lent_above(path: str) -> list[str]:
    """The folders above a path in which a group, or somebody in an ACL, can replace the next one. The group of who
    called sudo counts as root's."""
    mine = {"0", str(os.getegid()), os.environ.get("SUDO_GID", "0")}
    return sorted(folder for folder, seen in _all_above(path).items()
                  if seen.st_mode & stat.S_IWGRP and not seen.st_mode & stat.S_ISVTX
                  and (str(seen.st_gid) not in mine or _acl(folder, "access")))


def others(path: str) -> str:
    """Which others can write to a folder, or to what will be created in it; '' if none can."""
    found = os.stat(path)
    if found.st_mode & stat.S_IWOTH:
        return "is writable for everyone"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}"
    if found.st_mode & stat.S_IWGRP and (found.st_gid not in (0, os.getegid()) or _acl(path, "access")):
        return f"is writable for others, by its group {found.st_gid} or an ACL"
    return "has an ACL that lets others write to what is created there" if _acl(path, "default") else ""


def open_to_others(path: str) -> str:
    """Who else could put something under this name, such as a socket of their own; '' if nobody can."""
    folder = next(_above(path), "/")
    said = others(folder)
    return f"{folder} {said}" if said else "".join(f"{each} is writable for everyone" for each in open_above(path)[:1])


def _acl(path: str, kind: str) -> bool:
    """Whether an ACL of a folder, acl(5), lets a user or group that it names write (tags 2 and 8); for a default ACL,
    anybody but the owner. Source of the layout: include/uapi/linux/posix_acl_xattr.h"""
    try:
        data = os.getxattr(path, f"system.posix_acl_{kind}")
    except OSError:
        return False
    tags = (2, 8) if kind == "access" else (2, 4, 8, 32)
    return any(tag in tags and rights & 2 for tag, rights, _who in struct.iter_unpack("<HHI", data[4:]))


def _all_above(path: str) -> dict[str, os.stat_result]:
    """The existing folders in which a name on the way to a path is looked up, each by its real name: also where links
    are that lead to others."""
    found, folder, names, links = {}, "/", os.path.abspath(path).split("/"), 0
    while names:
        found[folder] = os.stat(folder)
        name = names.pop(0)
        inner = os.path.dirname(folder) if name == ".." else os.path.normpath(f"{folder}/{name}")
        if os.path.islink(inner) and links < _LINKS:
            links, target = links + 1, os.readlink(inner)
            names, folder = [*target.split("/"), *names], "/" if target.startswith("/") else folder
        elif os.path.isdir(inner):
            folder = inner
        else:
            break
    return found


def _above(path: str) -> Iterator[str]:
    """The existing folders above a path."""
    while path != (path := os.path.dirname(path)):
        if os.path.isdir(path):
            yield path


def refuse_open(folder: str, levels: int) -> None:
    """Refuses a folder for programs that root will run if somebody else can write there: to it, to those above it, or,
    by owner or group, to the last `levels` of them."""
    last, path = [], folder
    for _level in range(levels):
        last.append(path)
        path = os.path.dirname(path)
    found = [(path, others(path)) for path in reversed(last) if os.path.isdir(path)]
    found += [(path, "is writable for everyone") for path in open_above(folder)]
    if told := [f"{path} {whose}" for path, whose in found if whose]:
        raise FarmError(f"{told[0]}: anyone who can write there decides what runs as root",
                        hint="choose another folder for compiled programs (buildkitd_cache), or remove this one")


def open_umask() -> None:
    """Sets a umask so that what a module makes has the mode that it asks for, whatever the caller's umask: services run
    as users of their own."""
    os.umask(0o022)


def claim(path: str, check: bool = False) -> None:
    """Makes the farm's state folder and marks it as one; with `check`, it only refuses what cannot become one."""
    refuse_foreign(path)
    if check:
        return
    new = not os.path.isdir(path)
    os.makedirs(path, mode=0o755, exist_ok=True)
    if new:  # an ACL that it inherits would let others write, whatever the umask
        with contextlib.suppress(OSError):
            os.removexattr(path, "system.posix_acl_default")
    if not os.path.exists(f"{path}/{MARK}"):
        write(f"{path}/{MARK}", "The state folder of a desimages farm: clean.yml removes it with everything in it.\n",
              0o644)


def may_claim(path: str) -> bool:
    """Whether this user can make the state folder of a controller here, or has made it: no other user's rights are
    needed."""
    if os.path.lexists(path):
        return os.path.isdir(path) and os.stat(path).st_uid == os.geteuid()
    return may(next(_above(os.path.abspath(path)), "/"), os.W_OK)


def not_of(path: str, user: int) -> dict[str, int]:
    """The controller's parts that a user cannot write to -> their owner, or -1 if they are missing."""
    found = {}
    for name in CONTROLLER:
        try:
            owner = os.lstat(f"{path}/{name}").st_uid
        except OSError:
            owner = -1
        if owner != user:
            found[name] = owner
    return found


def hand_over(path: str, user: int, group: int) -> None:
    """Gives the controller's parts, with everything in them, to a user. Raises Busy if another user's run is at work in
    them.

    Nothing that may belong to someone else is given away. A part is first taken from its owner, folder by folder, so
    that they can no longer change anything in it. Then its folders are given, and the files that have one name and the
    same owner as their folder. Everything else there is removed: links (except `runs/latest`), pipes, sockets, devices,
    files with several names, files of third users. The farm makes none of these.
    """
    parts = not_of(path, user)
    if any(owner != -1 for owner in parts.values()) and (at := at_work(path)):
        raise Busy(f"the farm in {path} is held by {at}, of another user", hint="wait for it to end")
    for name, owner in parts.items():
        whole = f"{path}/{name}"
        if name in _FILES:
            file = os.open(whole, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _FILES[name])
            try:
                os.fchown(file, user, group)
                os.fchmod(file, _FILES[name])
            finally:
                os.close(file)
            continue
        if owner == -1:
            os.mkdir(whole, 0o700 if name == "secrets" else 0o755)
        # only root can write in the state folder, so a part that is a link was made by root
        folder = os.open(whole, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _give(folder, whole, (user, group), os.fstat(folder).st_dev, 0)
        finally:
            os.close(folder)
        os.lchown(whole, user, group)


def _give(folder: int, path: str, to: tuple[int, int], device: int, depth: int) -> None:
    """Gives an open folder with what is in it; `path` is for messages. The folder comes last, so it can be repeated."""
    was = os.fstat(folder)
    if was.st_dev != device or depth > _DEEPEST:
        why = "is another file system" if was.st_dev != device else f"is more than {_DEEPEST} folders deep"
        raise FarmError(f"{path} {why}, so it cannot be given to another user", hint="unmount it, or remove it")
    me = os.geteuid()
    os.fchown(folder, me, -1)
    os.fchmod(folder, stat.S_IMODE(was.st_mode) & ~0o7022)
    for name in os.listdir(folder):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            inner = open_folder(name, folder)
            try:
                _give(inner, f"{path}/{name}", to, device, depth + 1)
            finally:
                os.close(inner)
        elif stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and was.st_uid in (found.st_uid, me):
            os.chown(name, *to, dir_fd=folder, follow_symlinks=False)
            if found.st_mode & 0o7022:
                os.chmod(name, stat.S_IMODE(found.st_mode) & ~0o7022, dir_fd=folder)
        elif stat.S_ISLNK(found.st_mode) and path.endswith("/runs") and "/" not in os.readlink(name, dir_fd=folder):
            os.chown(name, *to, dir_fd=folder, follow_symlinks=False)
        else:
            os.unlink(name, dir_fd=folder)
    os.fchown(folder, *to)


def at_work(path: str) -> str:
    """Which process works in the controller's parts, in words; '' if none does except the run that started this one.

    plugin_utils/holder.py and action/lock.py write what this reads.
    """
    held = holder(path)
    if held and held.alive and held.pid not in Proc().ancestors(os.getpid()):
        return f"process {held.pid}"
    try:
        folder = os.open(f"{path}/lock", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    file = -1
    try:
        file = open_file("in-use", folder)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "a lock step"
    except OSError:
        pass
    finally:
        for each in (file, folder):
            if each != -1:
                os.close(each)
    return ""
