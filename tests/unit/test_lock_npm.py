"""Packages of a registry made on the spot, resolved and fetched by the real npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    BadInput,
    FarmError,
    HashMismatch,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, npm_client
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_packages import MADE
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, write
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry

from .conftest import Catalog
from .locking import Place, labels
from .package_registries import NpmRegistry, served

needs_npm = pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
APP = {"npm": "app", "version": "1.2.0"}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NpmRegistry]:
    """app needs lib and @me/dep; an optional package of it is for another system."""
    for name in ("NPM_CONFIG_USERCONFIG", "NPM_CONFIG_GLOBALCONFIG"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with served(NpmRegistry()) as site:
        (tmp_path / "NPM_CONFIG_USERCONFIG").write_text(f"registry={site.url}\n")
        site.publish("lib", "1.0.0")
        site.publish("lib", "1.1.0", funding="https://money.example/lib")
        site.publish("@me/dep", "2.0.0", dependencies={"lib": "^1.0.0"})
        site.publish("mac", "1.0.0", os=["darwin"])
        site.publish("tester", "1.0.0")
        site.publish("app", "1.2.0", dependencies={"@me/dep": "^2.0.0"}, optionalDependencies={"mac": "1.0.0"},
                     bin={"app": "index.js"})
        yield site


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, {})


@needs_npm
def test_a_package_is_locked_with_all_that_it_installs(place, registry):
    found = place.lock(APP)
    assert labels(found) == ["@me/dep 2.0.0", "app 1.2.0", "lib 1.1.0"]
    assert [entry.path for entry in found.lock.entries] == [
        "app/tarballs/@me/dep/2.0.0.tgz", "app/tarballs/app/1.2.0.tgz", "app/tarballs/lib/1.1.0.tgz"]
    assert all(Store(place.state / "store").has(entry.sha256, entry.size) for entry in found.lock.entries)
    assert sorted(found.files) == ["npm/app/package-lock.json", "npm/app/package.json"]
    assert MADE in found.files["npm/app/package.json"]
    assert lockfile.parse(lockfile.dump(found.lock), "x") == found.lock


def node(version: str) -> tuple[Entry, ...]:
    """The Debian package, as an image below has it."""
    return (KINDS["debian"].entry("nodejs", "0" * 64, 1, "linux/amd64", {
        "archive": "debian", "name": "nodejs", "version": version, "architecture": "amd64", "path": "pool/x.deb"}),)


@needs_npm
@pytest.mark.parametrize(
    ("engines", "version", "said"),
    [({"node": ">=22"}, "20.19.2+dfsg-1", "lib 1.2.0 is for Node >=22, the image has 20.19.2"),
     ({"node": "^18 || >=20.19"}, "20.19.2+dfsg-1+deb13u3", ""), ({"node": ">=22"}, "1:22.1.0~rc1-1", ""),
     ({"node": "no range"}, "20.19.2-1", "lib 1.2.0 is for Node no range, the image has 20.19.2"),
     ({"npm": ">=99"}, "20.19.2-1", ""), (["node >= 99"], "20.19.2-1", ""), ({"node": ">=99"}, "", "")])
def test_a_package_for_another_node_than_that_of_the_image_is_told(place, registry, engines, version, said):
    registry.publish("lib", "1.2.0", engines=engines)
    registry.publish("@me/dep", "2.0.0", dependencies={"lib": "1.2.0"})
    place.below = {"linux/amd64": node(version)} if version else {}
    assert "lib 1.2.0" in labels(place.lock(APP))
    assert [line for line in place.said if "Node" in line] == (
        [f"lock web: app may need another Node: {said}"] if said else [])


@needs_npm
def test_the_node_of_this_machine_decides_nothing(place, registry, tmp_path):
    """engine-strict is about the Node of the image, if that is known."""
    registry.publish("lib", "1.2.0", engines={"node": "20.19.2 || >=99"})
    registry.publish("@me/dep", "2.0.0", dependencies={"lib": "1.2.0"})
    with (tmp_path / "NPM_CONFIG_USERCONFIG").open("a") as file:
        file.write("engine-strict=true\n")
    assert "lib 1.2.0" in labels(place.lock(APP))
    place.below = {"linux/amd64": node("20.19.2-1")}
    assert "lib 1.2.0" in labels(place.lock(APP))
    place.below = {"linux/amd64": node("18.0.0-1")}
    with pytest.raises(FarmError, match="engine-strict is set:\n    lib 1.2.0 is for Node 20.19.2") as error:
        place.lock(APP)
    assert error.value.where == {"input": "app", "image": "web"}


@needs_npm
def test_a_program_of_the_images_own_may_set_engine_strict(place, own):
    place.below = {"linux/amd64": node("18.0.0-1")}
    text = json.loads((own / "package.json").read_text())
    (own / "package.json").write_text(json.dumps({**text, "engines": {"node": ">=20"}}))
    npm_client.Npm(npm_client.find_npm(), place.root / "cache").must(
        "npm install", "install", "--package-lock-only", folder=own)
    given = {"npm": f"./{own.name}"}
    place.lock(given)
    assert [line for line in place.said if "is for Node >=20, the image has 18.0.0" in line]
    (own / ".npmrc").write_text("# of this program\nengine-strict = true\n")
    with pytest.raises(FarmError, match="engine-strict is set"):
        place.lock(given)


@needs_npm
def test_no_program_of_a_git_repository_runs(place, registry, tmp_path):
    """Not even one that its .npmrc names: npm would look into it, as it bundles something, and read that file."""
    mark, source = tmp_path / "ran", tmp_path / "source"
    source.mkdir()
    (source / "package.json").write_text(json.dumps({
        "name": "sly", "version": "1.0.0", "scripts": {"build": "true"}, "bundleDependencies": ["lib"],
        "dependencies": {"lib": "1.0.0", "nothing": "git+file:///nowhere/at/all"}}))
    (source / ".npmrc").write_text("git=./sly.sh\n")
    (source / "sly.sh").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (source / "sly.sh").chmod(0o755)
    subprocess.run("git init -q && git add . && git -c user.name=a -c user.email=a@b commit -qm made", shell=True,
                   cwd=source, check=True)
    registry.publish("asks", "1.0.0", dependencies={"sly": f"git+file://{source}"})
    with pytest.raises(FarmError) as error:
        place.lock({"npm": "asks", "version": "1.0.0"})
    assert "only packages of a registry can be locked" in error.value.hint
    assert not mark.exists()


@needs_npm
def test_no_address_gets_into_a_lock_or_a_wrapper(place, registry):
    found = place.lock(APP)
    text = lockfile.dump(found.lock) + "".join(found.files.values())
    assert "http" not in text
    assert "resolved" not in text


@needs_npm
@pytest.mark.parametrize("script", ["preinstall", "install", "postinstall"])
def test_an_install_script_is_refused_and_does_not_run(place, registry, script, monkeypatch, tmp_path):
    monkeypatch.setenv("npm_config_ignore_scripts", "false")
    registry.publish("lib", "1.5.0", scripts={script: f"touch {tmp_path}/ran", "test": "true"})
    said = rf"lib 1.5.0 wants to run an install script \({script}: touch .*\) \(not for linux/amd64, linux/arm64\)"
    with pytest.raises(FarmError, match=said) as error:
        place.lock(APP)
    assert (error.value.where["image"], error.value.where["input"]) == ("web", "app")
    assert "fallback" in error.value.hint
    assert "lib 1.5.0" in labels(place.lock({**APP, "fallback": ["lib"]}))
    assert not (tmp_path / "ran").exists()


@needs_npm
def test_scripts_that_only_developers_run_are_none_of_our_business(place, registry):
    registry.publish("lib", "1.5.0", scripts={"prepare": "false", "prepack": "false", "test": "false"})
    assert "lib 1.5.0" in labels(place.lock(APP))


@needs_npm
def test_all_that_is_refused_is_told_at_once(place, registry):
    registry.publish("lib", "1.5.0", {"binding.gyp": "{}"})
    registry.publish("app", "1.3.0", dependencies={"lib": "1.5.0"}, scripts={"install": "make"})
    with pytest.raises(FarmError, match=r"(?s)app 1.3.0 wants to run an install.*lib 1.5.0 has native code"):
        place.lock({**APP, "version": "1.3.0"})


@needs_npm
def test_a_selection_stays_until_its_wrapper_goes(place, registry):
    first = place.lock(APP)
    write(first)
    registry.publish("lib", "1.2.0")
    again = place.lock(APP, first.lock)
    assert (again.changed, again.lock, again.moved) == (False, first.lock, ())
    shutil.rmtree(place.image / "npm")
    assert "lib 1.2.0" in labels(place.lock(APP, first.lock))


@needs_npm
def test_another_version_is_another_selection(place, registry):
    first = place.lock(APP)
    write(first)
    registry.publish("lib", "1.2.0")
    registry.publish("app", "1.3.0", dependencies={"lib": "^1.0.0"})
    found = place.lock({**APP, "version": "1.3.0"}, first.lock)
    assert labels(found) == ["app 1.3.0", "lib 1.2.0"]
    assert "app 1.2.0 -> 1.3.0" in found.moved


@needs_npm
def test_what_someone_overrides_in_the_wrapper_is_kept(place, registry):
    write(place.lock(APP))
    path = place.image / "npm/app/package.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "overrides": {"lib": "1.0.0"}}))
    (place.image / "npm/app/package-lock.json").unlink()
    found = place.lock(APP)
    assert "lib 1.0.0" in labels(found)
    assert "overrides" in found.files["npm/app/package.json"]


@needs_npm
def test_the_same_resolution_gives_the_same_bytes(place, registry):
    first = place.lock(APP)
    shutil.rmtree(place.state)
    assert place.lock(APP) == first


@needs_npm
def test_a_version_that_is_nowhere_is_missing(place, registry):
    with pytest.raises(Missing, match="app@9.9.9"):
        place.lock({**APP, "version": "9.9.9"})


@needs_npm
@pytest.mark.parametrize(
    ("package", "files", "said"),
    [
        ({}, {"binding.gyp": "{}"}, r"lib 1.5.0 has native code \(binding.gyp\) \(not for linux/amd64, linux/arm64\)"),
        ({}, {"build/Release/x.node": "ELF"}, r"lib 1.5.0 has native code \(build/Release/x.node\)"),
        ({"cpu": ["x64"]}, {}, r"lib 1.5.0 is only for cpu x64 \(not for linux/arm64\)"),
    ],
)
def test_a_native_addon_is_refused_with_what_to_do(place, registry, package, files, said):
    registry.publish("lib", "1.5.0", files, **package)
    with pytest.raises(FarmError, match=said) as error:
        place.lock(APP)
    assert error.value.where["image"] == "web"
    assert error.value.where["input"] == "app"
    assert "linux/arm64" in str(error.value.where["platform"])
    assert "fallback" in error.value.hint
    if files:
        assert "lib 1.5.0" in labels(place.lock({**APP, "fallback": ["lib"]}))


@needs_npm
def test_a_fallback_is_one_of_its_packages(place, registry):
    with pytest.raises(FarmError, match="fallback names lbi, which is not one of its packages"):
        place.lock({**APP, "fallback": ["lbi"]})


@needs_npm
def test_a_dependency_from_git_is_refused(place, registry):
    registry.publish("app", "1.4.0", dependencies={"lib": f"{registry.url}/lib/-/lib-1.0.0.tgz"})
    with pytest.raises(BadInput, match="app asks for lib of http://.*only packages of a registry"):
        place.lock({**APP, "version": "1.4.0"})


@pytest.fixture
def own(place: Place, registry: NpmRegistry) -> Path:
    """A program of the image's own, with a package-lock.json that has addresses as most have."""
    folder = place.image / "app"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps(
        {"name": "mine", "version": "1.0.0", "dependencies": {"lib": "^1.0.0"},
         "devDependencies": {"tester": "1.0.0"}}))
    npm = npm_client.Npm(npm_client.find_npm(), place.root / "cache")
    npm.must("npm install", "install", "--package-lock-only", folder=folder)
    assert "resolved" in (folder / "package-lock.json").read_text()
    return folder


