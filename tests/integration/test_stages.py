"""Stages named by automatic platform arguments, Docker's own idiom: what counts for a unit, and what comes out."""

from __future__ import annotations

from pathlib import Path

from .conftest import Chain, Farm, Result
from .small import RECIPE, SHELL, Small, units
from .unpacked import Unpacked

TWO = ("linux/amd64", "linux/arm64")
MANY = """FROM scratch AS x
FROM x AS xamd64
COPY --from=box /motd /v1
FROM x AS xarm64
COPY --from=child /child.txt /v1
COPY --from=unpacked-busybox /usr/bin/busybox /busybox
FROM x$TARGETARCH AS go
COPY common /common
"""
LEAF = """FROM box AS leaf
FROM child AS leafv6
COPY common /more
FROM leaf${TARGETVARIANT}
COPY common /common
"""


def files(own: Farm, done: Result, image: str, platform: str, folder: Path) -> set[str]:
    """The paths of an image's files."""
    chain = Chain(own, (done, done), namespace=own.defaults["farm_namespace"])
    folder.mkdir()
    return set(Unpacked.of(chain, image, platform, folder).find("-type", "f", "-printf", "%P\n"))


def test_a_stage_of_one_platform_is_built_again_when_it_changes(own: Farm, small: Small, scratch: Path) -> None:
    small.write("many/image.yml", "description: many\nlicense: MIT\ntargets: [go]\n" + SHELL)
    small.write("many/lock.jsonl", (small.root / "box/lock.jsonl").read_text())
    small.write("many/Dockerfile", MANY)
    small.write("many/common", "common\n")
    small.write("user/image.yml", RECIPE.format(name="user").replace(", linux/arm/v6", ""))
    small.write("user/Dockerfile", "FROM many-go\nCOPY own /own\n")
    small.write("user/own", "own\n")
    check = own.run("build.yml", "--check", farm_images=["user"], farm_platforms=list(TWO))
    parents = units("box", platforms=TWO) | {"child linux/arm64"}
    assert check.planned == parents | units("many-go", "user", platforms=TWO), "each of the two has a parent of its own"
    assert own.run(farm_images=["child"], farm_platforms=list(TWO)).rc == 0  # so that both can start at once
    first = own.run(farm_images=["user"], farm_platforms=list(TWO))
    assert first.rc == 0, first.text[-3000:]
    assert first.built == units("many-go", "user", platforms=TWO)
    assert "many-go amd64, arm64: built" in first.text, "both were one solve"
    assert files(own, first, "user", "linux/amd64", scratch / "amd64") == {"v1", "common", "own"}
    assert files(own, first, "user", "linux/arm64", scratch / "arm64") == {"v1", "common", "own", "busybox"}
    before = own.index("user")

    small.edit("many/Dockerfile", "/child.txt /v1", "/child.txt /v2")
    check = own.run("build.yml", "--check", farm_images=["user"], farm_platforms=list(TWO))
    again = own.run(farm_images=["user"], farm_platforms=list(TWO))
    assert again.built == check.planned == units("many-go", "user", platforms=("linux/arm64",)), again.text[-3000:]
    assert files(own, again, "user", "linux/arm64", scratch / "changed") == {"v2", "common", "own", "busybox"}
    assert own.index("user")["linux/amd64"] == before["linux/amd64"]
    assert own.run(farm_images=["user"], farm_platforms=list(TWO)).changed == 0


def test_each_platform_gets_the_parent_that_its_from_names(own: Farm, small: Small, scratch: Path) -> None:
    small.write("leaf/image.yml", RECIPE.format(name="leaf"))
    small.write("leaf/Dockerfile", LEAF)
    small.write("leaf/common", "common\n")
    done = own.run(farm_images=["leaf"])
    assert done.rc == 0, done.text[-3000:]
    assert done.built == units("box", "leaf") | {"child linux/arm/v6"}
    assert files(own, done, "leaf", "linux/arm64", scratch / "arm64") == {"motd", "platform", "common"}
    assert files(own, done, "leaf", "linux/arm/v6", scratch / "v6") == {"motd", "platform", "child.txt", "more",
                                                                        "common"}


def test_a_from_that_names_nothing_on_one_platform_is_refused_with_its_line(own: Farm, small: Small) -> None:
    small.write("leaf/image.yml", RECIPE.format(name="leaf"))
    small.write("leaf/Dockerfile", "FROM scratch AS leaf-amd64\n\nFROM leaf-${TARGETARCH#arm}\nCOPY common /\n")
    small.write("leaf/common", "common\n")
    done = own.run("build.yml", "--check")
    assert done.rc != 0
    for name, platform in (("leaf-64", "linux/arm64"), ("leaf-", "linux/arm/v6")):
        said = f"{name!r} is not an image of the catalog (FROM leaf-${{TARGETARCH#arm}} for {platform})"
        assert f"images/leaf/Dockerfile:3: {said}" in done.text
