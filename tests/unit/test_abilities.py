"""What a machine runs by itself is tried with programs made here; what it may use follows its cgroups."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import abilities, elf, platforms
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import KERNEL, Platform
from ansible_collections.desimages.farm.plugins.modules import binfmt

EMULATORS = {  # of Debian's qemu-user-static, with the processor
    platforms.AMD64: ("x86_64", ""), platforms.I386: ("i386", ""), platforms.ARM64: ("aarch64", ""),
    platforms.ARMV7: ("arm", "cortex-a7"), platforms.ARMV6: ("arm", "arm1176"), platforms.S390X: ("s390x", ""),
    platforms.PPC64LE: ("ppc64le", ""), platforms.RISCV64: ("riscv64", ""),
}
emulated = pytest.mark.skipif(not shutil.which("qemu-arm-static"), reason="needs Debian's qemu-user-static")


def run(folder: Path, platform: Platform, name: str, processor: str) -> tuple[int, bytes]:
    """(exit code, output) of a platform's program under an emulator."""
    program = folder / platform.slug
    program.write_bytes(elf.program(platform))
    program.chmod(0o755)
    done = subprocess.run([f"qemu-{name}-static", str(program)], stdin=subprocess.DEVNULL, capture_output=True,
                          env={"PATH": os.environ["PATH"], **({"QEMU_CPU": processor} if processor else {})},
                          cwd=folder, check=False)
    return done.returncode, done.stdout


@emulated
@pytest.mark.parametrize("platform", platforms.ALL, ids=str)
def test_each_platform_has_a_program_that_runs_there(tmp_path: Path, platform: Platform) -> None:
    code, said = run(tmp_path, platform, *EMULATORS[platform])
    assert (code, len(said)) == (0, 1)


@emulated
@pytest.mark.parametrize(
    ("platform", "processor", "runs"),
    [
        (platforms.ARMV7, "arm1176", False),  # a Pi Zero
        (platforms.ARMV6, "arm1176", True),
        (platforms.ARMV7, "cortex-a7", True),  # a Pi 2
        (platforms.ARMV6, "cortex-a7", True),
        (platforms.ARMV6, "arm926", False),  # ARMv5
        (platforms.ARMV7, "cortex-a15", True),
    ],
)
def test_an_older_arm_does_not_run_what_a_newer_one_needs(tmp_path: Path, platform: Platform, processor: str,
                                                          runs: bool) -> None:
    assert (run(tmp_path, platform, "arm", processor) == (0, b"\x01")) is runs


def test_this_machine_runs_its_own_platform(tmp_path: Path) -> None:
    found = abilities.tried(str(tmp_path))
    assert set(found) == set(platforms.ALL)
    assert found[KERNEL[os.uname().machine]] == abilities.NATIVE
    assert list(tmp_path.iterdir()) == []


HANDLERS = [binfmt.description(f"qemu-{name}") for name in ("aarch64", "arm", "s390x", "ppc64le", "riscv64")]
# its own handlers, which the kernel has for each user namespace since 6.7
APART = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc",
         "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; cd /proc/sys/fs/binfmt_misc; "
         'for line; do printf %s "$line" > register; done; exec "$PYTHON" -c "$PROGRAM" "$FOLDER"', "sh"]
PROGRAM = """if True:
    import json, sys
    from ansible_collections.desimages.farm.plugins.module_utils import abilities
    print(json.dumps({str(platform): way for platform, way in abilities.ways(sys.argv[1]).items()}))
"""


