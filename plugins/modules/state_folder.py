#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a farm's state folder on a host, or remove it with everything that the farm made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_folder
short_description: Create a farm's state folder, or remove everything that a farm made on a host
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - With O(state=present), creates and marks the folder, and gives the parts that the controller writes to a user.
    Actions such as M(desimages.farm.fetch) run in the process of ansible-playbook, as the user who started it;
    everything else in the folder belongs to root. Files that could belong to another user are not given away. Links,
    pipes, sockets, devices, files with several names and files of third users are removed from these parts; the only
    one that the farm makes there is the link C(runs/latest).
  - With O(state=absent), stops the services that are described in a farm's state folder, removes their descriptions
    outside it, ends jobs that still run, unmounts what they mounted in the folder, and removes it. If the folder is a
    mount point, only its contents are removed, without C(lost+found). A disk that is mounted right at one of the farm's
    folders, such as C(registry), is emptied in the same way, and stays mounted. If one of these folders is a link, the
    link is removed, and what it leads to stays.
  - Units of systemd that the farm made are removed even if the folder, or what describes them there, is gone.
  - If the folder was moved, its services are stopped under the old name. If it is a copy of a farm's folder, it is
    removed, and the original farm keeps running.
  - Refuses a folder that contains other things and has no mark of a farm. Refuses a folder that belongs neither to root
    nor to the user that the module runs as. As root, refuses a folder below one of another user, except the user who
    called sudo.
  - Debian packages that the roles installed stay.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status and sizes without changing anything.
  diff_mode:
    support: full
    description: Returns the parts of the folder with their sizes, or their owners.
  idempotent:
    support: full
    description: When run twice, the second run changes nothing.
options:
  path:
    description: The farm's state folder.
    type: path
    required: true
  state:
    description: What the folder should be.
    type: str
    default: absent
    choices:
      absent: Neither the folder nor its services exist.
      present: It exists, and the controller's parts of it belong to O(owner).
  owner:
    description: The numeric id of the user who writes the controller's parts. Required for O(state=present).
    type: int
"""

EXAMPLES = r"""
- name: Leave the host as it was found
  desimages.farm.state_folder:
    path: /var/lib/desimages
    state: absent

- name: Let the user who runs the playbook fetch and lock
  desimages.farm.state_folder:
    path: /var/lib/desimages
    state: present
    owner: "{{ lookup('ansible.builtin.pipe', 'id -u') }}"
  become: true
"""

RETURN = r"""
size:
  description: How many bytes on the disk the folder uses, or used.
  type: int
  returned: with O(state=absent)
  sample: 4831838208
parts:
  description: The same, for each of its folders.
  type: dict
  returned: with O(state=absent)
  sample:
    buildkit: 2147483648
    registry: 1073741824
left:
  description: The farm's folders that were links, each with the folder that it led to, which stays.
  type: dict
  returned: with O(state=absent)
  sample:
    store: /mnt/large/store
services:
  description: The services that were stopped.
  type: list
  elements: str
  returned: with O(state=absent)
  sample: [buildkitd, registry]
"""

import contextlib
import ctypes
import os
import pwd
import signal
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import files, programs, readiness, state, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import Busy, FarmError, system_error
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc

UMOUNT_NOFOLLOW = 8  # umount(2)
TURN = 60.0  # seconds to wait for a turn of the runner, whose controller died
ENDS = 30.0  # seconds that a job may take to end, with its buildctl
KILLED = 5.0  # seconds that it may take when it was killed
ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "default": "absent", "choices": ["absent", "present"]},
    "owner": {"type": "int"},
}


def disk_usage(path: str, device: int, seen: set) -> int:
    """Bytes on disk below a path: each file once, only this file system, and only what can be read."""
    total, folders = 0, [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    inner = stat.S_ISDIR(found.st_mode)
                    if found.st_dev != device or (found.st_nlink > 1 and not inner and found.st_ino in seen):
                        continue
                    seen.add(found.st_ino)
                    total += found.st_blocks * 512
                    if inner:
                        folders.append(entry.path)
        except OSError:
            pass
    return total


def unmount(folder: int, path: str) -> None:
    """Unmounts a path below a folder's descriptor. It follows no links, as someone else may have made one."""
    libc = ctypes.CDLL(None, use_errno=True)
    *above, name = path.split("/")
    opened = []
    try:
        for part in above:
            opened.append(files.open_folder(part, opened[-1] if opened else folder))
        target = f"/proc/self/fd/{opened[-1] if opened else folder}/{name}"
        if libc.umount2(os.fsencode(target), UMOUNT_NOFOLLOW) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        for descriptor in opened:
            os.close(descriptor)


