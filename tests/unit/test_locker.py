"""The lock step of one image: what it locks, keeps, refuses and writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError, Missing, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.debian_closures import (
    Debian,
    Index,
    Package,
    Release,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.go_modules import MADE
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.npm_packages import MADE as MADE_BY_NPM
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, moved, workplace, write
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import choose, difference, failed, warnings
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Input, Lock, Recipe

from .entries import address, deb, module
from .locking import Place

PROJECT = Path(__file__).resolve().parents[2]


def lock(*entries: Entry, **header: object) -> Lock:
    return Lock(entries, **header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (lock(deb("a", "1")), lock(deb("a", "1")), []),
        (
            lock(deb("openssl", "3.5.1-1"), deb("openssl", "3.5.1-1", "linux/arm64")),
            lock(deb("openssl", "3.5.1-2"), deb("openssl", "3.5.1-2", "linux/arm64")),
            ["openssl 3.5.1-1 -> 3.5.1-2 (linux/amd64, linux/arm64)"],
        ),
        (
            lock(deb("a", "1"), deb("a", "1", "linux/arm64")),
            lock(deb("a", "2"), deb("a", "3", "linux/arm64")),
            ["a 1 -> 2 (linux/amd64)", "a 1 -> 3 (linux/arm64)"],
        ),
        (lock(), lock(deb("a", "1")), ["a 1 is new (linux/amd64)"]),
        (lock(deb("a", "1")), lock(), ["a 1 is gone (linux/amd64)"]),
        (lock(deb("a", "1")), lock(deb("a", "1", sha256="1" * 64)), ["a 1 has other content (linux/amd64)"]),
        (lock(deb("a", "1")), lock(deb("a", "1"), deb("a", "1", given="seed")), []),
        (lock(module("x", "v1"), module("x", "v1", "mod")), lock(module("x", "v2"), module("x", "v2", "mod")),
         ["x v1 -> v2"]),
        (lock(snapshot="20260101T000000Z"), lock(snapshot="20260102T000000Z"),
         ["snapshot 20260101T000000Z -> 20260102T000000Z"]),
        (
            lock(left_out={"linux/386": ("trixie-security",)}),
            lock(left_out={"linux/arm64": ("trixie-security",)}, older={"linux/386": {"trixie": "20260912T075541Z"}}),
            ["trixie-security no longer left out (linux/386)", "trixie-security left out (linux/arm64)",
             "trixie of 20260912T075541Z only in an older state (linux/386)"],
        ),
        (lock(above=("debian",)), lock(above=("debian",)), []),
        (lock(), lock(above=("base", "debian")), ["leaves out the packages that it has from base, debian"]),
        (lock(above=("base", "debian")), lock(above=("debian",)), ["leaves out the packages that it has from debian"]),
        (lock(above=("debian",)), lock(), ["leaves out the packages that it has from no other image"]),
        (
            lock(made_for={"a": {"packages": ["x"]}, "gone": {}}), lock(made_for={"a": {"packages": ["y"]}, "new": {}}),
            ["a is now locked for what the recipe says"],
        ),
    ],
)
def test_what_moves_is_told_per_package_with_its_platforms(old, new, lines):
    assert moved(old, new) == lines


def recipe(folder: Path, *inputs: Input, old: Lock | None = None) -> Recipe:
    folder.mkdir(exist_ok=True)
    return Recipe(name=folder.name, folder=str(folder), dockerfile=dockerfile.parse("FROM scratch\n"), inputs=inputs,
                  platforms=(AMD64, ARM64), build_platforms=(AMD64,), suites=("trixie",), lock=old or Lock())


class Everything:
    """Stands for origins that have every package."""

    def lacking(self, wanted: Iterable[tuple[Entry, str]]) -> list[Entry]:
        return []


class Packages:
    """The resolver of Debian packages, with an answer of its own."""

    def __init__(self, version: str, date: datetime, **options: object) -> None:
        self.version, self.date, self.options = version, date, options

    def index(self, suites: tuple[str, ...], platform: Platform) -> Index:
        return Index(Path(), platform, (Release("trixie", "trixie", self.date),),
                     **self.options)  # type: ignore[arg-type]

    def closure(self, name: str, index: Index, packages: list[str], essential: bool,
                below: list[Package]) -> list[Package]:
        return [Package("0" * 64, 1, deb(package, self.version).fact) for package in packages]


DAY = datetime(2026, 11, 23, tzinfo=timezone.utc)
ROOTFS = Input("rootfs", "debian", {"packages": ["apt"], "essential": True})
SEED = Input("seed", "debian", {"packages": ["dpkg"]}, build=True)


def locker(tmp_path: Path, version: str = "1", day: int = 23, **options: object) -> Locker:
    made = Locker(Origins(here=Machine(), snapshots=False), tmp_path / "state")
    made.finder = Everything()  # type: ignore[assignment]
    made.resolvers["debian"].debian = Packages(version, DAY.replace(day=day), **options)  # type: ignore[attr-defined]
    return made


def test_an_input_is_locked_for_the_platforms_it_is_for(tmp_path):
    found = locker(tmp_path).lock(recipe(tmp_path / "debian", ROOTFS, SEED))
    assert [(entry.input, entry.platform) for entry in found.lock.entries] == [
        ("rootfs", "linux/amd64"), ("rootfs", "linux/arm64"), ("seed", "linux/amd64")]
    assert found.lock.snapshot == "20261123T000000Z"
    assert found.changed


def test_the_old_snapshot_stays_where_no_package_moved(tmp_path):
    old = locker(tmp_path).lock(recipe(tmp_path / "debian", ROOTFS))
    write(old)
    again = recipe(tmp_path / "debian", ROOTFS, old=old.lock)
    same = locker(tmp_path, day=24).lock(again)
    assert (same.lock, same.changed, same.moved) == (old.lock, False, ())
    other = locker(tmp_path, version="2", day=24).lock(again)
    assert (other.lock.snapshot, other.changed) == ("20261124T000000Z", True)


def test_what_could_not_be_had_whole_is_written_down(tmp_path):
    found = locker(tmp_path, left_out=("trixie-security",)).lock(recipe(tmp_path / "debian", ROOTFS))
    assert found.lock.left_out == {"linux/amd64": ("trixie-security",), "linux/arm64": ("trixie-security",)}


def test_a_lock_is_written_whole_and_read_back(tmp_path):
    found = locker(tmp_path).lock(recipe(tmp_path / "debian", ROOTFS))
    assert not list((tmp_path / "debian").iterdir())
    write(found)
    assert [path.name for path in (tmp_path / "debian").iterdir()] == ["lock.jsonl"]
    assert lockfile.parse((tmp_path / "debian" / "lock.jsonl").read_text(), "x") == found.lock
    assert (tmp_path / "debian" / "lock.jsonl").stat().st_mode & 0o777 == 0o644


def test_an_image_without_files_from_outside_has_no_lock(tmp_path):
    found = locker(tmp_path).lock(recipe(tmp_path / "base"))
    write(found)
    assert (found.changed, list((tmp_path / "base").iterdir())) == (False, [])


def test_other_kinds_stay_as_they_were_locked(tmp_path):
    url = address("https://upstream.example/x")
    inputs = (ROOTFS, Input("blob", "url", {"url": "https://upstream.example/y"}))
    found = locker(tmp_path).lock(recipe(tmp_path / "x", *inputs, old=Lock((url,))), kinds=["debian"])
    assert url in found.lock.entries
    assert len(found.lock.entries) == 3


def test_a_wrapper_whose_input_is_gone_goes_too_and_no_other_file(tmp_path):
    folder = tmp_path / "x"
    for path, text in (("go/old/tools.go", MADE), ("go/mine/tools.go", "package mine\n"),
                       ("npm/old/package.json", f'{{"//": "{MADE_BY_NPM}"}}')):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    found = locker(tmp_path).lock(recipe(folder, ROOTFS))
    assert found.gone == ("go/old", "npm/old")
    write(found)
    assert sorted(path.name for path in (folder / "go").iterdir()) == ["mine"]
    assert not (folder / "npm").exists()


def test_a_url_is_downloaded_once_for_as_long_as_it_stays(tmp_path):
    (tmp_path / "blob").write_bytes(b"abc")
    given = Input("blob", "url", {"url": f"file://{tmp_path}/blob"})
    found = locker(tmp_path).lock(recipe(tmp_path / "x", given))
    assert [(entry.size, entry.platform) for entry in found.lock.entries] == [(3, "")]
    assert found.lock.snapshot == ""
    (tmp_path / "blob").unlink()
    assert locker(tmp_path).lock(recipe(tmp_path / "x", given, old=found.lock)).lock == found.lock


def test_a_url_for_each_platform(tmp_path):
    urls = {}
    for platform in ("linux/amd64", "linux/arm64"):
        (tmp_path / platform[6:]).write_text(platform)
        urls[platform] = f"file://{tmp_path}/{platform[6:]}"
    found = locker(tmp_path).lock(recipe(tmp_path / "x", Input("blob", "url", {"url": urls})))
    assert [entry.platform for entry in found.lock.entries] == ["linux/amd64", "linux/arm64"]


def test_an_error_names_its_image(tmp_path):
    made = locker(tmp_path)

    def index(suites, platform):
        raise Unreachable("no network")

    made.resolvers["debian"].debian.index = index  # type: ignore[method-assign]
    with pytest.raises(FarmError, match="image: debian"):
        made.lock(recipe(tmp_path / "debian", ROOTFS))


def catalog(tmp_path: Path) -> dict[str, Recipe]:
    made = [recipe(tmp_path / "debian", ROOTFS), recipe(tmp_path / "base"),
            recipe(tmp_path / "plex", Input("plex", "url", {"url": "https://x"}))]
    return {found.name: found for found in made}


@pytest.mark.parametrize(
    ("images", "expression", "chosen"),
    [([], "", ["debian", "plex"]), (["plex"], "", ["plex"]), ([], "[?contains(kinds, 'debian')]", ["debian"]),
     (["base"], "", [])],
)
def test_images_are_chosen_by_name_and_by_expression(tmp_path, images, expression, chosen):
    assert [found.name for found in choose(catalog(tmp_path), images, expression)] == chosen


@pytest.mark.parametrize(("images", "said"), [
    ([], r"farm_lock_select: .* chooses no image: correct it; the keys of an image are image, kinds, platforms"),
    (["plex"], "farm_images and farm_lock_select together choose no image: correct one of them"),
])
def test_an_expression_that_chooses_no_image_is_no_work_that_is_done(tmp_path, images, said):
    with pytest.raises(BadInput, match=said):
        choose(catalog(tmp_path), images, "[?image=='debain']")


SEALED = """
import sys
from types import SimpleNamespace
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.told import refuse_sealed
try:
    refuse_sealed([SimpleNamespace(folder=folder) for folder in sys.argv[1:]])
