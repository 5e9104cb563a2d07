#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report which programs must be copied to a host, without hashing those that were copied."""

from __future__ import annotations

DOCUMENTATION = r"""
module: installed
short_description: Report which programs must be copied to a host, without hashing those that were copied
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Compares a folder of programs with the wanted sha256s. If a program was found correct once, a stamp in the folder
    (C(installed.json)) records this together with its inode, size and mtime. While these stay the same, it is not
    hashed again.
  - Creates the folder. With O(record), fails if a program is not the wanted one.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status without changing anything.
  diff_mode:
    support: none
    description: A binary has no diff; RV(missing) says which must be copied.
  idempotent:
    support: full
    description: When run twice with the same parameters, the second run changes nothing.
options:
  folder:
    description: The folder that the programs are in.
    type: path
    required: true
  programs:
    description: The programs, as a mapping from a name to a dictionary with C(sha256), as M(desimages.farm.go_build)
      returns it.
    type: dict
    required: true
  record:
    description: Fail if a program is missing or not the wanted one.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look which programs are to be copied
  desimages.farm.installed:
    folder: /var/lib/desimages/bin
    programs: "{{ compiled.programs }}"
  register: there
"""

RETURN = r"""
missing:
  description: The names of programs that are missing, or are not the wanted ones.
  type: list
  elements: str
  returned: success
  sample: [buildkitd]
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import files, state, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, system_error

ARGUMENTS = {
    "folder": {"type": "path", "required": True},
    "programs": {"type": "dict", "required": True},
    "record": {"type": "bool", "default": False},
}


def look(folder: str, wanted: dict) -> tuple:
    """(the stamp as it is, as it should be): name -> sha256 and what identifies the file. A name is missing from the
    second if its program has to be copied."""
    try:
        before = json.loads(supervisors.read(f"{folder}/installed.json") or "{}")
    except (ValueError, RecursionError):
        before = {}
    before = before if isinstance(before, dict) else {}
    after = {}
    for name, sha256 in wanted.items():
        entry = {"sha256": sha256, **supervisors.program(f"{folder}/{name}")}
        if len(entry) > 1 and (before.get(name) == entry or files.sha256_of(f"{folder}/{name}") == sha256):
            after[name] = entry
    return before, after


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    folder, wanted = module.params["folder"], {name: one["sha256"] for name, one in module.params["programs"].items()}
    try:
        there = os.path.isdir(folder)
        if not there:
            state.claim(os.path.dirname(folder), module.check_mode)
        if not there and not module.check_mode:
            os.mkdir(folder, 0o755)
        before, after = look(folder, wanted)
        missing = sorted(set(wanted) - set(after))
        if missing and module.params["record"]:
            raise HashMismatch(f"{', '.join(missing)} in {folder} differs from what was copied there",
                               hint="run again; if it happens twice, check that host's disk and memory")
        if after != before and not module.check_mode:
            files.write(f"{folder}/installed.json", json.dumps(after, indent=1, sort_keys=True) + "\n")
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(changed=not there, missing=missing)


if __name__ == "__main__":
    main()