class StateFolder:
    """One farm's state folder on one host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.path = os.path.realpath(module.params["path"])
        # a disk that is mounted here has a folder of its own
        self.there = os.path.isdir(self.path) and bool({*os.listdir(self.path)} - self.kept())
        if self.there and not os.path.exists(os.path.join(self.path, state.MARK)):
            raise FarmError(
                f"{self.path} is not the state folder of a farm: it has no file {state.MARK}",
                hint="nothing was removed: check farm_state",
            )
        state.refuse_foreign(self.path)

    def parts(self) -> dict:
        if not self.there:
            return {}
        device, disks, seen, found = os.stat(self.path).st_dev, state.disks(self.path), set(), {}
        for name in sorted(os.listdir(self.path)):
            path, disk = os.path.join(self.path, name), name in disks
            status = os.lstat(path)
            found[name] = status.st_blocks * 512 + (
                disk_usage(path, status.st_dev if disk else device, set() if disk else seen)
                if stat.S_ISDIR(status.st_mode) else 0)
        return found

    def links(self) -> dict:
        """The farm's folders that somebody laid elsewhere -> where they are."""
        paths = {name: os.path.join(self.path, name) for name in sorted(state.OWN)}
        return {name: os.path.realpath(path) for name, path in paths.items()
                if os.path.islink(path) and os.path.isdir(path)}

    def kept(self) -> set:
        """What is here and not the farm's: a file system has such a folder at its top, and a disk without anything of
        the farm's may be mounted."""
        return ({"lost+found"} if os.path.ismount(self.path) else set()) | state.bare_disks(self.path)

    def described(self) -> list:
        """The services that are described in the folder."""
        folder = os.path.join(self.path, "services")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def left_over(self) -> list:
        """The units that the farm made under either name of the folder."""
        names = dict.fromkeys((self.path, os.path.abspath(self.module.params["path"])))
        return [found for name in names for found in supervisors.left_over(name, programs.call, Proc())]

    def services(self) -> list:
        return sorted({*self.described(), *(found.service.name for found in self.left_over())})

    def retire(self) -> None:
        """Stops its services, and removes their descriptions outside it."""
        for name in self.described():
            for supervisor in supervisors.of_folder(self.path, name, programs.call, Proc()):
                supervisor.retire()
        for supervisor in self.left_over():
            supervisor.retire()

    def remove(self) -> None:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.ExitStack() as held:
                try:  # so that no turn of the runner starts other jobs
                    held.enter_context(files.locked(f"{self.path}/jobs.lock", TURN))
                except OSError as error:
                    if not files.is_full(error):  # else there is no lock, and no turn can make one either
                        raise
                self.end_jobs()
                self.empty(folder)
        finally:
            os.close(folder)
        # keep the target of a link
        if not (os.path.ismount(self.path) or os.path.islink(self.module.params["path"]) or state.disks(self.path)):
            os.rmdir(self.path)

    def end_jobs(self) -> None:
        """Ends the jobs of a controller that died: each would make its folder again when it writes its state."""
        for number, seconds in ((signal.SIGTERM, ENDS), (signal.SIGKILL, KILLED)):
            for pid in jobs(self.path):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if not readiness.until(lambda: " ".join(map(str, jobs(self.path))), seconds):
                return

    def empty(self, folder: int) -> None:
        """Removes everything in the open folder, and nothing else, even if someone replaces the folder meanwhile."""
        disks = state.disks(self.path)
        for point in state.mounts_below(self.path):
            if (name := point[len(self.path) + 1 :]) in disks:
                continue
            try:
                unmount(folder, name)
            except OSError as error:
                hint = "something still uses it: check with `fuser -vm`, or reboot"
                raise FarmError(f"cannot unmount {point}: {error.strerror}", hint=hint) from error
        for disk in sorted(disks):
            inner = files.open_folder(disk, folder)
            try:
                self.unlink_all(inner, f"{self.path}/{disk}", {"lost+found"})
            finally:
                os.close(inner)
        self.unlink_all(folder, self.path, {*self.kept(), state.MARK})
        self.unlink(folder, self.path, state.MARK)  # last, so that what fails half-way can be repeated

    def unlink_all(self, folder: int, path: str, kept: set) -> None:
        for name in sorted({*os.listdir(folder)} - kept):
            self.unlink(folder, path, name)
        if left := sorted({*os.listdir(folder)} - kept):
            raise FarmError(f"something wrote to {path} while it was removed: {', '.join(left[:5])} came back",
                            hint="find out what it is (`fuser -v`), end it, and run again")

    def unlink(self, folder: int, path: str, name: str) -> None:
        here = f"/proc/self/fd/{folder}"
        words = ["rm", "--recursive", "--force", "--one-file-system", "--", f"{here}/{name}"]
        code, out, err = self.module.run_command(words, pass_fds=[folder])
        if code != 0:
            said = (err or out).strip()[-500:].replace(here, path)
            raise FarmError(f"cannot remove {path}/{name}: {said}")


