"""Crates from a registry that is made on the spot, resolved by the real cargo."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    BadInput,
    FarmError,
    HashMismatch,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.locks import reader
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import (
    KINDS,
    cargo,
    cargo_lock,
    cargo_registry,
    kind_of,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk, Resolved
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe

from .crates import Crates, locked_text, manifest
from .test_hostile_archives import nested, zipped

pytestmark = pytest.mark.skipif(not shutil.which("cargo"), reason="needs cargo")
APP = {"cargo": "app", "version": "1.2.0"}
OWN = {"cargo": "./tool"}
MAIN = "fn main() {}\n"


@pytest.fixture
def crates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crates:
    """app was published with leaf 1.0.0 in its Cargo.lock, and leaf 1.1.0 is newer."""
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "person" / ".cargo"))
    found = Crates(tmp_path / "registry")
    found.publish("leaf", "1.0.0")
    found.publish("leaf", "1.1.0")
    found.publish("mid", "1.0.0", {"leaf": "1"})
    found.publish("app", "1.2.0", {"mid": "1"}, {
        "src/main.rs": MAIN,
        "Cargo.lock": locked_text(found, "app", "1.2.0", ["mid"], {"mid 1.0.0": ["leaf"], "leaf 1.0.0": []})})
    return found


@pytest.fixture
def index(crates: Crates) -> Iterator[str]:
    with crates.served() as address:
        yield address


class Farm:
    """A controller's desk, with what it said."""

    def __init__(self, state: Path, origin: str = "") -> None:
        self.said: list[str] = []
        origins = Origins({"cargo": origin} if origin else {}, here=Machine(environment=dict(os.environ)),
                          snapshots=False)
        client = Client(origins.here, patience=0)
        self.desk = Desk(origins, state, Store(state / "store"), client, say=self.said.append)

    def lock(self, given: dict[str, Any], folder: Path, old: Lock = Lock()) -> Resolved:  # noqa: B008
        kind = kind_of(given)
        recipe = Recipe(name="image", folder=str(folder), dockerfile=dockerfile.parse("FROM scratch\n"), lock=old)
        return kind.resolver(self.desk).resolve(recipe, kind.input("app", given), [AMD64, ARM64])

    def fetch(self, entries: tuple[Entry, ...]) -> dict[str, FarmError | None]:
        return {entry.path: error for entry, error in KINDS["cargo"].fetch([(entry, "") for entry in entries],
                                                                           self.desk)}


@pytest.fixture
def farm(tmp_path: Path, index: str) -> Farm:
    return Farm(tmp_path / "state", index)


@pytest.fixture
def fresh(tmp_path: Path, index: str) -> Farm:
    """Another controller, which has nothing."""
    return Farm(tmp_path / "fresh", index)


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """The folder of an image with a program of its own."""
    folder = tmp_path / "image"
    (folder / "tool" / "src").mkdir(parents=True)
    (folder / "tool" / "src" / "main.rs").write_text(MAIN)
    return folder


@pytest.fixture
def write(crates: Crates, tool: Path) -> Callable[..., Path]:
    def written(needs: dict[str, str], lock: dict[str, list[str]]) -> Path:
        (tool / "tool" / "Cargo.toml").write_text(manifest("tool", "0.1.0", needs))
        (tool / "tool" / "Cargo.lock").write_text(locked_text(crates, "tool", "0.1.0", list(needs), lock))
        return tool

    return written


def paths(entries: tuple[Entry, ...]) -> list[str]:
    return sorted(entry.path for entry in entries)


ALL = ["app/crates/leaf-1.0.0.crate", "app/crates/mid-1.0.0.crate", "app/program.crate"]


def test_a_program_is_locked_with_what_its_own_lock_names(farm, tmp_path, crates):
    found = farm.lock(APP, tmp_path)
    assert paths(found.entries) == ALL
    assert all(farm.desk.store.has(entry.sha256, entry.size) for entry in found.entries)
    assert {entry.platform for entry in found.entries} == {""}
    assert not found.wrapper
    assert farm.said == [f"lock image: 3 crates for app, {sum(entry.size for entry in found.entries) / 1e6:.1f} MB"]