@needs_npm
def test_a_program_of_the_images_own_has_the_packages_of_its_lock(place, own):
    found = place.lock({"npm": "./app"})
    assert (labels(found), found.files) == (["lib 1.1.0"], {})


@needs_npm
def test_of_several_hashes_that_which_the_tarball_has_is_locked(place, own):
    """npm installs a tarball that has any of them."""
    text = json.loads((own / "package-lock.json").read_text())
    entry = text["packages"]["node_modules/lib"]
    good, entry["integrity"] = entry["integrity"], f"sha512-{'A' * 86}== {entry['integrity']}"
    (own / "package-lock.json").write_text(json.dumps(text))
    lock = place.lock({"npm": "./app"}).lock
    assert good in [entry.fact["integrity"] for entry in lock.entries]
    assert place.lock({"npm": "./app"}, lock).lock == lock


@needs_npm
def test_a_link_that_leads_nowhere_and_what_is_no_file_do_not_matter(place, own):
    """The context may leave them out."""
    (own / "nowhere").symlink_to("/nowhere/at/all")
    os.mkfifo(own / "pipe")
    assert labels(place.lock({"npm": "./app"})) == ["lib 1.1.0"]


@needs_npm
def test_what_a_program_bundles_is_locked_as_well(place, own):
    text = json.loads((own / "package.json").read_text())
    (own / "package.json").write_text(json.dumps({**text, "bundleDependencies": ["lib"]}))
    (own / "package-lock.json").unlink()
    npm = npm_client.Npm(npm_client.find_npm(), place.root / "cache")
    npm.must("npm install", "install", "--package-lock-only", folder=own)
    assert "inBundle" in (own / "package-lock.json").read_text()
    assert labels(place.lock({"npm": "./app"})) == ["lib 1.1.0"]


