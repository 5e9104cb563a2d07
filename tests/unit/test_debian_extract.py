"""Debian packages are added to an image without their scripts: the program that does it, on packages made on the spot.

All of them are for an architecture that this machine does not have, so nothing of them could run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

IMAGES = Path(__file__).resolve().parents[2] / "images"
PROGRAM = IMAGES / "packages/debian-extract"
SLIM = IMAGES / "debian/rootfs/etc/dpkg/dpkg.cfg.d/slim"
FOREIGN = "s390x" if os.uname().machine != "s390x" else "arm64"
ME = os.getuid()
EPOCH = 1_700_000_000  # before the tests' files
WAITS = "interest-noawait /usr/lib\n"  # a trigger that any library sets off
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8",
               "SOURCE_DATE_EPOCH": str(EPOCH)}


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Images:
    """The image below, the closure that is for it, and what the program made of them."""

    folder: Path
    closure: list[Path] = field(default_factory=list)

    @property
    def below(self) -> Path:
        return self.folder / "below"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def marks(self) -> Path:
        """What a script leaves here if it runs."""
        return self.folder / "marks"

    def deb(self, name: str, version: str = "1", *, files: dict[str, str] | None = None,
            modes: dict[str, int] | None = None, architecture: str = FOREIGN, triggers: str = "",
            **fields: str) -> Path:
        """A package whose scripts all leave a mark. A file whose text begins with -> is a link; one below /etc is a
        conffile."""
        tree = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        tree.chmod(0o755)
        control = tree / "DEBIAN"
        control.mkdir(parents=True)
        for path, text in (files or {}).items():
            place = tree / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(text[2:]) if text.startswith("->") else place.write_text(text)
        for path, mode in (modes or {}).items():
            (tree / path).chmod(mode)
        said = {"Package": name, "Version": version, "Architecture": architecture,
                "Maintainer": "nobody <nobody@example.org>", "Description": name, **fields}
        (control / "control").write_text("".join(f"{key.replace('_', '-')}: {text}\n" for key, text in said.items()))
        (control / "conffiles").write_text("".join(f"/{path}\n" for path in files or {} if path.startswith("etc/")))
        for script in ("preinst", "postinst", "prerm", "postrm"):
            (control / script).write_text(f"#!/bin/sh\necho {script} >> {self.marks}\n")
            (control / script).chmod(0o755)
        if triggers:
            (control / "triggers").write_text(triggers)
        sums = "".join(f"{hashlib.md5(text.encode()).hexdigest()}  {path}\n" for path, text in (files or {}).items()
                       if not path.startswith("etc/") and not text.startswith("->"))
        (control / "md5sums").write_text(sums)
        made = self.folder / f"{name}_{version}_{architecture}.deb"
        run("dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(made))
        return made

    def add(self, name: str, version: str = "1", **more: object) -> None:
        """The same, in the closure."""
        self.closure.append(self.deb(name, version, **more))  # type: ignore[arg-type]

    def install(self, *debs: Path) -> None:
        """Into the image below, as images/debian does."""
        run("dpkg", f"--root={self.below}", "--log=/dev/null", "--force-not-root", "--force-script-chrootless",
            "--force-depends", "--force-unsafe-io", "--install", *map(str, debs))

    def extract(self, *options: str, output: str = "output") -> subprocess.CompletedProcess[str]:
        debs = self.folder / "debs"
        shutil.rmtree(debs, ignore_errors=True)
        debs.mkdir()
        for deb in self.closure:
            shutil.copy(deb, debs)
        words = ["sh", str(PROGRAM), *options, "-o", str(self.folder / output), str(self.below), str(debs)]
        return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=False)

    def made(self, *options: str) -> dict[str, str]:
        """What is in the output but dpkg's records: path -> text, or -> and what it links to, or / for a folder."""
        done = self.extract(*options)
        assert done.returncode == 0, done.stderr
        return {path: text for path, text in self.tree().items() if not path.startswith("var/lib/dpkg")}

    def tree(self) -> dict[str, str]:
        return {str(path.relative_to(self.output)): f"->{path.readlink()}" if path.is_symlink() else
                "/" if path.is_dir() else path.read_text() for path in self.output.rglob("*")
                if path.is_symlink() or not path.is_dir() or not any(path.iterdir())}

    def refused(self, *options: str) -> str:
        done = self.extract(*options)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stdout == ""
        return done.stderr

    def together(self) -> Path:
        """The image below with the output copied over it."""
        whole = self.folder / "whole"
        run("cp", "-a", str(self.below), str(whole))
        run("cp", "-a", f"{self.output}/.", str(whole))
        return whole


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with the links of a merged /usr, dpkg, and a library that waits for others."""
    made = Images(tmp_path_factory.mktemp("debian"))
    for folder in ("usr/bin", "usr/lib", "usr/share/man", "usr/share/locale", "etc/dpkg/dpkg.cfg.d",
                   *(f"var/lib/dpkg/{name}" for name in ("info", "updates", "triggers", "alternatives")),
                   "etc/alternatives", "data", "tmp"):
        (made.below / folder).mkdir(parents=True)
    for name in ("bin", "lib"):
        (made.below / name).symlink_to(f"usr/{name}")
    (made.below / "tmp").chmod(0o1777)
    (made.below / "var/lib/dpkg/status").touch()
    (made.below / "var/lib/dpkg/arch").write_text(f"{FOREIGN}\n")
    (made.below / "etc/passwd").write_text("root:*:0:0:root:/root:/bin/sh\n")
    (made.below / "etc/group").write_text("root:*:0:\n")
    (made.below / "etc/own.conf").write_text("of no package\n")
    shutil.copy(SLIM, made.below / "etc/dpkg/dpkg.cfg.d")
    made.install(made.deb("dpkg", "1.22"),
                 made.deb("libc6", "2.41-12", files={"usr/lib/libc.so.6": "c"}, triggers=WAITS, Multi_Arch="same"))
    for name in ("arch", "status-old", "lock", "lock-frontend"):
        (made.below / f"var/lib/dpkg/{name}").unlink(missing_ok=True)
    assert made.marks.exists()
    return made.below


@pytest.fixture
def images(debian: Path, tmp_path: Path) -> Images:
    run("cp", "-a", str(debian), str(tmp_path / "below"))
    return Images(tmp_path)


def test_a_package_is_added_with_dpkgs_records_and_without_its_scripts(images: Images) -> None:
    images.add("libc6", "2.41-12", Multi_Arch="same")
    images.add("libx1", "1:3~rc1-2+b1", files={"usr/lib/libx.so.1": "->libx.so.1.0", "usr/lib/libx.so.1.0": "x"},
               triggers=WAITS, Multi_Arch="same", Depends="libc6 (>= 2)")
    images.add("server", "2", files={"usr/sbin/server": "s", "etc/server/server.conf": "on"},
               modes={"usr/sbin/server": 0o755}, Depends="libx1, server-common (= 2)", Pre_Depends="libc6")
    # for all architectures: dpkg takes it for this machine's, and libx1 for another's
    images.add("server-common", "2", architecture="all", files={"usr/share/server/page": "p"}, Depends="libx1")
    assert images.made() == {
        "etc/server/server.conf": "on", "usr/lib/libx.so.1": "->libx.so.1.0", "usr/lib/libx.so.1.0": "x",
        "usr/sbin/server": "s", "usr/share/server/page": "p"}
    assert (images.output / "usr/sbin/server").stat().st_mode & 0o7777 == 0o755
    assert not images.marks.exists()

    records = {path.removeprefix("var/lib/dpkg/") for path in images.tree() if path.startswith("var/lib/dpkg")}
    added = (f"libx1:{FOREIGN}", "server", "server-common")
    assert records == {"status", *(f"info/{package}.{kind}" for package in added
                                   for kind in ("list", "md5sums", "conffiles"))}
    whole = images.together()
    said = run("dpkg-query", f"--admindir={whole}/var/lib/dpkg", "-W",
               "-f", "${db:Status-Abbrev}${Package} ${Version} ${Architecture}\\n").splitlines()
    assert said == ["ii dpkg 1.22 " + FOREIGN, f"ii libc6 2.41-12 {FOREIGN}", f"ii libx1 1:3~rc1-2+b1 {FOREIGN}",
                    f"ii server 2 {FOREIGN}", "ii server-common 2 all"]
    assert run("dpkg", f"--root={whole}", "--verify") == ""
    (whole / "usr/sbin/server").write_text("altered")
    assert re.search(r"^..5.* /usr/sbin/server$", run("dpkg", f"--root={whole}", "--verify"), re.M)
    assert "Triggers-" not in (whole / "var/lib/dpkg/status").read_text()


def test_what_the_image_below_has_is_left_out(images: Images) -> None:
    images.add("libc6", "2.41-12", files={"usr/lib/libc.so.6": "c"}, Multi_Arch="same")
    assert images.made() == {}
    assert list(images.output.iterdir()) == []


def test_links_of_the_image_below_are_followed_and_its_folders_kept(images: Images) -> None:
    images.add("old", files={"lib/old.so": "o", "bin/old": "b", "tmp/kept": "k"})
    assert images.made() == {"usr/lib/old.so": "o", "usr/bin/old": "b", "tmp/kept": "k"}
    assert (images.output / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_documentation_is_left_out_as_in_debian_and_so_is_what_a_pattern_names(images: Images) -> None:
    files = {"usr/share/doc/x/README": "r", "usr/share/doc/x/copyright": "c", "usr/share/man/man1/x.1": "m",
             "usr/share/locale/de/x.mo": "l", "usr/share/x/sample": "s", "usr/share/x/data": "d"}
    images.add("x", files=files)
    assert images.made("-x", "/usr/share/x/s*", "-x", "/usr/lib/none") == {
        "usr/share/doc/x/copyright": "c", "usr/share/x/data": "d"}


def test_other_versions_and_architectures_are_refused_all_at_once(images: Images) -> None:
    images.add("libc6", "2.41-13")
    images.add("dpkg", "1.21")
    images.add("foreign", architecture="hurd-i386")
    said = images.refused()
    assert "  libc6 is 2.41-12 in the image below, 2.41-13 in the closure\n" in said
    assert "  dpkg is 1.22 in the image below, 1.21 in the closure\n" in said
    assert f"  foreign is for hurd-i386, the image below is for {FOREIGN}\n" in said
    assert "at the same time" in said


@pytest.mark.parametrize(("packages", "says"), [
    ({"a": {"Depends": "gone (>= 3)"}}, "a : Depends: gone (>= 3)"),
    ({"a": {"Depends": "libc6 (>= 3)"}}, "a : Depends: libc6 (>= 3)"),
    ({"a": {"Conflicts": "libc6"}}, "conflicting packages - not installing a"),
    ({"a": {"Breaks": "libc6"}}, "would break libc6"),
    ({"a": {"files": {"usr/x": "1"}}, "b": {"files": {"usr/x": "2"}}},
     "trying to overwrite '/usr/x', which is also in package a"),
    ({"a": {"files": {"usr/lib/libc.so.6": "1"}}}, f"which is also in package libc6:{FOREIGN}"),
    ({"a": {"files": {"etc/own.conf": "1"}}}, "  /etc/own.conf\n"),
    ({"a": {"files": {"etc/own.conf/deeper": "1"}}}, "/etc/own.conf"),
])
def test_what_an_image_should_not_get_is_refused_by_name(images: Images, packages: dict[str, dict[str, object]],
                                                         says: str) -> None:
    for name, more in packages.items():
        images.add(name, **more)
    assert says in re.sub(r"  +Depends", " Depends", images.refused())


def test_setuid_and_setgid_are_taken_away_unless_allowed_and_that_is_said(images: Images) -> None:
    modes = {"usr/bin/su": 0o4755, "usr/bin/wall": 0o2755, "usr/bin/sudo": 0o6711, "usr/bin/s": 0o755}
    images.add("a", files=dict.fromkeys(modes, "1") | {"srv/group/x": ""}, modes={**modes, "srv/group": 0o2775})
    done = images.extract("-s", "/usr/bin/sudo")
    assert done.returncode == 0, done.stderr
    assert {path: (images.output / path).stat().st_mode & 0o7777 for path in (*modes, "srv/group")} == {
        "usr/bin/su": 0o755, "usr/bin/wall": 0o755, "usr/bin/sudo": 0o6711, "usr/bin/s": 0o755, "srv/group": 0o2775}
    said = re.findall(r"^debian-extract: (/\S+) is not setuid or setgid any more", done.stdout, re.M)
    assert sorted(said) == ["/usr/bin/su", "/usr/bin/wall"]


def test_users_folders_and_alternatives_are_made(images: Images) -> None:
    images.add("editor", files={"usr/bin/ed.real": "e", "var/lib/ed/state": "s"})
    made = images.made("-u", "ed:2000", "-u", "ed-log:2001:/var/log/ed", "-d", f"/run/ed:{ME}:2755",
                       "-d", f"/var/lib/ed:{ME}", "-a", "/usr/bin/ed=/usr/bin/ed.real")
    assert made.pop("etc/passwd").splitlines() == [
        "root:*:0:0:root:/root:/bin/sh", "ed:*:2000:2000:ed:/nonexistent:/usr/sbin/nologin",
        "ed-log:*:2001:2001:ed-log:/var/log/ed:/usr/sbin/nologin"]
    assert made.pop("etc/group").splitlines() == ["root:*:0:", "ed:*:2000:", "ed-log:*:2001:"]
    assert made == {"etc/alternatives/ed": "->/usr/bin/ed.real", "run/ed": "/", "usr/bin/ed": "->/etc/alternatives/ed",
                    "usr/bin/ed.real": "e", "var/lib/ed/state": "s"}
    assert [(images.output / path).stat().st_mode & 0o7777 for path in ("run/ed", "var/lib/ed")] == [0o2755, 0o750]
    whole = images.together()
    said = run("update-alternatives", "--root", str(whole), "--query", "ed")
    assert "Value: /usr/bin/ed.real\n" in said


@pytest.mark.parametrize(("options", "says"), [
    (["-u", "root:2000"], "-u root: the image below has one in /etc/passwd"),
    (["-u", "someone"], "-u someone: that is not its form"),
    (["-d", "run/x"], "-d run/x: that is not its form"),
    (["-d", "/run/x:postgres"], "-d /run/x:postgres: that is not its form"),
    (["-a", "awk=/usr/bin/mawk"], "-a awk=/usr/bin/mawk: that is not its form"),
    (["-a", "/usr/bin/awk=/usr/bin/mawk"], "/usr/bin/mawk doesn't exist"),
    (["-d", f"/etc/own.conf:{ME}"], "  /etc/own.conf\n"),
    (["-q"], "usage: debian-extract"),
])
def test_an_option_that_cannot_be_followed_is_refused(images: Images, options: list[str], says: str) -> None:
    images.add("a", files={"usr/a": "a"})
    assert says in images.refused(*options)


def test_an_image_without_packages_a_folder_without_any_and_a_full_output_are_refused(images: Images) -> None:
    assert "has no packages (*.deb)" in images.refused()
    images.add("a", files={"usr/a": "a"})
    images.made()
    assert "is not empty" in images.refused()
    (images.below / "var/lib/dpkg/status").write_text("")
    assert "must be the root of an image with Debian's dpkg" in images.refused()


def test_the_same_packages_give_the_same_bytes_and_no_time_is_later_than_the_epoch(images: Images) -> None:
    for number in range(5):
        images.add(f"p{number}", files={f"usr/share/p/{number}": "x", f"etc/p{number}": "y"}, triggers=WAITS)
    options = ("-u", "p:2000", "-d", f"/var/lib/p:{ME}", "-a", "/usr/bin/p=/usr/share/p/1")
    tars = []
    for output in ("first", "second"):
        images.closure.reverse()
        done = images.extract(*options, output=output)
        assert done.returncode == 0, done.stderr
        tars.append(subprocess.run(["tar", "-c", "--sort=name", "--mtime=@0", "-C", str(images.folder / output), "."],
                                   capture_output=True, check=True).stdout)
        times = [path.lstat().st_mtime for path in (images.folder / output).rglob("*")]
        assert max(times) == EPOCH
    assert tars[0] == tars[1]