def test_the_same_lock_gives_the_same_lines_and_nothing_is_downloaded_twice(farm, tmp_path, crates):
    first = farm.lock(APP, tmp_path)
    shutil.rmtree(tmp_path / "state")
    crates.asked.clear()
    assert farm.lock(APP, tmp_path, Lock(first.entries)) == first
    assert [path for path, _token in crates.asked if path.endswith(".crate")] == ["/app-1.2.0.crate"]


def test_crates_are_fetched_on_a_controller_that_has_nothing(farm, fresh, tmp_path):
    entries = farm.lock(APP, tmp_path).entries
    assert fresh.fetch(entries) == dict.fromkeys(ALL)
    assert all(fresh.desk.store.has(entry.sha256, entry.size) for entry in entries)
    assert not (tmp_path / "fresh" / "cache" / "cargo").exists()


@pytest.mark.parametrize("path", ALL)
def test_a_single_crate_is_fetched_without_what_it_needs(farm, fresh, tmp_path, crates, path):
    entries = tuple(entry for entry in farm.lock(APP, tmp_path).entries if entry.path == path)
    crates.asked.clear()
    assert fresh.fetch(entries) == {path: None}
    assert len([asked for asked, _token in crates.asked if asked.endswith(".crate")]) == 1


def test_a_crate_that_differs_or_is_gone_costs_only_itself(farm, fresh, tmp_path, crates):
    entries = farm.lock(APP, tmp_path).entries
    crates.crate("mid", "1.0.0").write_bytes(crates.crate("leaf", "1.1.0").read_bytes())
    crates.remove("leaf", "1.0.0", index=True)
    found = fresh.fetch(entries)
    differs, gone = found["app/crates/mid-1.0.0.crate"], found["app/crates/leaf-1.0.0.crate"]
    assert isinstance(differs, HashMismatch) and "mid 1.0.0" in str(differs) and "compare" in differs.hint
    assert isinstance(gone, Missing) and "leaf 1.0.0" in str(gone)
    assert found["app/program.crate"] is None
    store = fresh.desk.store
    assert [store.has(entry.sha256) for entry in sorted(entries, key=lambda entry: entry.path)] == [False, False, True]


def test_a_crate_that_changed_is_not_locked(farm, tmp_path, crates):
    crates.crate("leaf", "1.0.0").write_bytes(b"x")
    with pytest.raises(HashMismatch, match=r"leaf 1\.0\.0"):
        farm.lock(APP, tmp_path)


def test_a_program_that_changed_in_the_index_is_not_locked_again(farm, tmp_path, crates):
    before = Lock(farm.lock(APP, tmp_path).entries)
    crates.remove("app", "1.2.0", index=True)
    crates.publish("app", "1.2.0", {"mid": "1"}, {"src/main.rs": MAIN, "more": "x"})
    with pytest.raises(HashMismatch, match=r"the index says that app 1\.2\.0 is "):
        farm.lock(APP, tmp_path, before)


def test_yanked_crates_are_locked_with_a_note_and_fetched(farm, fresh, tmp_path, crates):
    for name, version in (("leaf", "1.0.0"), ("app", "1.2.0")):
        crates.yank(name, version)
    found = farm.lock(APP, tmp_path)
    assert paths(found.entries) == ALL
    assert farm.said[-1].endswith("yanked, as the Cargo.lock names them: app 1.2.0, leaf 1.0.0")
    assert fresh.fetch(found.entries) == dict.fromkeys(ALL)


def test_a_program_is_found_though_nothing_new_could_be_resolved_for_it(farm, tmp_path, crates):
    for version in ("1.0.0", "1.1.0"):
        crates.yank("leaf", version)
    assert paths(farm.lock(APP, tmp_path).entries) == ALL


@pytest.mark.parametrize(("given", "said"), [
    ({**APP, "version": "9.9.9"}, r"=9\.9\.9"), ({"cargo": "nothere", "version": "1.0.0"}, "nothere")])