except BadInput as error:
    print("\\n".join(error.problems))
"""


def test_locks_that_cannot_be_written_are_told_before_any_is_made(tmp_path):
    """By a process that modes bind. (Root's may write everything by a capability.)"""
    names = {name: tmp_path / name for name in ("good", "bad", "worse")}
    for name, folder in names.items():
        folder.mkdir()
        folder.chmod(0o755 if name == "good" else 0o555)
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*without, sys.executable, "-c", SEALED, *map(str, names.values())], capture_output=True,
                          text=True, check=True, env={**os.environ, "PYTHONPATH": str(PROJECT / "collections")})
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [str(names["bad"]), str(names["worse"])]
    assert "this user may not write here" in done.stdout


class Broken:
    """A resolver that finds nothing."""

    def __init__(self, error: FarmError) -> None:
        self.error, self.asked = error, 0

    def resolve(self, recipe: Recipe, found: Input, platforms: list[Platform]) -> None:
        self.asked += 1
        raise type(self.error)(self.error.message, hint=self.error.hint)


ADDRESS = Input("model", "url", {"url": "https://a.example/x"})
SOURCE = Input("source", "git", {"git": "https://a.example/x.git", "ref": "v1", "submodules": False})


def test_all_inputs_of_an_image_that_cannot_be_locked_are_told_at_once(tmp_path):
    made = locker(tmp_path)
    made.resolvers["url"] = Broken(Missing("no such model", hint="is it spelled so?"))  # type: ignore[assignment]
    made.resolvers["git"] = Broken(FarmError("no such tag"))  # type: ignore[assignment]
    with pytest.raises(FarmError) as error:
        made.lock(recipe(tmp_path / "app", ADDRESS, SOURCE, ROOTFS))
    said = str(error.value)
    assert "2 inputs cannot be locked" in said and "is it spelled so?" in said
    assert "no such model (input: model)" in said and "no such tag (input: source)" in said
    assert error.value.where == {"input": "model, source", "image": "app"}

    with pytest.raises(Missing) as alone:
        made.lock(recipe(tmp_path / "other", ADDRESS, ROOTFS))
    assert alone.value.where == {"input": "model", "image": "other"}
    made.resolvers["git"] = made.resolvers["url"]
    with pytest.raises(Missing) as same:
        made.lock(recipe(tmp_path / "third", ADDRESS, SOURCE))
    assert same.value.where == {"input": "model, source", "image": "third"}


