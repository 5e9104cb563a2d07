# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest list on its own: assembled from manifests that are there, pushed only when it differs."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, Platform
from ansible_collections.desimages.farm.plugins.modules.oci_index import DOCUMENTATION
from ansible_collections.desimages.farm.plugins.plugin_utils.action import FarmAction
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import indexes
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry


class ActionModule(FarmAction):
    """See plugins/modules/oci_index.py."""

    DOCUMENTATION = DOCUMENTATION

    def act(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if wrong := mistakes(arguments):
            raise BadInput(wrong, what="oci_index")
        registry = Registry(arguments["registry"])
        names = {Platform.parse(platform): name for platform, name in arguments["manifests"].items()}
        manifests = indexes.describe(registry, arguments["name"], names)
        change = indexes.compare(registry, arguments["name"], manifests, arguments["annotations"], arguments["tags"],
                                 arguments["fixed_tags"])
        if not self.check:
            indexes.push(registry, change)
        result: dict[str, Any] = {"changed": bool(change.moved), "digest": change.digest, "moved": list(change.moved)}
        return {**result, "diff": change.diff} if self.diff else result


def mistakes(arguments: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the arguments and can be seen without a registry."""
    known = [str(platform) for platform in ALL]
    manifests = arguments["manifests"]
    given = [("registry", arguments["registry"], references.address)]
    given += [("name", arguments["name"], references.repository)]
    given += [(key, tag, references.tag) for key in ("tags", "fixed_tags") for tag in arguments[key]]
    given += [(f"manifests: {platform}", name, references.reference) for platform, name in manifests.items()]
    found = [f"{what} is {value!r}, it must be {allowed}" for what, value, check in given if (allowed := check(value))]
    found += [f"fixed_tags: {tag!r} is none of tags" for tag in arguments["fixed_tags"] if tag not in arguments["tags"]]
    found += [] if arguments["tags"] else ["tags is empty: an index that nothing names would be collected as garbage"]
    found += [] if manifests else ["manifests is empty: an index of nothing is of no use to anybody"]
    found += [f"manifests: {name!r} is no platform of the farm; platforms: {', '.join(known)}"
              for name in manifests if name not in known]
    for name, text in arguments["annotations"].items():
        if not isinstance(text, str):
            found.append(f"annotations: {name} is {text!r}, it must be a text")
        elif not _encodes(name + text) or not name:
            found.append(f"annotations: {name!r} is {text!r}: a name, and texts that UTF-8 can say")
    return found


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
