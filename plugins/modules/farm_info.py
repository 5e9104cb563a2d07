#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report what runs on a host of the farm, and how much disk it uses."""

from __future__ import annotations

DOCUMENTATION = r"""
module: farm_info
short_description: Report what runs on a host of the farm
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Reports the services of a farm on one host, their versions, and disk usage.
  - M(desimages.farm.registry_info) reports what the registry holds.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). It changes nothing in any mode.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  state_dir:
    description: The farm's state folder.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Look at the farm
  desimages.farm.farm_info:
    state_dir: /var/lib/desimages
"""

RETURN = r"""
services:
  description: The services that are described on this host.
  type: list
  elements: dict
  returned: success
  sample:
    - service: buildkitd
      state: runs
      since: 2h 3m
      version: v0.34.2
      log: /var/lib/desimages/log/buildkitd/current
disk:
  description: The sizes of the parts of the state folder, and the free space on its file system, in bytes.
  type: list
  elements: dict
  returned: success
  sample:
    - part: registry
      size: 1073741824
    - part: (free)
      size: 85899345920
node:
  description: What is known of this node, from C(etc/node.json) in its state folder. Empty if the host is not a node.
  type: dict
  returned: success
  sample: {native: [linux/arm64, linux/arm/v7], cores: 4}
runc:
  description: The version of the runc that BuildKit runs; empty if there is none.
  type: str
  returned: success
  sample: 1.1.15
load:
  description: How many processes ran or waited for a processor or a disk, averaged over the last minute.
  type: float
  returned: success
  sample: 0.4
free:
  description: The free space on the file system of the state folder, in bytes. Not set if the folder does not exist.
  type: int
  returned: success
  sample: 85899345920
cache:
  description: The size of BuildKit's cache, in bytes. Not set if there is none.
  type: int
  returned: success
  sample: 1073741824
farm:
  description: The version of the farm that provisioned this host; empty if it is not known.
  type: str
  returned: success
  sample: 0.1.0
engine:
  description: The engine id that was proven on this host.
  type: str
  returned: success
  sample: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
"""

import json
import os
import re
import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import programs, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import system_error
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc
from ansible_collections.desimages.farm.plugins.module_utils.supervision import Service

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
}
BINARY = re.compile(r'(?m)^[ \t]*binary = "([^"]+)"')
VERSION = re.compile(r"\bv?\d+\.\d+[\w.+~-]*")


def duration(seconds: float) -> str:
    """7380 -> `2h 3m`."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)}s"
    days, hours = minutes // 1440, minutes // 60 % 24
    parts = [(days, "d"), (hours, "h"), (minutes % 60, "m")]
    return " ".join(f"{count}{unit}" for count, unit in parts if count)


class Info:
    """One host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.state_dir = module.params["state_dir"].rstrip("/")

    def services(self) -> list:
        folder = os.path.join(self.state_dir, "services")
        return [self.service(name) for name in sorted(os.listdir(folder))] if os.path.isdir(folder) else []

    def service(self, name: str) -> dict:
        found, _text = supervisors.definition_of(self.state_dir, name)
        supervisor = supervisors.KINDS[found.get("supervisor") or supervisors.supervisor_of_this_machine()](
            Service(name=name, state_dir=self.state_dir), programs.call, Proc()
        )
        status = supervisor.status()
        try:
            since = duration(time.time() - os.stat(f"/proc/{status.pid}").st_mtime) if status.pid else ""
        except OSError:
            since = ""
        state = "runs" if status.running else ("crashes" if status.supervised else "stopped")
        return {"service": name, "state": state, "since": since, "version": self.version(found.get("command") or []),
                "log": supervisor.log}

    def version(self, command: list) -> str:
        if not command or not os.path.exists(command[0]):
            return ""
        code, out, err = programs.call([command[0], "--version"])
        match = VERSION.search(out + err) if code == 0 else None
        return match.group(0) if match else ""

    def runc(self) -> str:
        """The version of the program that BuildKit's configuration names."""
        text = supervisors.read(os.path.join(self.state_dir, "etc", "buildkitd.toml"))
        found = BINARY.search(text or "")
        return self.version([found.group(1)]) if found else ""

    def read(self, *path: str) -> dict:
        """A file of JSON; empty if there is none, or a damaged one."""
        try:
            found = json.loads(supervisors.read(os.path.join(self.state_dir, *path)) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def disk(self) -> list:
        if not os.path.isdir(self.state_dir):
            return []
        _code, out, _err = programs.call(["du", "-x", "-B1", "--max-depth=1", self.state_dir])
        rows = [line.split("\t", 1) for line in out.splitlines()]
        parts = [{"part": os.path.basename(path), "size": int(size)} for size, path in rows if path != self.state_dir]
        parts.sort(key=lambda part: -part["size"])
        usage = shutil.disk_usage(self.state_dir)
        return [*parts, {"part": "(all)", "size": sum(part["size"] for part in parts)},
                {"part": "(free)", "size": usage.free}]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        info = Info(module)
        services, disk = info.services(), info.disk()
        sizes = {part["part"]: part["size"] for part in disk}
        found = {"services": services, "disk": disk, "engine": info.read("engine.json").get("id", ""),
                 "node": info.read("etc", "node.json"), "runc": info.runc(), "load": os.getloadavg()[0],
                 "farm": str((info.read("provisioned.json").get("by") or {}).get("version", "")),
                 "free": sizes.get("(free)"), "cache": sizes.get("buildkit")}
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