@needs_npm
def test_a_folder_outside_of_the_program_is_refused_and_one_inside_is_not(place, own):
    for folder in (own / "inner", own.parent / "outer"):
        folder.mkdir()
        (folder / "package.json").write_text(json.dumps({"name": folder.name, "version": "1.0.0"}))
    text = json.loads((own / "package.json").read_text())
    npm = npm_client.Npm(npm_client.find_npm(), place.root / "cache")
    for where, good in (("inner", True), ("../outer", False)):
        (own / "package.json").write_text(json.dumps(
            {**text, "dependencies": {**text["dependencies"], "near": f"file:{where}"}}))
        npm.must("npm install", "install", "--package-lock-only", folder=own)
        if good:
            assert labels(place.lock({"npm": "./app"})) == ["lib 1.1.0"]
            continue
        with pytest.raises(BadInput, match="near is a link to '../outer', outside the folder"):
            place.lock({"npm": "./app"})


@needs_npm
def test_a_wrapper_that_someone_broke_is_not_thrown_away(place, registry):
    write(place.lock(APP))
    path = place.image / "npm/app/package.json"
    path.write_text("{,")
    with pytest.raises(FarmError, match="npm/app/package.json is not JSON") as error:
        place.lock(APP)
    assert "or remove it" in error.value.hint
    assert path.read_text() == "{,"


