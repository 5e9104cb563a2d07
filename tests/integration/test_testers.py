"""Several testers share images, and a build moves no tag of an image that breaks its contract."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from . import bad_images
from .conftest import PROJECT, STATE, Farm, Result
from .docker_host import run, until
from .unpacked import NATIVE

FOLDERS = {"first": f"{STATE}-a", "second": f"{STATE}-b"}  # short: a unix socket's path holds 107 bytes
SOME = ("kept", "kept-too", "kept-three", "kept-four")


def catalog(root: Path, *names: str) -> None:
    for name in names:
        bad_images.image(root / name, bad_images.Bad(name), NATIVE)


@pytest.fixture(scope="module")
def four(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Farm:
    """Four images that keep their contracts, built. Their parents are there if the chain is."""
    folder = tmp_path_factory.mktemp("four")
    catalog(folder / "images", *SOME)
    own = farm.on(PROJECT / "images", folder / "images", farm_images=list(SOME), farm_platforms=[NATIVE])
    built = own.run()
    assert built.rc == 0, built.text[-4000:]
    return own


@pytest.fixture(scope="module")
def testers(four: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """The same farm with two testers, each with an engine of its own, and one that cannot be reached."""
    folder = tmp_path_factory.mktemp("inventory")
    known = yaml.safe_load((PROJECT / "inventory/local/hosts.yml").read_text())
    here = known["all"]["hosts"]["localhost"]
    known["testers"]["hosts"] = dict.fromkeys((*FOLDERS, "away"))
    known["all"]["hosts"] |= {name: {**here, "farm_state": state} for name, state in FOLDERS.items()}
    known["all"]["hosts"]["away"] = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    known["all"]["vars"] = {"farm_controller_state": str(STATE)}
    (folder / "hosts.yml").write_text(yaml.safe_dump(known))
    shutil.copytree(PROJECT / "inventory/local/group_vars", folder / "group_vars")
    place = {name: value for name, value in four.place.items() if name != "farm_state"}
    known["all"]["hosts"]["localhost"]["farm_state"] = str(STATE)
    (folder / "hosts.yml").write_text(yaml.safe_dump(known))
    made = replace(four, inventory=folder, place=place)
    yield made
    cleaned = made.run("playbooks/clean.yml", "--limit first,second")
    assert cleaned.rc == 0, cleaned.text[-4000:]


def verify(farm: Farm, folder: Path, *arguments: str, **variables: Any) -> tuple[Result, dict[str, dict[str, Any]]]:
    file = folder / "verdict.json"
    done = farm.run("playbooks/verify.yml", *arguments, farm_verify_json=str(file), **variables)
    return done, {one["unit"].partition(" ")[0]: one for one in json.loads(file.read_text())["images"]}


def engine(state: str) -> docker.DockerClient:
    return docker.DockerClient(base_url=f"unix://{state}/tester/docker.sock")


def runs_there(state: str) -> bool:
    try:
        return bool(engine(state).containers.list())
    except (docker.errors.DockerException, OSError):
        return False


def kill_engine(state: str) -> None:
    """Kills an engine while it runs containers, as the kernel does if memory is short. It is not started again."""
    service = f"{state}/services/dockerd"
    theirs = [one.attrs["State"]["Pid"] for one in engine(state).containers.list()]
    run("sv", "once", service)
    run("kill", "-KILL", Path(service, "supervise/pid").read_text().strip())
    until("its containers end with it", 60, lambda: not any(Path(f"/proc/{pid}").exists() for pid in theirs))


def test_testers_share_the_images_and_one_that_is_away_is_named(testers: Farm, tmp_path: Path) -> None:
    done, images = verify(testers, tmp_path)
    assert done.rc == 0, done.text[-4000:]
    assert {name: one["kept"] for name, one in images.items()} == dict.fromkeys(SOME, True)
    assert {one["tester"] for one in images.values()} == set(FOLDERS)
    assert "the tester away is lost: " in " ".join(done.text.split())


@pytest.mark.faults
@pytest.mark.full
def test_what_a_tester_ran_when_its_engine_ended_is_run_by_another(testers: Farm, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(verify, testers, tmp_path)
        until("an image runs on the first", 300, lambda: going.done() or runs_there(FOLDERS["first"]))
        assert not going.done(), going.result()[0].text[-4000:]
        kill_engine(FOLDERS["first"])
        done, images = going.result()
    assert done.rc == 0, done.text[-4000:]
    assert {name: one["kept"] for name, one in images.items()} == dict.fromkeys(SOME, True)
    said = " ".join(done.text.split())
    assert "first is lost: the engine at" in said and "does not answer" in said


@pytest.mark.faults
def test_images_that_no_tester_is_left_for_are_an_error(testers: Farm, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(verify, testers, tmp_path, "--limit localhost,first")
        until("an image runs", 300, lambda: going.done() or runs_there(FOLDERS["first"]))
        assert not going.done(), going.result()[0].text[-4000:]
        run("sv", "-w", "60", "force-stop", f"{FOLDERS['first']}/services/dockerd")
        done, images = going.result()
    assert done.rc == 2, done.text[-4000:]
    unrun = [one for one in images.values() if not one["kept"]]
    assert unrun and all("it was not run, and no tester that is left runs it" in one["error"] for one in unrun)
    assert "second is lost: it takes no part in this run" in unrun[0]["error"]


@pytest.mark.full
def test_a_foreign_platform_is_emulated_only_where_the_inventory_allows_it(farm: Farm, tmp_path: Path) -> None:
    foreign = "linux/s390x"
    catalog(tmp_path / "images", "kept")
    recipe = tmp_path / "images/kept/image.yml"
    recipe.write_text(recipe.read_text().replace(NATIVE, foreign))
    own = farm.on(PROJECT / "images", tmp_path / "images", farm_images=["kept"], farm_platforms=[foreign],
                  farm_namespace="foreign")
    built = own.run()
    assert built.rc == 0, built.text[-4000:]
    done, images = verify(own, tmp_path)
    assert done.rc == 0, done.text[-4000:]
    assert (images["kept"]["ran_by"], images["kept"]["emulator"]) == ("not", "")
    done, images = verify(own, tmp_path, farm_emulation={foreign: "allowed"})
    assert done.rc == 0, done.text[-4000:]
    assert images["kept"]["ran_by"] == "emulated"
    assert images["kept"]["emulator"].startswith("qemu-s390x ")


def test_a_build_moves_the_tags_of_an_image_only_if_it_keeps_its_contract(farm: Farm, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    catalog(folder, "whole", "spoilt")
    own = farm.on(PROJECT / "images", folder, farm_images=["whole", "spoilt"], farm_platforms=[NATIVE],
                  farm_namespace="desimages", farm_verify="before_tag")
    first = own.run()
    assert first.rc == 0, first.text[-4000:]
    kept = own.index("spoilt")
    again = own.run()
    assert (again.rc, again.changed, again.task("Trials | Run")) == (0, 0, {}), again.text[-4000:]

    for name, more in (("whole", ""), ("spoilt", "$SIG{TERM} = 'IGNORE';")):  # both change, one does not end any more
        text = (folder / name / "serve.pl").read_text()
        (folder / name / "serve.pl").write_text(text.replace('print "listening', f'{more}print "it is listening'))
    broken = own.run()
    assert broken.rc == 2, broken.text[-4000:]
    said = broken.task("Index")
    assert "the tags of spoilt stay where they are" in said["msg"] and "by hand: docker run" in said["msg"]
    assert "stops: it did not end within 10 s of SIGTERM" in said["msg"]
    assert {name.partition(":")[0] for name in said["moved"]} == {"desimages/whole"}
    assert own.index("spoilt") == kept
    assert broken.built == {f"{name} {NATIVE}" for name in ("whole", "spoilt")}
    summary = json.loads((STATE / "runs/latest/summary.json").read_text())
    assert list(summary["held"]) == ["spoilt"]

    third = own.run()  # it is there, and is tried again
    assert third.rc == 2 and third.built == set(), third.text[-4000:]
    assert own.index("spoilt") == kept
    moved = own.run(farm_verify="never")
    assert moved.rc == 0 and own.index("spoilt") != kept, moved.text[-4000:]
