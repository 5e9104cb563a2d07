"""Wheels from an index made on the spot, resolved and fetched by the real pip."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    HashMismatch,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARMV6, I386, S390X
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, pip_client
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

from .conftest import Catalog
from .locking import Place
from .package_registries import WheelIndex, served, tarball

APP = {"pypi": ["Web.App==2.0"]}
ON_AMD64 = "cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64"
ON_ARM64 = "cp38-abi3-manylinux_2_28_aarch64"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelIndex]:
    """Web.App needs pure-lib everywhere, and `old` below Python 3.12 alone; `fast` has builds for two platforms."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_RETRIES", "0")
    with served(WheelIndex()) as site:
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {site.url}/simple/\n")
        site.publish("pure-lib", "1.0")
        site.publish("pure-lib", "1.1")
        site.publish("old", "0.9", needs=("older",))
        site.publish("older", "0.1")
        site.publish("Web.App", "2.0", needs=("pure_lib>=1.0", "old; python_version < '3.12'",
                                              "pure-lib<1; sys_platform == 'win32'"))
        site.publish("fast", "1.0", ON_AMD64)
        site.publish("fast", "1.0", ON_ARM64)
        yield site


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, {})


def files(place: Place, given: dict[str, object], **more: object) -> dict[str, set[str]]:
    """The wheels of each platform."""
    found: dict[str, set[str]] = {}
    for entry in place.lock(given, **more).lock.entries:  # type: ignore[arg-type]
        found.setdefault(entry.platform, set()).add(entry.fact["file"])
    return found


def test_wheels_are_locked_with_all_that_they_need_on_each_platform(place, index):
    found = place.lock(APP, platforms=(AMD64, ARMV6))
    assert [(entry.platform, entry.path) for entry in found.lock.entries] == [
        (platform, path) for platform in ("linux/amd64", "linux/arm/v6")
        for path in ("app/pure_lib-1.1-py3-none-any.whl", "app/Web_App-2.0-py3-none-any.whl")]
    assert all(Store(place.state / "store").has(entry.sha256, entry.size) for entry in found.lock.entries)
    assert lockfile.parse(lockfile.dump(found.lock), "x") == found.lock
    assert "http" not in lockfile.dump(found.lock)
    assert place.lock(APP, found.lock, platforms=(AMD64, ARMV6)).changed  # nothing is written yet
    assert place.lock(APP, found.lock, platforms=(AMD64, ARMV6)).lock == found.lock


def test_the_python_of_the_suite_decides_and_not_that_of_the_controller(place, index):
    assert files(place, APP, suite="bookworm")["linux/amd64"] == {
        "old-0.9-py3-none-any.whl", "older-0.1-py3-none-any.whl", "pure_lib-1.1-py3-none-any.whl",
        "Web_App-2.0-py3-none-any.whl"}
    assert len(files(place, APP)["linux/amd64"]) == 2


def test_each_platform_has_its_own_builds(place, index):
    assert files(place, {"pypi": ["fast==1.0"]}) == {
        "linux/amd64": {f"fast-1.0-{ON_AMD64}.whl"}, "linux/arm64": {f"fast-1.0-{ON_ARM64}.whl"}}


def test_a_version_that_is_spelt_in_another_way_is_locked_and_fetched(place, index):
    """Names of files that are older than the rules for them, and a requirement that pip takes as well."""
    old = index.publish("Odd.Lib", "2.0.Post_1", "py2.py3-none-any")
    index.publish("Web.App", "2.1", needs=("odd_lib==2.0-1",))
    given = {"pypi": ["Web.App==2.1", "ODD-lib==2.0-1"]}
    entries = place.lock(given, platforms=(AMD64,)).lock.entries
    assert [entry.label for entry in entries] == [
        f"odd-lib 2.0.post1 ({old})", "web-app 2.1 (Web_App-2.1-py3-none-any.whl)"]
    assert set(place.fetch(entries).values()) == {None}
    assert [list(KINDS["pypi"].wrong(entry.fact)) for entry in entries] == [[], []]


