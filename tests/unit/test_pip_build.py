"""The helper that installs wheels, run as the builder runs it, on wheels made on the spot."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .package_registries import WheelIndex

PROGRAM = Path(__file__).resolve().parents[2] / "images/builder/pip-build"
PYTHON = "python{}.{}".format(*sys.version_info)
OURS = f"cp{sys.version_info[0]}{sys.version_info[1]}"
X86 = "\x7fELF\x02\x01\x01" + "\0" * 9 + "\x03\0\x3e\0"  # the beginning of a shared library for amd64
ENTRY = {"app-1.0.dist-info/entry_points.txt": "[console_scripts]\napp = app:main\n"}


def wheel(folder: Path, name: str, *given: object, **more: object) -> Path:
    site = WheelIndex()
    file = site.publish(name, "1.0", *given, **more)  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(site.pages[f"/files/{file}"][1])
    return folder / file


def build(tmp_path: Path, *more: str, platform: str = "linux/amd64", output: str = "out") -> tuple[int, str]:
    """The exit code, and what it said."""
    done = subprocess.run([sys.executable, "-IB", str(PROGRAM), *more, "-o", str(tmp_path / output),
                           str(tmp_path / "wheels")], capture_output=True, text=True, check=False,
                          env={**os.environ, "TARGETPLATFORM": platform})
    return done.returncode, (done.stdout + done.stderr).strip()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_wheels_lie_where_debians_python_looks_and_twice_the_same(tmp_path):
    wheel(tmp_path / "wheels", "app", needs=("lib>=1",), files=ENTRY)
    wheel(tmp_path / "wheels", "lib")
    said = [build(tmp_path, output=output) for output in ("one", "two")]
    assert said == [(0, "pip-build: app-1.0, lib-1.0 for linux/amd64")] * 2
    found = files(tmp_path / "one")
    modules = f"usr/local/lib/{PYTHON}/dist-packages"
    assert {f"{modules}/app/__init__.py", f"{modules}/lib/__init__.py", "usr/local/bin/app"} < found.keys()
    assert not [name for name in found if name.endswith(".pyc")]
    assert found["usr/local/bin/app"].startswith(b"#!/usr/bin/python3\n")
    assert found == files(tmp_path / "two")


@pytest.mark.parametrize(("tags", "content", "platform", "says"), [
    (f"{OURS}-{OURS}-manylinux_2_17_x86_64", X86, "linux/amd64", ""),
    ("cp38-abi3-manylinux_2_17_x86_64", X86, "linux/amd64", ""),
    ("py2.py3-none-any", "", "linux/s390x", ""),
    (f"{OURS}-{OURS}-manylinux_2_17_x86_64", X86, "linux/arm64", f"it is not for {PYTHON} on linux/arm64"),
    ("cp36-cp36m-manylinux_2_17_x86_64", X86, "linux/amd64", f"it is not for {PYTHON} on linux/amd64"),
    ("py2-none-any", "", "linux/amd64", f"it is not for {PYTHON}"),
    ("py3-none-any", X86, "linux/arm64", "app/fast.so is for machine 62, not 183 (linux/arm64)"),
])
def test_a_wheel_must_be_for_the_platform_and_so_must_what_is_in_it(tmp_path, tags, content, platform, says):
    wheel(tmp_path / "wheels", "app", tags, files={"app/fast.so": content})
    code, said = build(tmp_path, platform=platform)
    assert (bool(code), says in said) == (bool(says), True), said


def test_what_a_record_does_not_say_is_refused_all_at_once(tmp_path):
    changed = wheel(tmp_path / "wheels", "app")
    with zipfile.ZipFile(changed) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents["app/__init__.py"] = b"import os\n"
    with zipfile.ZipFile(changed, "w") as archive:
        for name, content in {**contents, "app/more.py": b"", "../outside": b""}.items():
            archive.writestr(name, content)
    (tmp_path / "wheels/b-1.0-py3-none-any.whl").write_text("no zip")
    code, said = build(tmp_path)
    assert code == 1
    for mistake in ("app/__init__.py is not what its RECORD says", "its RECORD has no hash of app/more.py",
                    "../outside would lie outside", "b-1.0-py3-none-any.whl: it is damaged"):
        assert mistake in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("need", "there", "says"), [
    ("lib>=1", "1.2", ""),
    ("lib>=2; python_version < '3'", None, ""),
    ("lib>=2; platform_machine == 's390x'", None, ""),
    ("lib>=2", "1.2", "app 1.0 needs lib>=2, and there is 1.2"),
    ("lib", None, "app 1.0 needs lib, and there is none"),
    ("lib; platform_machine == 'aarch64'", None, "app 1.0 needs lib, and there is none"),
])
def test_what_wheels_need_must_be_among_them_or_beside_them(tmp_path, need, there, says):
    wheel(tmp_path / "wheels", "app", needs=(need,))
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin" / PYTHON).touch()
    if there:
        info = tmp_path / f"root/usr/lib/python3/dist-packages/lib-{there}.egg-info"
        info.mkdir(parents=True)
        (info / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: lib\nVersion: {there}\n")
    code, said = build(tmp_path, "-b", str(tmp_path / "root"), platform="linux/arm64")
    assert (bool(code), says in said) == (bool(says), True), said


def test_an_image_with_another_python_is_refused(tmp_path):
    wheel(tmp_path / "wheels", "app")
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin/python3.2").touch()
    assert build(tmp_path, "-b", str(tmp_path / "root")) == (
        1, f"pip-build: the image has python3.2, and this is a builder for {PYTHON}")


@pytest.mark.parametrize(("platform", "says"), [("", "The stage needs ARG TARGETPLATFORM"),
                                                ("linux/mips", "platform linux/mips is not known here"),
                                                ("linux/amd64", "no wheels (*.whl)")])
def test_a_wrong_use_is_told(tmp_path, platform, says):
    (tmp_path / "wheels").mkdir()
    code, said = build(tmp_path, platform=platform)
    assert (code, says in said) == (1, True), said