def test_an_address_that_fails_is_that_of_its_platform(tmp_path):
    with pytest.raises(Unreachable) as error:
        Place(tmp_path, {}).lock({"url": {"linux/amd64": "http://127.0.0.1:9/x"}}, platforms=(AMD64,))
    assert {name: error.value.where[name] for name in ("image", "input", "platform")} == {
        "image": "web", "input": "app", "platform": "linux/amd64"}


def test_where_the_network_is_away_no_further_input_waits_for_it(tmp_path):
    made = locker(tmp_path)
    made.resolvers["url"] = made.resolvers["git"] = away = Broken(Unreachable("no answer"))  # type: ignore[assignment]
    with pytest.raises(Unreachable):
        made.lock(recipe(tmp_path / "app", ADDRESS, SOURCE))
    assert away.asked == 1


def test_what_is_wrong_with_an_index_is_told_for_all_platforms_and_each_image_by_its_own_name(tmp_path):
    made = locker(tmp_path)
    known: dict[tuple[tuple[str, ...], Platform], Index | FarmError] = {}
    debian = Debian(tmp_path / "apt", made.origins)
    debian._ready = known
    for platform in (AMD64, ARM64):
        known[("trixie",), platform] = FarmError(f"no index for {platform}", hint="wait", platform=platform)
    made.resolvers["debian"].debian = debian  # type: ignore[attr-defined]
    for name in ("first", "second"):
        with pytest.raises(FarmError, match="no index for linux/amd64\nno index for linux/arm64") as error:
            made.lock(recipe(tmp_path / name, ROOTFS, replace(SEED, build=False)))
        assert error.value.where == {"platform": "linux/amd64, linux/arm64", "input": "rootfs, seed", "image": name}
        assert error.value.hint == "wait"