@pytest.mark.skipif(not all(HANDLERS) or os.uname().machine != "x86_64", reason="needs qemu-user-static's handlers")
@pytest.mark.parametrize("flags", ["none", "P", "PF"])
def test_what_an_emulator_runs_is_not_native_and_counts_only_if_containers_have_it(tmp_path: Path, flags: str) -> None:
    if subprocess.run([*APART[:4], "mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc"],
                      capture_output=True, check=False).returncode:
        pytest.skip("this kernel has no binfmt_misc for user namespaces")
    lines = [] if flags == "none" else [f"{line.rpartition(':')[0]}:{flags}" for line in HANDLERS]
    folder = tmp_path / "folder"
    folder.mkdir()
    done = subprocess.run([*APART, *lines], capture_output=True, text=True, check=False, env={
        **os.environ, "PYTHON": sys.executable, "PROGRAM": PROGRAM, "FOLDER": str(folder),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "collections")})
    assert done.returncode == 0, done.stderr
    natively = {"linux/amd64": "native", "linux/386": "native"}
    others = "emulated" if "F" in flags else "not"
    found = json.loads(done.stdout)
    assert {name: how for name, (how, _emulator) in found.items()} == {
        str(each): natively.get(str(each), others) for each in platforms.ALL}
    said = subprocess.run(["qemu-arm-static", "--version"], capture_output=True, text=True, check=True).stdout.split()
    assert found["linux/arm/v7"][1] == (f"qemu-arm {said[2]}" if "F" in flags else "")
    assert found["linux/amd64"][1] == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_folder_without_programs_is_refused_with_the_remedy(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", str(tmp_path)], check=True)
    try:
        with pytest.raises(FarmError, match="no program can be started in") as caught:
            abilities.tried(str(tmp_path))
        assert "noexec" in caught.value.hint
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


V1 = """\
25 20 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
29 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:11 - cgroup2 cgroup2 rw
"""
CONTAINER = """\
30 25 0:24 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu
31 25 0:25 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
"""
V2 = "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("controller", "cgroup", "mountinfo", "folders"),
    [
        ("memory", "0::/user.slice/a.scope\n", V2,
         ["/sys/fs/cgroup/user.slice/a.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"]),
        ("memory", "0::/\n", V2, ["/sys/fs/cgroup"]),
        ("cpu", "3:cpu,cpuacct:/a\n2:memory:/b\n1:name=systemd:/c\n0::/d\n", V1,
         ["/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified/d",
          "/sys/fs/cgroup/unified"]),
        ("memory", "3:cpu,cpuacct:/a\n2:memory:/b\n", V1, ["/sys/fs/cgroup/memory/b", "/sys/fs/cgroup/memory"]),
        ("cpu", "2:memory:/b\n", V1, []),
        ("memory", "4:memory:/docker/abc\n", CONTAINER, ["/sys/fs/cgroup/memory"]),
        ("memory", "4:memory:/docker/abc/x\n", CONTAINER, ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory"]),
        ("memory", "4:memory:/docker/abcd\n", CONTAINER, ["/sys/fs/cgroup/memory"]),
        ("memory", "0::/../../x\n", V2, ["/sys/fs/cgroup/x", "/sys/fs/cgroup"]),
        ("cpu", "", "", []),
    ],
)
def test_the_cgroups_that_limit_a_process_are_found(controller: str, cgroup: str, mountinfo: str,
                                                    folders: list[str]) -> None:
    assert abilities.cgroup_folders(controller, cgroup, mountinfo) == folders


def test_a_core_that_takes_twice_as_long_is_half_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 1.0, 1.02, 2.0, 2.3])
    monkeypatch.setattr(abilities.time, "process_time", lambda: next(clock))
    assert abilities.speed() == 0.5, "the fastest try counts: 20 ms, where a server takes 10"


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({}, None, 8 << 30),
        ({"/sys/fs/cgroup/a/cpu.max": "50000 100000\n", "/sys/fs/cgroup/a/memory.max": "536870912\n"}, 0.5, 512 << 20),
        ({"/sys/fs/cgroup/a/cpu.max": "max 100000\n", "/sys/fs/cgroup/a/memory.max": "max\n",
          "/sys/fs/cgroup/memory.max": "1073741824\n"}, None, 1 << 30),
        ({"/sys/fs/cgroup/a/memory.max": "99999999999999\n"}, None, 8 << 30),
        ({"/sys/fs/cgroup/a/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/a/cpu.cfs_period_us": "100000\n"}, None,
         8 << 30),
        ({"/sys/fs/cgroup/a/cpu.cfs_quota_us": "25000\n", "/sys/fs/cgroup/a/cpu.cfs_period_us": "100000\n"}, 0.25,
         8 << 30),
        ({"/sys/fs/cgroup/a/cpu.max": "rubbish\n"}, None, 8 << 30),
    ],
)
def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: float | None,
                                   memory: int) -> None:
    kernel = {"/proc/meminfo": "MemTotal:        8388608 kB\n", "/proc/self/cgroup": "0::/a\n",
              "/proc/self/mountinfo": V2, **files}
    monkeypatch.setattr(abilities, "_read", lambda path: kernel.get(path, ""))
    assert abilities.cores() == (cores or len(os.sched_getaffinity(0)))
    assert abilities.memory() == memory
