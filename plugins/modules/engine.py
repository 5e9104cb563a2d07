#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove by a golden build that a node's BuildKit gives the expected bytes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine
short_description: Prove by a golden build that a node's BuildKit gives the expected bytes
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Builds a small fixed context with the settings that every image of the farm is built with. Pushes nothing and needs
    no network.
  - The digest of the result is the node's engine id. Nodes with the same engine id give the same digests for the same
    inputs.
  - Fails if the id is not the expected one. The result is recorded with the sha256 of buildkitd, and the build is not
    repeated for the same binary.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status without building anything.
  diff_mode:
    support: full
    description: Returns the engine id before and after.
  idempotent:
    support: full
    description: When run twice with the same buildkitd, the second run builds nothing.
options:
  buildkitd:
    description: The binary that runs on the node.
    type: path
    required: true
  buildctl:
    description: Its client.
    type: path
    required: true
  address:
    description: Where buildkitd listens, such as V(unix:///run/buildkit/buildkitd.sock).
    type: str
    required: true
  state_dir:
    description: The farm's state folder. The result is recorded there in C(engine.json).
    type: path
    required: true
  version:
    description: The version that buildkitd must report.
    type: str
    required: true
  expected:
    description: The engine id that this version must give. If given, the build in gzip must also have the digest that
      the farm knows. If not given, the module only returns the id.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Prove the engine
  desimages.farm.engine:
    buildkitd: /var/lib/desimages/bin/buildkitd
    buildctl: /var/lib/desimages/bin/buildctl
    address: unix:///run/buildkit/buildkitd.sock
    state_dir: /var/lib/desimages
    version: v0.34.2
    expected: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
"""

RETURN = r"""
engine:
  description: The result. In check mode, the id is empty if it has not been proven yet.
  type: dict
  returned: success
  sample:
    id: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
    version: v0.34.2
    buildkitd: 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
"""

import hashlib
import json
import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import files, golden, programs, state, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, system_error

LONGEST = 600  # seconds that the golden build may take
ARGUMENTS = {
    "buildkitd": {"type": "path", "required": True},
    "buildctl": {"type": "path", "required": True},
    "address": {"type": "str", "required": True},
    "state_dir": {"type": "path", "required": True},
    "version": {"type": "str", "required": True},
    "expected": {"type": "str", "default": ""},
}


def known(path: str) -> str:
    """The sha256 of a program; '' if it is missing."""
    try:
        return files.sha256_of(os.path.realpath(path))
    except FileNotFoundError:
        return ""


def inputs() -> str:
    """A hash of the golden build's inputs."""
    found = hashlib.sha256(json.dumps(golden.COMPRESSIONS, sort_keys=True).encode())
    for entry in golden.context():
        found.update(repr(entry).encode())
    return found.hexdigest()


def lay_out(folder: str) -> None:
    """Writes the context with its modes and times, whatever the umask is."""
    entries = list(golden.context())
    for entry in entries:
        path = os.path.join(folder, entry.path)
        if entry.folder:
            os.mkdir(path)
        elif entry.target:
            os.symlink(entry.target, path)
        else:
            with open(path, "wb") as file:
                file.write(entry.content)
        if not entry.target:
            os.chmod(path, entry.mode)
    for entry in reversed(entries):  # folders after what is in them
        os.utime(os.path.join(folder, entry.path), (entry.mtime, entry.mtime), follow_symlinks=False)


class Engine:
    """One node's BuildKit."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.stamp = os.path.join(self.params["state_dir"], "engine.json")
        self.wanted = {"version": self.params["version"], "buildkitd": known(self.params["buildkitd"]),
                       "inputs": inputs()}

    def proven(self) -> dict:
        """What engine.json says; {} if it is not about this binary."""
        try:
            found = json.loads(supervisors.read(self.stamp) or "{}")
        except ValueError:
            return {}
        return found if found.get("id") and {key: found.get(key) for key in self.wanted} == self.wanted else {}

    def call(self, words: list) -> str:
        done = programs.run(words, seconds=LONGEST,
                            environment={**os.environ, "LC_ALL": "C.UTF-8", "BUILDKIT_HOST": ""})
        if done.code != 0:
            raise FarmError(
                f"the golden build failed with {done.code}:\n"
                + "\n".join((done.out + done.err).strip().splitlines()[-20:]),
                hint="check the log of buildkitd on that node",
                command=" ".join(words),
            )
        return done.out

    def build(self) -> dict:
        reported = self.call([self.params["buildkitd"], "--version"]).split()
        if self.params["version"] not in reported:
            raise FarmError(f"buildkitd reports {' '.join(reported)}, not {self.params['version']}",
                            hint="install it again")
        parent = tempfile.mkdtemp(prefix=".golden-", dir=self.params["state_dir"])  # clean.yml finds what a kill leaves
        try:
            folder, output, metadata = (os.path.join(parent, name)
                                        for name in ("context", "image.tar", "metadata.json"))
            os.mkdir(folder)
            lay_out(folder)
            made = {}
            for name, settings in golden.COMPRESSIONS.items():
                self.call(golden.command(self.params["buildctl"], self.params["address"], folder, output, metadata,
                                         settings))
                with open(metadata, encoding="utf-8") as file:
                    made[name] = json.load(file)["containerimage.digest"]
        finally:
            shutil.rmtree(parent, ignore_errors=True)
        return {**self.wanted, "id": made["zstd"], "gzip": made["gzip"]}

    def check(self, engine: dict) -> None:
        """Refuses an engine that does not give the expected bytes."""
        expected = self.params["expected"]
        wrong = [f"{what} is {is_}, it must be {wanted}" for what, is_, wanted in (
            ("the golden build", engine["id"], expected), ("with gzip it", engine["gzip"], golden.GZIP_ID))
            if is_ != wanted]
        if expected and wrong:
            raise FarmError(
                f"this BuildKit gives other bytes than expected: {', '.join(wrong)}",
                hint="its digests would differ from those of other nodes: is it the buildkitd that this role installs? "
                     "For a new version, commit these digests too (roles/buildkitd/README.md)",
                version=engine["version"],
                buildkitd=engine["buildkitd"],
            )


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        engine = Engine(module)
        found = engine.proven()
        changed = not found
        if changed and not module.check_mode:
            found = engine.build()
        if found:
            engine.check(found)
        if changed and not module.check_mode:
            files.write(engine.stamp, json.dumps(found, indent=1, sort_keys=True) + "\n", 0o644)
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    proven = {key: found.get(key, "") for key in ("id", "version", "buildkitd")}
    after = proven["id"] or f"(the golden build of {module.params['version']})"
    diff = {"before": "" if changed else proven["id"] + "\n", "after": after + "\n"}
    module.exit_json(changed=changed, engine=proven, diff=diff)


if __name__ == "__main__":
    main()
