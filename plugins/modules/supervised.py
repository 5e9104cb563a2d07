#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one service of the farm, with or without systemd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supervised
short_description: Run a service of the farm, with or without systemd
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Runs one service under systemd if that is PID 1, and otherwise under runit (C(runsv) in a session of its own,
    C(svlogd) for its log). The parameters are the same.
  - The service outlives the playbook, is restarted when it crashes, and has a log that is rotated.
  - Compares the recorded description with the wanted one, including the program itself. The service is restarted only
    if something differs.
  - If another process uses a port, unix socket or data folder that the service claims, the module refuses to start the
    service and names that process. It refuses a unit or slice of the same name that something else made, or that is
    masked, and a socket in a folder that other users can write to.
  - Under systemd the service also starts at boot. Without systemd nothing starts at boot; run the provisioning again.
requirements:
  - runit, on machines without systemd
attributes:
  check_mode:
    support: full
    description:
      - Can run in C(check_mode) and return changed status without changing anything.
      - If another process uses one of O(claims), the module fails in check mode too.
  diff_mode:
    support: full
    description:
      - Returns the files that differ, and whether the service runs.
      - Only the names of the environment and the paths of O(secret_files) are shown. A file in O(files) that contains a
        private key is not shown either.
  idempotent:
    support: full
    description: When run twice with the same parameters, the second run changes nothing.
options:
  name:
    description: Name of the service, in lower case letters, digits and dashes.
    type: str
    required: true
  state:
    description: What the service should be.
    type: str
    default: started
    choices:
      started: It runs as described, and answers.
      stopped: It does not run, neither now nor after a boot. Its description and data stay.
      absent: It does not run, and its description, O(files), O(secret_files) and log do not exist. Its data stay.
  state_dir:
    description: The farm's state folder. The service is described in C(services/NAME) in it, and its log is in
      C(log/NAME).
    type: path
    required: true
  supervisor:
    description: Which supervisor runs it.
    type: str
    default: auto
    choices:
      auto: systemd if it is PID 1, otherwise runit.
      runit: Always runit.
      systemd: Always systemd.
  command:
    description: The program and its arguments. The program is an absolute path. Required for O(state=started).
    type: list
    elements: str
  after:
    description:
      - A command that runs each time the service has ended, for any reason, as the user that runs the supervisor.
      - It cleans up what a killed service leaves behind.
    type: list
    elements: str
  needs:
    description:
      - Programs that the service runs itself, as absolute paths. If one of them is missing, M(desimages.farm.probe)
        says so.
      - They may belong to the host's owner. A new version in the same place does not restart the service, unlike a new
        version of the program in O(command).
    type: list
    elements: path
    default: []
  environment:
    description:
      - The environment of the service. Apart from it, only PATH, HOME, LANG and a marker are set.
      - Values may be secrets. They are in a file that only root can read, not in arguments or in the unit, and are
        shown nowhere.
    type: dict
    default: {}
  directory:
    description: Working directory.
    type: path
    default: /
  user:
    description: The user that the service runs as. By default the user that runs the module.
    type: str
  limits:
    description: Soft resource limits. Without systemd they cannot exceed the existing hard limit.
    type: dict
    default: {}
    suboptions:
      core:
        description: Size of core files, in bytes.
        type: int
      nofile:
        description: Open files.
        type: int
      nproc:
        description: Processes of the user.
        type: int
  files:
    description:
      - Files that belong to the service, as a mapping from path to content. A change restarts the service.
      - They belong to root, and the group of O(user) can read them; without O(user), only root can.
    type: dict
    default: {}
  secret_files:
    description: The same for files whose content is shown nowhere, such as keys.
    type: dict
    default: {}
  ready:
    description: How the service shows that it is up.
    type: dict
    suboptions:
      http:
        description: A URL that answers with a status below 500.
        type: str
      certificate:
        description: A PEM file on the host with the certificate that O(ready.http) must show. Without it, the host must
          trust the certificate.
        type: path
      unix:
        description: A unix socket that accepts a connection.
        type: path
      command:
        description: A command that exits with 0.
        type: list
        elements: str
      timeout:
        description: How many seconds it may take. If the service crashes again and again, the module stops waiting
          after half a minute.
        type: int
        default: 30
  claims:
    description: What only this service may use.
    type: dict
    suboptions:
      ports:
        description: Addresses that it listens on, as C(ADDRESS:PORT).
        type: list
        elements: str
        default: []
      sockets:
        description: Unix sockets that it listens on.
        type: list
        elements: path
        default: []
      data:
        description: Its data folders. Missing ones are created, for O(user) only. An empty one of the user that runs
          the module, such as a disk that was just mounted there, is given to O(user).
        type: list
        elements: path
        default: []
  delegate:
    description: Under systemd, let the service manage its own part of the cgroup tree.
    type: bool
    default: false
  share:
    description:
      - How much of the machine the service may use.
      - Under systemd, O(share.memory) and O(share.weight) apply to a slice of its own, C(desimages_NAME.slice).
        Programs that the service starts in other cgroups of that slice count too.
    type: dict
    suboptions:
      memory:
        description: The most memory that it may use, such as V(900M). Without systemd there is no limit.
        type: str
      weight:
        description:
          - Its weight for processor time and disk, from 1 to 10000. Other services and users have 100 each.
          - Without systemd, a weight below 100 gives the service a nice value of 5 and the lowest priority at the disk.
        type: int
      oom:
        description: What is added to the scores of its processes, from -1000 to 1000. If memory runs out, the process
          with the highest score is killed.
        type: int
  confined:
    description: Under systemd, what the service cannot reach.
    type: str
    default: "no"
    choices:
      "no": It is not confined.
      builder: It may mount, and start containers. It writes only to O(claims.data), the folders of O(claims.sockets),
        and C(/run); it has no capabilities that build steps never have.
      server: It has no privileges, and writes only to O(claims.data).
  stop_timeout:
    description: How many seconds the service may take to end before it is killed.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Run a registry on loopback
  desimages.farm.supervised:
    name: registry
    state_dir: /var/lib/desimages
    command: [/usr/bin/docker-registry, serve, /var/lib/desimages/etc/registry.yml]
    files:
      /var/lib/desimages/etc/registry.yml: "{{ lookup('ansible.builtin.template', 'registry.yml.j2') }}"
    ready:
      http: http://127.0.0.1:5000/v2/
    claims:
      ports: ["127.0.0.1:5000"]
      data: [/var/lib/desimages/registry]

