"""`playbooks/outdated.yml` and `farm_upgrade`, with a proxy of Go modules made on the spot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..unit.test_lock_go import module, publish
from .conftest import REGISTRY, Farm

RECIPE = """description: web
home: https://example.org
license: MIT
platforms: [linux/amd64, linux/arm64]
suites: [trixie]
inputs:    # comments stay
  web: {go: example.com/web, version: v1.0.0}    # also here
  gone: {go: example.com/gone, version: v1.0.0}
"""


@dataclass
class Site:
    """A catalog of one image, and the proxy that it is locked from."""

    farm: Farm
    proxy: Path
    folder: Path

    @property
    def texts(self) -> tuple[str, bytes]:
        return (self.folder / "image.yml").read_text(), (self.folder / "lock.jsonl").read_bytes()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """No farm is needed for this, only a state folder."""
    farm = Farm(tmp_path, place={"farm_state": str(tmp_path / "state"), "farm_registry": REGISTRY})
    monkeypatch.setenv("GOSUMDB", "off")
    proxy, folder = tmp_path / "proxy", tmp_path / "images/web"
    publish(proxy, "example.com/lib", "v1.0.0", {"lib.go": "package lib\n"})
    _web(proxy, "v1.0.0")
    publish(proxy, "example.com/gone", "v1.0.0", {"main.go": "package main\n\nfunc main() {}\n"})
    folder.mkdir(parents=True)
    (folder / "image.yml").write_text(RECIPE)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY --from=inputs /web/ /gone/ /\n")
    site = Site(farm.on(folder.parent, farm_origins={"go": f"file://{proxy}"}), proxy, folder)
    assert site.farm.run("playbooks/lock.yml").rc == 0
    return site


def _web(proxy: Path, version: str, needs: str = "v1.0.0") -> None:
    publish(proxy, "example.com/web", version, {
        "go.mod": module("example.com/web", f"example.com/lib {needs}"),
        "main.go": 'package main\n\nimport _ "example.com/lib"\n\nfunc main() {}\n'})


def test_what_is_newer_or_was_withdrawn_is_told_and_one_failure_hides_nothing(site: Site, tmp_path: Path) -> None:
    _web(site.proxy, "v1.1.0")
    publish(site.proxy, "example.com/lib", "v1.0.1",
            {"go.mod": module("example.com/lib") + "// it leaks\nretract v1.0.0\n"})
    for path in (site.proxy / "example.com/gone/@v").iterdir():
        path.unlink()
    before, file = site.texts, tmp_path / "outdated.json"
    done = site.farm.run("playbooks/outdated.yml", farm_outdated_json=str(file))
    told = json.loads(file.read_text())
    assert {(one["name"], one["locked"], one["newest"], one["outdated"], one["withdrawn"])
            for one in told["versions"]} == {
        ("example.com/web", "v1.0.0", "v1.1.0", True, ""),
        ("example.com/lib", "v1.0.0", "v1.0.1", True, "retracted: it leaks")}
    assert [(one["image"], one["input"]) for one in told["failures"]] == [("web", "gone")]
    assert done.rc != 0, "an input could not be asked about"
    assert "example.com/gone" in done.text and "retracted: it leaks" in done.text
    assert site.texts == before


def test_a_version_is_moved_and_locked_and_check_mode_says_so_beforehand(site: Site) -> None:
    _web(site.proxy, "v1.1.0")
    recipe, lock = site.texts
    wanted = recipe.replace("example.com/web, version: v1.0.0", "example.com/web, version: v1.1.0")
    check = site.farm.run("playbooks/lock.yml", "--check", "--diff", farm_upgrade="web")
    assert (check.rc, check.changed, site.texts) == (0, 1, (recipe, lock))
    assert "+  web: {go: example.com/web, version: v1.1.0}    # also here" in check.text
    done = site.farm.run("playbooks/lock.yml", farm_upgrade="web")
    assert (done.rc, done.changed, site.texts[0]) == (0, 1, wanted)
    assert b"v1.1.0" in site.texts[1]
    again = site.farm.run("playbooks/lock.yml", farm_upgrade="web.web")
    assert (again.rc, again.changed) == (0, 0)


def test_a_version_that_cannot_be_locked_moves_nothing(site: Site) -> None:
    _web(site.proxy, "v1.1.0", needs="v9.9.9")
    before = site.texts
    done = site.farm.run("playbooks/lock.yml", farm_upgrade="web")
    assert (done.rc != 0, done.changed, site.texts) == (True, 0, before)
    assert "v9.9.9" in done.text
