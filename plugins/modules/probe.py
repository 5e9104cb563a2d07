#!/usr/bin/python
# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Tell in one quick call whether this host's part of the farm is as it was provisioned, and up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Tell in one quick call whether a host's part of the farm is well
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Looks at what the last provisioning wrote down (C(provisioned.json) in the state folder) and whether it still holds. It was made from
    the same roles and variables (O(fingerprint)), the services are described as then, their programs are the same files, they run, and
    their ports and sockets take connections.
  - A play that finds the host well can leave its roles out.
  - With O(record) it writes that file, as the last step of a provisioning.
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
    description: Names the roles and variables, see the lookup P(desimages.farm.settings#lookup).
    type: str
    required: true
  services:
    description: The services that must be there.
    type: list
    elements: str
    required: true
  record:
    description: Write down that the host is provisioned. Fails where it is not well.
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
  description: Whether all is as it was provisioned, and up.
  type: bool
  returned: success
  sample: true
reasons:
  description: Why it is not well.
  type: list
  elements: str
  returned: success
  sample: [buildkitd does not run]
engine:
  description: The engine id that was proven on this host, empty where there is none.
  type: str
  returned: success
  sample: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import readiness, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc
from ansible_collections.desimages.farm.plugins.module_utils.supervision import Claims, Service, digest

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "fingerprint": {"type": "str", "required": True},
    "services": {"type": "list", "elements": "str", "required": True},
    "record": {"type": "bool", "default": False},
}


def load(path: str) -> dict:
    try:
        return json.loads(supervisors.read(path) or "{}")
    except ValueError:
        return {}


class Probe:
    """One host's part of the farm."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.state_dir = module.params["state_dir"].rstrip("/")
        self.path = os.path.join(self.state_dir, "provisioned.json")
        self.recorded = load(self.path)
        self.engine = load(os.path.join(self.state_dir, "engine.json")).get("id", "")
        self.now = {"fingerprint": module.params["fingerprint"], "engine": self.engine, "services": {}}

    def look_at(self, name: str) -> str:
        """'' where the service is well, else why not."""
        found, text = supervisors.definition_of(self.state_dir, name)
        if not found:
            return f"{name} is not there"
        self.now["services"][name] = digest(text)
        path = found["command"][0] if found.get("command") else ""
        if supervisors.program(path) != found.get("program"):
            return f"{path} is not the program that {name} was started with"
        service = Service(name=name, state_dir=self.state_dir)
        status = supervisors.KINDS[found["supervisor"]](service, self.module.run_command, Proc()).status()
        if not status.running:
            return f"{name} does not run"
        claims = found["claims"]
        problem = readiness.claims_answer(Claims(ports=tuple(claims["ports"]), sockets=tuple(claims["sockets"])))
        return f"{name} does not answer: {problem}" if problem else ""

    def reasons(self) -> list:
        """Why the host is not well, without a look at the record."""
        return [problem for problem in map(self.look_at, self.module.params["services"]) if problem]

    def moved(self) -> list:
        """How what is there differs from what was recorded."""
        if not self.recorded:
            return ["it was never provisioned"]
        said = {
            "fingerprint": "the roles or the variables changed since it was provisioned",
            "engine": "the engine is not the one that was proven",
            "services": "a service is described otherwise than when it was provisioned",
        }
        return [text for key, text in said.items() if self.recorded.get(key) != self.now[key]]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    record = module.params["record"]
    try:
        probe = Probe(module)
        reasons, moved = probe.reasons(), probe.moved()
        if record and reasons and not module.check_mode:
            said = "; ".join(reasons)
            raise FarmError(f"the farm is not well after it was provisioned: {said}", hint="see log/ in the state folder")
        changed = record and bool(moved)
        if changed and not module.check_mode:
            supervisors.write(probe.path, json.dumps(probe.now, indent=1, sort_keys=True) + "\n", 0o644)
    except FarmError as error:
        module.fail_json(**error.as_result())
    result = {"changed": changed, "well": not (reasons or (moved and not record)), "reasons": reasons + ([] if record else moved)}
    if record:
        result["diff"] = {"before": probe.recorded, "after": probe.now}
    module.exit_json(engine=probe.engine, **result)


if __name__ == "__main__":
    main()
