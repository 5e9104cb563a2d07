# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bugs of emulators that look like broken promises of images. No I/O.

KNOWN is the list. Each entry ends on a date: then somebody must look again, as emulators are mended, and as a list that
only grows would hide what images do wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from ansible_collections.desimages.farm.plugins.plugin_utils.verify import elf
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding

PLACE = "plugins/plugin_utils/verify/emulator_bugs.py"


@dataclass(frozen=True)
class Bug:
    """A bug of the emulator that calls itself `emulator`, from version `since` on, and no more in `before`.

    A finding is its own if it is of one of `checks` (all of them are seen when an image runs), on one of `platforms`,
    the image has programs in `language` (in any if it is ''), and the finding has the words `says`. `reason` says what
    was seen; it counts to the day `expires`.
    """

    emulator: str
    since: str
    before: str
    platforms: tuple[str, ...]
    language: str
    checks: tuple[str, ...]
    reason: str
    expires: date
    says: str = ""

    def of(self, emulator: str, platform: str) -> bool:
        """Whether an emulator (`qemu-arm 7.2.22`) has this bug where it runs a platform."""
        name, _space, version = emulator.partition(" ")
        return (name == self.emulator and platform in self.platforms
                and numbers(self.since) <= numbers(version) < numbers(self.before))

    def __str__(self) -> str:
        return f"{self.emulator} {self.since} on {', '.join(self.platforms)} ({self.reason})"


_EMULATORS = {"qemu-aarch64": "linux/arm64", "qemu-arm": "linux/arm/v7", "qemu-s390x": "linux/s390x",
              "qemu-ppc64le": "linux/ppc64le", "qemu-riscv64": "linux/riscv64"}
KNOWN: tuple[Bug, ...] = (
    Bug(
        emulator="qemu-arm", since="7.2", before="8", platforms=("linux/arm/v7",), language=elf.GO,
        checks=("starts", "any-user", "healthy", "unhealthy", "answers", "metrics", "ports", "stops", "restarts",
                "refuses"),
        reason="a program of several threads that starts another one can hang: 23 of 150 starts of a Go program did, "
               "with qemu 10.0 none",
        expires=date(2027, 5, 31),
    ),
    Bug(
        emulator="qemu-i386", since="7.2", before="8", platforms=("linux/386",), language=elf.GO,
        checks=("starts", "any-user", "healthy", "answers", "restarts", "refuses", "logs"),
        reason="every Go program ends with `fatal: bad g in signal handler`",
        expires=date(2027, 5, 31),
    ),
    *(Bug(
        emulator=emulator, since="7.2", before="8", language="", says="Protocol not available",
        platforms=(platform, "linux/arm/v6") if emulator == "qemu-arm" else (platform,),
        checks=("starts", "any-user", "healthy", "restarts", "refuses"),
        reason="it does not know IP_MULTICAST_IF, so nothing announces itself by mDNS with zeroconf of Python",
        expires=date(2027, 5, 31),
    ) for emulator, platform in _EMULATORS.items()),
)


def numbers(version: str) -> tuple[int, ...]:
    """`7.2.22` -> (7, 2, 22)."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


def cause(finding: Finding, emulator: str, platform: str, languages: Sequence[str], today: date,
          known: Iterable[Bug] | None = None) -> Bug | None:
    """The bug that a finding under an emulator comes from; None if it is the image's."""
    bugs = KNOWN if known is None else known
    return next((bug for bug in bugs if bug.of(emulator, platform) and finding.check in bug.checks
                 and (not bug.language or bug.language in languages) and bug.says in finding.words
                 and today <= bug.expires), None)


def expired(emulators: Iterable[tuple[str, str]], today: date,
            known: Iterable[Bug] | None = None) -> list[str]:
    """What must be looked at again, of all (emulator, platform) that ran something."""
    seen, bugs = set(emulators), KNOWN if known is None else known
    return [f"the bug of {bug} was to be looked at again by {bug.expires}: check whether it still happens, and give it "
            f"a later date or remove it in {PLACE}"
            for bug in bugs if today > bug.expires and any(bug.of(*pair) for pair in seen)]
