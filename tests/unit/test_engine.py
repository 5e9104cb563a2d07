"""The proof that a node's BuildKit gives the expected bytes. Two scripts answer as buildkitd and buildctl do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.golden import GZIP_ID
from ansible_collections.desimages.farm.plugins.modules import engine

from .modules import result

BUILDKITD = "#!/bin/sh\necho buildkitd example.org/buildkit {version} {build}\n"
BUILDCTL = """#!/bin/sh
case "$*" in *compression=gzip*) digest={gzip} ;; *) echo "$*" >> {builds}; digest={digest} ;; esac
until [ $# = 0 ] || [ "$1" = --metadata-file ]; do shift; done
echo '{{"containerimage.digest": "'$digest'"}}' > "$2"
"""
RIGHT, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
VERSION = "v1.2.3"


class BuildKit:
    """A node's BuildKit, whose golden build has a digest of choice."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stamp = root / "engine.json"
        (root / "builds").touch()
        self.install()

    def install(self, version: str = VERSION, build: int = 1, digest: str = RIGHT, gzip: str = GZIP_ID) -> None:
        self._write("buildkitd", BUILDKITD.format(version=version, build=build))
        self._write("buildctl", BUILDCTL.format(builds=self.root / "builds", digest=digest, gzip=gzip))

    def _write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def prove(self, expected: str = RIGHT, check: bool = False) -> dict[str, Any]:
        return result(engine.main, check=check, buildkitd=str(self.root / "buildkitd"),
                      buildctl=str(self.root / "buildctl"),
                      address="unix:///nowhere", state_dir=str(self.root), version=VERSION, expected=expected)

    @property
    def builds(self) -> int:
        return len((self.root / "builds").read_text().splitlines())


@pytest.fixture
def buildkit(tmp_path: Path) -> BuildKit:
    return BuildKit(tmp_path)


def test_a_node_that_gives_other_bytes_is_refused_each_time_and_nothing_is_written_down(buildkit: BuildKit) -> None:
    buildkit.install(digest=OTHER)
    for times in (1, 2):
        refused = buildkit.prove()
        assert refused.get("failed")
        assert f"the golden build is {OTHER}, it must be {RIGHT}" in refused["msg"]
        assert buildkit.builds == times
        assert not buildkit.stamp.exists()


def test_a_node_that_gives_other_bytes_with_gzip_is_refused(buildkit: BuildKit) -> None:
    buildkit.install(gzip=OTHER)
    assert f"with gzip it is {OTHER}, it must be {GZIP_ID}" in buildkit.prove()["msg"]
    assert not buildkit.stamp.exists()


@pytest.mark.parametrize("check", [False, True])
def test_what_was_proven_is_refused_where_something_else_is_expected_now(buildkit: BuildKit, check: bool) -> None:
    assert buildkit.prove(expected="")["engine"]["id"] == RIGHT
    refused = buildkit.prove(expected=OTHER, check=check)
    assert refused.get("failed")
    assert f"the golden build is {RIGHT}, it must be {OTHER}" in refused["msg"]
    assert buildkit.builds == 1


def test_the_same_binary_is_proven_once_and_a_new_one_again(buildkit: BuildKit) -> None:
    assert [buildkit.prove()["changed"] for _time in range(2)] == [True, False]
    assert buildkit.builds == 1
    buildkit.install(build=2)
    check = buildkit.prove(check=True)
    assert (check["changed"], check["engine"]["id"], buildkit.builds) == (True, "", 1)
    again = buildkit.prove()
    assert (again["changed"], buildkit.builds) == (True, 2)
    assert again["engine"]["buildkitd"] == hashlib.sha256((buildkit.root / "buildkitd").read_bytes()).hexdigest()
    assert not buildkit.prove()["changed"]


def test_a_new_binary_that_gives_other_bytes_is_refused(buildkit: BuildKit) -> None:
    buildkit.prove()
    buildkit.install(build=2, digest=OTHER)
    for _time in range(2):
        assert "gives other bytes than expected" in buildkit.prove()["msg"]
    assert buildkit.builds == 3


def test_a_buildkitd_of_another_version_is_refused_without_a_build(buildkit: BuildKit) -> None:
    buildkit.install(version=VERSION + "0")
    refused = buildkit.prove()
    assert refused.get("failed")
    assert f"{VERSION}0 1, not {VERSION}" in refused["msg"]
    assert buildkit.builds == 0


@pytest.mark.parametrize("changed", [{"inputs": "0" * 64}, {"version": "v1.2.2"}, {"id": ""}, None])
def test_a_proof_of_something_else_does_not_count(buildkit: BuildKit, changed: dict[str, str] | None) -> None:
    buildkit.prove()
    written = json.loads(buildkit.stamp.read_text())
    buildkit.stamp.write_text(json.dumps({**written, **changed}) if changed else "{")
    assert (buildkit.prove()["changed"], buildkit.builds) == (True, 2)
    assert json.loads(buildkit.stamp.read_text()) == written


def test_a_proof_that_was_killed_leaves_nothing_outside_the_state_folder(buildkit: BuildKit, temporary: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it goes with the farm."""
    monkeypatch.setattr(engine.shutil, "rmtree", lambda *_given, **_more: None)
    assert buildkit.prove()["changed"]
    assert list(temporary.rglob("Dockerfile")) == []
    assert len(list(buildkit.root.glob(".golden-*/context/Dockerfile"))) == 1
