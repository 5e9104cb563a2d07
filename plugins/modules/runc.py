#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the runc of a host, whoever installed it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runc
short_description: Find the runc of a host, whoever installed it
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Looks for a runc that BuildKit can use, and returns its version. It may come from Debian's package, Docker's own
    containerd.io, or a file that somebody copied there.
  - Asks each program of that name for its version. A program is not used if it is too old, was compiled without
    seccomp, does not run, or is another runtime under that name; the result says why.
  - Searches V(/usr/local/sbin), V(/usr/local/bin), V(/usr/sbin), V(/usr/bin), V(/sbin), V(/bin), then the folders of
    C(PATH). Takes the first program that can be used.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). It changes nothing in any mode.
  diff_mode:
    support: none
    description: There is nothing to show.
  idempotent:
    support: full
    description: It changes nothing.
options:
  path:
    description:
      - The program to use, whatever its name.
      - The module then does not look for another one, and fails if this one cannot be used.
    type: path
    default: ''
  minimum:
    description: The oldest version that can be used.
    type: str
    required: true
  required:
    description: Fail if there is none.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look for runc
  desimages.farm.runc:
    minimum: 1.1.0
"""

RETURN = r"""
path:
  description: The program that can be used. Empty if there is none.
  type: str
  returned: success
  sample: /usr/sbin/runc
version:
  description: Its version, as it prints it. Empty if there is none.
  type: str
  returned: success
  sample: 1.1.5+ds1
refused:
  description: The programs that cannot be used, each with the reason.
  type: list
  elements: str
  returned: success
  sample: ["/usr/local/bin/runc is not runc: it says 'crun version 1.8.1'"]
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import programs, supervision
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error

ARGUMENTS = {
    "path": {"type": "path", "default": ""},
    "minimum": {"type": "str", "required": True},
    "required": {"type": "bool", "default": False},
}
SECONDS = 20  # for --version; a busy machine takes one


def parse_version(text: str) -> str:
    """`runc version 1.1.5+ds1` (first line of `runc --version`) -> 1.1.5+ds1; '' for any other program."""
    found = re.match(r"runc version (\d+\.\d+\.\d\S*)\s*(?:\n|\Z)", text)
    return found[1] if found else ""


def numbers(version: str) -> tuple:
    """1.1.5+ds1 -> (1, 1, 5). The rest does not count: release candidates have the options of their version."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def candidates(path: str) -> list:
    """The programs named runc, in the order of the path, each file once."""
    found = {}
    for folder in [*supervision.PATH.split(":"), *path.split(":")]:
        program = f"{folder}/runc"
        if folder.startswith("/") and os.path.isfile(program) and os.access(program, os.X_OK):
            found.setdefault(os.path.realpath(program), program)
    return list(found.values())


def look_at(program: str, minimum: str) -> tuple:
    """(its version, '' or why it cannot be used)."""
    try:
        done = programs.run([program, "--version"], seconds=SECONDS)
    except programs.Overdue:
        return "", f"{program} --version did not end within {SECONDS} s"
    except FarmError as error:
        return "", str(error)
    if done.code:
        return "", f"{program} --version failed with {done.code}: {' '.join((done.err or done.out).split())[-200:]}"
    version = parse_version(done.out)
    if not version:
        return "", f"{program} is not runc: it says {(done.out.splitlines() or [''])[0][:60]!r}"
    if numbers(version) < numbers(minimum):
        return "", f"{program} is runc {version}, but BuildKit needs {minimum} or later"
    if not re.search(r"(?m)^libseccomp:", done.out):  # BuildKit gives each step a seccomp profile
        return "", f"{program} is runc {version}, but compiled without seccomp, which BuildKit needs"
    return version, ""


def find(path: str, minimum: str) -> tuple:
    """(program, its version, why others cannot be used); empty texts if none can be used.

    Raises FarmError if `path` is given and cannot be used.
    """
    hint = (
        f"set buildkitd_runc to a runc of version {minimum} or later, or leave it empty:"
        " then the role looks for one, and installs Debian's if there is none"
    )
    if path and not path.startswith("/"):
        raise FarmError(f"{path!r} is not the absolute path of a runc", hint=hint)
    refused = []
    for program in [path] if path else candidates(os.environ.get("PATH", "")):
        version, problem = look_at(program, minimum)
        if not problem:
            return program, version, refused
        if path:
            raise FarmError(f"BuildKit cannot use the runc in buildkitd_runc: {problem}", hint=hint)
        refused.append(problem)
    return "", "", refused


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    minimum = module.params["minimum"]
    try:
        path, version, refused = find(module.params["path"], minimum)
        if module.params["required"] and not path:
            raise FarmError(
                "\n".join(
                    [
                        f"BuildKit cannot use any runc in {supervision.PATH.replace(':', ', ')} or PATH",
                        *refused,
                    ]
                ),
                hint=f"install a runc of version {minimum} or later, or set buildkitd_runc to one",
            )
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    module.exit_json(changed=False, path=path, version=version, refused=refused)


if __name__ == "__main__":
    main()