def test_a_wrapper_that_is_no_text_is_no_reason_to_fail(tmp_path):
    image = recipe(tmp_path / "debian", ROOTFS)
    (tmp_path / "debian/go/app").mkdir(parents=True)
    (tmp_path / "debian/go/app/tools.go").write_bytes(b"\xff")
    (tmp_path / "debian/lock.jsonl").write_bytes(b"\xff")
    assert locker(tmp_path).lock(image).changed


def test_wrong_names_and_expressions_are_refused_together(tmp_path):
    with pytest.raises(BadInput) as error:
        choose(catalog(tmp_path), ["debain", "x"], "[?")
    assert len(error.value.problems) == 3
    assert "debian" in error.value.problems[0]


IMAGE = {"name": "debian", "new": False, "lines": 2, "moved": ["a 1 -> 2 (linux/amd64)"], "left_out": {}, "older": {}}


def test_a_diff_lists_what_moved():
    assert difference(IMAGE) == "debian:\n  a 1 -> 2 (linux/amd64)\n"
    assert difference({**IMAGE, "new": True}) == "debian: 2 files, locked for the first time\n"


def test_missing_security_updates_are_said_once_for_all_images():
    lacking = {"left_out": {"linux/386": ["trixie-security"], "linux/arm/v6": ["trixie-security"]}, "older": {}}
    said = warnings([{**IMAGE, **lacking}, {**IMAGE, **lacking, "name": "base"}])
    assert len(said) == 1
    assert all(word in said[0] for word in ("trixie-security", "no security updates", "base, debian",
                                            "linux/386, linux/arm/v6"))


def test_locks_of_the_catalog_are_in_their_one_form():
    for path in sorted((Path(__file__).resolve().parents[2] / "images").glob("*/lock.jsonl")):
        text = path.read_text(encoding="utf-8")
        found = lockfile.parse(text, path.name)
        assert lockfile.dump(replace(found)) == text, path


def test_check_mode_works_in_the_state_folder_only_where_that_is_this_users_already(tmp_path):
    state = tmp_path / "state"
    with workplace(state, check=True) as place:
        assert place != state
    assert not place.exists() and not state.exists()
    for name in ("lock", "store"):
        (state / name).mkdir(parents=True)
    with workplace(state, check=True) as place:
        assert place == state
    with workplace(tmp_path / "other", check=False) as place:
        assert place == tmp_path / "other"


@pytest.mark.parametrize(
    ("path", "said"),
    [("pool/../../a_1_all.deb", "is not a valid path of a .deb"), ("/etc/a_1_all.deb", "is not a valid path of a .deb"),
     ("pool/b/same_1_all.deb", "is already on line 2")],
)
def test_what_no_lock_can_name_is_refused_before_it_is_one(tmp_path, path, said):
    made = locker(tmp_path)
    packages = [Package("0" * 64, 1, dict(deb("aa", path="pool/a/same_1_all.deb").fact)),
                Package("1" * 64, 1, dict(deb("bb", path=path).fact))]
    made.resolvers["debian"].debian.closure = lambda *arguments: packages  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match=said):
        made.lock(recipe(tmp_path / "debian", SEED))


def test_what_several_images_cannot_be_locked_for_is_said_once() -> None:
    def mixed(image: str) -> FarmError:
        return FarmError("apt cannot use the indexes of armel", hint="try later", platform="linux/arm/v6", image=image)

    assert failed({"a": mixed("a"), "b": FarmError("no such package", image="b"), "c": mixed("c")}) == (
        "a, c: apt cannot use the indexes of armel (platform: linux/arm/v6)\n  what to do: try later\n"
        "b: no such package (image: b)")