@needs_npm
@pytest.mark.parametrize("file", ["package.json", "package-lock.json"])
def test_files_of_a_program_that_are_not_npms_are_told(place, own, file):
    (own / file).write_text("{,")
    for act in (place.lock, place.newest):
        with pytest.raises(FarmError, match=f"app/{file}: not a {file}|EJSONPARSE"):
            act({"npm": "./app"})


PACKAGES = '{"lockfileVersion": 3, "packages": {"node_modules/a": %s}}'


@pytest.mark.parametrize("text", ["", "{,", "[" * 200_000, PACKAGES % '{"dependencies": [1]}', PACKAGES % '{"os": 5}'])
def test_a_lock_of_a_program_that_is_not_npms_is_no_python_error_of_a_plan(empty: Catalog, text):
    empty.image("a", "FROM scratch\nCOPY app /app\nCOPY --from=inputs /app /x\n", "inputs:\n  app: {npm: ./app}\n")
    empty.write("a/app/package.json", "{}")
    empty.write("a/app/package-lock.json", text)
    assert any("a/lock.jsonl:1: missing; run `make lock`" in problem for problem in empty.problems())


@needs_npm
def test_a_lock_that_does_not_fit_its_package_json_is_refused(place, own):
    text = (own / "package.json").read_text()
    (own / "package.json").write_text(text.replace("^1.0.0", "1.0.0"))
    with pytest.raises(FarmError, match=r"./app/package-lock.json does not fit ./app/package.json"):
        place.lock({"npm": "./app"})


