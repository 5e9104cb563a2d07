# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions: which of two is newer, and which of many is the newest. No I/O.

One order for all kinds, that of semantic versions made wider: numbers count as numbers, a letter before a number makes
a version earlier (`1.2-rc1` is before `1.2`), and what is not a number is compared as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

_WORD = re.compile(r"[0-9]+|[a-z]+")
_DIGITS = 4000  # of a number; Python reads no longer ones
_FINAL = ("final", "ga", "release", "post", "sp", "jre", "android")  # words of versions that are not before a release


@dataclass(frozen=True)
class Version:
    """One thing that an input has: the version of it that is locked, and the newest one upstream.

    `newest` is empty if it is not known, and `note` says why. `withdrawn` says so if upstream has withdrawn the version
    that is locked (retracted, yanked, deprecated). `platforms` are those that it is locked for, none if for all.
    `place` is where the recipe writes the version: the keys below the input, and `text` what would be written there.
    """

    name: str
    locked: str
    newest: str = ""
    withdrawn: str = ""
    note: str = ""
    platforms: tuple[str, ...] = ()
    place: tuple[str | int, ...] = ()
    text: str = ""

    @property
    def outdated(self) -> bool:
        return bool(self.newest) and self.newest != self.locked

    def told(self, note: str) -> Version:
        return replace(self, note="; ".join(filter(None, (self.note, note))))


def unknown(locked: Mapping[str, str], why: str) -> list[Version]:
    """One line for things (name -> version) of which it is not known whether they were withdrawn; none for none."""
    others = len(locked) - 1
    who = f"it and {amount(others, 'other')} were" if others else "it was"
    return [Version(name, locked[name], note=f"whether {who} withdrawn is not known: {why}")
            for name in sorted(locked)[:1]]


def key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Versions sort by this."""
    text = version.lower().partition("+")[0]
    return (*((1, int(word[:_DIGITS]), "") if word.isdigit() else (2 if word in _FINAL else -1, 0, word)
              for word in _WORD.findall(re.sub(r"^v(?=\d)", "", text))), (0, 0, ""))


def trial(version: str) -> bool:
    """Whether it is before a release: alpha, beta, release candidate, snapshot."""
    return any(kind < 0 for kind, _number, _word in key(version))


def newest(known: Iterable[str], locked: str = "") -> str:
    """The newest version, and not one before `locked`. Pre-releases count only if the locked version is one.
    Empty if there is none."""
    kept = [version for version in known if trial(locked) or not trial(version)]
    best = max(kept, key=key, default="")
    return locked if locked and (not best or key(best) <= key(locked)) else best


def newest_tag(tags: Iterable[str], locked: str) -> str:
    """The same of the tags that are written like the locked one: `release-1.2` is not compared with `v3`."""
    return newest((tag for tag in tags if shape(tag) == shape(locked)), locked)


def shape(tag: str) -> str:
    """What a tag has before its first digit."""
    return re.split(r"\d", tag, maxsplit=1)[0]
