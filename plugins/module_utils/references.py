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

ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::(?P<port>[1-9][0-9]{0,4}))?\Z")
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")  # of a host's name (RFC 1123, section 2.1)
LONGEST_NAME = 253  # characters of a host's name
REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*\Z")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")  # the only algorithm that the farm uses and can check
HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")  # names of Docker Hub: its images, its logins, its API
LONGEST = 255  # characters of a repository's name; docker-registry accepts no more, including the registry's name


def address(value: Any) -> str:
    """`HOST[:PORT]`, as a registry is named."""
    found = ADDRESS.match(value) if isinstance(value, str) else None
    good = found and _host(found["six"] or "", found["name"] or "") and int(found["port"] or 1) < 65536
    return "" if good else ("HOST:PORT without a scheme, a login or a path, such as 127.0.0.1:5000, [::1]:5000 or "
                            "registry.example.org:5000")


def _host(six: str, name: str) -> bool:
    """Whether one of these is a host: an IPv6 address, or a name or an IPv4 address. A name whose last part is a number
    is an address, and some programs complete one that is none (127.1)."""
    labels = name.split(".")
    try:
        if six or labels[-1].isdigit():
            return bool(ipaddress.IPv6Address(six) if six else ipaddress.IPv4Address(name))
    except ValueError:
        return False
    return len(name) <= LONGEST_NAME and all(LABEL.match(label) for label in labels)


def hub(host: str) -> bool:
    """Whether a host is Docker Hub, by whichever of its names."""
    return host.lower() in HUB


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
