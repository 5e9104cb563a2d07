#!/usr/bin/python
# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what runs on a host of the farm, how much it holds, and what its registry has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: farm_info
short_description: Tell what runs on a host of the farm and what its registry holds
version_added: 0.1.0
author: the Desimages authors (@desimages)
description:
  - Reads the services of a farm on one host, their versions, the disk, and, where O(registry) is given, the images in
    the registry.
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode). It changes nothing in any mode.
  diff_mode:
    support: none
    description: It changes nothing.
  idempotent:
    support: full
    description: It changes nothing.
options:
  state_dir:
    description: The farm's state folder.
    type: path
    required: true
  registry:
    description: The registry to look into, as a URL.
    type: str
    default: ''
  namespace:
    description: Only repositories below this name are looked at.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Look at the farm
  desimages.farm.farm_info:
    state_dir: /var/lib/desimages
    registry: http://127.0.0.1:5000
    namespace: desimages
"""

RETURN = r"""
services:
  description: The services that are described on this host.
  type: list
  elements: dict
  returned: success
  sample:
    - service: buildkitd
      state: runs
      since: 2h 3m
      version: v0.34.2
      log: /var/lib/desimages/log/buildkitd/current
disk:
  description: What the parts of the state folder hold, and what is free on its file system, in bytes.
  type: list
  elements: dict
  returned: success
  sample:
    - part: registry
      size: 1073741824
    - part: (free)
      size: 85899345920
images:
  description: The images in the registry, one row a platform of the tag that was looked at. The archive is none.
  type: list
  elements: dict
  returned: success
  sample:
    - image: desimages/base
      tag: latest
      tags: 3
      units: 8
      platform: linux/arm64
      digest: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
      size: 23068672
problems:
  description: What could not be read.
  type: list
  elements: str
  returned: success
  sample: []
engine:
  description: The engine id that was proven on this host.
  type: str
  returned: success
  sample: sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
"""

import http.client
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.desimages.farm.plugins.module_utils import programs, supervisors
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.proc import Proc
from ansible_collections.desimages.farm.plugins.module_utils.supervision import Service

ARGUMENTS = {
    "state_dir": {"type": "path", "required": True},
    "registry": {"type": "str", "default": ""},
    "namespace": {"type": "str", "default": ""},
}
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
FARMS = re.compile(r"[bc]-[0-9a-f]{64}\Z")  # tags of units, see docs/architecture.md
ARCHIVE = "archive"
VERSION = re.compile(r"\bv?\d+\.\d+[\w.+~-]*")


def duration(seconds: float) -> str:
    """7380 -> `2h 3m`."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)}s"
    days, hours = minutes // 1440, minutes // 60 % 24
    parts = [(days, "d"), (hours, "h"), (minutes % 60, "m")]
    return " ".join(f"{count}{unit}" for count, unit in parts if count)


def sort_tags(tags: list) -> tuple:
    """The tags that people see, sorted, and the number of units: the farm tags these by build id and content id."""
    return sorted(tag for tag in tags if not FARMS.match(tag)), sum(tag.startswith("b-") for tag in tags
                                                                    if FARMS.match(tag))


def platform_text(found: dict) -> str:
    return "/".join(found[key] for key in ("os", "architecture", "variant") if found.get(key))


def layers_size(manifest: dict) -> int:
    return sum(layer["size"] for layer in manifest.get("layers", []))


