# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""What apt would do for an installation, and whether that would harm the machine. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# Only plain names of packages: to apt, `name-` means remove it, `name=1` is a version, `n*` a pattern.
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+]\Z")
UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\.(service|socket)\Z")
# `Inst NAME [OLD] (NEW ...)`, `Remv NAME [OLD]`, `Conf NAME (NEW ...)`, as `apt-get --simulate` prints them
_STEP = re.compile(r"(Inst|Conf|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?")
# apt wants a file that the mirror has replaced by a newer one
_STALE = re.compile(r"Failed to fetch|Unable to fetch some archives")
# settings of apt that fetching the lists needs; APT::Update has commands that run afterwards
_FETCHING = re.compile(r'(?!APT::Update::)(Acquire|APT|Dir)(::\S+)? "[^"]*";\Z')


@dataclass(frozen=True)
class Plan:
    """The steps of one `apt-get --simulate install`: package -> version. Foreign packages are NAME:ARCHITECTURE.

    `moved` are installed packages that get another version: (old, new). `finished` are packages that were unpacked
    before and are only configured.
    """

    new: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    finished: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Parses the output of `apt-get --simulate`."""
        new, moved, removed, configured = {}, {}, {}, {}
        for step, name, old, version in (found.groups("") for found in map(_STEP.match, text.splitlines()) if found):
            if step == "Conf":
                configured[name] = version
            elif step != "Inst":
                removed[name] = old
            elif old:
                moved[name] = (old, version)
            else:
                new[name] = version
        finished = {name: version for name, version in configured.items() if name not in new and name not in moved}
        return cls(new=new, moved=moved, removed=removed, finished=finished)

    def coming(self) -> dict[str, str]:
        """All packages that will be installed and were not, or not completely, before."""
        return {**self.new, **{name: new for name, (_old, new) in self.moved.items()}, **self.finished}

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Those of `names` for which apt would do nothing, or use another package."""
        found = {name.partition(":")[0] for name in self.coming()}
        return [name for name in names if name not in found]

    def harm(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """What it would do besides installing what is missing: (what, hint).

        `names` are the packages to install, which may be half-installed now.
        """
        moved = [f"{name} from {old} to {new}" for name, (old, new) in sorted(self.moved.items()) if name not in names]
        finished = [name for name in sorted(self.finished) if name not in names]
        if self.removed:
            yield (f"remove {', '.join(_versions(self.removed))}", "decide on that machine whether to remove these")
        if moved:
            yield f"change {', '.join(moved)}", "upgrade or downgrade these on that machine first"
        if finished:
            yield (
                f"configure {', '.join(finished)}, whose installation something else began",
                "finish it on that machine first: dpkg --configure -a",
            )


def _versions(packages: Mapping[str, str]) -> list[str]:
    return [f"{name} {version}".rstrip() for name, version in sorted(packages.items())]


def parse_versions(text: str) -> dict[str, str]:
    """Lines of `package<TAB>status<TAB>version` -> the versions of what is installed, held or not.

    dpkg-query(1): the second letter of the status is the state.
    """
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1][1:] == "i "}


def stale(text: str) -> bool:
    """Whether an installation failed because the package lists are older than the mirror."""
    return bool(_STALE.search(text))


def fetching(dump: str) -> str:
    """The settings in an `apt-config dump` that fetching the lists needs, without those that run other commands."""
    kept = [line for line in dump.splitlines() if _FETCHING.match(line)]
    return "\n".join([*kept, 'Dir::Etc::main "/dev/null";', 'Dir::Etc::parts "/dev/null";']) + "\n"