def test_what_only_another_machine_needs_is_not_asked_for(place, index):
    """pip itself would ask for what the machine that it runs on needs, here of amd64 and a newer Python."""
    build = "cp38-abi3-manylinux_2_17_x86_64"
    index.publish("fast", "2.0", build)
    index.publish_source("typed", "1.0")
    for version in ("1.0", "2.0"):
        index.publish("both", version)
    index.publish("Web.App", "2.1", needs=(
        "fast==2; platform_machine == 'x86_64'", "typed; python_version >= '3.12'",
        "both<2; python_version < '3.12'", "both>=2; python_version >= '3.12'"))
    common = {"Web_App-2.1-py3-none-any.whl", "both-1.0-py3-none-any.whl"}
    assert files(place, {"pypi": ["Web.App==2.1"]}, suite="bookworm") == {
        "linux/amd64": {*common, f"fast-2.0-{build}.whl"}, "linux/arm64": common}


def test_a_platform_without_a_build_is_refused_with_what_to_do(place, index):
    index.publish("Web.App", "2.1", needs=("fast",))
    with pytest.raises(FarmError) as error:
        place.lock({"pypi": ["Web.App==2.1"]}, platforms=(AMD64, S390X, ARMV6))
    assert "pip finds no wheel of\n    fast (not for linux/s390x, linux/arm/v6)" in error.value.message
    assert error.value.__class__ is FarmError
    assert error.value.where == {"input": "app", "platform": "linux/s390x, linux/arm/v6", "image": "web"}
    assert "dependencies: false" in error.value.hint


def test_native_code_in_a_wheel_that_is_said_to_be_for_all_is_found(place, index):
    library = "\x7fELF\x02\x01\x01" + "\0" * 9 + "\x03\0\x3e\0"  # for amd64
    index.publish("Web.App", "2.1", needs=("wrong",))
    index.publish("wrong", "1.0", files={"wrong/fast.so": library})
    assert len(place.lock({"pypi": ["Web.App==2.1"]}, platforms=(AMD64,)).lock.entries) == 2
    with pytest.raises(FarmError, match="wrong-1.0-py3-none-any.whl has wrong/fast.so") as error:
        place.lock({"pypi": ["Web.App==2.1"]}, platforms=(AMD64, S390X))
    assert error.value.where == {"input": "app", "platform": "linux/s390x", "image": "web"}
    assert "dependencies: false" in error.value.hint


def test_an_old_build_that_does_not_fit_is_no_build(place, index):
    """As for 32 bit, for which many projects no longer make builds: pip then tells of a conflict."""
    index.publish("fast", "0.1", "cp36-abi3-manylinux2010_i686")
    index.publish("Web.App", "2.1", needs=("fast", "pure-lib"))
    index.publish("pure-lib", "1.2", needs=("fast>=1.0",))
    index.remove("pure-lib", "pure_lib-1.0-py3-none-any.whl")
    index.remove("pure-lib", "pure_lib-1.1-py3-none-any.whl")
    with pytest.raises(FarmError) as error:
        place.lock({"pypi": ["Web.App==2.1"]}, platforms=(AMD64, I386))
    assert "fast>=1.0 (pure-lib 1.2) (not for linux/386)" in error.value.message
    assert (error.value.where["platform"], type(error.value)) == ("linux/386", FarmError)


def test_what_debian_packages_bring_can_be_left_out(place, index):
    index.publish("Web.App", "2.1", needs=("fast>=1", "pure-lib"))
    given = {"pypi": ["Web.App==2.1", "pure-lib==1.0"], "dependencies": False}
    assert files(place, given, platforms=(S390X,)) == {
        "linux/s390x": {"Web_App-2.1-py3-none-any.whl", "pure_lib-1.0-py3-none-any.whl"}}
    assert [line for line in place.said if "lacks what it needs" in line and "fast>=1 (web-app 2.1)" in line
            and "pure-lib" not in line]


