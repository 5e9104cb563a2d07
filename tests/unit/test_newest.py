"""The newest version of each kind of input, and which locked one was withdrawn, asked of registries made on the spot by
the real clients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Missing
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import golang, npm_client
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.versions import Version

from . import test_lock_cargo, test_lock_go, test_lock_npm, test_lock_pypi, test_relock
from .crates import Crates, locked_text, manifest
from .debian_archive import Signer
from .faulty import Faulty
from .locking import Place
from .mirror import Mirror
from .package_registries import NpmRegistry, Site, WheelIndex, served
from .test_lock_git import Upstream, needs_git
from .test_lock_go import module, needs_go, publish
from .test_lock_image import publish as publish_image
from .test_lock_npm import needs_npm

proxy, registry, index, crates = (test_lock_go.proxy, test_lock_npm.registry, test_lock_pypi.index,
                                  test_lock_cargo.crates)  # fixtures
needs_cargo = pytest.mark.skipif(not shutil.which("cargo"), reason="needs cargo")


def said(versions: list[Version]) -> dict[str, tuple[str, str, str]]:
    return {one.name: (one.locked, one.newest, one.withdrawn) for one in versions}


# --- go


@needs_go
def test_a_module_has_a_newer_version_and_what_it_needs_was_retracted(proxy: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, {"go": f"file://{proxy}"})
    given = {"go": "example.com/Big/app", "version": "v1.2.0", "package": "./cmd/app"}
    lock = place.lock(given).lock
    assert said(place.newest(given, lock)) == {"example.com/Big/app": ("v1.2.0", "v1.2.0", "")}
    publish(proxy, "example.com/Big/app", "v1.3.0", {})
    publish(proxy, "example.com/Big/app", "v1.4.0-rc.1", {})
    withdrawing = module("example.com/lib") + "// lost data\nretract v1.0.0\n"
    publish(proxy, "example.com/lib", "v1.2.0", {"go.mod": withdrawing})
    shutil.rmtree(tmp_path / "state" / "lock")
    found = place.newest(given, lock)
    assert said(found) == {"example.com/Big/app": ("v1.2.0", "v1.3.0", ""),
                           "example.com/lib": ("v1.0.0", "v1.2.0", "retracted: lost data")}
    assert [(one.place, one.text) for one in found if one.place] == [(("version",), "v1.3.0")]


@needs_go
def test_a_dependency_that_the_proxy_says_nothing_of_is_told(proxy: Path, tmp_path: Path) -> None:
    """It may have been retracted."""
    place = Place(tmp_path, {"go": f"file://{proxy}"})
    given = {"go": "example.com/Big/app", "version": "v1.2.0", "package": "./cmd/app"}
    lock = place.lock(given).lock
    shutil.rmtree(tmp_path / "state" / "lock")
    shutil.rmtree(proxy / "example.com" / "lib")
    app, lib = place.newest(given, lock)
    assert (app.name, app.note, lib.name) == ("example.com/Big/app", "", "example.com/lib")
    assert lib.note.startswith("whether it was withdrawn is not known: ")


@needs_go
def test_a_module_that_replaces_another_is_asked_about_in_its_place(proxy: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, {"go": f"file://{proxy}"})
    files = {"go.mod": module("example.com/lib"), "x.go": "package lib\n"}
    publish(proxy, "example.com/fork", "v1.0.0", files)
    own = place.image / "health"
    own.mkdir()
    (own / "main.go").write_text('package main\n\nimport _ "example.com/lib"\n\nfunc main() {}\n')
    (own / "go.mod").write_text("module health\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n\n"
                                "replace example.com/lib => example.com/fork v1.0.0\n")
    golang.Go("go", golang.settings(tmp_path / "mod", f"file://{proxy}")).must("mod", "tidy", folder=own)
    lock = place.lock({"go": "./health"}).lock
    publish(proxy, "example.com/fork", "v1.1.0", files)
    assert said(place.newest({"go": "./health"}, lock)) == {"example.com/fork": ("v1.0.0", "v1.1.0", "")}


@needs_go
def test_a_toolchain_is_compared_with_all_go_versions_but_trials(proxy: Path, tmp_path: Path) -> None:
    for version in ("1.26.8", "1.27.0", "1.28rc1"):
        for machine in ("amd64", "arm64"):
            publish(proxy, "golang.org/toolchain", f"v0.0.1-go{version}.linux-{machine}", {})
    place = Place(tmp_path, {"go": f"file://{proxy}"})
    given = {"go": "golang.org/toolchain", "version": "v0.0.1-go1.26.8.linux-{goarch}"}
    found, = place.newest(given)
    assert (found.newest, found.text) == ("v0.0.1-go1.27.0.linux-{goarch}",) * 2


@needs_go
def test_of_a_program_of_its_own_the_modules_that_it_requires_are_told(proxy: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, {"go": f"file://{proxy}"})
    (place.image / "tool").mkdir()
    (place.image / "tool" / "go.mod").write_text(module("example.com/tool", "example.com/lib v1.0.0"))
    (place.image / "tool" / "main.go").write_text('package main\n\nimport _ "example.com/lib"\n\nfunc main() {}\n')
    (place.image / "tool" / "go.sum").write_text(_sums(place, "example.com/lib", "v1.0.0"))
    given = {"go": "./tool"}
    found, = place.newest(given, place.lock(given).lock)
    assert (found.name, found.locked, found.newest, found.place) == ("example.com/lib", "v1.0.0", "v1.1.0", ())


def _sums(place: Place, name: str, version: str) -> str:
    """The lines of a go.sum, as the lock of that module says them."""
    entries = place.lock({"go": name, "version": version}).lock.entries
    return "".join(f"{name} {version}{'/go.mod' if entry.fact['file'] == 'mod' else ''} {entry.fact['h1']}\n"
                   for entry in entries)


@needs_go
def test_a_module_that_is_gone_is_an_error(proxy: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, {"go": f"file://{proxy}"})
    with pytest.raises(FarmError, match=r"example\.com/gone"):
        place.newest({"go": "example.com/gone", "version": "v1.0.0"})


# --- crates


@needs_cargo
def test_a_crate_that_was_yanked_is_told_and_no_newest(crates: Crates, tmp_path: Path) -> None:
    given = {"cargo": "app", "version": "1.2.0"}
    crates.publish("app", "1.3.0", {"mid": "1"})
    crates.publish("app", "1.4.0", {"mid": "1"})
    with crates.served() as address:
        place = Place(tmp_path, {"cargo": address})
        lock = place.lock(given).lock
        crates.yank("app", "1.4.0")
        crates.yank("leaf", "1.0.0")
        found = place.newest(given, lock)
    assert said(found) == {"app": ("1.2.0", "1.3.0", ""), "leaf": ("1.0.0", "1.1.0", "yanked")}


@needs_cargo
def test_a_crate_that_the_registry_does_not_have_is_told(crates: Crates, tmp_path: Path) -> None:
    """It may have been yanked before."""
    given = {"cargo": "app", "version": "1.2.0"}
    with crates.served() as address:
        place = Place(tmp_path, {"cargo": address})
        lock = place.lock(given).lock
        crates.path("leaf").unlink()
        app, leaf = place.newest(given, lock)
    assert (app.name, app.note, leaf.name) == ("app", "", "leaf")
    assert leaf.note.startswith("whether it was withdrawn is not known: ")


@needs_cargo
def test_a_registry_in_a_folder_is_asked_too(crates: Crates, tmp_path: Path) -> None:
    crates.publish("app", "2.0.0", {"mid": "1"})
    place = Place(tmp_path, {"cargo": f"file://{crates.as_folder(tmp_path / 'local')}"})
    found, = place.newest({"cargo": "app", "version": "1.2.0"})
    assert found.newest == "2.0.0"


@needs_cargo
def test_of_a_rust_program_of_its_own_the_crates_that_it_names_are_told(crates: Crates, tmp_path: Path) -> None:
    with crates.served() as address:
        place = Place(tmp_path, {"cargo": address})
        (place.image / "tool").mkdir()
        (place.image / "tool" / "Cargo.toml").write_text(manifest("tool", "0.1.0", {"leaf": "1"}))
        (place.image / "tool" / "main.rs").write_text("fn main() {}\n")
        (place.image / "tool" / "Cargo.lock").write_text(
            locked_text(crates, "tool", "0.1.0", ["leaf"], {"leaf 1.0.0": []}))
        found, = place.newest({"cargo": "./tool"})
    assert (found.name, found.locked, found.newest, found.place) == ("leaf", "1.0.0", "1.1.0", ())


@needs_cargo
def test_a_crate_that_no_registry_has_is_an_error(crates: Crates, tmp_path: Path) -> None:
    with crates.served() as address, pytest.raises(FarmError, match="nowhere"):
        Place(tmp_path, {"cargo": address}).newest({"cargo": "nowhere", "version": "1.0.0"})


# --- npm


@needs_npm
def test_a_package_has_a_newer_version_and_what_it_needs_is_deprecated(registry: NpmRegistry, tmp_path: Path) -> None:
    place = Place(tmp_path, {})
    given = {"npm": "app", "version": "1.2.0"}
    lock = place.lock(given).lock
    registry.publish("app", "1.3.0")
    registry.deprecate("lib", "1.1.0", "use other")
    found = place.newest(given, lock)
    assert said(found) == {"app": ("1.2.0", "1.3.0", ""), "lib": ("1.1.0", "", "deprecated: use other")}


@needs_npm
def test_what_is_deprecated_is_not_guessed_if_a_locked_package_is_gone(registry: NpmRegistry, tmp_path: Path) -> None:
    place = Place(tmp_path, {})
    given = {"npm": "app", "version": "1.2.0"}
    lock = place.lock(given).lock
    registry.remove("@me/dep", "2.0.0")
    found, = place.newest(given, lock)
    assert (found.newest, "not known" in found.note) == ("1.2.0", True)


@needs_npm
def test_a_package_that_is_gone_is_an_error(registry: NpmRegistry, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        Place(tmp_path, {}).newest({"npm": "gone", "version": "1.0.0"})


@needs_npm
def test_a_registry_that_calls_no_version_the_latest_is_told(registry: NpmRegistry, tmp_path: Path) -> None:
    text = json.loads(registry.pages["/app"][1])
    registry.pages["/app"] = ("application/json", json.dumps({**text, "dist-tags": {"beta": "1.2.0"}}).encode())
    with pytest.raises(Missing, match="calls no version of app `latest`"):
        Place(tmp_path, {}).newest({"npm": "app", "version": "1.2.0"})


@needs_npm
def test_what_the_workspaces_of_a_program_name_is_told_too(registry: NpmRegistry, tmp_path: Path) -> None:
    place = Place(tmp_path, {})
    own, inner = place.image / "tool", place.image / "tool" / "packages" / "a"
    inner.mkdir(parents=True)
    (own / "package.json").write_text('{"name": "tool", "version": "1.0.0", "workspaces": ["packages/*"]}')
    (inner / "package.json").write_text('{"name": "a", "version": "1.0.0", "dependencies": {"@me/dep": "2.0.0"}}')
    npm_client.Npm("npm", tmp_path / "npm").must("npm install", "install", "--package-lock-only", folder=own)
    lock = place.lock({"npm": "./tool"}).lock
    registry.publish("@me/dep", "2.1.0")
    assert said(place.newest({"npm": "./tool"}, lock)) == {"@me/dep": ("2.0.0", "2.1.0", "")}
    (own / "package-lock.json").write_text('{"lockfileVersion": 3, "packages": {"": {}}}')  # it names nothing any more
    registry.remove("lib", "1.1.0")
    found, = place.newest({"npm": "./tool"}, lock)
    assert found.note.startswith("whether it and 1 other were withdrawn is not known: ")


# --- wheels


def test_a_yanked_wheel_is_told_with_its_reason_and_is_no_newest(index: WheelIndex, tmp_path: Path) -> None:
    place = Place(tmp_path, {})
    given = {"pypi": ["Web.App==2.0"]}
    lock = place.lock(given, platforms=(AMD64,)).lock
    index.publish("Web.App", "2.1")
    index.yank("Web.App", index.publish("Web.App", "2.2"), "broken")
    index.publish("Web.App", "3.0", tags="cp312-cp312-win_amd64")
    locked = {entry.fact["name"]: entry.fact for entry in lock.entries}
    index.yank("pure-lib", locked["pure-lib"]["file"], "leaks")
    found = place.newest(given, lock, platforms=(AMD64,))
    assert said(found) == {"web-app": ("2.0", "2.1", ""),
                           "pure-lib": (locked["pure-lib"]["version"], "", "yanked: leaks")}
    assert (found[0].place, found[0].text) == (("pypi", 0), "Web.App==2.1")


def test_a_wheel_that_one_platform_alone_needs_is_asked_about_as_well(index: WheelIndex, tmp_path: Path) -> None:
    place = Place(tmp_path, {})
    file = index.publish("for-arm", "1.0")
    index.publish("Web.App", "2.1", needs=("pure-lib", "for-arm; platform_machine == 'aarch64'"))
    given = {"pypi": ["Web.App==2.1"]}
    lock = place.lock(given).lock
    index.yank("for-arm", file, "leaks")
    assert said(place.newest(given, lock)) == {"web-app": ("2.1", "2.1", ""), "for-arm": ("1.0", "", "yanked: leaks")}
    index.statuses["/simple/for-arm/"] = 503
    assert [one.note[:37] for one in place.newest(given, lock)] == ["", "whether it was withdrawn is not known"]


# --- maven


@pytest.fixture
def maven(tmp_path: Path) -> Iterator[Site]:
    with served(Site()) as site:
        yield site


def listing(*versions: str) -> tuple[str, bytes]:
    inner = "".join(f"<version>{version}</version>" for version in versions)
    return "text/xml", f"<metadata><versioning><versions>{inner}</versions></versioning></metadata>".encode()


def test_an_artifact_is_compared_with_the_versions_of_all_repositories(maven: Site, tmp_path: Path) -> None:
    maven.pages["/one/org/example/search/maven-metadata.xml"] = listing("1.2.0", "1.3.0", "2.0.0-beta1")
    maven.pages["/two/org/example/search/maven-metadata.xml"] = listing("1.10.0", "1.11-SNAPSHOT")
    place = Place(tmp_path, {"maven": [f"{maven.url}/one", f"{maven.url}/none", f"{maven.url}/two"]})
    found, = place.newest({"maven": "org.example:search:1.2.0"})
    assert (found.newest, found.text) == ("1.10.0", "org.example:search:1.10.0")


@pytest.mark.parametrize(("locked", "newest"), [
    ("12.8.1.jre8", "12.10.0.jre8"), ("12.8.1.jre11", "13.0.0.jre11"), ("33.0-android", "33.4-android"),
    ("33.0-jre", "33.5-jre"), ("12.0", "12.1")])
def test_an_artifact_is_compared_with_those_for_the_same_java(maven: Site, tmp_path: Path, locked: str,
                                                              newest: str) -> None:
    maven.pages["/org/example/search/maven-metadata.xml"] = listing(
        "12.8.1.jre8", "12.8.1.jre11", "12.10.0.jre8", "13.0.0.jre11", "33.4-android", "33.5-jre", "12.1")
    found, = Place(tmp_path, {"maven": [maven.url]}).newest({"maven": f"org.example:search:{locked}"})
    assert found.newest == newest


def test_an_artifact_whose_versions_nobody_lists_is_an_error(maven: Site, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="org.example:search"):
        Place(tmp_path, {"maven": [maven.url]}).newest({"maven": "org.example:search:1.2.0"})


# --- debian


signer, mirror = test_relock.signer, test_relock.mirror  # fixtures


@test_relock.needs_apt
def test_packages_are_compared_with_what_their_suites_have_now(mirror: Mirror, signer: Signer, tmp_path: Path) -> None:
    place = Place(tmp_path, {"debian": [mirror.url]}, keyring=str(signer.keyring))
    given = {"debian": ["web"]}
    lock = place.lock(given).lock
    same = place.newest(given, lock)
    assert {(one.name, one.outdated) for one in same} == {("web", False)}
    mirror.publish(test_relock.NEW)
    found = place.newest(given, lock)
    assert {(one.name, one.newest, one.outdated, one.platforms) for one in found} == {
        ("web", same[0].locked, False, ("linux/amd64", "linux/arm64")),
        ("libc6", "2.41-13", True, ("linux/amd64", "linux/arm64"))}


# --- git, images, addresses


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    (tmp_path / "git").mkdir()
    found = Upstream(tmp_path / "git", "app")
    found.commit(a="1")
    found.git("tag", "v1.0")
    return found


@needs_git
@pytest.mark.parametrize(("ref", "newest", "text", "note"), [
    ("v1.0", "v1.10", "v1.10", ""),
    ("refs/tags/v1.0", "v1.10", "refs/tags/v1.10", ""),
    ("main", "", "", "the branch has moved"),
])
def test_a_tag_is_compared_with_tags_and_a_branch_with_itself(upstream: Upstream, tmp_path: Path, ref: str, newest: str,
                                                              text: str, note: str) -> None:
    place = Place(tmp_path, {"git": {"https://upstream.example/": f"file://{tmp_path}/git/"}})
    given = {"git": upstream.address, "ref": ref}
    lock = place.lock(given).lock
    now = upstream.commit(a="2")
    for tag in ("v1.10", "v1.9", "v2.0-rc1", "nightly-9"):
        upstream.git("tag", "--annotate", "--message=x", tag)
    found, = place.newest(given, lock)
    assert (found.newest, found.text, found.note) == (newest or now[:12], text, note)


@needs_git
def test_a_commit_and_a_tag_that_is_gone_are_said_to_be_so(upstream: Upstream, tmp_path: Path) -> None:
    place = Place(tmp_path, {"git": {"https://upstream.example/": f"file://{tmp_path}/git/"}})
    commit, = place.newest({"git": upstream.address, "ref": upstream.git("rev-parse", "HEAD")})
    gone, = place.newest({"git": upstream.address, "ref": "v0.9"})
    assert (commit.newest, commit.note) == ("", "a commit; upstream's newest tag is v1.0")
    assert (gone.newest, gone.withdrawn) == ("", "upstream has no such tag or branch any more")


def test_an_image_says_whether_its_tag_has_moved(faulty: Faulty, tmp_path: Path) -> None:
    publish_image(faulty)
    place = Place(tmp_path, {})
    given = {"image": f"{faulty.address}/team/os:1"}
    lock = place.lock(given).lock
    before, = place.newest(given, lock)
    moved = publish_image(faulty, "team/os", "1", "amd64", "arm64/v8", "s390x")
    after, = place.newest(given, lock)
    assert (before.newest, before.outdated, before.note) == (before.locked, False, "")
    assert (after.newest, after.outdated, after.note) == (moved[:19], True, "the tag has moved")


def test_of_an_address_nothing_newer_can_be_known(maven: Site, tmp_path: Path) -> None:
    maven.pages["/a.tar"] = ("application/x-tar", json.dumps({}).encode())
    place = Place(tmp_path, {})
    given = {"url": f"{maven.url}/a.tar"}
    found, = place.newest(given, place.lock(given).lock)
    assert (found.name, found.newest, found.note) == (given["url"], "", "an address does not tell what is newer")
