"""Platforms: the names that OCI, Debian, Go and the kernel have for the same machine, and canonical JSON."""

from __future__ import annotations

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.platforms import (
    ALL,
    DEBIAN,
    KERNEL,
    Platform,
    UnknownPlatform,
    go_environment,
)

NAMES = [  # OCI, in tags, Debian, `uname -m`, GOARCH and GOARM: the order is that of the platforms in an index
    ("linux/amd64", "amd64", "amd64", "x86_64", ("amd64", None)),
    ("linux/386", "386", "i386", "i686", ("386", None)),
    ("linux/arm64", "arm64", "arm64", "aarch64", ("arm64", None)),
    ("linux/arm/v7", "arm-v7", "armhf", "armv7l", ("arm", "7")),
    ("linux/arm/v6", "arm-v6", "armel", "armv6l", ("arm", "6")),
    ("linux/s390x", "s390x", "s390x", "s390x", ("s390x", None)),
    ("linux/ppc64le", "ppc64le", "ppc64el", "ppc64le", ("ppc64le", None)),
    ("linux/riscv64", "riscv64", "riscv64", "riscv64", ("riscv64", None)),
]


def test_all_platforms_have_their_names_everywhere() -> None:
    found = []
    for platform in ALL:
        (machine,) = (name for name, other in KERNEL.items() if other == platform)
        go = go_environment(platform)
        assert go["GOOS"] == "linux"
        found.append((str(platform), platform.slug, DEBIAN[platform], machine, (go["GOARCH"], go.get("GOARM"))))
    assert found == NAMES
    assert len(KERNEL) == len(DEBIAN) == len(ALL)


@pytest.mark.parametrize(("name", "as_oci"), [
    ("linux/arm/v6", {"os": "linux", "architecture": "arm", "variant": "v6"}),
    ("linux/s390x", {"os": "linux", "architecture": "s390x"}),
])
def test_a_platform_is_read_and_written_as_in_an_index(name: str, as_oci: dict[str, str]) -> None:
    platform = Platform.parse(name)
    assert (str(platform), platform.as_oci) == (name, as_oci)


@pytest.mark.parametrize("text", ["", "linux", "linux/arm", "linux/arm64/v8", "windows/amd64", "amd64"])
def test_a_platform_that_the_farm_does_not_have_is_told_with_those_there_are(text: str) -> None:
    with pytest.raises(UnknownPlatform) as error:
        Platform.parse(text)
    assert f"{text!r} is not a platform of the farm" in str(error.value)
    assert ", ".join(name for name, *_others in NAMES) in str(error.value)


def test_the_canonical_form_is_the_same_to_the_byte() -> None:
    value = {"b": [1, {"d": None, "c": True}], "a": "\u00e4"}
    assert canonical.encode(value) == '{"a":"\u00e4","b":[1,{"c":true,"d":null}]}'.encode()
    assert canonical.sha256(value) == "fceacd7407b0bc454d7a7035583a31cad43b1545b9018671737c0e119f87e9e5"
