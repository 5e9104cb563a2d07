"""A solve as words for docker buildx: each has its counterpart in those for buildctl."""

from __future__ import annotations

from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.build.byhand import buildx_words, doubled
from ansible_collections.desimages.farm.plugins.plugin_utils.build.solve import Solve

OPTIONS = {
    "platform": "linux/arm64", "filename": "Dockerfile", "force-network-mode": "none", "dockerfilekey": "c1",
    "target": "go",
    "build-arg:SOURCE_DATE_EPOCH": "7", "label:org.opencontainers.image.title": "a", "context:inputs": "local:c2",
    "context:unpacked-seed": "docker-image://r/archive@sha256:1",
    "context:debian::linux/arm64": "docker-image://r/debian@sha256:2",
    "context:debian::linux/amd64": "docker-image://r/debian@sha256:3",
    "context:static::linux/arm64": "docker-image://r/static@sha256:4",
}
SOLVE = Solve("a arm64", (ARM64,), {}, OPTIONS, {"type": "image", "name": "r/a", "annotation.x": "one, two"})


def test_a_name_that_comes_for_several_platforms_is_found() -> None:
    assert doubled(SOLVE) == {"debian": {"linux/arm64": "r/debian@sha256:2", "linux/amd64": "r/debian@sha256:3"}}
    others = {"context:a": "x", "label:b::linux/amd64": "y", "label:b::linux/arm64": "y"}
    assert doubled(Solve("a", (AMD64,), {}, others, {})) == {}


def test_all_that_decides_the_bytes_is_in_the_words() -> None:
    folders = {"c1": "/by/c1", "c2": "/by/c2", "context": "/by/context"}
    assert buildx_words(SOLVE, folders, "/by/metadata.json", {"debian": "r/debian@sha256:9"}) == [
        "build", "--platform=linux/arm64", "--network=none", "--provenance=false", "--metadata-file=/by/metadata.json",
        "--file=/by/c1/Dockerfile", "--build-arg=SOURCE_DATE_EPOCH=7", "--build-context=inputs=/by/c2",
        "--build-context=static=docker-image://r/static@sha256:4",
        "--build-context=unpacked-seed=docker-image://r/archive@sha256:1", "--label=org.opencontainers.image.title=a",
        "--target=go", "--build-context=debian=docker-image://r/debian@sha256:9",
        '--output=type=image,name=r/a,"annotation.x=one, two"', "/by/context"]


def test_what_comes_for_several_platforms_is_in_the_order_of_names() -> None:
    options = {"dockerfilekey": "c1"}
    indexes = {"b": "r/b@sha256:2", "a": "r/a@sha256:1"}
    words = buildx_words(Solve("x", (AMD64,), {}, options, {}), {"c1": "/c1", "context": "/c"}, "/m", indexes)
    assert words[-4:-2] == ["--build-context=a=docker-image://r/a@sha256:1",
                            "--build-context=b=docker-image://r/b@sha256:2"]
