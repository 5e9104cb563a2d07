"""Go programs: which toolchain compiles them, and what names the result."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import gobuild
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64, ARMV6, ARMV7

PROGRAM = gobuild.Program(
    packages=(("buildctl", "example.org/cmd/buildctl"),),
    source=(("go.mod", "1"), ("go.sum", "2")),
    platform=AMD64,
    toolchain="go1.26.8",
)


@pytest.mark.parametrize(
    ("here", "tried"),
    [
        ("go version go1.26.8 linux/amd64", ["local"]),
        ("go version go1.27.3 linux/arm64", ["go1.26.8", "local"]),
        ("go version go1.22 linux/amd64", ["go1.26.8"]),
        ("go version go1.19.8 linux/amd64", []),
        ("pyenv: go: command not found", []),
    ],
)
def test_the_pinned_toolchain_is_tried_first_and_a_newer_go_second(here, tried):
    assert gobuild.toolchains("go1.26.8", here) == tried


@pytest.mark.parametrize(
    "changed",
    [{"platform": ARM64}, {"toolchain": "go1.26.9"}, {"ldflags": "-s"}, {"tags": "netgo"},
     {"source": (("go.mod", "1"), ("go.sum", "3"))}],
)
def test_everything_that_decides_the_bytes_is_in_the_key(changed):
    assert replace(PROGRAM, **changed).key != PROGRAM.key


@pytest.mark.parametrize(("platform", "arm"), [(ARMV6, "6"), (ARMV7, "7"), (ARM64, None)])
def test_arm_is_compiled_for_its_variant(platform, arm):
    assert replace(PROGRAM, platform=platform).environment.get("GOARM") == arm


def test_a_compilation_is_the_same_whoever_does_it():
    """Each word decides the bytes, or what they are made of."""
    program = replace(PROGRAM, ldflags="-s -w", tags="netgo",
                      packages=(*PROGRAM.packages, ("buildkitd", "example.org/cmd/buildkitd")))
    assert program.command("/go", "/out") == [
        "/go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", "/out/", "-tags", "netgo", "-ldflags",
        "-s -w", "example.org/cmd/buildctl", "example.org/cmd/buildkitd"]
    assert PROGRAM.command("/go", "/out")[-2:] == ["/out/", "example.org/cmd/buildctl"]
    assert program.environment == {"CGO_ENABLED": "0", "GOWORK": "off", "GO111MODULE": "on", "GOAMD64": "v1",
                                   "GOOS": "linux", "GOARCH": "amd64"}


def test_the_key_of_a_program_stays_the_same():
    """Another one compiles BuildKit anew on every controller."""
    assert PROGRAM.key == "75bc1ade71cb0bfc"


def test_programs_are_named_in_order():
    assert gobuild.describe({"b": "x", "a": "y"}) == "a and b"


@pytest.mark.parametrize(("text", "found"),
                         [("go1.26.8", (1, 26, 8)), ("go version go1.21 x", (1, 21, 0)), ("gone", ())])
def test_versions_are_read(text, found):
    assert gobuild.version(text) == found


@pytest.mark.parametrize(("here", "tried"), [
    ("go version go1.21 linux/amd64", ["go1.26.8"]),  # the first that fetches another one
    ("go version go1.20.14 linux/amd64", []),
])
def test_a_go_that_fetches_no_other_one_is_not_asked_to(here, tried):
    assert gobuild.toolchains("go1.26.8", here) == tried


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({"HOME": "/home/me"}, {}),
        ({}, {"GOCACHE": "/c/go-build", "GOPATH": "/c/go-path"}),
        ({"HOME": "", "GOPATH": "/p"}, {"GOCACHE": "/c/go-build"}),
    ],
)
def test_who_has_no_home_compiles_in_folders_beside_what_is_compiled(given, own):
    assert gobuild.folders(given, "/c") == own
