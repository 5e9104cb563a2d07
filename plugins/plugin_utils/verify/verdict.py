# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict over all images: whether each keeps its contract, in a table and in words. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.verify import emulator_bugs
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding, Judged, judge
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.subjects import OF_FILES, as_findings
from ansible_collections.desimages.farm.plugins.plugin_utils.wording import amount

NOBODY = "unable to find user "  # how engines refuse a name in USER that /etc/passwd lacks, which `config` tells
READ = (*OF_FILES, "labels", "config", "root")  # checks for which nothing runs
NOT, HOW = "not", {"native": "native", "emulated": "emulated", "not": "not run", "": "nothing to run"}


@dataclass(frozen=True)
class Verdict:
    """One image of one platform. `ran_by` and `emulator` are as module `contract` says it, `ran_by` is '' if there is
    nothing to run."""

    unit: str
    reference: str
    judged: Judged
    ran_by: str
    tester: str
    facts: Mapping[str, Any]
    error: str = ""
    emulator: str = ""

    @property
    def kept(self) -> bool:
        return not self.judged.findings and not self.error

    @property
    def platform(self) -> str:
        return self.unit.rpartition(" ")[2]

    @property
    def state(self) -> str:
        """In a word."""
        if self.error:
            return "error"
        if not self.kept:
            return "broken"
        return "files kept" if self.ran_by == NOT else "emulator's bug" if self.judged.emulators else "kept"

    def as_dict(self) -> dict[str, Any]:
        return {"unit": self.unit, "reference": self.reference, "kept": self.kept, "ran_by": self.ran_by,
                "emulator": self.emulator, "tester": self.tester, "error": self.error, "facts": dict(self.facts),
                "emulators": [{**finding.as_dict(), "bug": bug} for finding, bug in self.judged.emulators],
                "findings": [finding.as_dict() for finding in self.judged.findings],
                "excepted": [{**finding.as_dict(), "reason": reason} for finding, reason in self.judged.excepted],
                "unused": [{"check": check, "subject": subject} for check, subject in self.judged.unused]}


def verdicts(subjects: Iterable[Mapping[str, Any]], trials: Mapping[str, Mapping[str, Any]], lost: Mapping[str, str],
             today: date) -> list[Verdict]:
    """`subjects` are as subjects.Subject; `trials` has the result of module `contract` for each unit that was run, and
    the `tester` that ran it; `lost` says why testers were lost. What these would have run does not count as keeping its
    contract."""
    found = []
    for subject in subjects:
        trial = trials.get(subject["unit"], {})
        emulator = str(trial.get("emulator", ""))
        seen = as_findings(trial.get("findings", ()))
        findings: list[Finding] = [*as_findings(subject["findings"]), *seen]
        judged = judge(findings, subject["promises"]["exceptions"], subject["inherited"])
        if any((one.check, one.subject) == ("config", "USER") for one in judged.findings):
            judged = replace(judged, findings=tuple(one for one in judged.findings if NOBODY not in one.words))
        ran_by = str(trial.get("ran_by", NOT)) if subject["runs"] else ""
        error = str(trial.get("error", ""))
        if ran_by == NOT:  # an exception to a check that was not made is not unneeded
            judged = Judged(judged.findings, judged.excepted)
            if lost and not error:
                error = "it was not run, and no tester that is left runs it: " + "; ".join(
                    f"{name} is lost: {why}" for name, why in lost.items())
        else:
            judged = _apart(judged, seen, emulator, subject, today)
            if seen and "healthy" not in trial.get("facts", {}):  # it did not come up: most checks were not made
                judged = replace(judged, unused=tuple(one for one in judged.unused if one[0] in READ))
        facts = {name: value for name, value in trial.get("facts", {}).items() if name not in ("metrics", "by_hand")}
        facts.update({"seconds": trial["seconds"]} if "seconds" in trial else {}, read=subject["seconds"])
        found.append(Verdict(subject["unit"], subject["reference"], judged, ran_by, str(trial.get("tester", "")), facts,
                             error, emulator))
    return found


def _apart(judged: Judged, seen: Iterable[Finding], emulator: str, subject: Mapping[str, Any], today: date) -> Judged:
    """The same, with what is the emulator's own apart. Only what was `seen` in a run can be."""
    bugs = {finding: bug for finding in seen
            if (bug := emulator_bugs.cause(finding, emulator, subject["platform"], subject["languages"], today))}
    return replace(judged, findings=tuple(one for one in judged.findings if one not in bugs),
                   emulators=tuple((one, str(bugs[one])) for one in judged.findings if one in bugs))


def by_unit(trials: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """unit -> the result of module `contract`, from the results of each tester. One that failed has an `error`."""
    return {result["unit"]: {**result, "tester": tester,
                             "error": str(result.get("msg", "")) if result.get("failed") else ""}
            for tester, results in trials.items() for result in results}


def table(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Rows for people."""
    return [{"unit": one.unit, "contract": one.state, "run": HOW[one.ran_by],
             "healthy": one.facts.get("healthy", ""), "stops": one.facts.get("stops", ""),
             "exceptions": len(one.judged.excepted)} for one in found]


def words(found: Sequence[Verdict], today: date) -> str:
    """What is broken, finding by finding, and which bugs of emulators must be looked at again; '' if nothing is."""
    lines = [line for one in found for line in _broken(one)]
    broken = sum(not one.kept for one in found)
    how = "breaks its contract" if broken == 1 else "break their contracts"
    said = [f"{broken} of {amount(len(found), 'image')} {how}:", *lines] if broken else []
    return "\n".join([*said, *emulator_bugs.expired([(one.emulator, one.platform) for one in found if one.emulator],
                                                    today)])


def _broken(one: Verdict) -> list[str]:
    error = [f"  {one.unit} could not be checked: {one.error}"] if one.error else []
    return [*error, *(f"  {one.unit} {finding.text}" for finding in one.judged.findings)]


def held(found: Sequence[Verdict], today: date) -> dict[str, str]:
    """image -> why its tags may not move."""
    broken: dict[str, list[str]] = {}
    for one in found:
        if not one.kept:
            again = emulator_bugs.expired([(one.emulator, one.platform)], today)
            broken.setdefault(one.unit.partition(" ")[0], []).extend([*_broken(one), *(f"  {text}" for text in again)])
    return {image: "\n".join(lines) for image, lines in broken.items()}


def remarks(found: Sequence[Verdict], missing: Sequence[str]) -> list[str]:
    """What people should know although nothing is broken. `missing` are units that are not built."""
    said = [f"not built, so not checked: {', '.join(missing)}"] if missing else []
    said += [f"{one.unit} {finding.check}: {finding.words}: a bug of {bug}, not of the image"
             for one in found for finding, bug in one.judged.emulators]
    unrun = [one.unit for one in found if one.ran_by == NOT and not one.error]
    if unrun:
        said.append(f"not run, because no tester runs their platform (farm_emulation may allow it): {', '.join(unrun)}")
    unused: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        image, _space, platform = one.unit.partition(" ")
        for check, subject in one.judged.unused:
            unused.setdefault((image, check, subject), []).append(platform)
    for (image, check, subject), platforms in unused.items():
        if len(platforms) == sum(one.unit.startswith(image + " ") and one.ran_by != NOT for one in found):
            said.append(f"{image}: the exception to {check} for {subject} is not needed")
    return said
