"""What the builder's rust-build refuses before it runs cargo, and how crates are unpacked: the program itself, on
crates and packages made on the spot."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .crates import manifest, packed

PROGRAM = Path(__file__).resolve().parents[2] / "images/builder/rust-build"
TRIPLE = "s390x-unknown-linux-gnu"
BELOW = "has more than files below one-1.0.0"
pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg")


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """A .crate of (path, type, link)."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed, \
            tarfile.open(fileobj=compressed, mode="w") as tar:
        for path, kind, link in members:
            member = tarfile.TarInfo(path)
            member.type, member.linkname = kind, link
            tar.addfile(member)
    return buffer.getvalue()


@dataclass
class Bench:
    """A program with one crate, a standard library, and a cargo that says what it was given and fails."""

    folder: Path
    environment: dict[str, str]

    def crate(self, content: bytes, checksum: str = "", source: str = "registry+https://crates.example.org/") -> None:
        (self.folder / "crates").mkdir(exist_ok=True)
        (self.folder / "crates/one-1.0.0.crate").write_bytes(content)
        checksum = checksum or hashlib.sha256(content).hexdigest()
        (self.folder / "program/Cargo.lock").write_text(
            'version = 4\n\n[[package]]\nname = "one"\nversion = "1.0.0"\n'
            f'source = "{source}"\nchecksum = "{checksum}"\n\n'
            '[[package]]\nname = "program"\nversion = "0.1.0"\ndependencies = [\n "one",\n]\n')

    def std(self, version: str, architecture: str = "s390x") -> None:
        shutil.rmtree(self.folder / "debs", ignore_errors=True)
        tree = self.folder / "std"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "usr/lib/rustlib" / TRIPLE / "lib").mkdir(parents=True, exist_ok=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: libstd-rust-dev\nVersion: {version}\nArchitecture: {architecture}\n"
            "Maintainer: a <a@example.org>\nDescription: a\n")
        (self.folder / "debs").mkdir()
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree),
                        str(self.folder / f"debs/libstd-rust-dev_{version}_{architecture}.deb")], check=True,
                       capture_output=True)

    def run(self, *words: str, **environment: str) -> str:
        """What it says when it fails; it always does, at the latest in cargo."""
        words = words or ("-s", "debs", "-o", "out", "program", "crates")
        done = subprocess.run(["sh", str(PROGRAM), *words], cwd=self.folder, capture_output=True, text=True,
                              check=False, env={**self.environment, **environment})
        assert done.returncode
        assert not (self.folder / "work").exists()
        return done.stderr


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    tools = {
        "dpkg-query": "echo 1.85.1-1",
        "cargo": 'cp -r "$CARGO_HOME/.." kept; echo "cargo $*" >&2; exit 7',
    }
    (tmp_path / "bin").mkdir()
    for name, text in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "sysroots/s390x-linux-gnu/usr/lib").mkdir(parents=True)
    (tmp_path / "program").mkdir()
    (tmp_path / "program/Cargo.toml").write_text(manifest("program", "0.1.0", {"one": "1.0.0"}))
    made = Bench(tmp_path, {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                            "SOURCE_DATE_EPOCH": "1700000000", "TARGETPLATFORM": "linux/s390x",
                            "BUILD_FOLDER": str(tmp_path / "work"), "SYSROOTS": str(tmp_path / "sysroots"),
                            "RUSTLIB": str(tmp_path)})
    made.std("1.85.1-1")
    made.crate(packed("one", "1.0.0", {"Cargo.toml": manifest("one", "1.0.0"), "src/lib.rs": ""}))
    return made


def test_cargo_finds_the_crates_as_its_lock_names_them_and_nothing_else(bench: Bench) -> None:
    said = bench.run("-n", "-f", "a,b", "-s", "debs", "-o", "out", "program", "crates")
    assert "--release --frozen --offline" in said
    assert f"--target {TRIPLE}" in said and "--no-default-features --features a,b" in said
    kept = bench.folder / "kept"
    sha256 = hashlib.sha256((bench.folder / "crates/one-1.0.0.crate").read_bytes()).hexdigest()
    assert json.loads((kept / "crates/one-1.0.0/.cargo-checksum.json").read_text()) == {"files": {}, "package": sha256}
    assert (kept / "crates/one-1.0.0/src/lib.rs").exists()
    assert 'directory = "' in (kept / "cargo/config.toml").read_text()


