# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Which names a registry allows: address, repository, tag, digest. For settings, client and hosts. No I/O.

Each function returns '' for a good value, otherwise what is allowed. Sources:
https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests (repository, tag) and
https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?\Z")
REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*\Z")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")  # the only algorithm that the farm uses and can check
LONGEST = 255  # characters of a repository's name; docker-registry accepts no more, including the registry's name


def address(value: Any) -> str:
    """`HOST[:PORT]`, as a registry is named."""
    port = re.search(r":([0-9]+)\Z", value) if isinstance(value, str) else None
    good = isinstance(value, str) and ADDRESS.match(value) and (not port or 0 < int(port[1]) < 65536)
    return "" if good else "HOST:PORT without a scheme, such as 127.0.0.1:5000"


def repository(value: Any) -> str:
    good = isinstance(value, str) and REPOSITORY.match(value) and len(value) <= LONGEST
    return "" if good else f"lower case letters and digits, with . _ __ - / between them, at most {LONGEST}"


def tag(value: Any) -> str:
    good = isinstance(value, str) and TAG.match(value)
    return "" if good else "letters, digits and _ . -, without . or - at the beginning, at most 128"


def digest(value: Any) -> str:
    return "" if isinstance(value, str) and DIGEST.match(value) else "sha256: and 64 lower case hexadecimal digits"


def reference(value: Any) -> str:
    """A tag or a digest."""
    return "" if not tag(value) or not digest(value) else f"a tag ({tag('')}) or a digest ({digest('')})"


def loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine, so that nothing leaves it."""
    name = re.sub(r":[0-9]+\Z", "", host) if host.startswith("[") or host.count(":") == 1 else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def listener_on_loopback(value: Any) -> bool:
    """Whether it is an ADDRESS:PORT where a service can listen that only this machine can reach. It must be numeric."""
    if address(value):
        return False
    host = str(value).rpartition(":")[0]
    return loopback(host) and host.lower() != "localhost"