def test_the_folder_of_a_program_has_what_npm_needs(empty: Catalog):
    empty.image("a", "FROM scratch\nCOPY app /app\n", "inputs:\n  app: {npm: ./app}\n")
    empty.image("b", "FROM scratch\n", "inputs:\n  app: {npm: ./npm}\n")
    empty.write("a/app/npm-shrinkwrap.json", "{}")
    empty.write("b/npm/app/package.json", "{}")
    said = "\n".join(empty.problems())
    for words in ("./app has no package.json; make it with `npm init`", "./app has no package-lock.json",
                  "npm-shrinkwrap.json, which npm reads instead", "./npm is for the wrappers of `make lock`"):
        assert words in said


@needs_npm
def test_a_lock_is_for_its_wrapper_and_its_program(place, own, empty: Catalog, tmp_path):
    empty.image("web", "FROM scratch\nCOPY --from=inputs /app /app\n",
                "inputs:\n  app: {npm: app, version: 1.2.0}\n  mine: {npm: ./mine}\n")
    shutil.copytree(own, empty.root / "web/mine")
    recipe = load_catalog([str(empty.root)], need_locks=False)["web"]
    write(Locker(Origins(here=Machine(), snapshots=False), place.state).lock(recipe))
    empty.plan()
    for path, words in (("web/npm/app/package-lock.json", "app: its package.json or package-lock.json has changed"),
                        ("web/mine/package-lock.json", "mine: its package.json or package-lock.json has changed")):
        before = (empty.root / path).read_text()
        empty.write(path, before + "\n")
        assert [problem for problem in empty.problems() if words in problem]
        empty.write(path, before)
    empty.plan()


@pytest.fixture
def locked(place: Place, registry: NpmRegistry) -> tuple[Entry, ...]:
    return place.lock(APP).lock.entries


@needs_npm
def test_a_controller_that_has_nothing_fetches_a_part(place, registry, locked):
    some = [entry for entry in locked if entry.label != "lib 1.1.0"]
    assert place.fetch(some) == {"@me/dep 2.0.0": None, "app 1.2.0": None}
    assert not (place.root / "fresh/cache/npm").exists()


@needs_npm
@pytest.mark.parametrize("announced", [True, False])
def test_a_tarball_that_changed_costs_only_itself(place, registry, locked, announced):
    registry.publish("lib", "1.1.0", {"evil.js": "//"}, announced=announced)
    found = place.fetch(locked)
    assert isinstance(found["lib 1.1.0"], HashMismatch)
    assert (found["app 1.2.0"], found["@me/dep 2.0.0"]) == (None, None)


