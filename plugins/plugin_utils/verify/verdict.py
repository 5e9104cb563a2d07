# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict over all images: what each keeps, in a table and in words. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding, Judged, judge
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.subjects import as_findings

NOT, HOW = "not", {"native": "native", "emulated": "emulated", "not": "not run", "": "nothing to run"}


@dataclass(frozen=True)
class Verdict:
    """One image of one platform. `ran_by` is as module `contract` says it, '' if there is nothing to run."""

    unit: str
    reference: str
    judged: Judged
    ran_by: str
    tester: str
    facts: Mapping[str, Any]
    error: str = ""

    @property
    def kept(self) -> bool:
        return not self.judged.findings and not self.error

    def as_dict(self) -> dict[str, Any]:
        return {"unit": self.unit, "reference": self.reference, "kept": self.kept, "ran_by": self.ran_by,
                "tester": self.tester, "error": self.error, "facts": dict(self.facts),
                "findings": [finding.as_dict() for finding in self.judged.findings],
                "excepted": [{**finding.as_dict(), "reason": reason} for finding, reason in self.judged.excepted],
                "unused": [{"check": check, "subject": subject} for check, subject in self.judged.unused]}


def verdicts(subjects: Iterable[Mapping[str, Any]], trials: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """`subjects` are as subjects.Subject, `trials` has the result of module `contract` for each unit that was run, and
    the `tester` that ran it."""
    found = []
    for subject in subjects:
        trial = trials.get(subject["unit"], {})
        findings: list[Finding] = as_findings([*subject["findings"], *trial.get("findings", ())])
        judged = judge(findings, subject["promises"]["exceptions"], subject["inherited"])
        ran_by = str(trial.get("ran_by", NOT)) if subject["runs"] else ""
        if ran_by == NOT:  # an exception to a check that was not made is not unneeded
            judged = Judged(judged.findings, judged.excepted)
        facts = {name: value for name, value in trial.get("facts", {}).items() if name != "metrics"}
        facts.update({"seconds": trial["seconds"]} if "seconds" in trial else {})
        found.append(Verdict(subject["unit"], subject["reference"], judged, ran_by, str(trial.get("tester", "")), facts,
                             str(trial.get("error", ""))))
    return found


def by_unit(trials: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """unit -> the result of module `contract`, from the results of a loop over units on each tester. One that failed
    has an `error`."""
    found: dict[str, dict[str, Any]] = {}
    for tester, results in trials.items():
        for result in results:
            unit = str(result.get("item", {}).get("unit", ""))
            if result.get("skipped") or not unit:
                continue
            error = str(result.get("msg", "")) if result.get("failed") or result.get("unreachable") else ""
            if unit not in found or found[unit].get("ran_by") == NOT:
                found[unit] = {**result, "tester": tester, "error": error}
    return found


def table(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Rows for people."""
    return [{"unit": one.unit, "contract": "error" if one.error else "broken" if not one.kept else
             "files kept" if one.ran_by == NOT else "kept",
             "run": HOW[one.ran_by], "healthy": one.facts.get("healthy", ""), "stops": one.facts.get("stops", ""),
             "exceptions": len(one.judged.excepted)} for one in found]


def words(found: Sequence[Verdict]) -> str:
    """What is broken, finding by finding; '' if nothing is."""
    lines = []
    for one in found:
        if one.error:
            lines.append(f"  {one.unit} could not be checked: {one.error}")
        lines += [f"  {one.unit} {finding.text}" for finding in one.judged.findings]
    broken = sum(not one.kept for one in found)
    return "\n".join([f"{broken} of {len(found)} images break their contract:", *lines]) if broken else ""


def remarks(found: Sequence[Verdict], missing: Sequence[str]) -> list[str]:
    """What people should know although nothing is broken. `missing` are units that are not built."""
    said = [f"not built, so not checked: {', '.join(missing)}"] if missing else []
    unrun = [one.unit for one in found if one.ran_by == NOT]
    if unrun:
        said.append(f"not run, as no tester runs their platform (farm_emulation may allow it): {', '.join(unrun)}")
    unused: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        image, _space, platform = one.unit.partition(" ")
        for check, subject in one.judged.unused:
            unused.setdefault((image, check, subject), []).append(platform)
    for (image, check, subject), platforms in unused.items():
        if len(platforms) == sum(one.unit.startswith(image + " ") and one.ran_by != NOT for one in found):
            said.append(f"{image}: nothing needs the exception to {check} for {subject}")
    return said
