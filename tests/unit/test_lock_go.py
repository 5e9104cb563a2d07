"""Go modules from a proxy on disk, resolved by the real go command."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, Missing
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, ARMV6, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import golang, kind_of
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.go_modules import (
    MADE,
    needs_modules,
    package_path,
    requires,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk, Resolved
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe

needs_go = pytest.mark.skipif(not shutil.which("go"), reason="needs go")
APP = {"go": "example.com/Big/app", "version": "v1.2.0", "package": "./cmd/app"}


def publish(proxy: Path, module: str, version: str, files: dict[str, str], level: int = zipfile.ZIP_DEFLATED) -> None:
    """One version of a module in a proxy on disk."""
    place = proxy / "".join(f"!{letter.lower()}" if letter.isupper() else letter for letter in module) / "@v"
    place.mkdir(parents=True, exist_ok=True)
    files = {"go.mod": f"module {module}\n\ngo 1.21\n", **files}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", level) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(f"{module}@{version}/{name}", text)
    (place / f"{version}.zip").write_bytes(buffer.getvalue())
    (place / f"{version}.mod").write_text(files["go.mod"])
    (place / f"{version}.info").write_text(json.dumps({"Version": version, "Time": "2026-01-01T00:00:00Z"}))
    with (place / "list").open("a") as file:
        file.write(f"{version}\n")


def module(name: str, *needs: str) -> str:
    return f"module {name}\n\ngo 1.21\n\n" + "".join(f"require {need}\n" for need in needs)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """app needs lib everywhere, arm on ARM alone, and for its tests a module that a build does not read."""
    monkeypatch.setenv("GOSUMDB", "off")
    root = tmp_path / "proxy"
    publish(root, "example.com/lib", "v1.0.0", {"lib.go": "package lib\n"})
    publish(root, "example.com/lib", "v1.1.0", {"lib.go": "package lib\n"})
    publish(root, "example.com/arm", "v1.0.0", {"arm.go": "package arm\n"})
    publish(root, "example.com/tested", "v1.0.0", {"tested.go": "package tested\n"})
    publish(root, "example.com/Big/app", "v1.2.0", {
        "go.mod": module("example.com/Big/app", "example.com/lib v1.0.0", "example.com/arm v1.0.0",
                         "example.com/tested v1.0.0"),
        "cmd/app/main.go": 'package main\n\nimport _ "example.com/lib"\n\nfunc main() {}\n',
        "cmd/app/main_arm.go": 'package main\n\nimport _ "example.com/arm"\n',
        "cmd/app/main_test.go": 'package main\n\nimport _ "example.com/tested"\n',
    })
    return root


@pytest.fixture
def lock(tmp_path: Path, proxy: Path) -> Callable[..., Resolved]:
    """Locks an input as a recipe has it, each time with a resolver of its own."""
    def locked(given: dict[str, str], platforms: list[Platform], folder: Path = tmp_path,
               old: Lock = Lock()) -> Resolved:  # noqa: B008
        kind = kind_of(given)
        recipe = Recipe(name="app", folder=str(folder), dockerfile=dockerfile.parse("FROM scratch\n"), lock=old)
        origins = Origins({"go": f"file://{proxy}"}, here=Machine(), snapshots=False)
        desk = Desk(origins, tmp_path, Store(tmp_path / "store"), Client(origins.here))
        return kind.resolver(desk).resolve(recipe, kind.input("app", given), platforms)

    return locked


def zips(entries: tuple[Entry, ...]) -> set[str]:
    return {entry.fact["module"] for entry in entries if entry.fact["file"] == "zip"}


@needs_go
def test_exactly_what_a_build_reads_is_locked(lock, tmp_path):
    amd64 = lock(APP, [AMD64])
    both = lock(APP, [AMD64, ARMV6])
    assert zips(amd64.entries) == {"example.com/Big/app", "example.com/lib"}
    assert zips(both.entries) == {"example.com/Big/app", "example.com/lib", "example.com/arm"}
    lib = next(entry for entry in both.entries if entry.fact["module"] == "example.com/lib"
               and entry.fact["file"] == "zip")
    assert Store(tmp_path / "store").path(lib.sha256).stat().st_size == lib.size


@needs_go
def test_the_same_resolution_gives_the_same_bytes(lock, tmp_path):
    first = lock(APP, [AMD64, ARM64])
    shutil.rmtree(tmp_path / "lock")
    assert lock(APP, [AMD64, ARM64]) == first
    assert first.wrapper["go/app/tools.go"].startswith(MADE)
    assert "toolchain" not in first.wrapper["go/app/go.mod"]


@needs_go
def test_a_selection_raised_by_hand_is_kept(lock, tmp_path):
    wrapper = lock(APP, [AMD64]).wrapper
    folder = tmp_path / "go" / "app"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(wrapper["go/app/go.mod"].replace("example.com/lib v1.0.0", "example.com/lib v1.1.0"))
    found = lock(APP, [AMD64])
    assert "v1.1.0" in {entry.fact["version"] for entry in found.entries if entry.fact["module"] == "example.com/lib"}


@needs_go
def test_what_is_private_to_a_person_comes_from_the_origin_that_the_inventory_names(lock, monkeypatch):
    monkeypatch.setenv("GOPRIVATE", "example.com")  # git would be asked, which no test reaches
    monkeypatch.setenv("GOVCS", "*:off")
    assert zips(lock(APP, [AMD64]).entries) == {"example.com/Big/app", "example.com/lib"}


@needs_go
def test_a_person_without_a_home_can_lock(lock, monkeypatch):
    for name in ("HOME", "GOCACHE", "GOPATH", "XDG_CACHE_HOME", "GOENV", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert zips(lock(APP, [AMD64]).entries) == {"example.com/Big/app", "example.com/lib"}


@needs_go
def test_a_module_that_is_nowhere_is_missing(lock, tmp_path):
    with pytest.raises(Missing, match=r"v1\.9\.9"):
        lock({**APP, "version": "v1.9.9"}, [AMD64])


@needs_go
def test_a_program_of_the_images_own_has_the_entries_of_its_dependencies(lock, proxy, tmp_path):
    own = tmp_path / "image" / "health"
    own.mkdir(parents=True)
    (own / "main.go").write_text("package main\n\nfunc main() {}\n")
    (own / "go.mod").write_text("module health\n\ngo 1.21\n")
    spec = {"go": "./health"}
    assert lock(spec, [AMD64], tmp_path / "image").entries == ()
    (own / "main.go").write_text('package main\n\nimport _ "example.com/lib"\n\nfunc main() {}\n')
    (own / "go.mod").write_text("module health\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n")
    with pytest.raises(FarmError, match="go mod tidy"):
        lock(spec, [AMD64], tmp_path / "image")
    golang.Go("go", golang.settings(tmp_path / "mod", f"file://{proxy}")).must("mod", "tidy", folder=own)
    found = lock(spec, [AMD64], tmp_path / "image")
    assert zips(found.entries) == {"example.com/lib"}
    assert not found.wrapper


@needs_go
def test_a_folder_of_this_machine_cannot_replace_a_module(lock, proxy, tmp_path):
    """The lock step has it, but no build. Links that lead nowhere and what is no file do not matter."""
    own, inner, outer = (tmp_path / name for name in ("image/health", "image/health/inner", "outer"))
    for folder, name in ((inner, "inner"), (outer, "outer")):
        folder.mkdir(parents=True)
        (folder / "go.mod").write_text(f"module example.com/{name}\n\ngo 1.21\n")
        (folder / "x.go").write_text(f"package {name}\n")
    (own / "nowhere").symlink_to("/nowhere/at/all")
    os.mkfifo(own / "pipe")
    go = golang.Go("go", golang.settings(tmp_path / "mod", f"file://{proxy}"))

    def replaced(name: str, place: str) -> None:
        (own / "main.go").write_text(f'package main\n\nimport (\n\t_ "example.com/{name}"\n\t_ "example.com/lib"\n)\n\n'
                                     "func main() {}\n")
        (own / "go.mod").write_text("module health\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n\n"
                                    f"require example.com/{name} v0.0.0\n\nreplace example.com/{name} => {place}\n")
        go.must("mod", "tidy", folder=own)

    replaced("inner", "./inner")
    assert zips(lock({"go": "./health"}, [AMD64], tmp_path / "image").entries) == {"example.com/lib"}
    replaced("outer", str(outer))
    with pytest.raises(FarmError, match=f"folders outside of it: {outer}") as error:
        lock({"go": "./health"}, [AMD64], tmp_path / "image")
    assert "inside the program's folder" in error.value.hint


@needs_go
def test_a_toolchain_is_one_zip_for_each_platform_that_builds(lock, proxy, tmp_path):
    for architecture in ("amd64", "arm64"):
        publish(proxy, "golang.org/toolchain", f"v0.0.1-go1.99.0.linux-{architecture}",
                {"go.mod": "module golang.org/toolchain\n"})
    spec = {"go": "golang.org/toolchain", "version": "v0.0.1-go1.99.0.linux-{goarch}"}
    found = lock(spec, [AMD64, ARM64])
    assert [(entry.platform, entry.fact["version"]) for entry in found.entries] == [
        ("linux/amd64", "v0.0.1-go1.99.0.linux-amd64"), ("linux/arm64", "v0.0.1-go1.99.0.linux-arm64")]
    shutil.rmtree(proxy)
    shutil.rmtree(tmp_path / "lock")
    assert lock(spec, [AMD64, ARM64], old=Lock(found.entries)) == found


@pytest.fixture
def locked(lock, tmp_path) -> dict[str, Entry]:
    entries = lock(APP, [AMD64]).entries
    return {f"{entry.fact['module']} {entry.fact['file']}": entry for entry in entries}


def fetched(entries, proxy: Path, tmp_path: Path) -> dict[Entry, FarmError | None]:
    store = Store(tmp_path / "fetched")
    return dict(golang.fetch(entries, store, tmp_path / "scratch", proxy=f"file://{proxy}", patience=0))


@needs_go
def test_module_files_are_fetched_by_the_go_command(locked, proxy, tmp_path):
    assert set(fetched(list(locked.values()), proxy, tmp_path).values()) == {None}
    assert all(Store(tmp_path / "fetched").has(entry.sha256, entry.size) for entry in locked.values())


@needs_go
def test_what_a_stopped_fetch_had_is_not_fetched_again(locked, proxy, tmp_path):
    zips = [entry for entry in locked.values() if entry.fact["file"] == "zip"]
    stopped = golang.fetch(zips, Store(tmp_path / "stopped"), tmp_path / "scratch", proxy=f"file://{proxy}", patience=0)
    assert next(stopped)[1] is None
    stopped.close()
    proxy.rename(tmp_path / "away")
    assert set(fetched(zips, proxy, tmp_path).values()) == {None}
    assert not (tmp_path / "scratch/mod").exists()


@needs_go
def test_what_was_damaged_meanwhile_is_told_and_fetched_anew(locked, proxy, tmp_path):
    zips = [entry for entry in locked.values() if entry.fact["file"] == "zip"]
    stopped = golang.fetch(zips, Store(tmp_path / "stopped"), tmp_path / "scratch", proxy=f"file://{proxy}", patience=0)
    next(stopped)
    stopped.close()
    for path in (tmp_path / "scratch/mod/cache/download").rglob("*.zip"):
        path.write_bytes(bytes(path.stat().st_size))
    assert {type(error) for error in fetched(zips, proxy, tmp_path).values()} == {HashMismatch}
    assert set(fetched(zips, proxy, tmp_path).values()) == {None}


@needs_go
def test_one_module_that_is_gone_or_another_costs_only_itself(locked, proxy, tmp_path):
    shutil.rmtree(proxy / "example.com" / "arm")
    publish(proxy, "example.com/lib", "v1.0.0", {"lib.go": "package lib // changed\n"})
    found = fetched(list(locked.values()), proxy, tmp_path)
    assert isinstance(found[locked["example.com/lib zip"]], HashMismatch)
    assert found[locked["example.com/Big/app zip"]] is None
    assert not Store(tmp_path / "fetched").has(locked["example.com/lib zip"].sha256)


@needs_go
def test_a_module_that_the_proxy_no_longer_has_is_missing(locked, proxy, tmp_path):
    shutil.rmtree(proxy / "example.com" / "lib")
    found = fetched(list(locked.values()), proxy, tmp_path)
    assert isinstance(found[locked["example.com/lib zip"]], Missing)
    assert found[locked["example.com/Big/app zip"]] is None


@needs_go
def test_the_same_files_zipped_by_another_hand_are_told_apart_from_changed_ones(locked, proxy, tmp_path):
    publish(proxy, "example.com/lib", "v1.0.0", {"lib.go": "package lib\n"}, zipfile.ZIP_STORED)
    error = fetched([locked["example.com/lib zip"]], proxy, tmp_path)[locked["example.com/lib zip"]]
    assert isinstance(error, HashMismatch)
    assert "zipped differently" in str(error)


def test_h1_is_that_of_go(tmp_path):
    # golang.org/x/text v0.3.0/go.mod, as every go.sum with it says
    (tmp_path / "go.mod").write_text("module golang.org/x/text\n")
    assert golang.h1_of_mod(tmp_path / "go.mod") == "h1:NqM8EUOU14njkJ3fqMW+pc6Ldnwhi/IjpwHt7yyuwOQ="


@pytest.mark.parametrize(
    ("package", "path"), [(".", "example.com/a"), ("./cmd/x", "example.com/a/cmd/x"), ("cmd/x", "example.com/a/cmd/x")])
def test_packages_of_a_module(package, path):
    assert package_path("example.com/a", package) == path


def test_which_version_a_go_mod_requires():
    text = "module x\n\nrequire example.com/a v1.2.0 // why\n\nrequire (\n\texample.com/b v1.0.0 // indirect\n)\n"
    assert requires(text, "example.com/a", "v1.2.0")
    assert requires(text, "example.com/b", "v1.0.0")
    assert not requires(text, "example.com/a", "v1.2.00")
    assert not requires("\n" * 500_000, "example.com/a", "v1.2.0")  # at once
    assert needs_modules("\n" * 500_000)


def test_hash1_of_a_zip_is_that_of_its_files(tmp_path):
    publish(tmp_path, "example.com/a", "v1.0.0", {"a.go": "package a\n"})
    names = {"example.com/a@v1.0.0/a.go": b"package a\n",
             "example.com/a@v1.0.0/go.mod": b"module example.com/a\n\ngo 1.21\n"}
    expected = golang.hash1({name: hashlib.sha256(content).digest() for name, content in names.items()})
    assert golang.h1_of_zip(tmp_path / "example.com" / "a" / "@v" / "v1.0.0.zip") == expected
