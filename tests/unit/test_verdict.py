"""Which images keep their contracts, from what was read and what was seen when they ran."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.checks import CHECKS
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import elf, emulator_bugs, verdict
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.subjects import OF_FILES

BROKEN = {"check": "stops", "subject": "137", "words": "it did not end", "by_hand": "docker run it"}
TODAY = date(2026, 12, 1)
SETUID = {"check": "setuid", "subject": "/usr/bin/su", "words": "su is setuid", "by_hand": ""}


def subject(unit: str, *findings: dict[str, str], runs: bool = True, inherited: Any = None,
            languages: tuple[str, ...] = (), **exceptions: Any) -> dict[str, Any]:
    return {"unit": unit, "platform": unit.partition(" ")[2], "languages": languages, "seconds": 0.3,
            "reference": f"r/{unit}", "promises": {"exceptions": exceptions}, "runs": runs,
            "inherited": inherited or {}, "findings": list(findings)}


def trial(unit: str, *findings: dict[str, str], ran_by: str = "native", **more: Any) -> dict[str, Any]:
    return {"unit": unit, "ran_by": ran_by, "facts": {"healthy": 1.0, "metrics": "a 1\n"},
            "findings": list(findings), **more}


def found(subjects: list[dict[str, Any]], *, lost: dict[str, str] | None = None, today: date = TODAY,
          **trials: list[dict[str, Any]]) -> list[verdict.Verdict]:
    return verdict.verdicts(subjects, verdict.by_unit(trials), lost or {}, today)


def test_files_and_run_are_judged_together() -> None:
    kept, broken = found([subject("a linux/amd64", SETUID, inherited={"setuid": {"/usr/*": "Debian's"}}),
                          subject("b linux/amd64", SETUID, pie={"/x": "why"})],
                         t=[trial("a linux/amd64"), trial("b linux/amd64", BROKEN)])
    assert kept.kept and not broken.kept
    assert kept.facts == {"healthy": 1.0, "read": 0.3}
    assert [one.check for one in broken.judged.findings] == ["setuid", "stops"]
    assert verdict.words([kept, broken], TODAY).splitlines() == [
        "1 of 2 images breaks its contract:", "  b linux/amd64 setuid: su is setuid",
        "  b linux/amd64 stops: it did not end", "      by hand: docker run it"]
    assert verdict.remarks([kept, broken], []) == ["b: the exception to pie for /x is not needed"]
    assert verdict.words([kept], TODAY) == ""
    assert [row["contract"] for row in verdict.table([kept, broken])] == ["kept", "broken"]


def test_a_user_that_the_image_does_not_know_is_told_once() -> None:
    user = {"check": "config", "subject": "USER", "words": "USER is app, whom /etc/passwd lacks", "by_hand": ""}
    refused = {"check": "starts", "subject": "service", "by_hand": "",
               "words": "it cannot be started: unable to find user app: no matching entries in passwd file"}
    subjects = [subject("a linux/amd64", user), subject("b linux/amd64"),
                subject("c linux/amd64", user, config={"USER": "why"})]
    told = found(subjects, t=[trial(f"{name} linux/amd64", refused) for name in "abc"])
    assert [[each.check for each in one.judged.findings] for one in told] == [["config"], ["starts"], ["starts"]]


def test_what_no_tester_runs_is_said_and_its_exceptions_are_not_called_unneeded() -> None:
    subjects = [subject("a linux/amd64", pie={"/x": "why"}), subject("b linux/amd64", runs=False),
                subject("c linux/amd64")]
    one, other, third = found(subjects, t=[trial("a linux/amd64", ran_by="not")])
    assert (one.ran_by, other.ran_by, third.ran_by) == ("not", "", "not")
    assert verdict.remarks([one, other, third], ["d linux/s390x"]) == [
        "not built, so not checked: d linux/s390x",
        "not run, because no tester runs their platform (farm_emulation may allow it): a linux/amd64, c linux/amd64"]
    assert one.kept
    assert [row["contract"] for row in verdict.table([one, other])] == ["files kept", "kept"]


def test_an_exception_to_a_check_that_was_not_made_as_it_did_not_come_up_is_not_called_unneeded() -> None:
    one = subject("a linux/amd64", processes={"x": "why"}, pie={"/x": "why"}, config={"CMD": "why"})
    never = {**trial("a linux/amd64", {**BROKEN, "check": "starts"}), "facts": {}}
    assert verdict.remarks(found([one], t=[never]), []) == [f"a: the exception to {check} is not needed" for check in (
        "pie for /x", "config for CMD")]
    assert len(verdict.remarks(found([one], t=[trial("a linux/amd64", BROKEN)]), [])) == 3


def test_a_trial_that_fails_is_no_kept_contract() -> None:
    failed = {"unit": "a linux/amd64", "failed": True, "msg": "no engine"}
    one, = found([subject("a linux/amd64")], t=[failed])
    assert not one.kept
    assert "a linux/amd64 could not be checked: no engine" in verdict.words([one], TODAY)


def test_what_a_lost_tester_would_have_run_keeps_no_contract() -> None:
    subjects = [subject("a linux/amd64"), subject("a linux/arm64"), subject("b linux/arm64", runs=False)]
    kept, unrun, files = found(subjects, lost={"pi": "no route"}, t=[trial("a linux/amd64")])
    assert (kept.kept, unrun.kept, files.kept) == (True, False, True)
    assert verdict.words([kept, unrun, files], TODAY).splitlines() == [
        "1 of 3 images breaks its contract:",
        "  a linux/arm64 could not be checked: it was not run, and no tester that is left runs it: pi is lost: no "
        "route"]
    assert verdict.remarks([kept, unrun, files], []) == []
    assert verdict.held([kept, unrun, files], TODAY).keys() == {"a"}


def test_the_tags_of_images_that_break_their_contract_are_held_with_every_reason() -> None:
    said = verdict.held(found([subject("a linux/amd64", SETUID), subject("a linux/arm64"), subject("b linux/amd64")],
                              t=[trial("a linux/amd64", BROKEN), trial("a linux/arm64", BROKEN),
                                 trial("b linux/amd64")]), TODAY)
    assert said == {"a": "\n".join([
        "  a linux/amd64 setuid: su is setuid", "  a linux/amd64 stops: it did not end", "      by hand: docker run it",
        "  a linux/arm64 stops: it did not end", "      by hand: docker run it"])}


BUG = emulator_bugs.Bug("qemu-arm", "7.2", "8", ("linux/arm/v7",), elf.GO, ("stops",), "it hangs", date(2026, 12, 31))
HUNG = Finding("stops", "137", "it did not end")


@pytest.mark.parametrize(
    ("emulator", "platform", "languages", "check", "explained"),
    [
        ("qemu-arm 7.2.22", "linux/arm/v7", (elf.C, elf.GO), "stops", True),
        ("qemu-arm 7.2", "linux/arm/v7", (elf.GO,), "stops", True),
        ("qemu-arm 10.0.2", "linux/arm/v7", (elf.GO,), "stops", False),
        ("qemu-arm 8.0.0", "linux/arm/v7", (elf.GO,), "stops", False),
        ("qemu-arm 5.2.0", "linux/arm/v7", (elf.GO,), "stops", False),
        ("qemu-arm", "linux/arm/v7", (elf.GO,), "stops", False),
        ("", "linux/arm/v7", (elf.GO,), "stops", False),
        ("qemu-aarch64 7.2.22", "linux/arm/v7", (elf.GO,), "stops", False),
        ("qemu-arm 7.2.22", "linux/arm/v6", (elf.GO,), "stops", False),
        ("qemu-arm 7.2.22", "linux/arm/v7", (elf.RUST,), "stops", False),
        ("qemu-arm 7.2.22", "linux/arm/v7", (elf.GO,), "starts", False),
    ],
)
def test_a_bug_explains_what_it_is_about_and_nothing_else(emulator: str, platform: str, languages: tuple[str, ...],
                                                          check: str, explained: bool) -> None:
    finding = replace(HUNG, check=check)
    assert bool(emulator_bugs.cause(finding, emulator, platform, languages, TODAY, [BUG])) is explained


def test_a_bug_that_is_known_by_its_words_explains_no_other_finding() -> None:
    bug = replace(BUG, language="", says="Protocol not available")
    for words, explained in (("it ended: [Errno 92] Protocol not available", True), ("it ended: no route", False)):
        finding = replace(HUNG, words=words)
        assert bool(emulator_bugs.cause(finding, "qemu-arm 7.2.22", "linux/arm/v7", (), TODAY, [bug])) is explained


def test_a_bug_counts_to_its_last_day_and_then_must_be_looked_at_again() -> None:
    def of(day: date) -> tuple[bool, list[str]]:
        return (bool(emulator_bugs.cause(HUNG, "qemu-arm 7.2.1", "linux/arm/v7", (elf.GO,), day, [BUG])),
                emulator_bugs.expired([("qemu-arm 7.2.1", "linux/arm/v7")], day, [BUG]))

    assert of(BUG.expires) == (True, [])
    explained, said = of(BUG.expires + timedelta(days=1))
    assert not explained
    assert said == ["the bug of qemu-arm 7.2 on linux/arm/v7 (it hangs) was to be looked at again by 2026-12-31: "
                    "check whether it still happens, and give it a later date or remove it in "
                    "plugins/plugin_utils/verify/emulator_bugs.py"]
    assert emulator_bugs.expired([("qemu-arm 10.0", "linux/arm/v7"), ("", "linux/amd64")], date.max, [BUG]) == []


def test_a_finding_that_is_the_emulators_is_shown_as_its_and_breaks_no_contract(monkeypatch: pytest.MonkeyPatch
                                                                                ) -> None:
    monkeypatch.setattr(emulator_bugs, "KNOWN", (BUG,))
    unit, how = "a linux/arm/v7", {"ran_by": "emulated", "emulator": "qemu-arm 7.2.22"}
    one, = found([subject(unit, languages=(elf.GO,))], t=[trial(unit, BROKEN, **how)])
    assert one.kept and one.as_dict()["emulators"][0]["subject"] == "137"
    assert verdict.words([one], TODAY) == ""
    assert verdict.remarks([one], []) == ["a linux/arm/v7 stops: it did not end: a bug of qemu-arm 7.2 on linux/arm/v7 "
                                          "(it hangs), not of the image"]
    assert [row["contract"] for row in verdict.table([one])] == ["emulator's bug"]
    for again in (found([subject(unit, BROKEN, languages=(elf.GO,))], t=[trial(unit, **how)]),  # seen in its files
                  found([subject(unit, languages=(elf.GO,))], t=[trial(unit, BROKEN)])):
        assert not again[0].kept
    late = found([subject(unit, languages=(elf.GO,))], today=date(2027, 1, 1), t=[trial(unit, **how)])
    assert verdict.held(late, date(2027, 1, 1)) == {}
    spoilt = found([subject(unit, languages=(elf.GO,))], today=date(2027, 1, 1), t=[trial(unit, BROKEN, **how)])
    assert "by 2026-12-31" in verdict.held(spoilt, date(2027, 1, 1))["a"]
    assert late[0].kept and "was to be looked at again by 2026-12-31" in verdict.words(late, date(2027, 1, 1))


@pytest.mark.parametrize("bug", emulator_bugs.KNOWN, ids=str)
def test_a_known_bug_says_all_that_it_must(bug: emulator_bugs.Bug) -> None:
    assert set(bug.platforms) <= set(map(str, ALL)) and bug.platforms
    assert set(bug.checks) <= set(CHECKS) - set(OF_FILES) and bug.checks
    assert bug.language in (elf.GO, elf.RUST, elf.C) or (bug.says and not bug.language)
    assert emulator_bugs.numbers(bug.since) < emulator_bugs.numbers(bug.before)
    assert bug.reason and bug.emulator