class Registry:
    """The little of a registry's API that a look at it needs."""

    def __init__(self, url: str) -> None:
        self.parts = urlsplit(url)
        self.url = url

    def get(self, path: str):
        """(body as JSON, headers); raises FarmError."""
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.parts.hostname or "", self.parts.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Accept": ", ".join(INDEXES + MANIFESTS)})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise FarmError(f"the registry {self.url} does not answer: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise FarmError(f"the registry {self.url} answers {response.status} to {path}")
        return json.loads(body), response.headers

    def repositories(self, namespace: str) -> list:
        found, last = [], ""
        while True:
            page = self.get(f"/v2/_catalog?n=500&last={quote(last, safe='')}")[0]["repositories"] or []
            found += page
            if len(page) < 500:
                return [name for name in found if not namespace or name.startswith(namespace + "/")]
            last = page[-1]

    def images(self, repository: str) -> list:
        """One row a platform of the newest tag (`latest` where there is one), or one row where there are only units."""
        everything = self.get(f"/v2/{repository}/tags/list")[0].get("tags") or []
        tags, units = sort_tags(everything)
        if not everything:
            return []
        tag = next((tag for tag in ("latest", *reversed(tags)) if tag in tags), "")
        common = {"image": repository, "tag": tag, "tags": len(tags), "units": units}
        if not tag:
            return [{**common, "platform": "", "digest": "", "size": 0}]
        found, headers = self.get(f"/v2/{repository}/manifests/{tag}")
        if "manifests" not in found:
            platform = self.get(f"/v2/{repository}/blobs/{found['config']['digest']}")[0]
            return [{**common, "platform": platform_text(platform), "digest": headers.get("Docker-Content-Digest", ""),
                     "size": layers_size(found)}]
        rows = []
        for one in found["manifests"]:
            manifest = self.get(f"/v2/{repository}/manifests/{one['digest']}")[0]
            platform = platform_text(one.get("platform", {}))
            rows.append({**common, "platform": platform, "digest": one["digest"], "size": layers_size(manifest)})
        return rows


class Info:
    """One host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.state_dir = module.params["state_dir"].rstrip("/")
        self.problems = []

    def services(self) -> list:
        folder = os.path.join(self.state_dir, "services")
        return [self.service(name) for name in sorted(os.listdir(folder))] if os.path.isdir(folder) else []

    def service(self, name: str) -> dict:
        found, _text = supervisors.definition_of(self.state_dir, name)
        supervisor = supervisors.KINDS[found.get("supervisor") or supervisors.supervisor_of_this_machine()](
            Service(name=name, state_dir=self.state_dir), programs.call, Proc()
        )
        status = supervisor.status()
        try:
            since = duration(time.time() - os.stat(f"/proc/{status.pid}").st_mtime) if status.pid else ""
        except OSError:
            since = ""
        state = "runs" if status.running else ("crashes" if status.supervised else "stopped")
        return {"service": name, "state": state, "since": since, "version": self.version(found.get("command") or []),
                "log": supervisor.log}

    def version(self, command: list) -> str:
        if not command or not os.path.exists(command[0]):
            return ""
        code, out, err = programs.call([command[0], "--version"])
        match = VERSION.search(out + err) if code == 0 else None
        return match.group(0) if match else ""

    def disk(self) -> list:
        if not os.path.isdir(self.state_dir):
            return []
        _code, out, _err = programs.call(["du", "-x", "-B1", "--max-depth=1", self.state_dir])
        rows = [line.split("\t", 1) for line in out.splitlines()]
        parts = [{"part": os.path.basename(path), "size": int(size)} for size, path in rows if path != self.state_dir]
        parts.sort(key=lambda part: -part["size"])
        usage = shutil.disk_usage(self.state_dir)
        return [*parts, {"part": "(all)", "size": sum(part["size"] for part in parts)},
                {"part": "(free)", "size": usage.free}]

    def images(self) -> list:
        if not self.module.params["registry"]:
            return []
        registry = Registry(self.module.params["registry"])
        try:
            namespace = self.module.params["namespace"]
            archive = f"{namespace}/{ARCHIVE}" if namespace else ARCHIVE
            names = [name for name in registry.repositories(namespace) if name != archive]
        except (FarmError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = str(error) if isinstance(error, FarmError) else f"no registry answers at {registry.url}"
            self.problems.append(said)
            return []

        def rows(name: str) -> list:
            try:
                return registry.images(name)
            except FarmError as error:
                self.problems.append(str(error))
            except (ValueError, KeyError, TypeError, AttributeError):
                self.problems.append(f"what the registry has of {name} is damaged: playbooks/check.yml says what")
            return []

        with ThreadPoolExecutor(8) as pool:
            return [row for found in pool.map(rows, names) for row in found]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    info = Info(module)
    services, disk, images = info.services(), info.disk(), info.images()
    try:
        engine = json.loads(supervisors.read(os.path.join(info.state_dir, "engine.json")) or "{}").get("id", "")
    except ValueError:
        engine = ""
    module.exit_json(changed=False, services=services, disk=disk, images=images, engine=engine, problems=info.problems)


if __name__ == "__main__":
    main()
