#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what runs on a host of the farm, and how much disk it uses."""

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
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc
from ansible_collections.desimages.farm.plugins.module_utils.supervision import Service

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
}
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
    info = Info(module)
    services, disk = info.services(), info.disk()
    try:
        engine = json.loads(supervisors.read(os.path.join(info.state_dir, "engine.json")) or "{}").get("id", "")
    except ValueError:
        engine = ""
    module.exit_json(changed=False, services=services, disk=disk, engine=engine)


if __name__ == "__main__":
    main()
