#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report for which platforms a host can try images, and whether its engine answers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tester
short_description: Report for which platforms a host can try images
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Checks whether the Docker Engine or Podman on this host answers, and tries which platforms' programs the host runs,
    natively or by an emulator.
  - Fails if the engine does not answer, or if it does not see the processes of this host (such as an engine in a
    container).
requirements:
  - docker (the Python SDK), 5.0.3 or later
attributes:
  check_mode: {support: full, description: Can run in C(check_mode) and return changed status without a change.}
  diff_mode: {support: none, description: It changes nothing that exists.}
  idempotent: {support: full, description: A second run changes nothing.}
options:
  state_dir:
    description: The farm's state folder, which is made if it is missing. While programs are tried, they are in
      C(tester) in this folder.
    type: path
    required: true
  socket:
    description: The engine's unix socket.
    type: path
    required: true
  emulate:
    description: The platforms that an emulator may run here. Other platforms count only if the host runs them natively,
      whatever emulators the kernel knows.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: See what this host can try
  desimages.farm.tester:
    state_dir: /var/lib/desimages
    socket: /var/lib/desimages/tester/docker.sock
"""

RETURN = r"""
runs:
  description: The platforms whose programs run, each with V(native) or V(emulated).
  returned: success
  type: dict
  sample: {linux/amd64: native, linux/s390x: emulated}
emulators:
  description: The emulator of each platform that is emulated, as it names itself.
  returned: success
  type: dict
  sample: {linux/s390x: qemu-s390x 7.2.22}
engine:
  description: The engine and its version, as it names itself.
  returned: success
  type: str
  sample: Docker 20.10.24
"""

import os
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.desimages.farm.plugins.module_utils import abilities, fitness, state
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error
from ansible_collections.desimages.farm.plugins.module_utils.trial_container import engine_process

try:
    import docker
except ImportError:
    LACKING = traceback.format_exc()
else:
    LACKING = ""

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "socket": {"type": "path", "required": True},
    "emulate": {"type": "list", "elements": "str", "default": []},
}
PATIENCE = 30  # seconds for an answer of the engine


def engine_name(socket: str) -> str:
    """The engine's name and version: `Docker 20.10.24`, `Podman 5.4.2`. Raises DockerException, OSError."""
    engine = docker.DockerClient(base_url=f"unix://{socket}", version="auto", timeout=PATIENCE)  # see module contract
    try:
        said = engine.version()
    finally:
        engine.close()
    first = ((said.get("Components") or [{}])[0].get("Name") or "Docker").split()[0]
    return f"{first} {said.get('Version', '')}".strip()


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if LACKING:
        module.fail_json(msg=missing_required_lib("docker"), exception=LACKING)
    place, socket = os.path.join(module.params["state_dir"], "tester"), module.params["socket"]
    try:
        engine = engine_name(socket)
        engine_process(socket)
        new = not os.path.isdir(place)
        state.claim(module.params["state_dir"], module.check_mode)
        if not module.check_mode:
            os.makedirs(place, mode=0o700, exist_ok=True)
        place = fitness.existing(place)
        ways = {str(platform): way for platform, way in abilities.ways(place).items()
                if way[0] == abilities.NATIVE or str(platform) in module.params["emulate"]}
    except FarmError as error:
        module.fail_json(**error.as_result())
    except docker.errors.DockerException as error:
        module.fail_json(msg=f"the engine at {socket} does not answer: {error}")
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(changed=new, engine=engine,
                     runs={platform: how for platform, (how, _name) in ways.items() if how != abilities.NOT},
                     emulators={platform: name for platform, (_how, name) in ways.items() if name})


if __name__ == "__main__":
    main()