def test_a_program_that_is_nowhere_is_missing(farm, tmp_path, given, said):
    with pytest.raises(Missing, match=said):
        farm.lock(given, tmp_path)


def test_a_registry_that_does_not_answer_is_unreachable(farm, tmp_path, crates, monkeypatch):
    entries = farm.lock(APP, tmp_path).entries
    monkeypatch.setenv("CARGO_NET_RETRY", "0")
    away = Farm(tmp_path / "away", "sparse+http://127.0.0.1:1/index/")
    assert {type(error) for error in away.fetch(entries).values()} == {Unreachable}
    with pytest.raises(Unreachable, match="127.0.0.1"):
        away.lock(APP, tmp_path)


def test_a_program_without_a_lock_of_its_own_is_refused(farm, tmp_path, crates):
    crates.publish("bare", "1.0.0", {"leaf": "1"}, {"src/main.rs": MAIN})
    with pytest.raises(FarmError, match=r"bare 1\.0\.0 was published without a Cargo\.lock") as caught:
        farm.lock({"cargo": "bare", "version": "1.0.0"}, tmp_path)
    assert "cargo: ./folder" in caught.value.hint
    assert caught.value.where["input"] == "app"


@pytest.mark.parametrize("how", ["cut off", "nested"])
def test_a_program_that_cannot_be_unpacked_is_refused(farm, tmp_path, crates, how):
    content = zipped(nested()) if how == "nested" else crates.crate("app", "1.2.0").read_bytes()[:100]
    crates.crate("app", "1.2.0").write_bytes(content)
    path = crates.path("app")
    path.write_text(path.read_text().replace(crates.sha256("app", "1.2.0"), hashlib.sha256(content).hexdigest()))
    with pytest.raises(FarmError, match=r"app 1\.2\.0 cannot be unpacked"):
        farm.lock(APP, tmp_path)


