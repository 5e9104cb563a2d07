# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Platforms: the names that OCI, Debian, Go and the kernel have for the same machine."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import FarmError


class UnknownPlatform(FarmError):
    """A name that is not a platform of the farm."""


@dataclass(frozen=True, order=True)
class Platform:
    """An OCI platform. `str()` gives `os/architecture[/variant]`; `parse()` is its inverse."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def slug(self) -> str:
        """The name in tags and file names: `arm64`, `arm-v7`."""
        return "-".join(part for part in (self.architecture, self.variant) if part)

    @property
    def as_oci(self) -> dict[str, str]:
        """The `platform` object of an image index."""
        found = {"architecture": self.architecture, "os": self.os}
        return {**found, "variant": self.variant} if self.variant else found

    @classmethod
    def parse(cls, text: str) -> Platform:
        """`linux/arm/v6` -> Platform. Raises UnknownPlatform, which names all platforms."""
        if text in NAMED:
            return NAMED[text]
        raise UnknownPlatform(f"{text!r} is not a platform of the farm", hint="use one of " + ", ".join(NAMED))


AMD64 = Platform("linux", "amd64")
I386 = Platform("linux", "386")
ARM64 = Platform("linux", "arm64")
ARMV7 = Platform("linux", "arm", "v7")
ARMV6 = Platform("linux", "arm", "v6")
S390X = Platform("linux", "s390x")
PPC64LE = Platform("linux", "ppc64le")
RISCV64 = Platform("linux", "riscv64")

ALL = (AMD64, I386, ARM64, ARMV7, ARMV6, S390X, PPC64LE, RISCV64)
NAMED = {str(platform): platform for platform in ALL}

DEBIAN = {  # https://www.debian.org/ports/ ; armel ends with trixie
    AMD64: "amd64",
    I386: "i386",
    ARM64: "arm64",
    ARMV7: "armhf",
    ARMV6: "armel",
    S390X: "s390x",
    PPC64LE: "ppc64el",
    RISCV64: "riscv64",
}

KERNEL = {  # `uname -m` -> the platform of a user land for such a kernel
    "x86_64": AMD64,
    "i686": I386,
    "aarch64": ARM64,
    "armv7l": ARMV7,
    "armv6l": ARMV6,
    "s390x": S390X,
    "ppc64le": PPC64LE,
    "riscv64": RISCV64,
}


# when a platform that no node runs by itself is emulated: not at all, only if no native node answers, or at any time
EMULATION = ("never", "missing", "allowed")


def go_environment(platform: Platform) -> dict[str, str]:
    """GOOS, GOARCH and, for arm, GOARM (https://go.dev/doc/install/source#environment)."""
    found = {"GOOS": platform.os, "GOARCH": platform.architecture}
    return {**found, "GOARM": platform.variant[1:]} if platform.architecture == "arm" else found
