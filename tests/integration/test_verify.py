"""Whether images keep their contracts: the farm's own do, and each broken promise is found by its check alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from . import bad_images
from .conftest import PROJECT, Chain, Farm, Result
from .unpacked import NATIVE

OWN = ("debian", "base", "static", "tools", "registry")
# What these break is read from the image's files, and each has its unit tests (test_findings.py): a full test has all.
READ = ("world-writable", "secret", "package-manager", "platform", "relro", "bind-now", "canary", "fortify", "stack",
        "rpath")


def verify(farm: Farm, folder: Path, **variables: Any) -> tuple[Result, dict[str, dict[str, Any]]]:
    """What playbooks/verify.yml did, and its verdict on each image."""
    file = folder / "verdict.json"
    done = farm.run("playbooks/verify.yml", farm_verify_json=str(file), farm_platforms=[NATIVE], **variables)
    images = json.loads(file.read_text())["images"] if file.exists() else []
    return done, {one["unit"].partition(" ")[0]: one for one in images}


@pytest.fixture(scope="module")
def bad(chain: Chain, tmp_path_factory: pytest.TempPathFactory,
        request: pytest.FixtureRequest) -> tuple[Result, dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("bad")
    bad_images.write(folder / "images", NATIVE)
    short = "not full" in request.config.getoption("markexpr")
    names = [f"bad-{name}" for name in bad_images.BAD if not (short and name in READ)]
    farm = chain.farm.on(PROJECT / "images", folder / "images", farm_images=["kept", *names])
    built = farm.run(farm_platforms=[NATIVE])
    assert built.rc == 0, built.text[-4000:]
    return verify(farm, folder)


def test_the_farms_own_images_keep_their_contracts(chain: Chain, tmp_path: Path) -> None:
    done, images = verify(chain.farm, tmp_path, farm_images=list(OWN))
    assert done.rc == 0, done.text[-4000:]
    assert {name: one["findings"] for name, one in images.items()} == dict.fromkeys(OWN, [])
    assert {name: one["ran_by"] for name, one in images.items()} == {**dict.fromkeys(OWN, "native"), "base": "",
                                                                     "static": ""}
    assert [one["unused"] for one in images.values() if one["unused"]] == []
    assert verify(chain.farm, tmp_path, farm_images=["tools"])[0].changed == 0


def test_an_image_that_keeps_everything_has_no_finding(bad: tuple[Result, dict[str, dict[str, Any]]]) -> None:
    assert bad[1]["kept"]["findings"] == []
    assert bad[1]["kept"]["facts"]["healthy"] < 8


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.full) if name in READ else name
                                  for name in bad_images.BAD])
def test_a_broken_promise_is_found_by_its_check_alone(bad: tuple[Result, dict[str, dict[str, Any]]],
                                                      name: str) -> None:
    findings = bad[1][f"bad-{name}"]["findings"]
    assert {finding["check"] for finding in findings} == {bad_images.BAD[name].check}, findings


def test_a_run_with_a_finding_fails_and_says_how_to_see_it(bad: tuple[Result, dict[str, dict[str, Any]]]) -> None:
    done = bad[0]
    assert done.rc != 0
    said = done.task("Fail if a contract is broken")["msg"]
    assert said.startswith(f"{len(bad[1]) - 1} of {len(bad[1])} images break their contracts:")
    assert "by hand: docker run --rm --read-only --cap-drop=ALL --security-opt=no-new-privileges" in said
