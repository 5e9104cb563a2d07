"""Closures are solved by the real apt, from an archive that is signed by a key made on the spot."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Missing
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, ARMV6
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.apt import Expired, Mixed, Signature, failure
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.debian import KIND
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.debian_closures import (
    Debian,
    Foreign,
    Older,
    refuse_older,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.debian_closures import Package as Locked
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import SNAPSHOT, Lock

from .debian_archive import BASE, NOW, Archive, Package, Signer, new_signer
from .locking import Place

pytestmark = pytest.mark.skipif(not (shutil.which("apt-get") and shutil.which("gpg")), reason="needs apt and gpg")
SUITES = ("trixie", "trixie-security")
FIX = Package("libc6", "2.41-12+deb13u1")


@pytest.fixture(scope="session")
def signer() -> Iterator[Signer]:
    with new_signer() as made:
        yield made


@pytest.fixture
def main(tmp_path: Path, signer: Signer) -> Archive:
    archive = Archive(tmp_path / "debian", signer)
    archive.suite("trixie", BASE, name="stable", valid=None, date=NOW - timedelta(days=2))
    return archive


@pytest.fixture
def security(tmp_path: Path, signer: Signer) -> Archive:
    archive = Archive(tmp_path / "debian-security", signer)
    archive.suite("trixie-security", (FIX,), name="stable-security", date=NOW - timedelta(days=1))
    return archive


@pytest.fixture
def resolver(tmp_path: Path, main: Archive, security: Archive, signer: Signer):
    def make(keyring: Path = signer.keyring, **options: object) -> Debian:
        named = {"debian": [main.url], "debian-security": [security.url], **options.pop("origins", {})}
        origins = Origins(named, here=Machine(), snapshots=False)
        return Debian(tmp_path / "apt", origins, keyring=str(keyring), sleep=lambda seconds: None, **options)

    return make


def names(entries) -> list[str]:
    return [KIND.label(entry.facts) for entry in entries]


def test_a_closure_is_what_an_empty_system_needs_with_the_newest_of_all_suites(resolver):
    debian = resolver()
    closure = debian.closure("rootfs", debian.index(SUITES, ARM64), ["web"], essential=False)
    assert sorted(names(closure)) == [
        "libc6 2.41-12+deb13u1 arm64", "tzdata 2026a-1 all", "web 1.0~rc1-1 arm64", "zlib1g 1:1.3+dfsg-1 arm64"]
    zlib = next(entry for entry in closure if entry.facts["name"] == "zlib1g")
    assert zlib.facts["path"] == "pool/main/z/zlib1g/zlib1g_1.3+dfsg-1_arm64.deb"
    assert {entry.facts["name"]: entry.facts["archive"] for entry in closure}["libc6"] == "debian-security"


def test_essential_packages_come_where_they_are_asked_for(resolver):
    debian = resolver()
    closure = debian.closure("seed", debian.index(SUITES, AMD64), [], essential=True)
    assert sorted(names(closure)) == ["base-files 13 amd64", "libc6 2.41-12+deb13u1 amd64"]


def below(*packages: str) -> list[Locked]:
    """`libc6 2.41-12` -> what an image has that another descends from."""
    return [Locked("0" * 64, 1, {"name": name, "version": version, "architecture": "arm64"})
            for name, version in map(str.split, packages)]


def test_what_is_below_is_left_out_also_in_a_version_that_the_indexes_no_longer_have(resolver):
    debian = resolver()
    there = below("libc6 2.41-11", "zlib1g 1:1.3+dfsg-1")
    closure = debian.closure("rootfs", debian.index(SUITES, ARM64), ["web"], essential=False, below=there)
    assert sorted(names(closure)) == ["tzdata 2026a-1 all", "web 1.0~rc1-1 arm64"]
    # and the next image is as if nothing had been below
    assert len(debian.closure("rootfs", debian.index(SUITES, ARM64), ["web"], essential=False)) == 4


def test_what_is_asked_for_is_in_the_closure_though_it_is_below(resolver):
    debian = resolver()
    there = below("libc6 2.41-11", "zlib1g 1:1.3+dfsg-1")
    closure = debian.closure("rootfs", debian.index(SUITES, ARM64), ["zlib1g"], essential=False, below=there)
    assert names(closure) == ["zlib1g 1:1.3+dfsg-1 arm64"]


def test_what_is_below_provides_what_it_provides(resolver, main):
    main.suite("trixie", (*BASE, Package("mawk", "1", provides="awk"), Package("gawk", "1", provides="awk"),
                          Package("script", "1", depends="awk")), name="stable", valid=None)
    debian = resolver()
    closure = debian.closure("rootfs", debian.index(SUITES, ARM64), ["script"], essential=False,
                             below=below("libc6 2.41-11", "gawk 0.9"))
    assert names(closure) == ["script 1 arm64"]


def test_a_package_that_needs_a_newer_one_than_below_is_refused_with_both_versions(resolver, main):
    main.suite("trixie", (*BASE, Package("new", "1", depends="libc6 (>= 2.41-12)")), name="stable", valid=None)
    debian = resolver()
    with pytest.raises(FarmError, match=r"new cannot be added to .*: libc6 2.41-12\+deb13u1, there "
                                        r"2.41-11 .*linux/arm64(?s:.*)lock both at the same time"):
        debian.closure("rootfs", debian.index(SUITES, ARM64), ["new"], essential=False, below=below("libc6 2.41-11"))


def test_without_dependencies_a_package_comes_alone_and_in_its_newest_version(resolver):
    debian = resolver()
    index = debian.index(SUITES, ARM64)
    whole = {entry.facts["name"]: entry for entry in debian.closure("all", index, ["web"], essential=False)}
    alone = debian.alone("few", index, ["web", "zlib1g", "libc6"])
    assert sorted(names(alone)) == ["libc6 2.41-12+deb13u1 arm64", "web 1.0~rc1-1 arm64", "zlib1g 1:1.3+dfsg-1 arm64"]
    assert {entry.facts["name"]: entry for entry in alone} == {
        name: whole[name] for name in ("web", "zlib1g", "libc6")}  # the same files as with them
    with pytest.raises(FarmError, match=r"(?s)no-such.*Unable to locate package no-such.*linux/arm64"):
        debian.alone("few", index, ["no-such"])


def test_no_other_user_can_hold_a_resolution_up(resolver, tmp_path):
    """Whoever can open a file can lock it."""
    resolver().index(SUITES, AMD64)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "apt").glob("*/in-use")} == {0o600}


def test_the_date_is_that_of_the_newest_release_file(resolver):
    assert resolver().index(SUITES, AMD64).date == NOW - timedelta(days=1)


def test_a_package_that_is_not_there_is_named_with_its_platform(resolver):
    debian = resolver()
    with pytest.raises(FarmError, match=r"(?s)no-such.*Unable to locate package no-such.*linux/amd64"):
        debian.closure("rootfs", debian.index(SUITES, AMD64), ["no-such"], essential=False)


def test_what_is_wrong_on_several_platforms_is_said_once(tmp_path, main, signer):
    (tmp_path / "place").mkdir()
    place = Place(tmp_path / "place", {"debian": [main.url]}, keyring=str(signer.keyring))
    with pytest.raises(FarmError) as error:
        place.lock({"debian": ["no-such"]}, platforms=(AMD64, ARM64, ARMV6))
    assert error.value.message == ("linux/amd64, linux/arm64, linux/arm/v6: apt cannot install no-such:\n"
                                   "    E: Unable to locate package no-such")


def test_a_package_name_is_never_an_option(resolver):
    debian = resolver()
    with pytest.raises(FarmError, match="locate package"):
        debian.closure("rootfs", debian.index(SUITES, AMD64), ["-oAPT::Get::AllowUnauthenticated=true"],
                       essential=False)


def test_a_tampered_inrelease_is_refused_whatever_the_inventory_allows(resolver, main):
    path = main.root / "dists" / "trixie" / "InRelease"
    path.write_text(path.read_text().replace("Label: Debian", "Label: Debiab"))
    with pytest.raises(Signature):
        resolver(allow_missing_suites=True).index(SUITES, AMD64)


def test_another_key_is_refused(resolver, tmp_path):
    with new_signer() as other, pytest.raises(Signature):
        resolver(keyring=other.keyring).index(SUITES, AMD64)


def test_an_unsigned_archive_is_refused(resolver, main):
    (main.root / "dists" / "trixie" / "InRelease").unlink()
    with pytest.raises((Signature, Missing)):
        resolver(allow_missing_suites=True).index(SUITES, AMD64)


def test_an_inrelease_past_its_valid_until_is_refused(resolver, security):
    security.suite("trixie-security", (FIX,), date=NOW - timedelta(days=9))
    with pytest.raises(Expired, match="expired"):
        resolver(allow_missing_suites=True).index(SUITES, AMD64)


def test_a_snapshot_may_be_past_its_valid_until(resolver, main, security, tmp_path):
    security.suite("trixie-security", (FIX,), date=NOW - timedelta(days=9))
    for name in ("debian", "debian-security"):
        (tmp_path / "archive" / name).mkdir(parents=True)
        (tmp_path / "archive" / name / "20260901T000000Z").symlink_to(tmp_path / name)
    origins = {name: [f"file://{tmp_path}/archive/{name}/{{snapshot}}"] for name in ("debian", "debian-security")}
    index = resolver(origins=origins, snapshot="20260901T000000Z").index(SUITES, AMD64)
    assert index.date == NOW - timedelta(days=2)


def test_a_snapshot_needs_an_origin_that_serves_them(resolver):
    with pytest.raises(FarmError, match="serves snapshots"):
        resolver(snapshot="20260901T000000Z").index(SUITES, AMD64)


def test_an_index_that_does_not_match_its_inrelease_is_refused(resolver, security):
    security.spoil("trixie-security", "armel")
    debian = resolver()
    assert debian.index(SUITES, AMD64).left_out == ()
    with pytest.raises(Mixed, match=r"(?s)armel.*farm_allow_missing_suites"):
        debian.index(SUITES, ARMV6)


def test_where_it_is_allowed_such_a_suite_is_left_out_for_that_platform_alone(resolver, security):
    security.spoil("trixie-security", "armel")
    debian = resolver(allow_missing_suites=True)
    assert debian.index(SUITES, ARM64).left_out == ()
    index = debian.index(SUITES, ARMV6)
    assert (index.left_out, index.older) == (("trixie-security",), {})
    assert "libc6 2.41-12 armel" in names(debian.closure("rootfs", index, ["libc6"], essential=False))


def test_or_taken_whole_by_its_other_name_in_an_older_state(resolver, main):
    main.suite("trixie", (Package("libc6", "2.41-11"),), name="stable", folder="stable", valid=None,
               date=NOW - timedelta(days=70))
    main.spoil("trixie", "armel")
    index = resolver(allow_missing_suites=True).index(SUITES, ARMV6)
    assert index.left_out == ()
    assert index.older == {"trixie": (NOW - timedelta(days=70)).strftime("%Y%m%dT%H%M%SZ")}


def test_the_other_name_of_a_suite_must_still_mean_it(resolver, main):
    main.suite("forky", BASE, name="stable", folder="stable", valid=None)
    main.spoil("trixie", "armel")
    assert resolver(allow_missing_suites=True).index(SUITES, ARMV6).left_out == ("trixie",)


def test_without_any_suite_there_is_nothing_to_resolve_on(resolver, main, security):
    main.spoil("trixie", "armel")
    security.spoil("trixie-security", "armel")
    with pytest.raises(Mixed, match="serves none of trixie, trixie-security completely"):
        resolver(allow_missing_suites=True).index(SUITES, ARMV6)


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize(
    ("suite", "codename", "name"),
    [("trixie", "bookworm", "oldstable"), ("trixie-security", "bookworm-security", "oldstable-security"),
     ("trixie-security", "trixie", "stable")],
)
def test_the_genuine_inrelease_of_another_suite_is_refused_whatever_the_inventory_allows(resolver, main, security,
                                                                                         suite, codename, name,
                                                                                         allowed):
    archive = security if suite.endswith("-security") else main
    archive.suite(codename, BASE, name=name, folder=suite)
    with pytest.raises(Foreign, match=f"serves the signed InRelease of {codename} or {name} as that of {suite}"):
        resolver(allow_missing_suites=allowed).index(SUITES, AMD64)


def test_it_is_not_taken_for_a_mirror_between_two_states_either(resolver, main):
    main.suite("bookworm", BASE, name="oldstable", folder="trixie")
    main.spoil("trixie", "armel")
    with pytest.raises(Foreign):
        resolver(allow_missing_suites=True).index(SUITES, ARMV6)


def test_a_suite_may_be_asked_for_by_its_state(resolver, main):
    main.suite("trixie", BASE, name="stable", folder="stable", valid=None)
    assert resolver().index(("stable",), AMD64).releases[0].suite == "stable"


def stamp(days: float) -> str:
    return (NOW - timedelta(days=days)).strftime(SNAPSHOT)


@pytest.mark.parametrize(
    ("old", "said"),
    [
        (Lock(), ""),
        (Lock(snapshot=stamp(1), releases={"trixie": stamp(2), "trixie-security": stamp(1)}), ""),
        (Lock(snapshot=stamp(0), releases={"trixie": stamp(0), "trixie-security": stamp(3)}),
         "trixie for linux/amd64 is from"),
        (Lock(snapshot=stamp(0), releases={"trixie": stamp(9), "trixie-security": stamp(0.5)}),
         "trixie-security for linux/amd64 is from"),
        (Lock(snapshot=stamp(0), releases={"trixie": stamp(0)}, older={"linux/amd64": {"trixie": stamp(2)}}), ""),
        (Lock(snapshot=stamp(0)), "the newest suite is from"),
        (Lock(snapshot=stamp(1)), ""),
    ],
)
def test_a_lock_never_goes_back_in_time(resolver, old, said):
    indexes = [resolver().index(SUITES, AMD64)]
    if not said:
        refuse_older(old, indexes)
        return
    with pytest.raises(Older, match=said):
        refuse_older(old, indexes)


def test_apts_own_reasons_are_told(resolver, main):
    main.suite("trixie", (*BASE, Package("broken", "1", depends="nowhere (>= 2)")), name="stable", valid=None)
    debian = resolver()
    with pytest.raises(FarmError, match=r"broken : Depends: nowhere \(>= 2\)"):
        debian.closure("rootfs", debian.index(SUITES, AMD64), ["broken"], essential=False)


def test_a_name_is_never_taken_for_a_pattern(resolver):
    debian = resolver()
    with pytest.raises(FarmError, match=r"zlib\.g"):
        debian.closure("rootfs", debian.index(SUITES, AMD64), ["zlib.g"], essential=False)


def test_a_plus_at_the_end_is_part_of_a_name(resolver):
    """To apt it may also mean that the package before it is to be installed."""
    debian = resolver()
    with pytest.raises(FarmError, match=r"apt has no package web\+") as error:
        debian.closure("rootfs", debian.index(SUITES, ARM64), ["tzdata", "web+"], essential=False)
    assert error.value.where["platform"] == ARM64 and "correct `debian:`" in error.value.hint


def test_the_indexes_of_a_platform_are_fetched_once_a_run(resolver, main):
    debian = resolver()
    debian.prepare([(SUITES, AMD64), (SUITES, ARM64)])
    shutil.rmtree(main.root / "dists")
    assert debian.index(SUITES, AMD64) is debian.index(SUITES, AMD64)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("E: Failed to fetch http://x/Packages.xz  File has unexpected size (1 != 2). Mirror sync in progress?",
         "Mixed"),
        ("E: Failed to fetch http://x/Packages.xz  Hash Sum mismatch", "Mixed"),
        ("E: Release file for http://x/InRelease is expired (invalid since 2d).", "Expired"),
        ("E: Release file for http://x/InRelease is not valid yet (invalid for another 19d).", "Early"),
        ("E: The repository 'http://x trixie InRelease' provides only weak security information.", "Signature"),
        ("W: GPG error: http://x trixie InRelease: The following signatures were invalid: BADSIG 0", "Signature"),
        ("E: Failed to fetch http://x/InRelease  Sub-process /usr/bin/sqv returned an error code (1), error message "
         "is: Verifying signature:            Message has been manipulated", "Signature"),
        ("E: Clearsigned file isn't valid, got 'NODATA' (does the network require authentication?)", "Signature"),
        ("E: The repository 'http://x trixie Release' does not have a Release file.", "Missing"),
        ("E: Failed to fetch http://x/InRelease  Could not connect to x:80", "Unreachable"),
        ("E: write, still have 3 to write but couldn't - write (28: No space left on device)", "NoSpace"),
    ],
)
def test_what_apt_complains_of(output, kind):
    assert failure(output).__name__ == kind


def test_a_clock_that_is_behind_is_no_stale_mirror(resolver, main):
    main.suite("trixie", BASE, name="stable", date=NOW + timedelta(days=20))
    with pytest.raises(Expired) as error:
        resolver().index(SUITES, AMD64)
    assert "clock is behind" in error.value.hint