def test_an_older_version_is_not_taken_unasked(place, index):
    index.publish("fast", "0.9")
    index.publish("Web.App", "2.1", needs=("fast",))
    with pytest.raises(FarmError, match="other versions on some platforms") as error:
        place.lock({"pypi": ["Web.App==2.1"]}, platforms=(AMD64, S390X))
    assert "fast 1.0 for linux/amd64" in error.value.message
    assert "fast 0.9 for linux/s390x" in error.value.message
    assert len(place.lock({"pypi": ["Web.App==2.1", "fast==0.9"]}, platforms=(AMD64, S390X)).lock.entries) == 4


def test_an_sdist_is_never_taken(place, index):
    index.publish_source("source", "1.0")
    with pytest.raises(Missing, match="source==1.0"):
        place.lock({"pypi": ["source==1.0"]})
    assert "/files/source-1.0.tar.gz" not in index.paths()


@pytest.mark.parametrize("how", ["address", "repository"])
def test_what_a_wheel_asks_of_an_address_is_refused_before_any_code_of_it_runs(place, index, tmp_path, how):
    """pip would build it while it selects: --only-binary is about an index alone."""
    mark, source = tmp_path / "ran", tmp_path / "source"
    source.mkdir()
    files = {"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'made'\nbackend-path = ['.']\n",
             "made.py": f"open({str(mark)!r}, 'w').close()\n"}
    for name, text in files.items():
        (source / name).write_text(text)
    subprocess.run("git init -q && git add . && git -c user.name=a -c user.email=a@b commit -qm made", shell=True,
                   cwd=source, check=True)
    index.pages["/x/sly-1.0.tar.gz"] = ("application/gzip", tarball(files))
    address = f"{index.url}/x/sly-1.0.tar.gz" if how == "address" else f"git+file://{source}"
    index.publish("Web.App", "2.1", needs=(f"sly @ {address}",))
    with pytest.raises(FarmError, match=r"Web.App==2.1 asks for sly ?@ (http|git)") as error:
        place.lock({"pypi": ["Web.App==2.1"]}, platforms=(AMD64,))
    assert "only packages of an index can be locked" in error.value.hint
    assert not mark.exists()


def test_a_local_version_is_not_locked_for_another(place, index):
    """To pip 1.1+cu1 is a 1.1 as well, but every plan would refuse a lock of it."""
    index.publish("pure-lib", "1.1+cu1")
    with pytest.raises(FarmError, match=r"pure-lib==1.1: pip took 1.1\+cu1 instead") as error:
        place.lock({"pypi": ["pure-lib==1.1"]})
    assert "pure-lib==1.1+cu1" in error.value.hint
    assert len(place.lock({"pypi": ["pure-lib==1.1+cu1"]}).lock.entries) == 2
    index.publish("Web.App", "2.1", needs=("pure-lib==1.1",))
    assert len(place.lock({"pypi": ["Web.App==2.1"]}).lock.entries) == 4


def test_a_version_that_is_nowhere_is_missing(place, index):
    with pytest.raises(Missing, match=r"web.app==9.9"):
        place.lock({"pypi": ["web.app==9.9"]})


def test_an_index_that_does_not_answer_is_no_missing_wheel(place, index):
    index.statuses["/simple/pure-lib/"] = 503
    with pytest.raises(Unreachable):
        place.lock(APP)


def test_an_unknown_suite_is_refused(place, index):
    with pytest.raises(FarmError, match="which Python the suite sid has"):
        place.lock(APP, suite="sid")


