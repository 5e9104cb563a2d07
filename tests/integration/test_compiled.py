"""Programs in C and Rust, compiled as those of the catalog are: for this machine and for the smallest one, hardened,
the same bytes each time, from the archive alone; and they run."""

from __future__ import annotations

import io
import shutil
import signal
import zlib
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import elf
from elftools.elf.elffile import ELFFile

from .conftest import PROJECT, Chain, Farm, sh
from .services import FOREIGN
from .unpacked import NATIVE, Unpacked

PLATFORMS = [NATIVE, FOREIGN]
ARCHITECTURES = {"linux/amd64": ("x86_64", 64), "linux/arm64": ("aarch64", 64), "linux/arm/v6": ("arm", 32)}
PROGRAMS = {"usr/bin/greet": elf.C, "usr/lib/libgreeting.so": elf.C, "usr/bin/rust": elf.RUST}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one image. Its Cargo.lock is made here, as that says where this machine's crates come from."""
    folder = tmp_path_factory.mktemp("compiled") / "images"
    shutil.copytree(Path(__file__).with_name("compiled"), folder / "compiled")
    sh("cargo", "generate-lockfile", "--manifest-path", str(folder / "compiled/rust/Cargo.toml"))
    return folder


@pytest.fixture(scope="module")
def built(chain: Chain, catalog: Path) -> Farm:
    farm = chain.farm.on(PROJECT / "images", catalog, farm_images=["compiled"], farm_platforms=PLATFORMS,
                         farm_partial=True)
    for playbook in ("playbooks/lock.yml", "build.yml"):
        done = farm.run(playbook)
        assert done.rc == 0, done.text[-4000:]
    assert done.built >= {f"compiled {platform}" for platform in PLATFORMS}
    return farm


@pytest.fixture(scope="module")
def roots(built: Farm, chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Unpacked]:
    """platform -> the image's files."""
    return {platform: Unpacked.of(chain, "compiled", platform, tmp_path_factory.mktemp("unpacked"))
            for platform in PLATFORMS}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_program_is_for_its_platform_hardened_and_stripped(roots: dict[str, Unpacked], platform: str,
                                                             program: str) -> None:
    content = (roots[platform].root / program).read_bytes()
    found = elf.read(content)
    assert found and elf.machine(content) == elf.MACHINES[Platform.parse(platform)]
    assert (found.language, found.pie, found.relro, found.bind_now, found.stack, found.rpath) == (
        PROGRAMS[program], True, True, True, False, ())
    assert found.language == elf.RUST or (found.canary, found.fortified) == (True, True)
    assert not {".symtab", ".debug_info"} & {section.name for section in ELFFile(io.BytesIO(content)).iter_sections()}
    assert b"/build" not in content


@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_runs_on_its_platform(roots: dict[str, Unpacked], platform: str) -> None:
    architecture, bits = ARCHITECTURES[platform]
    root = roots[platform]
    assert root.run(platform, "/usr/bin/rust", "desimages", user=2000) == (
        f"{zlib.crc32(b'desimages'):08x} {architecture}\n")
    assert root.run(platform, "/usr/bin/greet", "you", user=2000).endswith(f", {bits} bits\n")


def test_the_c_library_notices_what_overflows(roots: dict[str, Unpacked]) -> None:
    with pytest.raises(AssertionError, match=rf"ended with {128 + signal.SIGABRT}|ended with -{signal.SIGABRT:d}"):
        roots[NATIVE].run(NATIVE, "/usr/bin/greet", "x" * 40, user=2000)


def test_the_same_bytes_come_again_from_the_archive_alone(built: Farm, chain: Chain) -> None:
    before = chain.index("compiled")
    nowhere = {"debian": ["file:///nowhere"], "debian-security": ["file:///nowhere"], "cargo": "file:///nowhere"}
    done = built.run(farm_rebuild=True, farm_origins=nowhere)
    assert done.rc == 0, done.text[-4000:]
    assert "NOT REPRODUCIBLE" not in done.text
    assert chain.index("compiled") == before
