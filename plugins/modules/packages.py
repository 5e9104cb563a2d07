#!/usr/bin/python
# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Install Debian packages without python3-apt, and without the services they bring."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install the Debian packages that a role of the farm needs
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Installs packages by apt-get where they are missing. Nothing is upgraded and nothing removed.
  - Unlike M(ansible.builtin.apt) it needs no python3-apt, so that it runs under any Python (a virtual environment's too), and check mode
    tells the truth on a machine that has none.
  - The services that the packages bring are not started at the installation (C(policy-rc.d)). Those in O(quiet) are masked before it as
    well, so that they do not start at the next boot either. Where a package was there before, its services are left as they are.
  - The package lists are fetched only where the installation fails without that.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status without changing anything.
  diff_mode:
    support: full
    description: Returns the packages before and after.
  idempotent:
    support: full
    description: When run twice with the same parameters, the second run changes nothing.
options:
  names:
    description: The packages.
    type: list
    elements: str
    required: true
  quiet:
    description: systemd units that the packages bring and that must not run, as C(NAME.service).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Install the registry without its service
  desimages.farm.packages:
    names: [docker-registry]
    quiet: [docker-registry.service]
"""

RETURN = r"""
installed:
  description: The packages that were missing.
  type: list
  elements: str
  returned: success
  sample: [runc]
versions:
  description: The versions of all the packages. In check mode, of those that are there.
  type: dict
  returned: success
  sample:
    runc: 1.1.5+ds1-1+deb12u1
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

ARGUMENTS = {
    "names": {"type": "list", "elements": "str", "required": True},
    "quiet": {"type": "list", "elements": "str", "default": []},
}
POLICY = "/usr/sbin/policy-rc.d"  # /usr/share/doc/init-system-helpers/README.policy-rc.d.gz
UNITS = "/etc/systemd/system"
APT = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def parse_versions(text: str) -> dict:
    """Lines of `package<TAB>status<TAB>version` -> the versions of what is installed, held or not (dpkg-query(1): the second letter is the state)."""
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1][1:] == "i "}


def versions(module: AnsibleModule) -> dict:
    """package -> version of those of `names` that are installed. Raises FarmError where there is no dpkg."""
    query = ["dpkg-query", "-W", "-f", "${Package}\\t${db:Status-Abbrev}\\t${Version}\\n", *module.params["names"]]
    code, out, err = module.run_command(query, environ_update=ENVIRONMENT)
    if code not in (0, 1):  # 1: some are unknown
        raise FarmError(f"dpkg-query ended with {code}: {err.strip()}", hint="is this a Debian machine?")
    return parse_versions(out)


def apt(module: AnsibleModule, *words: str) -> str:
    """'' or what went wrong."""
    code, out, err = module.run_command([*APT, *words], environ_update=ENVIRONMENT)
    return "" if code == 0 else f"apt-get {' '.join(words)} ended with {code}:\n" + "\n".join((out + err).strip().splitlines()[-15:])


def install(module: AnsibleModule, missing: list) -> None:
    """Install, with no service started; fetch the lists where they are missing or too old."""
    held = os.path.lexists(POLICY)
    if not held:
        with open(POLICY, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)
    try:
        for unit in module.params["quiet"]:
            os.makedirs(UNITS, exist_ok=True)
            if not os.path.lexists(f"{UNITS}/{unit}"):
                os.symlink("/dev/null", f"{UNITS}/{unit}")
        words = ["install", "--no-install-recommends", *missing]
        problem = apt(module, *words)
        if problem:
            problem = apt(module, "update") or apt(module, *words)
        if problem:
            raise FarmError(f"cannot install {', '.join(missing)}: {problem}", hint="run the same apt-get by hand on that machine")
    finally:
        if not held:
            os.unlink(POLICY)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        before = versions(module)
        missing = [name for name in module.params["names"] if name not in before]
        if missing and not module.check_mode:
            install(module, missing)
        after = versions(module) if missing and not module.check_mode else before
    except FarmError as error:
        module.fail_json(**error.as_result())
    diff = {
        "before": "".join(f"{name} {before[name]}\n" for name in sorted(before)),
        "after": "".join(f"{name} {after.get(name, '(newest)')}\n" for name in sorted({*after, *missing})),
    }
    module.exit_json(changed=bool(missing), installed=missing, versions=after, diff=diff)


if __name__ == "__main__":
    main()