@pytest.mark.parametrize(
    ("given", "said"),
    [("[hap-python]", "hap-python"), ("[hap-python>=5]", "hap-python>=5"), ("[a==1.*]", "a==1.*"),
     ("['-r x==1']", "-r x==1"), ("[a==1 --hash=x]", "a==1 --hash=x"), ("[]", "inputs.app.pypi"),
     ("[A.b==1, a-b==2]", "app names a-b 2 times"), ("['a[x,y]==1.0rc1']", ""),
     ("[A==1.0.0-1]", ""), ("[a==V1.0-Rc.1]", ""), ("[a==1.0_1]", "a==1.0_1")])
def test_a_recipe_names_exact_versions(empty: Catalog, given, said):
    empty.image("a", "FROM scratch\nCOPY --from=inputs /app /app\n", f"inputs:\n  app: {{pypi: {given}}}\n")
    (problem,) = [one for one in empty.problems() if "lock.jsonl" not in one] or [""]
    assert said in problem
    assert bool(said) == bool(problem)


def test_a_lock_is_for_its_recipe_and_the_python_of_its_suite(place, index, empty: Catalog):
    empty.image("web", "FROM scratch\nCOPY --from=inputs /app /app\n", "inputs:\n  app: {pypi: [Web.App==2.0]}\n")
    found = place.lock(APP)
    path, text = empty.root / "web/image.yml", (empty.root / "web/image.yml").read_text()
    empty.write("web/lock.jsonl", lockfile.dump(found.lock))
    empty.plan()
    for changed, words in (
            (text.replace("2.0]", "2.1]"), "app: the recipe says packages Web.App==2.1, the lock was made for"),
            (text.replace("2.0]", "2.0], dependencies: false"), "app: the recipe says dependencies False"),
            (text + "suites: [bookworm]\n", "app: the recipe says python 3.11, the lock was made for 3.13"),
            (text.replace("linux/arm64", "linux/s390x"), "it has nothing for app on linux/s390x")):
        path.write_text(changed)
        assert [problem for problem in empty.problems() if words in problem], words
    path.write_text(text)
    written = lockfile.dump(found.lock)
    for old, new, words in (
            ('"platform":"linux/arm64",', "", "a line for all platforms, but each has its own wheels"),
            ("pure_lib-1.1-py3-none-any.whl", f"pure_lib-1.1-{ON_AMD64}.whl", "is not for linux/arm64"),
            ('"2.0","file":"Web_App-2.0', '"1.9","file":"Web_App-1.9',
             "the lock has no wheel of web-app 2.0 for linux/amd64")):
        assert old in written
        empty.write("web/lock.jsonl", written.replace(old, new))
        assert [problem for problem in empty.problems() if words in problem or "is already on line" in problem], words


@pytest.fixture
def locked(place: Place, index: WheelIndex) -> tuple[Entry, ...]:
    """Pure wheels, and builds for two platforms."""
    return place.lock({"pypi": ["Web.App==2.0", "fast==1.0"]}).lock.entries


def named(found: dict[str, FarmError | None]) -> dict[str, FarmError | None]:
    """The results by the file's name."""
    return {re.sub(r".*\((.*)\)", r"\1", label): error for label, error in found.items()}


def test_a_controller_that_has_nothing_fetches_a_part(place, locked):
    some = [entry for entry in locked if entry.fact["name"] != "pure-lib"]
    assert named(place.fetch(some)) == {"Web_App-2.0-py3-none-any.whl": None, f"fast-1.0-{ON_AMD64}.whl": None,
                                        f"fast-1.0-{ON_ARM64}.whl": None}
    assert not (place.root / "fresh/cache/pip").exists()


@pytest.mark.parametrize("announced", [True, False])
def test_a_wheel_that_changed_costs_only_itself(place, index, locked, announced):
    index.publish("pure-lib", "1.1", files={"evil.py": "pass\n"}, announced=announced)
    found = named(place.fetch(locked))
    assert isinstance(found.pop("pure_lib-1.1-py3-none-any.whl"), HashMismatch)
    assert set(found.values()) == {None}


