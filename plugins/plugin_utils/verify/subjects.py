# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images a run verifies, and what is read of each on the controller."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.build.node import clean
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key, Plan
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.oci import Descriptor
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import by_hand, config, files
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding, merged
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.layers import File, Layers, packaged
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount


@dataclass(frozen=True)
class Subject:
    """One image of one platform, as the verdict and module `contract` get it. `image` says where it is, see there;
    `runs` is true if its contract has something to run; `languages` are those of its programs, without Debian's;
    `seconds` is how long it took to read it."""

    unit: str
    platform: str
    reference: str
    image: dict[str, Any]
    promises: dict[str, Any]
    inherited: dict[str, dict[str, str]]
    runs: bool
    findings: list[dict[str, str]] = field(default_factory=list)
    size: int = 0
    languages: tuple[str, ...] = ()
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Reader:
    """Reads images of a plan from the registry, and finds what in them breaks their contracts."""

    def __init__(self, registry: Registry, namespace: str, plan: Plan, say: Callable[[str], None]) -> None:
        self._registry, self._namespace, self._plan, self._say = registry, namespace, plan, say
        self._layers = Layers(registry)

    def all(self, digests: Mapping[Key, str]) -> list[Subject]:
        """Of units that exist, by platform, so that layers they share are read once. Raises FarmError."""
        order = list(self._plan.units)
        keys = sorted(digests, key=lambda key: (key.platform, order.index(key)))
        return [self._subject(key, self._real(key, digests[key])) for key in keys]

    def _real(self, key: Key, digest: str) -> str:
        """The digest of a unit's manifest: what BuildKit pushed may be an index of one."""
        content = self._registry.content(f"{self._namespace}/{key.image}", digest)
        if content is None:
            raise FarmError(f"{key} is missing in the registry: {digest}",
                            hint="playbooks/check.yml says what is damaged, and repairs it")
        if content[1].config:
            return digest
        if not content[1].manifests:
            raise FarmError(f"{key}: {self._namespace}/{key.image}@{digest} is an index without manifests")
        return content[1].manifests[0].digest

    def _subject(self, key: Key, digest: str) -> Subject:
        began, repository = time.monotonic(), f"{self._namespace}/{key.image}"
        _data, content = self._registry.content(repository, digest) or (b"", None)
        if content is None or content.config is None:
            raise FarmError(f"{key}: {repository}@{digest} is not a readable image")
        layers = content.blobs[1:]
        data = b"".join(self._registry.blob(repository, content.config.digest, content.config.size))
        root = self._layers.root(repository, layers)
        found, debian = root.files, packaged(root.files)
        contract = self._plan.recipes[key.image].contract
        reference = f"{self._registry.address}/{repository}@{digest}"
        passwd = (root.at("/etc/passwd") or File("", 0)).content.decode(errors="replace")
        try:
            said = json.loads(data)
            configured = [*config.findings(said.get("config") or {}, contract, config.users(passwd)),
                          *config.secrets(said)]
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:  # it has other shapes
            raise FarmError(f"{key}: the configuration of {repository}@{digest} cannot be read: {error}") from error
        findings = [replace(one, by_hand=by_hand.of(one, reference)) for one in (
            *configured, *files.findings(found, debian, key.platform))]
        blobs = f"{self._registry.base}/v2/{repository}/blobs"
        findings += [replace(one, by_hand=by_hand.below(one, blobs, layer))
                     for one, layer in files.secrets_below(root.hidden)]
        self._say(f"{key}: {amount(len(found), 'file')} read")
        return Subject(str(key), str(key.platform), reference, {
            "url": self._registry.base, "repository": repository, "config": _descriptor(content.config),
            "layers": list(map(_descriptor, layers)),
        }, asdict(contract), self.inherited(key), contract.service or bool(contract.command or contract.refuses),
            list(map(shown, findings)), sum(layer.size for layer in layers),
            files.languages(found, debian, key.platform), round(time.monotonic() - began, 1))

    def inherited(self, key: Key) -> dict[str, dict[str, str]]:
        """The exceptions of the images that a unit descends from, to checks of files: these are its files too."""
        above, waiting = list[Key](), [key]
        while waiting:
            unit = self._plan.units[waiting.pop()]
            parents = [Key(parent.image, parent.target, unit.key.platform) for parent in unit.parents
                       if not parent.build]
            above += parents
            waiting += parents
        excepted = [self._plan.recipes[parent.image].contract.exceptions for parent in dict.fromkeys(above)]
        return merged({check: subjects for check, subjects in one.items() if check in OF_FILES} for one in excepted)


OF_FILES = ("setuid", "world-writable", "secret", "compiler", "package-manager", "platform", "pie", "relro", "bind-now",
            "canary", "fortify", "stack", "rpath")


def shown(finding: Finding) -> dict[str, str]:
    """A finding as people are told it: the names of files in an image are anybody's words."""
    found: dict[str, str] = clean(finding.as_dict())
    return found


def _descriptor(found: Descriptor) -> dict[str, Any]:
    return {"digest": found.digest, "size": found.size, "mediaType": found.media_type}


def as_findings(values: Iterable[Mapping[str, str]]) -> list[Finding]:
    """What a module or an action returned."""
    return [Finding(value["check"], value["subject"], value["words"], value["by_hand"]) for value in values]
