"""A lock with a .deb that is available nowhere: real apt on an archive made on the spot, real HTTP on loopback."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.below import over, parents_first
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.locker import Locker, write
from ansible_collections.desimages.farm.plugins.plugin_utils.lock.overlays import Overlays
from ansible_collections.desimages.farm.plugins.plugin_utils.plan import planning
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Key
from ansible_collections.desimages.farm.plugins.plugin_utils.plan.planning import Planning, Standing

from .conftest import Catalog
from .debian_archive import BASE, Archive, Package, Signer, new_signer
from .mirror import Mirror, serve

needs_apt = pytest.mark.skipif(not (shutil.which("apt-get") and shutil.which("gpg")), reason="needs apt and gpg")
OLD = BASE
NEW = tuple(Package("libc6", "2.41-13") if package.name == "libc6" else package for package in BASE)
WEB = "inputs:\n  web: {debian: [web]}\n"
TAKES_WEB = "FROM scratch\nCOPY --from=inputs /web /web\n"


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    with new_signer() as made:
        yield made


@pytest.fixture
def mirror(tmp_path: Path, signer: Signer) -> Iterator[Mirror]:
    made = Mirror(Archive(tmp_path / "debian", signer))
    made.publish(OLD)
    listener = serve(made)
    yield made
    listener.shutdown()
    listener.server_close()


@dataclass
class Farm:
    """A catalog that is locked, and what a run plans with. `built` are the ids that the registry has."""

    catalog: Catalog
    mirror: Mirror
    state: Path
    keyring: str
    built: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "catalog": [str(self.catalog.root)], "state": str(self.state), "engine": "sha256:e",
            "namespace": "desimages", "keyring": self.keyring,
            "origins": {"debian": [self.mirror.url]}, "relock_missing": True, "allow_missing_suites": False,
        }

    def lock(self) -> None:
        """`make lock`."""
        locker = Locker(Origins({"debian": [self.mirror.url]}, here=Machine()), self.state.with_name("locker"),
                        keyring=self.keyring)
        recipes = load_catalog([str(self.catalog.root)], need_locks=False)
        locks = {name: recipe.lock for name, recipe in recipes.items()}
        for recipe in parents_first(recipes, list(recipes.values())):
            locked = locker.lock(over(recipes, locks, recipe))
            write(locked)
            locks[recipe.name] = locked.lock

    def plan(self, check: bool = False, **changed: Any) -> tuple[Planning, Standing]:
        arguments = {**self.arguments, **changed}
        self.mirror.requests.clear()
        self.said, self.warned = [], []

        def look(plan: Any) -> Standing:
            existing = {key: "sha256:d" for key, unit in plan.units.items() if unit.id in self.built}
            return Standing(existing, [key for key in plan.units if key not in existing])

        return planning.settle(planning.load(arguments), look, AMD64, arguments, registry=None, check=check,
                               say=self.said.append, warn=self.warned.append)

    def build(self) -> None:
        found, _said = self.plan()
        self.built |= {unit.id for unit in found.plan.units.values()}

    def tree(self) -> dict[str, str]:
        return {str(path): path.read_text() for path in sorted(self.catalog.root.rglob("*")) if path.is_file()}

    def kept(self) -> list[str]:
        """All files below the state folder."""
        return sorted(str(path.relative_to(self.state)) for path in self.state.rglob("*")
                      if path.is_file()) if self.state.exists() else []


@pytest.fixture
def farm(empty: Catalog, mirror: Mirror, tmp_path: Path, signer: Signer) -> Farm:
    """app <- child, both with packages of their own; the lock is that of the old archive."""
    empty.image("app", TAKES_WEB, WEB)
    empty.image("child", "FROM app\nCOPY --from=inputs /tz /tz\n", "inputs:\n  tz: {debian: [tzdata]}\n")
    made = Farm(empty, mirror, tmp_path / "state", str(signer.keyring))
    made.lock()
    return made


MOVED = "libc6 2.41-12 -> 2.41-13 (linux/amd64, linux/arm64)"


@needs_apt
def test_a_lock_whose_packages_are_there_is_left_alone(farm):
    found, standing = farm.plan()
    assert (found.overlays, len(standing.todo), farm.kept()) == ({}, 4, [])
    assert all(request.startswith("HEAD /pool/") for request in farm.mirror.requests)


@needs_apt
def test_where_a_package_is_nowhere_its_image_alone_is_resolved_again_for_all_platforms(farm):
    before = farm.tree()
    old = planning.load(farm.arguments).plan
    farm.mirror.publish(NEW)
    found, standing = farm.plan()
    assert set(found.overlays) == {"app"}
    assert found.overlays["app"].moved[0] == MOVED
    assert found.overlays["app"].missing == ("libc6 2.41-12 amd64", "libc6 2.41-12 arm64")
    assert {entry.fact["version"] for entry in found.plan.recipes["app"].lock.entries
            if entry.fact["name"] == "libc6"} == {"2.41-13"}
    assert all(found.plan.units[key].id != old.units[key].id for key in old.units)  # child's too: it descends from app
    assert len(standing.todo) == 4
    assert farm.tree() == before
    assert any("app: no origin has libc6 2.41-12 amd64" in line for line in farm.said)


@needs_apt
def test_the_second_run_uses_what_was_resolved_and_asks_nothing(farm):
    farm.mirror.publish(NEW)
    farm.build()
    found, standing = farm.plan()
    assert (standing.todo, farm.mirror.requests, farm.said) == ([], [], [])
    assert found.overlays["app"].moved[0] == MOVED


@needs_apt
def test_units_that_exist_need_no_probe(farm):
    farm.build()
    farm.mirror.publish(NEW)
    found, standing = farm.plan()
    assert (found.overlays, standing.todo, farm.mirror.requests) == ({}, [], [])


@needs_apt
def test_a_child_that_existed_is_probed_when_its_parent_is_relocked(farm):
    farm.build()
    farm.catalog.write("app/image.yml", (farm.catalog.root / "app/image.yml").read_text().replace("MIT", "ISC"))
    farm.mirror.publish((*[package for package in NEW if package.name != "tzdata"],
                         Package("tzdata", "2026b-1", architecture="all")))
    found, _said = farm.plan()
    assert set(found.overlays) == {"app", "child"}


@needs_apt
def test_check_mode_finds_the_same_and_writes_nothing(farm, temporary):
    farm.mirror.publish(NEW)
    checked, _said = farm.plan(check=True)
    assert farm.kept() == []
    assert list(temporary.iterdir()) == []
    real, _said = farm.plan()
    assert {key: unit.id for key, unit in checked.plan.units.items()} == {key: unit.id
                                                                          for key, unit in real.plan.units.items()}
    assert "relocked/app/lock.jsonl" in farm.kept()
    assert farm.plan(check=True)[0].overlays.keys() == {"app"}
    assert not any("dists" in request for request in farm.mirror.requests)  # what is kept is used, not resolved again


@needs_apt
def test_a_new_lock_in_the_tree_ends_the_overlay(farm):
    farm.mirror.publish(NEW)
    farm.plan()
    farm.lock()
    assert planning.load(farm.arguments).overlays == {}
    assert farm.plan(check=True)[0].overlays == {}
    assert "relocked/app/lock.jsonl" in farm.kept()  # check mode writes nothing, and removes nothing
    assert farm.plan()[0].overlays == {}
    assert not (farm.state / "relocked" / "app").exists()
    assert any("app: its lock in the tree has changed" in line for line in farm.said)


@needs_apt
def test_an_overlay_that_lost_a_file_too_is_made_again(farm):
    farm.mirror.publish(NEW)
    farm.plan()
    farm.mirror.publish(tuple(Package("libc6", "2.41-14") if package.name == "libc6" else package for package in BASE))
    found, _said = farm.plan()
    assert found.overlays["app"].moved[0] == MOVED.replace("-13", "-14")
    assert planning.load(farm.arguments).overlays == found.overlays


@needs_apt
def test_a_damaged_overlay_is_none(farm):
    farm.mirror.publish(NEW)
    found, _said = farm.plan()
    path = farm.state / "relocked" / "app" / "lock.jsonl"
    path.write_text(path.read_text() + "{")
    assert planning.load(farm.arguments).overlays == {}
    assert farm.plan()[0].overlays == found.overlays


@needs_apt
def test_another_hash_is_not_missing(farm):
    for path in (farm.catalog.root / "app").glob("lock.jsonl"):
        text = path.read_text()
        sha = next(entry.sha256 for entry in lockfile.parse(text, "x").entries if entry.fact["name"] == "libc6")
        path.write_text(text.replace(sha, "0" * 64))
    found, _said = farm.plan()
    assert (found.overlays, farm.warned) == ({}, [])


@needs_apt
@pytest.mark.parametrize("how", ["refuses", "500"])
def test_an_origin_that_does_not_answer_is_no_reason(farm, how):
    farm.mirror.publish(NEW)
    origins: dict[str, Any] = {"debian": [farm.mirror.url]}
    farm.mirror.deaf = how == "500"
    if how == "refuses":  # one origin has it not, the other one is away
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            origins["debian"].append(f"http://127.0.0.1:{free.getsockname()[1]}")
    found, _said = farm.plan(origins=origins)
    assert (found.overlays, farm.kept()) == ({}, [])


@needs_apt
def test_an_image_that_cannot_be_resolved_keeps_its_lock_and_holds_nothing_up(farm):
    farm.mirror.publish(NEW)
    (farm.mirror.archive.root / "dists/trixie/InRelease").write_text("forged")
    found, standing = farm.plan()
    assert (found.overlays, len(standing.todo)) == ({}, 4)
    assert len(farm.warned) == 1
    assert "app cannot be resolved again (no origin has libc6 2.41-12 amd64" in farm.warned[0]


@needs_apt
def test_a_mirror_whose_index_names_what_it_has_not_is_said_to(farm):
    shutil.rmtree(farm.mirror.archive.root / "pool/main/l")
    found, _said = farm.plan()
    assert found.overlays == {}
    assert "its origins still name libc6 2.41-12 amd64" in farm.warned[0]


@needs_apt
def test_no_lock_names_a_package_that_the_mirror_does_not_serve(farm):
    """As it is while a mirror is updated."""
    before = farm.tree()
    farm.mirror.publish(NEW)
    (farm.mirror.archive.root / "pool/main/l/libc6/libc6_2.41-13_arm64.deb").unlink()
    with pytest.raises(FarmError, match="index of the origin names libc6 2.41-13 arm64, but no origin that answers"):
        farm.lock()
    assert farm.tree() == before


@needs_apt
def test_where_it_is_not_allowed_nothing_is_asked_and_no_overlay_used(farm):
    farm.mirror.publish(NEW)
    farm.plan()
    found, _said = farm.plan(relock_missing=False)
    assert (found.overlays, farm.mirror.requests) == ({}, [])


@needs_apt
def test_only_images_that_were_chosen_or_descended_from_are_told(farm):
    farm.mirror.publish(NEW)
    farm.catalog.image("other", "FROM scratch\nCOPY . /a\n")
    farm.catalog.write("other/a", "a")
    found, _said = farm.plan()
    assert set(found.relocked([Key("child", "", ARM64)], AMD64)) == {"app"}
    assert found.relocked([Key("other", "", ARM64)], AMD64) == {}


# --- looking for files ------------------------------------------------------------------------------------------------


def test_a_half_written_overlay_does_not_hold(tmp_path, empty):
    empty.image("app", "FROM scratch\n")
    recipe = load_catalog([str(empty.root)])["app"]
    (tmp_path / "relocked/app").mkdir(parents=True)
    (tmp_path / "relocked/app/lock.jsonl").write_text('{"lock":2}\n')
    assert Overlays(tmp_path).read(recipe) is None