def test_a_wheel_that_is_gone_is_missing(place, index, locked):
    index.remove("pure-lib", "pure_lib-1.1-py3-none-any.whl")
    found = named(place.fetch(locked))
    assert isinstance(found.pop("pure_lib-1.1-py3-none-any.whl"), Missing)
    assert set(found.values()) == {None}


def test_two_images_may_have_different_versions_of_a_wheel(place, index):
    """pip takes one version of a name at a time."""
    both = [entry for version in ("1.0", "1.1")
            for entry in place.lock({"pypi": [f"pure-lib=={version}"]}, platforms=(AMD64,)).lock.entries]
    assert named(place.fetch(both)) == {f"pure_lib-{version}-py3-none-any.whl": None for version in ("1.0", "1.1")}


@pytest.mark.parametrize("path", ["/simple/pure-lib/", "/files/pure_lib-1.1-py3-none-any.whl"])
def test_trouble_with_the_network_is_no_missing_wheel(place, index, locked, path):
    index.statuses[path] = 503
    assert isinstance(named(place.fetch(locked))["pure_lib-1.1-py3-none-any.whl"], Unreachable)


def test_an_origin_of_the_inventory_is_asked_alone(place, index, locked, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "other.conf"))
    with served(WheelIndex()) as other:
        other.publish("pure-lib", "1.1", files={"evil.py": "pass\n"})
        (tmp_path / "other.conf").write_text(f"[global]\nindex-url = {other.url}/simple/\nextra-index-url = "
                                             f"{other.url}/simple/\nfind-links = {other.url}/simple/pure-lib/\n")
        assert isinstance(named(place.fetch(locked))["pure_lib-1.1-py3-none-any.whl"], HashMismatch)
        other.asked.clear()
        folder = tmp_path / "a folder"
        folder.mkdir()
        for entry in locked:
            shutil.copyfile(Store(place.state / "store").path(entry.sha256), folder / entry.fact["file"])
        for origin in (f"{index.url}/simple/", folder.as_uri()):
            place.origins = {"pypi": origin}
            assert set(place.fetch(locked, f"from-{len(origin)}").values()) == {None}
        place.lock(APP)
        assert not other.asked


def test_a_login_is_that_of_the_machine(place, index, locked, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    index.statuses["/simple/pure-lib/"] = 401
    error = named(place.fetch(locked))["pure_lib-1.1-py3-none-any.whl"]
    assert error and "login" in error.hint
    assert any(login.startswith("Basic ") for _path, login in index.asked)
    assert "s3cret" not in str(error)


def test_native_code_in_wheels_is_told_for_all_platforms_at_once(place, index):
    program = "\x7fELF\x02\x01" + "\0" * 12 + "\x3e\0"  # of amd64
    index.publish("sly", "1.0", files={"sly/x.so": program})
    with pytest.raises(FarmError, match=r"sly-1.0-py3-none-any.whl has sly/x.so") as error:
        place.lock({"pypi": ["sly==1.0"]}, platforms=(AMD64, I386, S390X))
    assert error.value.where == {"platform": "linux/386, linux/s390x", "input": "app", "image": "web"}
    assert "debian input" in error.value.hint


@pytest.mark.parametrize(("says", "words"), [("", "no pip 22 or later"), ("pip 9.0.1 from /x", "it is pip 9.0.1")])
def test_a_machine_without_pip_is_told_what_to_install(tmp_path, says, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{says}'\n")
    python.chmod(0o755)
    with pytest.raises(FarmError, match=words) as error:
        pip_client.find_pip(str(python))
    assert "ensurepip" in error.value.hint
    assert pip_client.find_pip()[0] == sys.executable


def test_a_wheel_is_named_with_its_file():
    entry = KINDS["pypi"].entry("app", "0" * 64, 1, "linux/amd64",
                                {"name": "a", "version": "1.0", "file": "a-1.0-py3-none-any.whl"})
    assert (entry.label, entry.path) == ("a 1.0 (a-1.0-py3-none-any.whl)", "app/a-1.0-py3-none-any.whl")
