"""Which images keep their contracts, from what was read and what was seen when they ran."""

from __future__ import annotations

from typing import Any

from ansible_collections.desimages.farm.plugins.plugin_utils.verify import verdict

BROKEN = {"check": "stops", "subject": "137", "words": "it did not end", "by_hand": "docker run it"}
SETUID = {"check": "setuid", "subject": "/usr/bin/su", "words": "su is setuid", "by_hand": ""}


def subject(unit: str, *findings: dict[str, str], runs: bool = True, inherited: Any = None, **exceptions: Any
            ) -> dict[str, Any]:
    return {"unit": unit, "reference": f"r/{unit}", "promises": {"exceptions": exceptions}, "runs": runs,
            "inherited": inherited or {}, "findings": list(findings)}


def trial(unit: str, *findings: dict[str, str], ran_by: str = "native", **more: Any) -> dict[str, Any]:
    return {"item": {"unit": unit}, "ran_by": ran_by, "facts": {"healthy": 1.0, "metrics": "a 1\n"},
            "findings": list(findings), **more}


def found(subjects: list[dict[str, Any]], **trials: list[dict[str, Any]]) -> list[verdict.Verdict]:
    return verdict.verdicts(subjects, verdict.by_unit(trials))


def test_files_and_run_are_judged_together() -> None:
    kept, broken = found([subject("a linux/amd64", SETUID, inherited={"setuid": {"/usr/*": "Debian's"}}),
                          subject("b linux/amd64", SETUID, pie={"/x": "why"})],
                         t=[trial("a linux/amd64"), trial("b linux/amd64", BROKEN)])
    assert kept.kept and not broken.kept
    assert kept.facts == {"healthy": 1.0}
    assert [one.check for one in broken.judged.findings] == ["setuid", "stops"]
    assert verdict.words([kept, broken]).splitlines() == [
        "1 of 2 images break their contract:", "  b linux/amd64 setuid: su is setuid",
        "  b linux/amd64 stops: it did not end", "      by hand: docker run it"]
    assert verdict.remarks([kept, broken], []) == ["b: nothing needs the exception to pie for /x"]
    assert verdict.words([kept]) == ""
    assert [row["contract"] for row in verdict.table([kept, broken])] == ["kept", "broken"]


def test_what_no_tester_runs_is_said_and_its_exceptions_are_not_called_unneeded() -> None:
    subjects = [subject("a linux/amd64", pie={"/x": "why"}), subject("b linux/amd64", runs=False),
                subject("c linux/amd64")]
    one, other, third = found(subjects, t=[trial("a linux/amd64", ran_by="not")])
    assert (one.ran_by, other.ran_by, third.ran_by) == ("not", "", "not")
    assert verdict.remarks([one, other, third], ["d linux/s390x"]) == [
        "not built, so not checked: d linux/s390x",
        "not run, as no tester runs their platform (farm_emulation may allow it): a linux/amd64, c linux/amd64"]
    assert one.kept
    assert [row["contract"] for row in verdict.table([one, other])] == ["files kept", "kept"]


def test_a_tester_that_runs_a_platform_comes_before_one_that_does_not() -> None:
    one, = found([subject("a linux/arm64")], x=[trial("a linux/arm64", ran_by="not")], y=[trial("a linux/arm64")])
    assert (one.ran_by, one.tester) == ("native", "y")


def test_a_trial_that_fails_is_no_kept_contract() -> None:
    failed = {"item": {"unit": "a linux/amd64"}, "failed": True, "msg": "no engine"}
    one, = found([subject("a linux/amd64")], t=[failed])
    assert not one.kept
    assert "a linux/amd64 could not be checked: no engine" in verdict.words([one])