@needs_npm
def test_a_package_that_is_gone_is_missing(place, registry, locked):
    registry.remove("lib", "1.1.0")
    found = place.fetch(locked)
    assert isinstance(found["lib 1.1.0"], Missing)
    assert found["app 1.2.0"] is None


@needs_npm
def test_trouble_with_the_network_is_no_missing_package(place, registry, locked):
    registry.statuses["/lib"] = 503
    assert {type(error) for error in place.fetch(locked).values()} == {Unreachable}


@needs_npm
def test_a_sha256_that_someone_altered_is_told(place, registry, locked):
    lib = next(entry for entry in locked if entry.label == "lib 1.1.0")
    other = KINDS["npm"].entry("app", "0" * 64, lib.size, "", lib.fact)
    assert isinstance(place.fetch([other])["lib 1.1.0"], HashMismatch)


@needs_npm
def test_scopes_and_logins_are_those_of_the_machines_npm(place, registry, tmp_path):
    with served(NpmRegistry()) as mine:
        mine.publish("@me/dep", "2.0.0", dependencies={"lib": "1.0.0"})
        host = mine.url.partition(":")[2]
        (tmp_path / "NPM_CONFIG_USERCONFIG").write_text(
            f"registry={registry.url}\n@me:registry={mine.url}\n{host}/:_authToken=s3cret\n")
        found = place.lock(APP)
        assert "lib 1.0.0" in labels(found)
        assert place.fetch(found.lock.entries)["@me/dep 2.0.0"] is None
        assert {login for _path, login in mine.asked} == {"Bearer s3cret"}
        assert {login for _path, login in registry.asked} == {""}

        place.origins = {"npm": registry.url}
        mine.asked.clear()
        assert "lib 1.1.0" in labels(place.lock({**APP}))
        assert not mine.asked


@needs_npm
def test_an_origin_of_the_inventory_is_asked_alone(place, registry, locked, tmp_path):
    (tmp_path / "NPM_CONFIG_USERCONFIG").write_text("registry=http://127.0.0.1:9\n")
    assert isinstance(place.fetch(locked)["app 1.2.0"], Unreachable)
    place.origins = {"npm": registry.url}
    assert set(place.fetch(locked).values()) == {None}


@pytest.mark.parametrize(("says", "words"), [("", "no npm 9 or later"), ("8.19.4", "npm is 8.19.4"), ("?", "npm is ?")])
def test_a_machine_without_npm_is_told_what_to_install(tmp_path, monkeypatch, says, words):
    if says:
        (tmp_path / "npm").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FarmError, match=words) as error:
        npm_client.find_npm()
    assert "apt-get install npm" in error.value.hint
    entry = KINDS["npm"].entry("app", "0" * 64, 1, "", {"name": "a", "version": "1.0.0", "integrity": "sha512-x"})
    assert [str(found) for _entry, found in npm_client.fetch([entry], Store(tmp_path / "s"), tmp_path / "x")] == [
        str(error.value)]


@pytest.mark.parametrize(
    ("field", "value", "good"),
    [("name", "@babel/core", True), ("name", "JSONStream", True), ("name", "../x", False), ("name", "@a/../b", False),
     ("name", "a/b", False), ("name", ".a", False), ("name", "-g", False), ("name", "@a/-g", True),
     ("name", "@babel/core\n", False), ("version", "1.2.3-rc.1+x", True), ("version", "^1.2.3", False),
     ("version", "1.2", False), ("version", "1.2.3/..", False), ("integrity", f"sha512-{86 * 'a'}==", True),
     ("integrity", "sha1-abc=", False)])
def test_a_line_names_a_package_and_nothing_else(field, value, good):
    fact = {"name": "a", "version": "1.0.0", "integrity": f"sha512-{86 * 'a'}==", field: value}
    assert (list(KINDS["npm"].wrong(fact)) == []) == good
