"""What a recipe cannot get past BuildKit itself. The farm's own check of a Dockerfile comes before, and is gone round
here."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import REGISTRY, Farm, client


@dataclass(frozen=True)
class LaidOut:
    """A unit of `other` as the by-hand build lays it out; its command and policy are the farm's, its Dockerfile is any.
    `image` has the `digest`."""

    folder: Path
    dockerfile: Path
    image: str
    digest: str

    def build(self, dockerfile: str) -> tuple[int, str]:
        self.dockerfile.write_text(dockerfile.format(image=self.image, digest=self.digest))
        done = subprocess.run(client(self.folder, str(self.folder / "buildctl.sh")), capture_output=True, text=True,
                              timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def laid_out(farm: Farm, locked: Path, tmp_path_factory: pytest.TempPathFactory) -> LaidOut:
    own = farm.on(locked, farm_namespace=f"hermetic-{os.getpid()}")
    assert own.run(farm_images=["other"]).rc == 0
    to = tmp_path_factory.mktemp("hand")
    done = own.run("playbooks/context.yml", image="other", to=str(to), farm_platforms=["linux/amd64"])
    assert done.rc == 0, done.text[-3000:]
    folder = to / "other-amd64"
    (dockerfile,) = folder.glob("*/Dockerfile")
    return LaidOut(folder, dockerfile, f"{REGISTRY}/{own.defaults['farm_namespace']}/other",
                   own.index("other")["linux/amd64"])


@pytest.mark.parametrize("dockerfile", ["FROM scratch\nCOPY other.txt /\n",
                                        "FROM {image}@{digest}\nCOPY other.txt /again\n"])
def test_contexts_and_the_farms_own_images_by_digest_can_be_built_from(laid_out: LaidOut, dockerfile: str) -> None:
    code, said = laid_out.build(dockerfile)
    assert code == 0, said


@pytest.mark.parametrize(
    ("dockerfile", "source"),
    [
        ("FROM alpine\n", "docker-image://docker.io/library/alpine:latest"),
        ("FROM {image}:latest\n", "docker-image://{image}:latest"),
        ("FROM scratch\nCOPY --from={image}:latest /other.txt /\n", "docker-image://{image}:latest"),
        ("FROM scratch\nADD https://127.0.0.1:9/x /x\n", "https://127.0.0.1:9/x"),
        ("FROM scratch\nADD https://127.0.0.1:9/x.git /x\n", "git://127.0.0.1:9/x.git"),
    ],
)
def test_any_other_source_is_denied_before_it_is_asked_for(laid_out: LaidOut, dockerfile: str, source: str) -> None:
    code, said = laid_out.build(dockerfile)
    assert code != 0
    assert f'source "{source.format(image=laid_out.image)}" denied by policy' in said


def test_a_frontend_is_not_loaded_from_outside(laid_out: LaidOut) -> None:
    code, said = laid_out.build("# syntax=docker/dockerfile:1\nFROM scratch\nCOPY other.txt /\n")
    assert code != 0
    assert "invalid frontend: gateway.v0" in said
