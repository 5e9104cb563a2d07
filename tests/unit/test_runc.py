"""A runc that is on a host is used, whoever brought it; what only has its name is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import supervision
from ansible_collections.desimages.farm.plugins.modules import runc

from .modules import result

CRUN = "crun version 1.8.1\ncommit: f8a096be060b22cc\nspec: 1.0.0\n+SYSTEMD +SELINUX +CAP +SECCOMP\n"
DEBIAN = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\nlibseccomp: 2.5.4\n"
DOCKERS = "runc version 1.2.5\ncommit: v1.2.5-0-g59923ef\nspec: 1.2.0\ngo: go1.22.12\nlibseccomp: 2.5.4\n"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (DEBIAN, "1.1.5+ds1"),
        (DOCKERS, "1.2.5"),
        ("runc version 1.5.0-rc.1+dev\nspec: 1.3.0\n", "1.5.0-rc.1+dev"),
        ("runc version 1.0.0-rc93\r\nspec: 1.0.2-dev\n", "1.0.0-rc93"),
        ("runc version 1.1.0", "1.1.0"),
        (CRUN, ""),
        ("runc version spec: 1.0.1-dev\n", ""),
        ("runc version unknown\nspec: 1.0.2-dev\n", ""),
        ("NVIDIA Container Runtime version 1.17.4\nspec: 1.2.0\n\nrunc version 1.1.12\n", ""),
        ("runsc version release-20250319.0\nspec: 1.1.0-rc.1\n", ""),
        ("youki version 0.5.3\ncommit: x\n", ""),
        ("", ""),
    ],
)
def test_a_version_is_read_as_runc_prints_it_and_no_other_runtime_has_one(text, version):
    assert runc.parse_version(text) == version


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("1.1.0", True),
        ("1.1.0-rc.1", True),
        ("1.1.5+ds1", True),
        ("1.10.0", True),
        ("2.0.0", True),
        ("1.0.3", False),
        ("1.0.0-rc93", False),
        ("0.1.1", False),
    ],
)
def test_versions_are_compared_as_numbers(version, enough):
    assert (runc.numbers(version) >= runc.numbers("1.1.0")) is enough


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path, Path]:
    """Two of those where every host has programs, and one of PATH."""
    found = tuple(tmp_path / name for name in ("sbin", "bin", "mine"))
    for folder in found:
        folder.mkdir()
    monkeypatch.setattr(supervision, "PATH", f"{found[0]}:{found[1]}")
    monkeypatch.setenv("PATH", f"relative::{found[2]}")
    monkeypatch.chdir(tmp_path)
    return found


def program(path: Path, says: str = DEBIAN, then: str = "", mode: int = 0o755) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n/bin/cat <<'EOF'\n{says}EOF\n{then}\n")
    path.chmod(mode)
    return str(path)


def look(**more) -> dict:
    return result(runc.main, minimum="1.1.0", **more)


def test_the_first_that_can_be_used_is_taken_and_why_others_are_not_is_told(folders):
    sbin, usr, mine = folders
    crun, old, good = (
        program(sbin / "runc", CRUN),
        program(usr / "runc", "runc version 1.0.3\n"),
        program(mine / "runc", DOCKERS),
    )
    found = look()
    assert (found["path"], found["version"], found["changed"]) == (good, "1.2.5", False)
    assert found["refused"] == [
        f"{crun} is not runc: it says 'crun version 1.8.1'",
        f"{old} is runc 1.0.3, but BuildKit needs 1.1.0 or later",
    ]
    assert look(check=True)["path"] == good


def test_folders_that_every_host_has_come_before_those_of_path(folders):
    _root, usr, mine = folders
    mine_runc = program(mine / "runc", DOCKERS)
    assert look()["path"] == mine_runc
    usr_runc = program(usr / "runc")
    assert look()["path"] == usr_runc


def test_what_is_no_program_or_the_same_again_is_not_looked_at(folders, tmp_path):
    sbin, usr, mine = folders
    (sbin / "runc").mkdir()
    program(mine / "runc", mode=0o644)
    program(tmp_path / "relative/runc")
    (tmp_path / "relative/runc").rename(tmp_path / "runc")  # the empty part of PATH
    program(tmp_path / "crun", CRUN)
    (usr / "runc").symlink_to(tmp_path / "crun")
    assert runc.candidates(f"relative::{usr}/../bin:{mine}") == [str(usr / "runc")]
    (usr / "runc").unlink()
    (usr / "runc").symlink_to(tmp_path / "nothing")
    assert [look()[key] for key in ("path", "version", "refused")] == ["", "", []]


@pytest.mark.parametrize(
    ("then", "why"),
    [("exit 3", "--version failed with 3: "), ("kill -9 $$", "--version failed with -9: ")],
)
def test_a_program_that_fails_is_not_used(folders, then, why):
    shim = program(folders[0] / "runc", then=then)
    assert look()["path"] == ""
    assert look()["refused"][0].startswith(f"{shim} {why}")


def test_a_program_that_cannot_be_run_here_is_not_used(folders):
    other = folders[0] / "runc"
    other.write_bytes(b"\x7fELF of another machine")
    other.chmod(0o755)
    assert look()["refused"][0].startswith(f"{other} cannot be run: Exec format error")


def test_a_program_that_hangs_is_ended_with_its_children(folders, monkeypatch):
    monkeypatch.setattr(runc, "SECONDS", 0.5)
    shim = program(folders[0] / "runc", then="/bin/sleep 600")
    began = time.monotonic()
    assert look()["refused"] == [f"{shim} --version did not end within 0.5 s"]
    assert time.monotonic() - began < 5


def test_the_one_that_is_named_is_used_whatever_its_name_and_no_other(folders, tmp_path):
    program(folders[0] / "runc")
    assert look(path=program(tmp_path / "own-runc", DOCKERS))["path"] == str(tmp_path / "own-runc")
    for path, why in [
        (program(tmp_path / "crun", CRUN), "is not runc: it says 'crun version 1.8.1'"),
        (program(tmp_path / "old", "runc version 1.0.3\n"), "is runc 1.0.3, but BuildKit needs 1.1.0 or later"),
        (
            program(tmp_path / "bare", "runc version 1.1.0\nspec: 1.0.2-dev\ngo: go1.26.8\n"),
            "is runc 1.1.0, but compiled without seccomp",
        ),
        (str(tmp_path / "nothing"), "cannot be run: No such file or directory"),
        (str(tmp_path), "cannot be run: Permission denied"),
    ]:
        for check in (True, False):
            found = look(path=path, check=check)
            assert found["failed"] and found["msg"].startswith(
                f"BuildKit cannot use the runc in buildkitd_runc: {path} {why}"
            ), found
            assert "or leave it empty" in found["msg"]
    assert "'runc' is not the absolute path" in look(path="runc")["msg"]


def test_where_there_must_be_one_its_absence_fails(folders):
    crun = program(folders[0] / "runc", CRUN)
    found = look(required=True)
    assert (
        found["failed"]
        and f"BuildKit cannot use any runc in {folders[0]}, {folders[1]} or PATH\n{crun} is not runc"
        in found["msg"]
    )
