"""A small Debian repository, signed with a key made on the spot, and apt as a client of it that leaves this machine's
own apt alone."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .conftest import sh

ARCHITECTURE = "all"
SUITE, COMPONENT = "test", "main"


@dataclass(frozen=True)
class Repository:
    """`root` is what a server serves: dists/ and pool/."""

    root: Path
    keys: Path

    @classmethod
    def make(cls, folder: Path, packages: dict[str, str]) -> Repository:
        """A repository with packages of some versions."""
        made = cls(folder / "root", folder / "keys")
        (made.root / "pool").mkdir(parents=True)
        made.keys.mkdir(mode=0o700)
        made.gpg("--quick-generate-key", "repository@example.org", "ed25519", "sign", "never")
        made.gpg("--output", str(made.key), "--export", "repository@example.org")
        made.publish(packages)
        return made

    @property
    def key(self) -> Path:
        """The public key, as apt's signed-by takes it."""
        return self.keys / "public.gpg"

    def gpg(self, *words: str) -> str:
        """gpg with the keys of this repository; its agent ends with it."""
        try:
            return sh("gpg", "--homedir", str(self.keys), "--batch", "--yes", "--pinentry-mode=loopback",
                      "--passphrase=", *words)
        finally:
            sh("gpgconf", "--homedir", str(self.keys), "--kill", "gpg-agent")

    def path(self, name: str) -> str:
        """Where the newest version of a package is."""
        newest = max(self.root.glob(f"pool/{name}/*.deb"), key=lambda path: path.name)
        return str(newest.relative_to(self.root))

    def package(self, name: str) -> Path:
        return self.root / self.path(name)

    def publish(self, packages: dict[str, str]) -> None:
        """Packages of these versions, beside those that were there."""
        for name, version in packages.items():
            self._pack(name, version)
        index = sh("dpkg-scanpackages", "--multiversion", "pool", cwd=self.root).encode()
        dist = self.root / "dists" / SUITE
        folder = dist / COMPONENT / "binary-amd64"
        sums = []
        for name, data in {"Packages": index, "Packages.gz": gzip.compress(index, mtime=0)}.items():
            digest = hashlib.sha256(data).hexdigest()
            (folder / "by-hash/SHA256").mkdir(parents=True, exist_ok=True)
            (folder / "by-hash/SHA256" / digest).write_bytes(data)
            (folder / name).write_bytes(data)
            sums.append(f" {digest} {len(data)} {COMPONENT}/binary-amd64/{name}\n")
        now = datetime.now(timezone.utc)
        (dist / "Release").write_text(
            f"Origin: test\nSuite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\nComponents: {COMPONENT}\n"
            f"Date: {now:%a, %d %b %Y %H:%M:%S UTC}\nValid-Until: {now + timedelta(days=7):%a, %d %b %Y %H:%M:%S UTC}\n"
            f"Acquire-By-Hash: yes\nSHA256:\n{''.join(sums)}")
        self.gpg("--output", str(dist / "InRelease"), "--clearsign", str(dist / "Release"))
        self.gpg("--output", str(dist / "Release.gpg"), "--armor", "--detach-sign", str(dist / "Release"))

    def _pack(self, name: str, version: str) -> None:
        made = self.root.parent / "packed" / name
        shutil.rmtree(made, ignore_errors=True)
        (made / "DEBIAN").mkdir(parents=True)
        (made / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {ARCHITECTURE}\nMaintainer: test <test@example.org>\n"
            f"Description: for a test\n")
        (made / "usr/share" / name).mkdir(parents=True)
        (made / "usr/share" / name / "data").write_bytes(os.urandom(100_000))
        (self.root / "pool" / name).mkdir(parents=True, exist_ok=True)
        sh("dpkg-deb", "--root-owner-group", "--build", str(made),
           str(self.root / "pool" / name / f"{name}_{version}_{ARCHITECTURE}.deb"))

    def client(self, home: Path, url: str, suite: str = SUITE, key: Path | None = None) -> list[str]:
        """The words that run apt-get with this repository alone, and everything that it keeps in a folder."""
        for name in ("lists/partial", "cache/archives/partial", "etc"):
            (home / name).mkdir(parents=True)
        (home / "status").touch()
        (home / "sources.list").write_text(
            f"deb [arch=amd64 signed-by={key or self.key}] {url} {suite} {COMPONENT}\n")
        settings = {
            "Dir::Etc": f"{home}/etc", "Dir::Etc::sourcelist": f"{home}/sources.list", "Dir::Etc::sourceparts": "-",
            "Dir::State": str(home), "Dir::State::lists": f"{home}/lists", "Dir::State::status": f"{home}/status",
            "Dir::Cache": f"{home}/cache", "APT::Architecture": "amd64", "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root", "Acquire::Languages": "none", "APT::Update::Error-Mode": "any",
            "Acquire::http::Proxy": "DIRECT", "Debug::NoLocking": "true",
        }
        (home / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
        return ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"APT_CONFIG={home}/apt.conf", "apt-get", "-q"]
