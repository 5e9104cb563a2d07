# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found that breaks a contract, and which findings a recipe excepts. No I/O."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """A broken promise. `subject` is what an exception names: a path, a process, a port; `words` is what was seen;
    `by_hand` is the command that shows it."""

    check: str
    subject: str
    words: str
    by_hand: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    @property
    def text(self) -> str:
        return f"{self.check}: {self.words}" + (f"\n      by hand: {self.by_hand}" if self.by_hand else "")


Exceptions = Mapping[str, Mapping[str, str]]  # check -> subject -> reason
GIVEN = ("capabilities", "privileges")  # their exceptions are given to a run, which does not tell whether it uses them


@dataclass(frozen=True)
class Judged:
    """Findings that count, those that are excepted with the reason, exceptions that are not needed, and findings that
    an emulator's bug explains, with its description."""

    findings: tuple[Finding, ...]
    excepted: tuple[tuple[Finding, str], ...] = ()
    unused: tuple[tuple[str, str], ...] = ()
    emulators: tuple[tuple[Finding, str], ...] = ()


def judge(findings: Iterable[Finding], own: Exceptions, inherited: Exceptions) -> Judged:
    """`own` are the exceptions of the image's recipe, `inherited` those of the images it descends from: their files are
    its files. Only own ones can be `unused`."""
    left, excepted, used = [], [], set[tuple[str, str]]()
    for finding in sorted(set(findings)):
        for exceptions in (own, inherited):
            subject = next((pattern for pattern in exceptions.get(finding.check, ())
                            if _means(pattern, finding.subject)), None)
            if subject is not None:
                used.add((finding.check, subject))
                excepted.append((finding, exceptions[finding.check][subject]))
                break
        else:
            left.append(finding)
    unused = [(check, subject) for check, subjects in own.items() if check not in GIVEN for subject in subjects
              if (check, subject) not in used]
    return Judged(tuple(left), tuple(excepted), tuple(unused))


def _means(pattern: str, subject: str) -> bool:
    """Whether an exception is to a subject. Only * and ? are wildcards: subjects such as [::1] have brackets."""
    return fnmatch.fnmatchcase(subject, pattern.replace("[", "[[]"))


def merged(several: Iterable[Exceptions]) -> dict[str, dict[str, str]]:
    """The exceptions of several recipes together."""
    found: dict[str, dict[str, str]] = {}
    for exceptions in several:
        for check, subjects in exceptions.items():
            found.setdefault(check, {}).update(subjects)
    return found
