"""`playbooks/lock.yml` and what locks defend against, with an archive signed by a key made on the spot, and with the
project's own locks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from ..unit.debian_archive import BASE, NOW, Archive, Package, Signer, new_signer
from .conftest import STATE, Chain, Farm

RECIPE = """description: web
home: https://example.org
license: MIT
platforms: [linux/amd64, linux/arm64]
suites: [trixie, trixie-security]
inputs:
  web: {debian: [web]}
"""
FIX = Package("libc6", "2.41-12+deb13u1")


@dataclass
class Site:
    """A catalog of one image, the archives that it is locked from, and a farm that knows only these."""

    farm: Farm
    main: Archive
    security: Archive
    lock: Path


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    with new_signer() as made:
        yield made


@pytest.fixture
def site(farm: Farm, signer: Signer, tmp_path: Path) -> Site:
    main, security = Archive(tmp_path / "debian", signer), Archive(tmp_path / "debian-security", signer)
    main.suite("trixie", BASE, name="stable", valid=None, date=NOW - timedelta(days=2))
    security.suite("trixie-security", (FIX,), name="stable-security", date=NOW - timedelta(days=1))
    folder = tmp_path / "images/web"
    folder.mkdir(parents=True)
    (folder / "image.yml").write_text(RECIPE)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY --from=inputs /web/ /web/\n")
    origins = {"debian": [main.url], "debian-security": [security.url]}
    return Site(farm.on(folder.parent, farm_origins=origins, farm_keyring=str(signer.keyring)), main, security,
                folder / "lock.jsonl")


def test_check_mode_shows_what_would_move_and_writes_nothing(site: Site) -> None:
    assert site.farm.run("playbooks/lock.yml", "--check").changed == 1
    assert not site.lock.exists()
    assert site.farm.run("playbooks/lock.yml").rc == 0
    before = site.lock.read_bytes()
    again = site.farm.run("playbooks/lock.yml")
    assert (again.rc, again.changed, site.lock.read_bytes()) == (0, 0, before)

    site.security.suite("trixie-security", (Package("libc6", "2.41-12+deb13u2"),), name="stable-security", date=NOW)
    check = site.farm.run("playbooks/lock.yml", "--check", "--diff")
    assert (check.rc, check.changed) == (0, 1)
    assert "libc6 2.41-12+deb13u1 -> 2.41-12+deb13u2" in check.text
    assert site.lock.read_bytes() == before
    assert site.farm.run("playbooks/lock.yml").changed == 1
    assert "2.41-12+deb13u2" in site.lock.read_text()


@pytest.mark.parametrize("wrong", ["tampered", "expired", "another key"])
def test_an_inrelease_that_cannot_be_trusted_is_refused(site: Site, wrong: str) -> None:
    assert site.farm.run("playbooks/lock.yml").rc == 0
    before = site.lock.read_bytes()
    if wrong == "tampered":
        path = site.main.root / "dists/trixie/InRelease"
        path.write_text(path.read_text().replace("Label: Debian", "Label: Debiab"))
    elif wrong == "expired":
        site.security.suite("trixie-security", (FIX,), name="stable-security", date=NOW - timedelta(days=9))
    else:
        del site.farm.defaults["farm_keyring"]  # Debian's own does not know this archive
    done = site.farm.run("playbooks/lock.yml", farm_allow_missing_suites=True)
    assert done.rc != 0
    assert ("is expired" if wrong == "expired" else "this origin does not serve Debian") in done.text
    assert site.lock.read_bytes() == before


@pytest.mark.parametrize("file", ["zip", "mod"])
def test_a_flipped_digit_in_a_go_line_stops_an_image_that_is_built_already(chain: Chain, copy: Path, file: str) -> None:
    lock = copy / "registry/lock.jsonl"
    lines = lock.read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if json.loads(line).get("file") == file)
    right = json.loads(lines[number])["sha256"]
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    lock.write_text("\n".join([*lines[:number], lines[number].replace(right, wrong), *lines[number + 1:]]) + "\n")
    chosen = {"farm_images": ["registry"], "farm_platforms": ["linux/amd64"]}
    done = chain.farm.on(copy).run(**chosen)
    assert done.rc != 0
    assert {unit: state for unit, state in done.states().items()
            if state != "exists"} == {"registry linux/amd64": "input failed"}
    assert right in done.text and wrong in done.text
    assert not (STATE / "store/sha256" / wrong[:2] / wrong).exists()
    assert chain.farm.run("build.yml", "--check", **chosen).planned == set()
