#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report in one quick call whether this host's part of the farm is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Check in one quick call whether a host's part of the farm is healthy
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Reads what the last provisioning recorded (C(provisioned.json) in the state folder) and checks that it still holds.
    The roles and variables (O(fingerprint)), the descriptions of the services and their programs must still be the
    same. The services must run, and their ports and sockets must accept connections.
  - Programs that a service runs itself (O(desimages.farm.supervised#module:needs)), such as the C(runc) of a node, must
    exist. Their version may have changed, because their owner may upgrade them; provisioning checks the version.
  - A play that finds the host healthy can skip its roles.
  - With O(record), it writes that file, as the last step of a provisioning.
  - If the runner of M(desimages.farm.build) is on the host, the runner answers, which is faster than an Ansible module.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). Without O(record) it changes nothing in any mode.
  diff_mode:
    support: full
    description: Returns the record before and after.
  idempotent:
    support: full
    description: When run twice, the second run changes nothing.
options:
  state_dir:
    description: The farm's state folder.
    type: path
    required: true
  fingerprint:
    description: The hash of the roles and variables, see the lookup P(desimages.farm.settings#lookup).
    type: str
    required: true
  services:
    description: The services that must exist.
    type: list
    elements: str
    required: true
  controller_state:
    description: The controller's own folder, which has its id.
    type: path
    default: ""
  controller:
    description: The controller that asks; by default the one in O(controller_state). Its id shows whether the host
      works for another controller now; name and version are recorded.
    type: dict
    default: {}
    suboptions:
      id:
        description: A random id that the controller keeps.
        type: str
      name:
        description: Its name for people.
        type: str
      version:
        description: The version of its farm code.
        type: str
  record:
    description: Record that the host is provisioned. Fails if it is unhealthy.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look at the farm
  desimages.farm.probe:
    state_dir: "{{ farm_state }}"
    fingerprint: "{{ lookup('desimages.farm.settings').fingerprint }}"
    services: [registry, buildkitd]
  register: probed
"""

RETURN = r"""
well:
  description: Whether everything is as it was provisioned, and running.
  type: bool
  returned: success
  sample: true
reasons:
  description: Why it is unhealthy.
  type: list
  elements: str
  returned: success
  sample: [buildkitd does not run]
engine:
  description: The engine id that was proven on this host; empty if there is none.
  type: str
  returned: success
  sample: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
other:
  description: The name of another controller that this host works for now; empty if there is none.
  type: str
  returned: success
  sample: somebody on a laptop
node:
  description: What is known of this node, from C(etc/node.json) in its state folder. Empty if the host is not a node.
  type: dict
  returned: success
  sample: {native: [linux/arm64, linux/arm/v7], cores: 4}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import programs, state
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error
from ansible_collections.desimages.farm.plugins.module_utils.wellness import Host

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "fingerprint": {"type": "str", "required": True},
    "services": {"type": "list", "elements": "str", "required": True},
    "controller_state": {"type": "path", "default": ""},
    "controller": {"type": "dict", "default": {}, "options": {
        "id": {"type": "str"}, "name": {"type": "str"}, "version": {"type": "str"}}},
    "record": {"type": "bool", "default": False},
}


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        host = Host(module.params["state_dir"], module.params["fingerprint"], module.params["services"],
                    programs.call, module.params["controller"])
        if not module.params["record"]:
            module.exit_json(**host.as_result())
        if host.problems and not module.check_mode:
            said = "; ".join(host.problems)
            raise FarmError(f"the host is provisioned, but unhealthy: {said}",
                            hint="check the logs (`make status` shows where they are)")
        changed = bool(host.moved())
        if changed and not module.check_mode:
            host.record()
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(changed=changed, well=not host.problems, reasons=host.problems, engine=host.engine,
                     node=host.node, diff={"before": host.recorded, "after": host.due})


if __name__ == "__main__":
    main()
