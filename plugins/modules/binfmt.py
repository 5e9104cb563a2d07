#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register the emulators of qemu-user with the kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: binfmt
short_description: Register the emulators of qemu-user with the kernel
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Mounts binfmt_misc if it is not mounted, and registers the handlers of Debian's qemu-user-static with the kernel, in
    the same way as systemd-binfmt.
  - Fails if a handler lacks the flag C(F), because it would not work in containers.
requirements:
  - qemu-user-static
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status without changing anything.
  diff_mode:
    support: full
    description: Returns the enabled handlers before and after.
  idempotent:
    support: full
    description: When run twice with the same parameters, the second run changes nothing.
options:
  handlers:
    description: The handlers that must be enabled, such as V(qemu-aarch64).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Let this host run programs for arm64
  desimages.farm.binfmt:
    handlers: [qemu-aarch64]
"""

RETURN = r"""
handlers:
  description: The requested handlers that are enabled now.
  type: list
  elements: str
  returned: success
  sample: [qemu-aarch64]
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error

ARGUMENTS = {"handlers": {"type": "list", "elements": "str", "required": True}}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\Z")  # becomes part of a path that root writes to
FOLDER = "/proc/sys/fs/binfmt_misc"
NEEDS = "it needs root, and a kernel with binfmt_misc"
# in the order of binfmt.d(5)
DESCRIPTIONS = ("/etc/binfmt.d", "/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d")


def handler(text: str) -> tuple:
    """Parses a handler's file: (enabled, flags)."""
    lines = text.splitlines()
    flags = [line.split(":", 1)[1].strip() for line in lines if line.startswith("flags:")]
    return lines[:1] == ["enabled"], (flags or [""])[0]


def enabled(names: list) -> list:
    """The names that are enabled. Raises FarmError for a handler that cannot work in a container, also if it is
    disabled."""
    found = []
    for name in names:
        try:
            with open(os.path.join(FOLDER, name), encoding="ascii") as file:
                on, flags = handler(file.read())
        except OSError:
            continue
        if "F" not in flags:
            raise FarmError(
                f"the kernel's handler {name} has the flags {flags!r}, without F, so it does not work in containers",
                hint=f"remove it (`echo -1 > {FOLDER}/{name}`) and run this again",
            )
        if on:
            found.append(name)
    return found


def description(name: str, folders: tuple = DESCRIPTIONS) -> str:
    """The line of binfmt.d that registers a handler; '' if there is none. The first folder that has the file counts."""
    for folder in folders:
        try:
            with open(os.path.join(folder, f"{name}.conf"), encoding="ascii", errors="replace") as file:
                return next((line.strip() for line in file if line.startswith(f":{name}:")), "")
        except FileNotFoundError:
            continue
    return ""


def register(name: str) -> None:
    """Enables a handler that the kernel knows, or registers it."""
    known = os.path.join(FOLDER, name)
    words = "1" if os.path.exists(known) else description(name)
    if not words:
        raise FarmError(f"binfmt.d has no {name}.conf for the handler {name}",
                        hint=f"install qemu-user-static; looked in {', '.join(DESCRIPTIONS)}")
    if words != "1" and "F" not in words.rpartition(":")[2]:
        raise FarmError(f"binfmt.d describes the handler {name} without the flag F: it would not work in containers",
                        hint=f"add that flag in {name}.conf, in {', '.join(DESCRIPTIONS)}")
    try:
        with open(known if words == "1" else os.path.join(FOLDER, "register"), "w", encoding="ascii") as file:
            file.write(words)
    except OSError as error:
        raise FarmError(f"the kernel does not accept the handler {name}: {error}", hint=NEEDS) from error


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted = sorted(set(module.params["handlers"]))
    try:
        if wrong := [name for name in wanted if not NAME.match(name)]:
            raise FarmError(f"handlers: {', '.join(map(repr, wrong))} is not a valid name",
                            hint="a name has letters, digits and . _ + -")
        before = after = enabled(wanted)
        missing = [name for name in wanted if name not in before]
        if missing and not module.check_mode:
            if not os.path.exists(os.path.join(FOLDER, "register")):
                code, out, err = programs.call(["mount", "-t", "binfmt_misc", "none", FOLDER])
                if code != 0:
                    raise FarmError(f"binfmt_misc cannot be mounted: {(err or out).strip()}", hint=NEEDS)
            for name in missing:
                register(name)
            after = enabled(wanted)
            if after != wanted:
                lacking = ", ".join(sorted(set(wanted) - set(after)))
                raise FarmError(f"the kernel has no handler for {lacking}", hint=f"see {FOLDER}")
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    after = wanted if module.check_mode else after
    diff = {"before": "".join(f"{name}\n" for name in before), "after": "".join(f"{name}\n" for name in after)}
    module.exit_json(changed=bool(missing), handlers=after, diff=diff)


if __name__ == "__main__":
    main()
