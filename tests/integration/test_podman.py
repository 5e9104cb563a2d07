"""Podman runs images for contracts as a Docker Engine does, by the socket that speaks Docker's language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from . import bad_images
from .conftest import PROJECT, Farm, Result
from .podman_host import PodmanHost
from .unpacked import NATIVE

# What runs is asked in another way of Podman (health, processes, a root that is read-only); files are read without it.
BAD = ("starts", "read-only", "capabilities", "any-user", "healthy", "unhealthy", "answers", "processes", "stops",
       "restarts", "refuses", "user")
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def podman() -> Iterator[PodmanHost]:
    made = PodmanHost.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def verdict(farm: Farm, podman: PodmanHost, tmp_path_factory: pytest.TempPathFactory
            ) -> tuple[Result, dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("podman")
    bad_images.write(folder / "images", NATIVE)
    names = ["kept", *(f"bad-{name}" for name in BAD)]
    own = farm.on(PROJECT / "images", folder / "images", farm_images=names, farm_platforms=[NATIVE],
                  farm_namespace="podman")
    built = own.run()
    assert built.rc == 0, built.text[-4000:]
    done = own.run("playbooks/verify.yml", tester_socket=podman.socket, farm_verify_json=str(folder / "verdict.json"))
    images = json.loads((folder / "verdict.json").read_text())["images"]
    return done, {one["unit"].partition(" ")[0]: one for one in images}


def test_an_image_that_keeps_its_contract_has_no_finding_under_podman(
        verdict: tuple[Result, dict[str, dict[str, Any]]]) -> None:
    assert verdict[1]["kept"]["findings"] == []
    assert verdict[1]["kept"]["ran_by"] == "native"


@pytest.mark.parametrize("check", BAD)
def test_a_broken_promise_is_found_by_its_check_alone_under_podman(
        verdict: tuple[Result, dict[str, dict[str, Any]]], check: str) -> None:
    findings = verdict[1][f"bad-{check}"]["findings"]
    assert {finding["check"] for finding in findings} == {check}, findings


def test_podman_has_nothing_of_it_afterwards(podman: PodmanHost,
                                             verdict: tuple[Result, dict[str, dict[str, Any]]]) -> None:
    assert verdict
    engine = podman.client()
    assert (engine.containers.list(all=True), engine.images.list(all=True), engine.volumes.list()) == ([], [], [])