def jobs(path: str) -> list:
    """The processes of a farm's jobs. Whatever name its folder had when a job began, it writes its errors to a file
    there."""
    found = Proc().opened(f"{path}/jobs", "fd/2")
    return [pid for pid, file in found if file.endswith("/runner.err")]


def absent(module: AnsibleModule) -> dict:
    """Removes the state folder and stops what runs in it. Raises Busy if another run or lock step is at work there."""
    folder = StateFolder(module)
    if folder.there and (holder := state.at_work(folder.path)):
        raise Busy(f"the farm in {folder.path} is held by {holder}", hint="wait for it to end; nothing was removed")
    parts, services, left = folder.parts(), folder.services(), folder.links()
    if not module.check_mode:
        folder.retire()
        if folder.there:
            folder.remove()
    return {
        "changed": folder.there or bool(services),
        "size": sum(parts.values()),
        "parts": parts,
        "left": left,
        "services": services,
        "diff": {"before": "".join(f"{name}: {size}\n" for name, size in parts.items()), "after": ""},
    }


def present(module: AnsibleModule) -> dict:
    """Makes the state folder, marks it, and gives the controller's parts to `owner`."""
    path, owner = module.params["path"], module.params["owner"]
    state.refuse_foreign(path)
    parts = state.not_of(path, owner)
    marked = os.path.exists(os.path.join(path, state.MARK))
    if (parts or not marked) and not module.check_mode:
        try:
            group = pwd.getpwuid(owner).pw_gid
        except KeyError:
            group = -1  # the uid has no name: keep the group
        if owner == os.geteuid() != 0:
            group = -1  # this user may be in another group now, and only root can give what he has to any
        state.claim(path)
        state.hand_over(path, owner, group)
    before = "".join(f"{name}: {was}\n" for name, was in parts.items() if was != -1)
    return {"changed": bool(parts) or not marked,
            "diff": {"before": before, "after": "".join(f"{name}: {owner}\n" for name in parts)}}


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True,
                           required_if=[("state", "present", ["owner"])])
    try:
        result = {"absent": absent, "present": present}[module.params["state"]](module)
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
