# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public variables of the roles: what each may be. A role checks its own only when it comes to it,
minutes after the first host was changed; an inventory's values are checked here, before anything starts. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL
from ansible_collections.desimages.farm.plugins.module_utils.supervision import SOCKET_LENGTH

Check = Callable[[Any], str]
PLATFORMS = [str(platform) for platform in ALL]
PATH = re.compile(r"(/(?!\.\.?(?:/|\Z))[A-Za-z0-9._+@-]+)+\Z")
MEMORY = re.compile(r"[1-9][0-9]{0,11}[KMGT]\Z")  # systemd.resource-control(5), MemoryMax
DISK = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})? ?[kKmMgGtT][iI]?[bB]?\Z")  # as BuildKit reads sizes, with a unit
FRONTENDS = ("dockerfile.v0", "gateway.v0")


def _nothing(value: Any) -> bool:
    return value is None or value == ""


def _memory(value: Any) -> str:
    good = _nothing(value) or value == "all" or (isinstance(value, str) and MEMORY.match(value))
    return "" if good else "a whole number with K, M, G or T, such as 900M or 3G; all; or '' for the default"


def _space(value: Any) -> str:
    share = re.fullmatch(r"([0-9]{1,3})%", value) if isinstance(value, str) else None
    good = int(share[1]) <= 100 if share else (isinstance(value, str) and DISK.match(value)) or str(value) == "0"
    return "" if good else "a size with a unit, such as 20GB, or a share of the disk, such as 10%"


def _reserved(value: Any) -> str:
    return "" if _nothing(value) else _space(value) and f"{_space(value)}; '' is the default"


def _number(least: int, most: int) -> Check:
    def check(value: Any) -> str:
        good = not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,5}", str(value)) and least <= int(value) <= most
        return "" if good else f"a number from {least} to {most}"
    return check


def _choice(*allowed: str) -> Check:
    return lambda value: "" if value in allowed else f"one of {', '.join(allowed)}"


def _list(one: Callable[[Any], bool], words: str) -> Check:
    """A list itself: roles would take a text for its letters."""
    def check(value: Any) -> str:
        return "" if isinstance(value, list) and all(map(one, value)) else f"a list of {words}"
    return check


def _path(value: Any) -> str:
    good = isinstance(value, str) and PATH.match(value)
    return "" if good else "an absolute path with letters, digits and . _ + @ -, and no slash at its end"


def _folder(value: Any) -> str:
    """On the controller, where a clone may be below any name."""
    good = isinstance(value, str) and re.match(r"/[^\0\n]+\Z", value)
    return "" if good else "an absolute path"


def _program(value: Any) -> str:
    return "" if value == "" else _path(value) and f"'' or {_path(value)}"


def _socket(value: Any) -> str:
    good = not _path(value) and len(value) <= SOCKET_LENGTH
    return "" if good else f"an absolute path of at most {SOCKET_LENGTH} bytes, the limit of unix sockets"


def _debug(value: Any) -> str:
    good = _nothing(value) or references.listener_on_loopback(value)
    return "" if good else "'' or ADDRESS:PORT on loopback, such as 127.0.0.1:6060"


def _archives(value: Any) -> str:
    good = isinstance(value, Mapping) and all(name in PLATFORMS and _archive(one) for name, one in value.items())
    return "" if good else (f"a mapping of platforms ({', '.join(PLATFORMS)}) to a source (a URL, or an absolute path "
                            "on this machine) and its sha256 (64 lower case hexadecimal digits)")


def _archive(one: Any) -> bool:
    if not isinstance(one, Mapping) or set(one) != {"source", "sha256"}:
        return False
    source, sha256 = one["source"], one["sha256"]
    return (isinstance(source, str) and bool(re.match(r"https?://[^/\s]+/\S+\Z|file:///\S+\Z|/[^\0\n]+\Z", source))
            and isinstance(sha256, str) and bool(re.fullmatch(r"[0-9a-f]{64}", sha256)))


CHECKS: Mapping[str, Check] = {
    "buildkitd_archives": _archives,
    "buildkitd_cache": _folder,
    "buildkitd_state": _path,
    "buildkitd_runc": _program,
    "buildkitd_platform": _choice(*PLATFORMS),
    "buildkitd_socket": _socket,
    "buildkitd_plain_registries": _list(lambda one: not references.address(one), f"{references.address('')}"),
    "buildkitd_parallelism": _number(0, 999),
    "buildkitd_memory": _memory,
    "buildkitd_weight": _number(1, 10000),
    "buildkitd_free": _space,
    "buildkitd_reserved": _reserved,
    "buildkitd_most": _space,
    "buildkitd_frontends": _list(lambda one: one in FRONTENDS, f"frontends out of {', '.join(FRONTENDS)}"),
    "buildkitd_debug_address": _debug,
    "buildkitd_log_level": _choice("trace", "debug", "info", "warn", "error"),
    "registry_state": _path,
    "registry_log_level": _choice("error", "warn", "info", "debug"),
    "tester_state": _path,
    "tester_socket": _program,
    "binfmt_platforms": _list(lambda one: one in PLATFORMS, f"platforms out of {', '.join(PLATFORMS)}"),
}
OTHERS = ("registry_address", "registry_certificate", "registry_key", "registry_user")  # checked with farm_registry
