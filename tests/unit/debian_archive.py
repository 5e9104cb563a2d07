"""A small Debian archive on disk, signed by a key made on the spot: what apt needs to resolve a closure, and files in
the place of .debs, which no dpkg could read."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

NOW = datetime.now(timezone.utc).replace(microsecond=0)
ALL_ARCHITECTURES = ("amd64", "arm64", "armel")


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    depends: str = ""
    essential: bool = False
    architecture: str = ""
    provides: str = ""

    def put(self, root: Path, architecture: str) -> None:
        """Writes the file that the stanza names."""
        stanza = dict(line.split(": ", 1) for line in self.stanza(architecture).splitlines())
        path = root / stanza["Filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{self.name} {self.version} {stanza['Architecture']}")

    def stanza(self, architecture: str) -> str:
        mine = self.architecture or architecture
        file = self.version.partition(":")[2] or self.version
        content = f"{self.name} {self.version} {mine}".encode()
        lines = [f"Package: {self.name}", f"Version: {self.version}", f"Architecture: {mine}",
                 "Maintainer: nobody <nobody@example.org>",
                 f"Filename: pool/main/{self.name[0]}/{self.name}/{self.name}_{file}_{mine}.deb",
                 f"Size: {len(content)}",
                 f"MD5sum: {hashlib.md5(content).hexdigest()}", f"SHA256: {hashlib.sha256(content).hexdigest()}",
                 f"Description: {self.name}"]
        lines += ["Essential: yes"] if self.essential else []
        lines += [f"Depends: {self.depends}"] if self.depends else []
        lines += [f"Provides: {self.provides}"] if self.provides else []
        return "\n".join(lines) + "\n"


BASE = (
    Package("base-files", "13", essential=True, depends="libc6"),
    Package("libc6", "2.41-12"),
    Package("tzdata", "2026a-1", architecture="all"),
    Package("zlib1g", "1:1.3+dfsg-1", depends="libc6 (>= 2)"),
    Package("web", "1.0~rc1-1", depends="zlib1g, tzdata"),
)


class Signer:
    """A key, and the keyring that knows it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.keyring = home / "keyring.gpg"
        home.mkdir(mode=0o700, exist_ok=True)
        self._gpg("--quick-generate-key", "Test Archive <archive@example.org>", "rsa2048", "sign", "never")
        self._gpg("--export", "--output", str(self.keyring))

    def _gpg(self, *arguments: str) -> None:
        subprocess.run(["gpg", "--homedir", str(self.home), "--batch", "--yes", "--passphrase", "", "--pinentry-mode",
                        "loopback", *arguments],
                       check=True, capture_output=True)

    def sign(self, text: str, path: Path) -> None:
        plain = path.with_name("Release")
        plain.write_text(text, encoding="utf-8")
        self._gpg("--clearsign", "--output", str(path), str(plain))

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)


@contextmanager
def new_signer() -> Iterator[Signer]:
    """A signer of its own, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="gpg"))  # the agent's socket wants a short path
    made = Signer(home)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(home)


@dataclass
class Archive:
    """`root` is the base URL's folder. Each suite is written by `suite()`, again where it changes."""

    root: Path
    signer: Signer

    @property
    def url(self) -> str:
        return f"file://{self.root}"

    def suite(self, codename: str, packages: tuple[Package, ...] = (), *, name: str = "", folder: str = "",
              date: datetime = NOW,
              valid: timedelta | None = timedelta(days=7), architectures: tuple[str, ...] = ALL_ARCHITECTURES) -> Path:
        """Writes `dists/<folder>`; returns its InRelease."""
        place = self.root / "dists" / (folder or codename)
        sums = []
        for architecture in architectures:
            for package in packages:
                package.put(self.root, architecture)
            plain = "\n".join(package.stanza(architecture) for package in packages).encode()
            data = lzma.compress(plain)
            path = place / "main" / f"binary-{architecture}" / "Packages.xz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            for content, suffix in ((plain, ""), (data, ".xz")):  # apt wants both named, and only one served
                sums.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} "
                            f"main/binary-{architecture}/Packages{suffix}")
        form = "%a, %d %b %Y %H:%M:%S UTC"
        lines = ["Origin: Debian", "Label: Debian", f"Suite: {name or codename}", f"Codename: {codename}",
                 f"Date: {date.strftime(form)}", f"Architectures: {' '.join(architectures)}", "Components: main"]
        lines += [f"Valid-Until: {(date + valid).strftime(form)}"] if valid else []
        self.signer.sign("\n".join([*lines, "SHA256:", *sums]) + "\n", place / "InRelease")
        return place / "InRelease"

    def spoil(self, folder: str, architecture: str) -> None:
        """The index of one architecture is no longer the one that the InRelease speaks of, as on a mirror between two
        states."""
        path = self.root / "dists" / folder / "main" / f"binary-{architecture}" / "Packages.xz"
        path.write_bytes(lzma.compress(b"Package: other\nVersion: 1\nArchitecture: all\nFilename: pool/x.deb\nSize: "
                                       b"1\nSHA256: " + b"0" * 64 + b"\n"))
