"""Wheels: what their names say, what they need, and what pip's complaints about them mean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    HashMismatch,
    Missing,
    NoSpace,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import (
    ALL,
    AMD64,
    ARM64,
    ARMV6,
    ARMV7,
    I386,
    RISCV64,
    S390X,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, wheels
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.pip_failures import Conflict, culprit, failure
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.wheels import RELEASES, Wheel, environment, reached
from packaging.utils import parse_wheel_filename
from packaging.version import Version

TRIXIE = RELEASES["trixie"]


@pytest.mark.parametrize(
    ("name", "normal"), [("HAP-python", "hap-python"), ("ruamel.yaml", "ruamel-yaml"), ("a__b--c", "a-b-c")])
def test_names_are_compared_as_an_index_does(name, normal):
    assert wheels.normal(name) == normal


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("1.0", "1.0.0", True), ("1.0", "1", True), ("1.10", "1.1", False), ("10", "1", False),
     ("2024.01", "2024.1", True), ("1.0rc1", "1rc1", True), ("1.0rc1", "1.0", False),
     ("1.0.post1", "1.post1", True), ("1.0-1", "1.0.POST_1", True),
     ("v1.0-Alpha.2", "1a2", True), ("1.0rev", "1.0.post0", True), ("1.0_1", "1.0_1", False),
     ("", "1.0", False), ("1!1.0", "1.0", False), ("1.0+a.1", "1.0", False)])
def test_which_versions_are_the_same(one, other, same):
    assert wheels.same_version(one, other) == same


@pytest.mark.parametrize(
    ("platform", "first", "has", "not_"),
    [
        (AMD64, "manylinux_2_41_x86_64", ["manylinux2014_x86_64", "manylinux1_x86_64", "manylinux_2_5_x86_64"],
         ["manylinux_2_42_x86_64", "linux_x86_64"]),
        (ARM64, "manylinux_2_41_aarch64", ["manylinux2014_aarch64", "manylinux_2_28_aarch64"], []),
        (ARMV7, "manylinux_2_41_armv7l", ["manylinux_2_31_armv7l"], ["linux_armv6l"]),
        (ARMV6, "any", [], ["linux_armv6l", "manylinux_2_31_armv6l"]),
        (RISCV64, "manylinux_2_41_riscv64", ["manylinux_2_39_riscv64"], []),
    ],
)
def test_which_builds_run_on_a_platform(platform, first, has, not_):
    tags = wheels.platform_tags(platform, TRIXIE.glibc)
    assert tags[0] == first
    assert set(has) <= set(tags)
    assert not set(not_) & set(tags)
    assert all(wheels.fits(f"a-1.0-cp313-cp313-{tag}.whl", platform) for tag in tags)


@pytest.mark.parametrize(
    ("file", "platforms"),
    [("a-1-py3-none-any.whl", ALL), ("a-1-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", (AMD64,)),
     ("a-1-cp313-cp313-manylinux_2_31_armv7l.whl", (ARMV7,)), ("a-1-cp313-cp313-linux_armv6l.whl", ()),
     ("a-1-cp313-cp313-win_amd64.whl", ()), ("a-1-cp313-cp313-musllinux_1_2_x86_64.whl", ()),
     ("a-1-cp313-cp313-macosx_11_0_x86_64.whl", ()), ("a-1-cp313-cp313-linux_x86_64.whl", ()),
     ("a-1-cp313-cp313-manylinux_2_99_aarch64.whl", ()), ("a-1-cp313-cp313-manylinux_2_31_armv6l.whl", ()),
     ("a-1-cp38-abi3-manylinux1_i686.manylinux_2_5_i686.whl", (I386,)),
     ("a-1-cp313-cp313-musllinux_1_2_s390x.manylinux_2_28_s390x.whl", (S390X,))])
def test_which_platforms_a_wheel_may_be_for(file, platforms):
    assert tuple(platform for platform in ALL if wheels.fits(file, platform)) == platforms


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("a-1.0-py3-none-any.whl", "py 3 none any"),
        ("a_b-1.0-py2.py3-none-any.whl", "py 3 none any"),
        ("a-1.0-2-py313-none-any.whl", "py 3.13 none any"),
        ("a-1.0-2.1a-Py3-None-Any.whl", "py 3 none any"),
        ("a-1.0-cp39.pp39-abi3-manylinux1_x86_64.whl", "cp 3.9 abi3 manylinux1_x86_64"),
        ("a-1.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "cp 3.13 cp313 manylinux_2_17_x86_64"),
        ("a-1.0-cp38-abi3-manylinux_2_28_aarch64.whl", "cp 3.8 abi3 manylinux_2_28_aarch64"),
    ],
)
def test_a_wheel_is_asked_for_by_its_own_tags(file, options):
    names = ("implementation", "python-version", "abi", "platform")
    wanted = [f"--{name}={value}" for name, value in zip(names, options.split(), strict=True)]
    assert list(wheels.target_of(file)) == [*wanted, "--ignore-requires-python"]


@pytest.mark.parametrize(
    ("fact", "good"),
    [
        ({"name": "hap-python", "version": "5.2.0", "file": "HAP_python-5.2.0-py3-none-any.whl"}, True),
        ({"name": "a", "version": "1.0+cu1", "file": "a-1.0+cu1-cp38-abi3-manylinux_2_28_aarch64.whl"}, True),
        ({"name": "a-b", "version": "1.0.post1", "file": "A.b-1.0.Post_1-1-py2.py3-none-any.whl"}, True),
        ({"name": "a", "version": "2024.1", "file": "a-2024.01-py3-none-any.whl"}, True),
        ({"name": "a", "version": "1.0.post1", "file": "a-1.0-1-py3-none-any.whl"}, False),
        ({"name": "a", "version": "1.0.post1", "file": "a-1.0_1-py3-none-any.whl"}, False),
        ({"name": "a", "version": "1.0", "file": "a-1.0.tar.gz"}, False),
        ({"name": "a", "version": "1.0", "file": "b-1.0-py3-none-any.whl"}, False),
        ({"name": "a", "version": "1.0", "file": "a-1.1-py3-none-any.whl"}, False),
        ({"name": "a", "version": "1.0", "file": "../a-1.0-py3-none-any.whl"}, False),
        ({"name": "a", "version": "1.0", "file": "a-1.0-py3-none-../any.whl"}, False),
        ({"name": "A", "version": "1.0", "file": "A-1.0-py3-none-any.whl"}, False),
        ({"name": "a", "version": "1.0", "file": "a-1.0-pp310-none-any.whl"}, False),
    ],
)
def test_a_line_names_a_wheel_and_nothing_else(fact, good):
    assert (list(KINDS["pypi"].wrong(fact)) == []) == good


@pytest.mark.parametrize("version", [
    f"{start}{trial}{post}{dev}" for start in ("1.0", "v1!2024.01") for trial in ("", "rc1", ".RC_1", "-Alpha", "c.2")
    for post in ("", "-1", ".post_1", "post", "_R2", "_1") for dev in ("", ".dev", "-DEV_3", "+Loc.1", "+a_b", "+")])
def test_a_version_may_be_spelt_in_every_way_that_the_packaging_library_takes(version):
    def takes(read, text: str) -> bool:
        try:
            return bool(read(text))
        except ValueError:
            return False

    assert bool(re.fullmatch(wheels.REQUIREMENT, f"a=={version}")) == takes(Version, version)
    file = f"a-{version.replace('-', '.')}-py3-none-any.whl"
    assert bool(wheels.FILE.fullmatch(file)) == takes(parse_wheel_filename, file)


def wheel(name: str, version: str, *needs: str) -> Wheel:
    return Wheel.of(Path(f"{name}-{version}-py3-none-any.whl"), needs)


@pytest.mark.parametrize(
    ("wanted", "some", "needed", "lacking"),
    [
        (["a==1"], [wheel("a", "1", "b>=1"), wheel("b", "1.5"), wheel("c", "1")], {"a", "b"}, {}),
        (["a==1"], [wheel("a", "1", "B.b ; python_version < '3.13'", "c; python_version >= '3.13'"), wheel("b_b", "1")],
         {"a"}, {"c": ["a 1"]}),
        (["a==1"], [wheel("a", "1", "b; extra == 'fast'")], {"a"}, {}),
        (["a[Fast]==1"], [wheel("a", "1", "b>2; extra == 'fast'", "a[more]"), wheel("b", "2")], {"a"},
         {"b>2": ["a 1"]}),
        (["a==1"], [wheel("a", "1", "b[x]>=2"), wheel("b", "1", "c; extra == 'x'")], {"a"}, {"b[x]>=2": ["a 1"]}),
        (["a==1"], [wheel("a", "1", "b[x]"), wheel("b", "1", "c; extra == 'x'", "a"), wheel("c", "1")],
         {"a", "b", "c"}, {}),
        (["a==1"], [wheel("a", "1", "b; sys_platform == 'win32'", "c; platform_machine == 's390x'")], {"a"},
         {"c": ["a 1"]}),
        (["a==1"], [wheel("a", "1", "b>=1"), wheel("b", "2rc1")], {"a", "b"}, {}),
        (["a==2"], [wheel("a", "1")], set(), {"a==2": ["the recipe"]}),
    ],
)
def test_what_is_needed_is_decided_for_the_python_of_the_image(wanted, some, needed, lacking):
    found = {one.name: one for one in some}
    assert reached(wanted, found, environment(S390X, TRIXIE)) == (needed, lacking)


@pytest.mark.parametrize("need", ["b @ https://example.org/b.whl", "b >=> 1"])
def test_what_no_index_serves_is_refused(need):
    with pytest.raises(FarmError, match="a 1 asks for"):
        reached(["a==1"], {"a": wheel("a", "1", need)}, environment(AMD64, TRIXIE))


@pytest.mark.parametrize("marker", ["os_name ~= 'posix'", "platform_system === 'x' and sys_platform ~= 'linux'"])
def test_a_marker_that_means_nothing_is_told_with_whose_it_is(marker):
    with pytest.raises(FarmError, match="a 1 asks for .*, whose marker is not valid"):
        reached(["a==1"], {"a": wheel("a", "1", f"b; {marker}")}, environment(AMD64, TRIXIE))


def test_a_suite_of_which_nothing_is_known_is_refused():
    assert wheels.release_of("trixie").python == "3.13"
    with pytest.raises(FarmError, match="which Python the suite sid has"):
        wheels.release_of("sid")


NONE = ("ERROR: Could not find a version that satisfies the requirement a==1\n"
        "ERROR: No matching distribution found for a==1")


@pytest.mark.parametrize(
    ("err", "log", "kind", "hint"),
    [
        (NONE, "Could not fetch URL http://i/a/: 404 Client Error: Not Found for url", Missing, "farm_origins"),
        (NONE, "Could not fetch URL http://i/a/: connection error: HTTPConnectionPool(...)", Unreachable, "reachable"),
        (NONE, "Could not fetch URL http://i/a/: ... (Caused by ResponseError('too many 503 error responses'))",
         Unreachable, "reachable"),
        (NONE, "Could not fetch URL http://i/a/: 429 Client Error: Too Many Requests", Unreachable, "reachable"),
        (NONE, "Could not fetch URL http://i/a/: 401 Client Error: Unauthorized", FarmError, "login"),
        (NONE, "Could not fetch URL https://i/a/: There was a problem confirming the ssl certificate: Max retries",
         FarmError, "certificate"),
        (NONE, "WARNING: The repository located at i is not a trusted or secure host", FarmError, "https"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "", HashMismatch, "compare"),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "", NoSpace, "room"),
        ("  ERROR: HTTP error 404 while getting http://i/a.whl", "", Missing, "wheel"),
        ("requests.exceptions.RetryError: Max retries exceeded with url", "", Unreachable, "reachable"),
        ("ERROR: ResolutionImpossible: for help visit", "", Conflict, "exclude each other"),
        ("ERROR: something", "", FarmError, ""),
    ],
)
def test_what_pip_says_means_an_error(err, log, kind, hint):
    error = failure("pip download", err, log, 1)
    assert error.__class__ is kind
    assert hint in error.hint


def test_the_requirement_without_a_wheel_is_named():
    assert culprit(failure("pip", NONE, "")) == "a==1"
    marked = "ERROR: No matching distribution found for a; sys_platform == 'linux'"
    assert culprit(failure("pip", marked, "")) == "a"
    assert culprit(FarmError("other")) == ""
    log = ("2026 The conflict is caused by:\n2026     a 1 depends on b\n2026     c 2 depends on b>=3\n"
           "2026     a 1 depends on b\n2026     c 1 depends on b>=2 and <3\n")
    assert culprit(failure("pip", "ERROR: ResolutionImpossible", log)) == "b (a 1) and b>=3 (c 2)"


def test_a_message_has_no_password():
    assert "secret" not in str(failure("pip", "ERROR: https://me:secret@index.example/a", ""))


def test_what_pip_does_not_foresee_is_told_in_its_words():
    trace = "ERROR: Exception:\nTraceback (most recent call last):\nInvalidVersion: Invalid version: '1.0_1'\n"
    assert "Invalid version: '1.0_1'" in failure("pip download", trace, "").message
