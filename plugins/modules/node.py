#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether a host can be a node, and record what it can do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Check whether a host can be a node, and record what it can do
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Checks disk, memory, clock, cgroups, file system, overlayfs, architecture, other processes on BuildKit's socket and,
    if asked, the way to the registry. Fails with everything that is wrong at once, each with what to do. Does not
    repair anything.
  - Gives the host a random id, in C(etc/node.json) of the state folder. If two names in an inventory have the same id,
    they are one machine.
  - With O(record), tries which platforms' programs the host runs natively and which under emulation. It starts a
    program of some 150 bytes for each platform and looks at what ran it, so an emulator that the kernel starts is not
    mistaken for the machine. The result is in C(etc/node.json), with how many cores and how much memory the host may
    use, and how fast a core is, which is measured once.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status. It checks the host, and writes nothing.
  diff_mode:
    support: full
    description: Returns the record before and after.
  idempotent:
    support: full
    description: When run twice on a host that did not change, the second run changes nothing.
options:
  state_dir:
    description: The farm's state folder.
    type: path
    required: true
  platform:
    description: The platform that BuildKit is compiled for here. It is the first in RV(ignore:node.native).
    type: str
    required: true
  native:
    description: What the host runs without emulation. If empty, it is tried.
    type: list
    elements: str
    default: []
  sockets:
    description: Unix sockets that only the farm's BuildKit may listen on.
    type: list
    elements: path
    default: []
  clock:
    description: The controller's time in seconds since 1970, to compare the host's clock with. With 0, it is not
      compared.
    type: float
    default: 0
  registry:
    description: The registry that the host must reach, as HOST:PORT. If empty, this is not tried.
    type: str
    default: ''
  version:
    description: BuildKit's version, for the record.
    type: str
    default: ''
  engine:
    description: The engine id as proven, for the record.
    type: str
    default: ''
  record:
    description: Record what the host can do. If not set, only the id is made.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check whether this host can be a node
  desimages.farm.node:
    state_dir: /var/lib/desimages
    platform: linux/arm64
    clock: "{{ now().timestamp() }}"
"""

RETURN = r"""
node:
  description: What is recorded. Without O(record), what was recorded before. In check mode, the id may be missing.
  type: dict
  returned: success
  sample:
    id: 8f14e45fceea167a5a36dedd4bea2543
    native: [linux/arm64, linux/arm/v7, linux/arm/v6]
    emulated: []
    version: v0.34.2
    engine: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
    cores: 4.0
    memory: 4096000000
    speed: 0.31
real:
  description: The state folder's path without links.
  type: str
  returned: success
  sample: /var/lib/desimages
cores:
  description: How many processors the host may use at a time. Its affinity and the limits of its cgroups count.
  type: float
  returned: success
  sample: 4.0
memory:
  description: How many bytes of memory the host may use; the limits of its cgroups count.
  type: int
  returned: success
  sample: 4096000000
disk:
  description: The total size of the file system of O(state_dir), in bytes.
  type: int
  returned: success
  sample: 15500000000
"""

import json
import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import abilities, files, fitness, state, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "platform": {"type": "str", "required": True},
    "native": {"type": "list", "elements": "str", "default": []},
    "sockets": {"type": "list", "elements": "path", "default": []},
    "clock": {"type": "float", "default": 0.0},
    "registry": {"type": "str", "default": ""},
    "version": {"type": "str", "default": ""},
    "engine": {"type": "str", "default": ""},
    "record": {"type": "bool", "default": False},
}


class Node:
    """This host, as a node."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.params = module, module.params
        self.state_dir = self.params["state_dir"].rstrip("/")
        self.path = f"{self.state_dir}/etc/node.json"
        self.there = os.path.lexists(self.path)
        try:
            found = json.loads(supervisors.read(self.path) or "{}")
        except (ValueError, RecursionError):
            found = {}
        self.before = found if isinstance(found, dict) and isinstance(found.get("id", ""), str) else {}

    def refuse(self) -> None:
        """Raises FarmError with all reasons why this host cannot be a node."""
        params = self.params
        needs = fitness.Needs(self.state_dir, params["platform"], tuple(params["sockets"]), params["clock"],
                              params["registry"])
        if wrong := fitness.mistakes(needs):
            raise FarmError(f"{os.uname().nodename} cannot be a node:\n" + "\n".join(f"- {text}" for text in wrong))

    def named(self) -> dict:
        """What was recorded, with an id."""
        if self.before.get("id"):
            return self.before
        state.claim(self.state_dir, self.module.check_mode)
        if self.module.check_mode:
            return self.before
        made = {**self.before, "id": os.urandom(16).hex()}
        if self.there:  # a damaged one, or one without an id
            files.write(self.path, encode(made))
            return made
        new = f"{self.path}.{made['id']}"
        files.write(new, encode(made))
        try:
            os.link(new, self.path)  # under another name this host may be here at the same moment
        except FileExistsError:
            return {**made, **Node(self.module).before}
        finally:
            os.unlink(new)
        return made

    def able(self) -> dict:
        """What this host runs, as tried. Raises FarmError if its own platform is not among it."""
        own = Platform.parse(self.params["platform"])
        tried = abilities.tried(self.state_dir)
        said = list(filter(None, map(str.strip, self.params["native"])))  # of a text with commas
        native = ([Platform.parse(name) for name in said]
                  or [platform for platform, how in tried.items() if how == abilities.NATIVE])
        if own not in native:
            how = {abilities.EMULATED: "are run by an emulator"}.get(tried[own], "do not run")
            why = (f"farm_native is {', '.join(said)}, without {own}, which BuildKit is compiled for"
                   if said else
                   f"its kernel calls itself {os.uname().machine}, but programs for {own} {how} here")
            raise FarmError(why, hint="set farm_native to the platforms that this host is to run, its own first")
        return {
            "native": [str(own), *(str(platform) for platform in native if platform != own)],
            "emulated": [str(platform) for platform, how in tried.items()
                         if how == abilities.EMULATED and platform not in native],
            "cores": abilities.cores(), "memory": abilities.memory(), "speed": self.speed(),
            "version": self.params["version"], "engine": self.params["engine"],
        }

    def speed(self) -> float:
        """Measured once, as it comes out a little different each time."""
        before = self.before.get("speed")
        return before if isinstance(before, float) and before > 0 else abilities.speed()

    def recorded(self) -> dict:
        """The whole record, which is written if it differs."""
        if self.module.check_mode and not os.path.isdir(self.state_dir):
            return self.before
        found = {**self.named(), **self.able()}
        if found != self.before and not self.module.check_mode:
            files.write(self.path, encode(found))
        return found


def encode(found: dict) -> str:
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        node = Node(module)
        node.refuse()
        after = node.recorded() if module.params["record"] else node.named()
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    changed = after != node.before or (module.check_mode and "id" not in after)
    module.exit_json(changed=changed, node=after, real=os.path.realpath(node.state_dir), cores=abilities.cores(),
                     memory=abilities.memory(), disk=shutil.disk_usage(fitness.existing(node.state_dir)).total,
                     diff={"before": encode(node.before) if node.before else "", "after": encode(after)})


if __name__ == "__main__":
    main()