def replaced(crates: Crates, members: list[tuple[str, bytes]]) -> None:
    """Has the registry serve other files as app 1.2.0."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(f"app-1.2.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path = crates.path("app")
    path.write_text(path.read_text().replace(crates.sha256("app", "1.2.0"),
                                             hashlib.sha256(buffer.getvalue()).hexdigest()))
    crates.crate("app", "1.2.0").write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("Cargo.lock", b"\xff")], r"the Cargo.lock of app 1\.2\.0: line 1: not UTF-8"),
        ([("Cargo.lock", b"version = " + b"[" * 200_000)], r"the Cargo.lock of app 1\.2\.0: not TOML"),
        ([("Cargo.lock/x", b"")], r"the Cargo.lock of app 1\.2\.0: line 1: cannot be read"),
        ([("a", b""), ("a/b", b"")], r"app 1\.2\.0 cannot be unpacked"),
        ([("a/b", b""), ("a", b"")], r"app 1\.2\.0 cannot be unpacked"),
        ([("n" * 256, b"")], r"app 1\.2\.0 cannot be unpacked"),
        ([("zeros", bytes(2000)), ("more", bytes(2000))], r"app 1\.2\.0 cannot be unpacked: it has more than 0 MiB"),
    ],
)
def test_a_program_made_to_do_harm_is_refused(farm, tmp_path, crates, monkeypatch, members, said):
    if members[0][0] == "zeros":
        monkeypatch.setattr(cargo, "LARGEST", 3000)
    replaced(crates, members)
    with pytest.raises(FarmError, match=said) as caught:
        farm.lock(APP, tmp_path)
    assert caught.value.where["input"] == "app"


def test_a_lock_of_the_images_own_that_is_no_text_is_refused(farm, write):
    folder = write({"mid": "1"}, {"mid 1.0.0": ["leaf"], "leaf 1.0.0": []})
    (folder / "tool/Cargo.lock").write_bytes(b"version = 4\n\xff")
    assert KINDS["own_cargo"].has_lines(KINDS["own_cargo"].input("app", OWN), reader(folder))
    with pytest.raises(BadInput, match=r"tool/Cargo\.lock: line 2: not UTF-8: byte 0xff; make it again"):
        farm.lock(OWN, folder)


def test_what_leads_out_of_a_crate_is_not_unpacked(farm, tmp_path, crates):
    crates.publish("bad", "1.0.0", {}, {"src/main.rs": MAIN, "../../../../out": "x", "a/../../../../../out": "x",
                                        "Cargo.lock": locked_text(crates, "bad", "1.0.0", [], {})})
    farm.lock({"cargo": "bad", "version": "1.0.0"}, tmp_path)
    assert not list(tmp_path.rglob("out"))


def test_a_program_whose_lock_does_not_fit_is_refused(farm, tmp_path, crates):
    crates.publish("odd", "1.0.0", {"mid": "1"}, {"src/main.rs": MAIN,
                                                  "Cargo.lock": locked_text(crates, "odd", "1.0.0", [], {})})
    with pytest.raises(FarmError, match=r"Cargo.lock of odd 1\.0\.0 does not fit"):
        farm.lock({"cargo": "odd", "version": "1.0.0"}, tmp_path)


def test_a_program_of_the_images_own_has_the_crates_of_its_lock(farm, write, fresh):
    folder = write({"mid": "1"}, {"mid 1.0.0": ["leaf"], "leaf 1.1.0": []})
    found = farm.lock(OWN, folder)
    assert paths(found.entries) == ["app/crates/leaf-1.1.0.crate", "app/crates/mid-1.0.0.crate"]
    assert set(fresh.fetch(found.entries).values()) == {None}


def test_a_program_that_needs_no_crates_needs_no_cargo(write, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Farm(tmp_path / "state").lock(OWN, write({}, {})).entries == ()


def test_what_is_beside_the_program_may_be_required_and_what_is_outside_the_image_may_not(farm, write):
    folder = write({"mid": "1"}, {"mid 1.0.0": ["leaf"], "leaf 1.1.0": []})
    text = (folder / "tool" / "Cargo.toml").read_text()
    (folder / "tool" / "Cargo.toml").write_text(text + 'common = { path = "../common" }\n')
    lock = (folder / "tool" / "Cargo.lock").read_text()
    (folder / "tool" / "Cargo.lock").write_text(
        lock.replace('dependencies = [\n "mid",', 'dependencies = [\n "common",\n "mid",').replace(
            "[[package]]", '[[package]]\nname = "common"\nversion = "0.1.0"\n\n[[package]]', 1))
    with pytest.raises(FarmError, match="common") as caught:
        farm.lock(OWN, folder)
    assert "by `path` must be in the image's folder" in caught.value.hint
    (folder / "common" / "src").mkdir(parents=True)
    (folder / "common" / "src" / "lib.rs").write_text("")
    (folder / "common" / "Cargo.toml").write_text(manifest("common", "0.1.0"))
    assert len(farm.lock(OWN, folder).entries) == 2


def test_a_folder_of_this_machine_cannot_be_required(farm, write, tmp_path):
    """cargo finds it, but no build has it; also where what is required asks for it, or a workspace."""
    folder = write({"mid": "1"}, {"mid 1.0.0": ["leaf"], "leaf 1.1.0": []})
    text, lock = ((folder / "tool" / name).read_text() for name in ("Cargo.toml", "Cargo.lock"))
    outer = tmp_path / "outer" / "common"
    for place, more in ((outer, {}), (folder / "beside", {"common": f'{{ path = "{outer}" }}'})):
        (place / "src").mkdir(parents=True)
        (place / "src" / "lib.rs").write_text("")
        needs = "".join(f"{name} = {said}\n" for name, said in more.items())
        (place / "Cargo.toml").write_text(manifest(place.name, "0.1.0") + needs)
    locked = lock.replace("[[package]]", '[[package]]\nname = "common"\nversion = "0.1.0"\n\n[[package]]', 1)
    (folder / "tool" / "Cargo.lock").write_text(locked)
    for more in (f'common = {{ path = "{outer}" }}\n', 'beside = { path = "../beside" }\n'):
        (folder / "tool" / "Cargo.toml").write_text(text + more)
        with pytest.raises(FarmError, match=f"what is outside of the image's folder: {outer}") as caught:
            farm.lock(OWN, folder)
        assert "must be in the image's folder" in caught.value.hint


@pytest.mark.parametrize(("text", "said"), [
    ('[dependencies]\na = { path = "../a" }\nb = "1"\n', {"../a"}),
    ('[target."cfg(unix)".build-dependencies]\na = { path = "/a" }\n', {"/a"}),
    ('[workspace.dependencies]\na = { path = "x" }\n[patch.crates-io]\nb = { path = "y" }\n', {"x", "y"}),
    ('dependencies = 1\ntarget = [1]\npatch = "x"\n', set()),
])
def test_the_folders_that_a_manifest_requires(text, said):
    assert set(cargo_lock.paths(tomllib.loads(text))) == said


def test_a_lock_that_a_build_would_change_is_refused(farm, write):
    folder = write({"mid": "1"}, {"mid 1.0.0": ["leaf"], "leaf 1.0.0": []})
    (folder / "tool" / "Cargo.toml").write_text(manifest("tool", "0.1.0", {"mid": "1", "leaf": "1.1"}))
    with pytest.raises(FarmError, match=r"tool/Cargo\.lock does not fit its Cargo\.toml") as caught:
        farm.lock(OWN, folder)
    assert "cargo update --workspace" in caught.value.hint


@pytest.mark.parametrize(("old", "new", "said"), [
    ("version = 4\n", "", "format is 1 or 2"),
    ('source = "registry+', 'source = "git+', "it comes from git"),
    ('source = "registry+', 'source = "sparse+', "another registry"),
])
def test_a_lock_with_what_cannot_be_locked_is_refused(farm, write, old, new, said):
    folder = write({"leaf": "1"}, {"leaf 1.0.0": []})
    path = folder / "tool" / "Cargo.lock"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadInput, match=said):
        farm.lock(OWN, folder)


def test_a_checksum_that_the_registry_does_not_know_is_a_mismatch(farm, write, crates):
    folder = write({"leaf": "1"}, {"leaf 1.0.0": []})
    path = folder / "tool" / "Cargo.lock"
    path.write_text(path.read_text().replace(crates.sha256("leaf", "1.0.0"), "0" * 64))
    with pytest.raises(HashMismatch, match="leaf"):
        farm.lock(OWN, folder)


def test_a_registry_in_a_folder_is_read_without_a_server(farm, tmp_path, crates):
    origin = crates.as_folder(tmp_path / "a copy").as_uri()
    served = farm.lock(APP, tmp_path)
    local = Farm(tmp_path / "other", origin)
    assert local.lock(APP, tmp_path) == served
    assert Farm(tmp_path / "third", origin).fetch(served.entries) == dict.fromkeys(ALL)


# --- which cargo, and with which settings

CONFIG = '[source.crates-io]\nreplace-with = "corp"\n[registries.corp]\nindex = "{index}"\n'
TOKENS = 'credential-provider = "cargo:token"\n'


def person(home: Path, config: str, credentials: str = "") -> None:
    home.mkdir(parents=True)
    (home / "config.toml").write_text(config)
    if credentials:
        (home / "credentials.toml").write_text(credentials)


@pytest.mark.parametrize("place", ["person/.cargo", "elsewhere", "person/.cargo/inner"])
def test_the_registry_of_the_persons_own_settings_is_asked(tmp_path, index, monkeypatch, place):
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / place))
    person(tmp_path / place, CONFIG.format(index=index))
    found = Farm(tmp_path / "state").lock(APP, tmp_path)
    assert paths(found.entries) == ALL
    assert Farm(tmp_path / "other").fetch(found.entries) == dict.fromkeys(ALL)
    assert sorted(path.name for path in (tmp_path / place).iterdir()) == ["config.toml"], "nothing is left there"


@pytest.mark.parametrize("kept", [True, False])
def test_a_registry_with_a_login_gets_the_persons_token(tmp_path, crates, monkeypatch, kept):
    with crates.served(token="sesam") as index:
        person(tmp_path / "person" / ".cargo", CONFIG.format(index=index) + TOKENS,
               '[registries.corp]\ntoken = "sesam"\n' if kept else "")
        if not kept:
            monkeypatch.setenv("CARGO_REGISTRIES_CORP_TOKEN", "sesam")
        farm = Farm(tmp_path / "state")
        found = farm.lock(APP, tmp_path)
        assert Farm(tmp_path / "other").fetch(found.entries) == dict.fromkeys(ALL)
    assert "sesam" not in "".join(path.read_text() for path in (tmp_path / "state").rglob("*")
                                  if path.is_file() and not path.is_symlink() and path.suffix == ".toml")


def test_a_token_that_cargo_alone_knows_is_asked_for(tmp_path, crates):
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\necho sesam\n")
    helper.chmod(0o755)
    with crates.served(token="sesam") as index:
        person(tmp_path / "person" / ".cargo",
               CONFIG.format(index=index) + f'credential-provider = ["cargo:token-from-stdout", "{helper}"]\n')
        with pytest.raises(FarmError, match="the registry corp wants a token") as caught:
            Farm(tmp_path / "state").lock(APP, tmp_path)
    assert "cargo login --registry corp" in caught.value.hint


def test_a_registry_that_refuses_a_token_says_so(tmp_path, crates):
    with crates.served(token="sesam") as index:
        person(tmp_path / "person" / ".cargo", CONFIG.format(index=index) + TOKENS,
               '[registries.corp]\ntoken = "wrong"\n')
        with pytest.raises(FarmError) as caught:
            Farm(tmp_path / "state").lock(APP, tmp_path)
    assert "cargo login" in caught.value.hint
    assert "wrong" not in str(caught.value)


def test_an_index_that_is_a_git_repository_is_read(tmp_path, crates, index):
    git = ["git", "-C", str(crates.index), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    person(tmp_path / "person" / ".cargo",
           f'[source.crates-io]\nreplace-with = "g"\n[source.g]\nregistry = "file://{crates.index}"\n')
    found = Farm(tmp_path / "state").lock(APP, tmp_path)
    assert Farm(tmp_path / "other").fetch(found.entries) == dict.fromkeys(ALL)


def test_sources_that_are_no_crates_cannot_be_locked(tmp_path, write, crates):
    person(tmp_path / "person" / ".cargo",
           '[source.crates-io]\nreplace-with = "d"\n[source.d]\nlocal-registry = '
           f'"{crates.as_folder(tmp_path / "copy")}"\n')
    with pytest.raises(FarmError, match="does not say where") as caught:
        Farm(tmp_path / "state").lock(APP, tmp_path)
    assert "farm_origins: {cargo: file:///...}" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this machine has no cargo"),
        ("#!/bin/sh\necho 'cargo 1.69.0 (x)'\n", "is cargo 1.69.0 .x., which is too old"),
        ("#!/bin/sh\necho 'no toolchain' >&2\nexit 1\n", "does not run: no toolchain"),
    ],
)
def test_a_cargo_is_needed_that_is_new_enough(tmp_path, monkeypatch, text, said):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if text else str(tmp_path))
    if text:
        (tmp_path / "cargo").write_text(text)
        (tmp_path / "cargo").chmod(0o755)
    with pytest.raises(FarmError, match=said) as caught:
        Farm(tmp_path / "state").lock(APP, tmp_path)
    assert "1.70" in caught.value.hint


def test_a_lock_that_this_cargo_cannot_read_is_refused_with_a_remedy(farm, write, monkeypatch):
    real = cargo_registry.find_cargo()[0]
    monkeypatch.setattr(cargo_registry, "find_cargo", lambda: (real, (1, 77)))
    with pytest.raises(FarmError, match=r"tool/Cargo\.lock has format 4") as caught:
        farm.lock(OWN, write({"leaf": "1"}, {"leaf 1.0.0": []}))
    assert "1.78" in caught.value.hint