- name: Stop it
  desimages.farm.supervised:
    name: registry
    state_dir: /var/lib/desimages
    state: stopped
"""

RETURN = r"""
service:
  description: The service as it is now.
  type: dict
  returned: success
  sample:
    name: registry
    supervisor: runit
    running: true
    pid: 4711
    log: /var/lib/desimages/log/registry/current
    definition: 2cf24dba5fb0a30e
reasons:
  description: Why something was changed. Empty if nothing was changed.
  type: list
  elements: str
  returned: success
  sample: [files changed]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import state
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error
from ansible_collections.desimages.farm.plugins.module_utils.supervising import Supervised

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "default": "started", "choices": ["started", "stopped", "absent"]},
    "state_dir": {"type": "path", "required": True},
    "supervisor": {"type": "str", "default": "auto", "choices": ["auto", "runit", "systemd"]},
    "command": {"type": "list", "elements": "str"},
    "after": {"type": "list", "elements": "str"},
    "needs": {"type": "list", "elements": "path", "default": []},
    "environment": {"type": "dict", "default": {}},
    "directory": {"type": "path", "default": "/"},
    "user": {"type": "str"},
    "limits": {
        "type": "dict",
        "default": {},
        "options": {"core": {"type": "int"}, "nofile": {"type": "int"}, "nproc": {"type": "int"}},
    },
    "files": {"type": "dict", "default": {}},
    "secret_files": {"type": "dict", "default": {}, "no_log": True},
    "ready": {
        "type": "dict",
        "options": {
            "http": {"type": "str"},
            "certificate": {"type": "path"},
            "unix": {"type": "path"},
            "command": {"type": "list", "elements": "str"},
            "timeout": {"type": "int", "default": 30},
        },
        "mutually_exclusive": [("http", "unix", "command")],
    },
    "claims": {
        "type": "dict",
        "options": {
            "ports": {"type": "list", "elements": "str", "default": []},
            "sockets": {"type": "list", "elements": "path", "default": []},
            "data": {"type": "list", "elements": "path", "default": []},
        },
    },
    "delegate": {"type": "bool", "default": False},
    "share": {"type": "dict", "options": {"memory": {"type": "str"}, "weight": {"type": "int"},
                                          "oom": {"type": "int"}}},
    "confined": {"type": "str", "default": "no", "choices": ["no", "builder", "server"]},
    "stop_timeout": {"type": "int", "default": 30},
}


class Module(AnsibleModule):
    """An AnsibleModule that keeps secret parameters out of its result and of the host's log."""

    def log(self, msg, log_args=None) -> None:
        super().log(f"Invoked for the service {self.params.get('name')}")

    def shown(self) -> dict:
        values = {key: self.params.get(key) for key in ("environment", "files", "secret_files")}
        masked = {key: sorted(value) if isinstance(value, dict) else "(not shown)" for key, value in values.items()}
        return {"invocation": {"module_args": {**self.params, **masked}}}

    def exit_json(self, **result) -> None:
        super().exit_json(**{**self.shown(), **result})

    def fail_json(self, msg, **result) -> None:
        super().fail_json(msg, **{**self.shown(), **result})


def main() -> None:
    state.open_umask()
    module = Module(argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("state", "started", ["command"])])
    try:
        service = Supervised(module.params, module.check_mode)
        result = {"started": service.started, "stopped": service.stopped,
                  "absent": service.absent}[module.params["state"]]()
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(changed=result.pop("changed"), diff=result.pop("diff"), **result)


if __name__ == "__main__":
    main()
