"""The way in for Python: a program of our own, a wheel, and packages of Debian, built for two platforms on one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PROJECT, Chain, Result
from .docker_host import run
from .unpacked import NATIVE, Unpacked

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
MODULES = "usr/local/lib/python3.13/dist-packages"


@pytest.fixture(scope="module")
def built(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chain, Result]]:
    root = tmp_path_factory.mktemp("python") / "images"
    shutil.copytree(Path(__file__).parent / "python", root / "hello")
    farm = chain.farm.on(PROJECT / "images", root, farm_images=["hello"])
    for playbook in ("playbooks/lock.yml", "build.yml"):
        done = farm.run(playbook)
        assert done.rc == 0, done.text[-4000:]
    yield Chain(farm, (done, done)), done


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_a_python_program_runs_on_its_platform(built: tuple[Chain, Result], scratch: Path, platform: str) -> None:
    said = Unpacked.of(built[0], "hello", platform, scratch).run(platform, "/usr/bin/python3", "-P", "-m", "hello",
                                                                 user=2000)
    assert json.loads(said) == {"machine": MACHINES[platform], "asked": ["/"], "said": ["hello"],
                                "file": f"/{MODULES}/wsproto/__init__.py"}


def test_wheels_are_the_same_for_all_platforms_and_without_bytecode(built: tuple[Chain, Result], scratch: Path) -> None:
    trees = []
    for platform in (NATIVE, FOREIGN):
        (scratch / platform.replace("/", "-")).mkdir()
        root = Unpacked.of(built[0], "hello", platform, scratch / platform.replace("/", "-"))
        trees.append(run("sh", "-c", f"cd {root.root} && find usr/local -type f -exec sha256sum {{}} + | sort"))
        assert root.find("-name", "*.pyc") == []
        for program in ("pip", "pip3", "pip-build"):
            assert not root.find("-path", f"*/bin/{program}")
    assert trees[0] == trees[1]
    assert f"{MODULES}/wsproto-1.2.0.dist-info/RECORD" in trees[0]


def test_what_a_wheel_lacks_is_told_by_the_build(built: tuple[Chain, Result], tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "python", tmp_path / "images/lacking")
    recipe = tmp_path / "images/lacking/image.yml"
    recipe.write_text(recipe.read_text().replace(", python3-h11", "").replace(", linux/arm64", ""))
    farm = built[0].farm.on(PROJECT / "images", tmp_path / "images", farm_images=["lacking"])
    locked = farm.run("playbooks/lock.yml")
    assert locked.rc == 0, locked.text[-4000:]
    assert "lacks what it needs" in locked.text and "h11" in locked.text
    done = farm.run()
    assert done.rc != 0
    assert "wsproto 1.2.0 needs h11<1,>=0.9.0, and there is none" in done.text, done.text[-4000:]