def test_a_crate_of_a_registry_may_be_the_program(bench: Bench) -> None:
    lock = (bench.folder / "program/Cargo.lock").read_text()
    shutil.rmtree(bench.folder / "program")
    (bench.folder / "program").mkdir()
    shutil.move(bench.folder / "crates", bench.folder / "program/crates")
    (bench.folder / "program/program.crate").write_bytes(packed("program", "0.1.0", {
        "Cargo.toml": manifest("program", "0.1.0", {"one": "1.0.0"}), "Cargo.lock": lock, "src/main.rs": ""}))
    assert f"--manifest-path {bench.folder}/work/program/Cargo.toml" in bench.run("-s", "debs", "-o", "out", "program")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda bench: bench.crate(packed("one", "1.0.0", {}), "0" * 64),
         f"has sha256 .*, the Cargo.lock says {'0' * 64}"),
        (lambda bench: bench.crate(archive(("one-1.0.0/../../evil", tarfile.REGTYPE, ""))), BELOW),
        (lambda bench: bench.crate(archive(("/etc/evil", tarfile.REGTYPE, ""))), BELOW),
        (lambda bench: bench.crate(archive(("two-1.0.0/lib.rs", tarfile.REGTYPE, ""))), BELOW),
        (lambda bench: bench.crate(archive(("one-1.0.0/link", tarfile.SYMTYPE, "/etc"))), BELOW),
        (lambda bench: bench.crate(archive(("one-1.0.0/link", tarfile.LNKTYPE, "/etc/passwd"))),
         BELOW),
        (lambda bench: bench.crate(archive(("one-1.0.0/pipe", tarfile.FIFOTYPE, ""))), BELOW),
        (lambda bench: bench.crate(b"no tar"), "cannot be unpacked"),
        (lambda bench: bench.crate(b"", source="git+https://git.example.org/one"), "is in no registry, or has no"),
        (lambda bench: (bench.folder / "crates/one-1.0.0.crate").unlink(), "has no one-1.0.0.crate, which the"),
        (lambda bench: (bench.folder / "program/Cargo.lock").unlink(), "program has no Cargo.lock"),
        (lambda bench: bench.std("1.86.0-1"), "s390x is 1.86.0-1, rustc is 1.85.1-1"),
        (lambda bench: bench.std("1.85.1-1", "arm64"), "arm64.deb is not for linux/s390x"),
        (lambda bench: next((bench.folder / "debs").iterdir()).unlink(), "has no standard library: name"),
    ],
    ids=["checksum", "up", "root", "beside", "link", "hard link", "pipe", "no tar", "git", "missing", "no lock",
         "version", "architecture", "no std"],
)
def test_what_is_refused_before_anything_is_compiled(bench: Bench, changed: Callable[[Bench], object],
                                                     says: str) -> None:
    changed(bench)
    said = bench.run()
    assert "cargo build" not in said
    assert re.search(says, said), said


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        ((), {"TARGETPLATFORM": ""}, "The stage needs ARG TARGETPLATFORM"),
        ((), {"TARGETPLATFORM": "linux/mips"}, "platform linux/mips is not known"),
        ((), {"SOURCE_DATE_EPOCH": ""}, "The stage needs ARG SOURCE_DATE_EPOCH"),
        (("-s", "debs", "program"), {}, "say -o OUTPUT"),
        (("-o", "out", "program"), {}, "say -s DEBS"),
        (("-s", "debs", "-o", "out"), {}, "usage: rust-build"),
        (("-s", "debs", "-o", "out", "program"), {}, "say CRATES"),
    ],
)
def test_what_is_missing_is_named(bench: Bench, words: tuple[str, ...], environment: dict[str, str], says: str) -> None:
    assert says in bench.run(*words, **environment)
