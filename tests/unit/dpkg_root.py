"""A small Debian of its own below a folder: real apt and dpkg, packages made on the spot, nothing of this machine's."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

CONFIGURATION = """\
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Bin::methods "/usr/lib/apt/methods";
APT::Sandbox::User "";
Acquire::Languages "none";
DPkg::Options {{ "--root={root}"; "--force-not-root"; "--force-script-chrootless"; "--log={root}/dpkg.log"; }};
"""
# the fields of Docker's own containerd.io that matter here
VENDOR = {"Provides": "containerd, runc", "Conflicts": "containerd, runc", "Replaces": "containerd, runc"}
# a script that starts its service in both of Debian's ways, and tells with which programs
STARTS = """\
for name in invoke-rc.d deb-systemd-invoke; do command -v $name; done >"$DPKG_ROOT/found"
invoke-rc.d server start
deb-systemd-invoke start server.service
"""
STATUS = "/var/lib/dpkg/status"


class DpkgRoot:
    """`environment` is what makes apt-get and dpkg-query look here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = root / "repository"
        folders = (
            "repository",
            "run",
            "units",
            "etc/apt/preferences.d",
            "etc/apt/sources.list.d",
            "etc/apt/trusted.gpg.d",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/info",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/log/apt",
        )
        for folder in folders:
            (root / folder).mkdir(parents=True)
        (root / STATUS[1:]).touch()
        (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] copy:{self.repository} ./\n")
        self.configure("")
        self.environment = {"APT_CONFIG": str(root / "apt.conf"), "DPKG_ADMINDIR": str(root / "var/lib/dpkg")}
        self._index()

    def configure(self, more: str) -> None:
        """apt's settings, and more of them."""
        (self.root / "apt.conf").write_text(CONFIGURATION.format(root=self.root) + more)

    def deb(
        self,
        name: str,
        version: str = "1",
        *,
        files: tuple[str, ...] = (),
        settings: dict[str, str] | None = None,
        postinst: str = "",
        **fields: str,
    ) -> Path:
        """A package; apt wants two letters at least. `fields` go into its control file, `files` are empty, `settings`
        are its conffiles."""
        tree = self.root / "trees" / f"{name}_{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        for path in files:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).touch()
        for path, text in (settings or {}).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        (tree / "DEBIAN/conffiles").write_text("".join(f"/{path}\n" for path in settings or {}))
        said = {
            "Package": name,
            "Version": version,
            "Architecture": "all",
            "Maintainer": "nobody <nobody@example.org>",
            "Description": name,
            **fields,
        }
        (tree / "DEBIAN/control").write_text(
            "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in said.items())
        )
        if postinst:
            (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\nset -e\n{postinst}\n")
            (tree / "DEBIAN/postinst").chmod(0o755)
        made = tree.with_suffix(tree.suffix + ".deb")
        self._run("dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(made))
        return made

    def publish(self, *debs: Path, update: bool = True) -> None:
        """Puts packages into the repository that apt knows; without `update` apt's lists do not say so yet."""
        for deb in debs:
            deb.rename(self.repository / deb.name)
        self._index()
        if update:
            self._run("apt-get", "update")

    def withdraw(self, deb: str) -> None:
        (self.repository / deb).unlink()
        self._index()

    def install(self, *debs: Path, how: str = "--install") -> None:
        self.dpkg(how, *map(str, debs))

    def dpkg(self, *words: str, stdin: str = "") -> None:
        self._run(
            "dpkg",
            f"--root={self.root}",
            "--force-not-root",
            "--force-script-chrootless",
            f"--log={self.root}/dpkg.log",
            *words,
            stdin=stdin,
        )

    def states(self) -> dict[str, str]:
        """package -> its state and version, as `ii 1`."""
        said = self._run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev} ${Version}\\n")
        return {words[0]: " ".join(words[1:]) for words in map(str.split, said.splitlines()) if words[1] != "un"}

    def tree(self) -> dict[str, tuple[int, int]]:
        """Every file, its inode and when it was written last."""
        return {
            str(path.relative_to(self.root)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
            for path in self.root.rglob("*")
            if not path.is_dir()
        }

    def _index(self) -> None:
        stanzas = []
        for deb in sorted(self.repository.glob("*.deb")):
            data = deb.read_bytes()
            control = self._run("dpkg-deb", "--field", str(deb)).rstrip("\n")
            stanzas.append(
                f"{control}\nFilename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        (self.repository / "Packages").write_text("\n".join(stanzas))

    def _run(self, *words: str, stdin: str = "") -> str:
        environment = {
            **os.environ,
            **self.environment,
            "LC_ALL": "C.UTF-8",
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout
