"""What the files and the configuration of an image say about its contract."""

from __future__ import annotations

import io
import stat
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from ansible_collections.desimages.farm.plugins.module_utils import elf as smallest
from ansible_collections.desimages.farm.plugins.module_utils import platforms
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.checks import CHECKS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import config, elf, files, metrics
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding, judge, merged
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.layers import File, Layers, packaged

PROJECT = Path(__file__).resolve().parents[2]
NATIVE = smallest.program(AMD64)


def file(path: str, mode: int = 0o644, kind: int = stat.S_IFREG, **more: Any) -> File:
    return File(path, kind | mode, **more)


@pytest.mark.parametrize(
    ("found", "checks"),
    [
        (file("/usr/bin/su", 0o4755), {"setuid"}),
        (file("/usr/bin/wall", 0o2755), {"setuid"}),
        (file("/usr/bin/ping", 0o755, capable=True), {"setuid"}),
        (file("/var/mail", 0o2755, stat.S_IFDIR), set()),
        (file("/etc/passwd", 0o666), {"world-writable"}),
        (file("/srv", 0o777, stat.S_IFDIR), {"world-writable"}),
        (file("/tmp", 0o1777, stat.S_IFDIR), set()),
        (file("/usr/bin/awk", 0o777, stat.S_IFLNK, target="mawk"), set()),
        (file("/etc/tls.pem", content=b"-----BEGIN EC PRIVATE KEY-----\nMHc"), {"secret"}),
        (file("/usr/share/doc/x", content=b"such as -----BEGIN PRIVATE KEY-----"), set()),
        (file("/etc/shadow", content=b"root:*:20000::::::\ndaemon:!:\n"), set()),
        (file("/etc/shadow", content=b"root:*:20000::::::\nme:$y$j9T$x:20000\n"), {"secret"}),
        (file("/root/.npmrc", content=b"//r/:_authToken=abc\n"), {"secret"}),
        (file("/etc/npmrc", content=b"//r/:_authToken=abc\n"), set()),
        (file("/usr/bin/x86_64-linux-gnu-gcc-14", 0o755), {"compiler"}),
        (file("/usr/bin/cc", 0o777, stat.S_IFLNK, target="gcc"), {"compiler"}),
        (file("/usr/local/go/bin/go", 0o755), {"compiler"}),
        (file("/usr/share/go", 0o644), set()),
        (file("/usr/bin/apt-get", 0o755), {"package-manager"}),
        (file("/usr/bin/pip3", 0o755), {"package-manager"}),
        (file("/opt/a", content=smallest.program(ARM64)), {"platform"}),
        (file("/opt/a", content=NATIVE), {"pie", "canary"}),
        (file("/opt/a", content=NATIVE[:40]), set()),
        (file("/opt/a", content=NATIVE[:19]), set()),
        (file("/opt/magic", content=NATIVE[:4]), {"platform"}),
    ],
)
def test_a_file_that_breaks_a_contract_is_found(found: File, checks: set[str]) -> None:
    seen = list(files.findings({found.path: found}, frozenset(), AMD64))
    assert {one.check for one in seen} == checks
    assert {one.subject for one in seen} <= {found.path}


def test_programs_of_debian_are_as_debian_builds_them_but_for_the_platform() -> None:
    found = {"/usr/bin/a": file("/usr/bin/a", 0o755, content=NATIVE),
             "/usr/bin/b": file("/usr/bin/b", 0o755, content=smallest.program(ARM64))}
    assert [one.subject for one in files.findings(found, frozenset(found), AMD64)] == ["/usr/bin/b"]


@pytest.mark.parametrize("platform", ALL, ids=str)
def test_each_platform_is_known_by_the_head_of_its_programs(platform: platforms.Platform) -> None:
    assert elf.machine(smallest.program(platform)) == elf.MACHINES[platform]


HARD = ("-O2", "-fPIE", "-pie", "-Wl,-z,relro", "-Wl,-z,now", "-fstack-protector-all", "-D_FORTIFY_SOURCE=2")
SOURCE = ('#include <stdio.h>\n#include <string.h>\nint main(int c, char **v) { char t[9]; t[0] = 0; '
          'if (c > 1) strcpy(t, v[1]); puts(t); return 0; }\n')


@pytest.mark.parametrize(
    ("flags", "checks"),
    [
        (HARD, set()),
        ((*HARD, "-no-pie", "-fno-pie"), {"pie"}),
        ((*HARD, "-Wl,-z,norelro"), {"relro"}),
        ((*HARD, "-Wl,-z,lazy"), {"bind-now"}),
        ((*HARD, "-fno-stack-protector"), {"canary"}),
        ((*HARD, "-U_FORTIFY_SOURCE"), {"fortify"}),
        ((*HARD, "-Wl,-z,execstack"), {"stack"}),
        ((*HARD, "-Wl,-rpath,/build/lib:$ORIGIN/../lib"), {"rpath"}),
        ((*HARD, "-s"), set()),
    ],
)
def test_a_program_that_is_not_hardened_is_found(tmp_path: Path, flags: tuple[str, ...], checks: set[str]) -> None:
    (tmp_path / "a.c").write_text(SOURCE)
    subprocess.run(["gcc", *flags, "-o", tmp_path / "a", tmp_path / "a.c"], check=True)
    found = file("/a", 0o755, content=(tmp_path / "a").read_bytes())
    here = next(platform for platform, head in elf.MACHINES.items() if head == elf.machine(found.content))
    assert {one.check for one in files.findings({"/a": found}, frozenset(), here)} == checks


def test_what_is_called_elf_but_is_none_is_no_error() -> None:
    for content in (b"\x7fELF", b"\x7fELF" + bytes(60), NATIVE[:30], NATIVE[:16] + struct.pack("<H", 1) + NATIVE[18:]):
        assert elf.read(content) is None


LABELS = {f"org.opencontainers.image.{name}": "x" for name in config.LABELS}
SERVICE = Contract(command=("serve",), user=2000, ports={"a": "1/tcp"}, health={"http": "http://a/"},
                   volumes=("/data",))
GOOD = {"Labels": LABELS, "User": "2000:2000", "ExposedPorts": {"1/tcp": {}}, "Volumes": {"/data": {}},
        "Cmd": ["serve"], "Healthcheck": {"Test": ["CMD", "/health"]}}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, set()),
        ({"Labels": {**LABELS, "org.opencontainers.image.title": ""}}, {("labels", "title")}),
        ({"Labels": None}, {("labels", name) for name in config.LABELS}),
        ({"User": ""}, {("root", "root")}),
        ({"User": "root:2000"}, {("root", "root")}),
        ({"User": "3000"}, {("config", "USER")}),
        ({"ExposedPorts": {}}, {("config", "EXPOSE")}),
        ({"ExposedPorts": {"1/tcp": {}, "2/udp": {}}}, {("config", "EXPOSE")}),
        ({"Volumes": None}, {("config", "VOLUME")}),
        ({"Healthcheck": {"Test": ["NONE"]}}, {("config", "HEALTHCHECK")}),
        ({"Healthcheck": None}, {("config", "HEALTHCHECK")}),
        ({"Cmd": ["other"]}, {("config", "CMD")}),
        ({"Cmd": None}, set()),
    ],
)
def test_a_configuration_that_is_not_the_promised_one_is_found(changed: dict[str, Any],
                                                               found: set[tuple[str, str]]) -> None:
    assert {(one.check, one.subject) for one in config.findings({**GOOD, **changed}, SERVICE)} == found


def test_an_exception_takes_its_finding_away_and_one_that_nothing_needs_is_told() -> None:
    one, other = Finding("setuid", "/usr/bin/su", "a"), Finding("setuid", "/opt/su", "b")
    own = {"setuid": {"/opt/*": "ours"}, "pie": {"/a": "why"}, "capabilities": {"SETUID": "given, and never found"}}
    judged = judge([other, one, one], own, {"setuid": {"/usr/*": "its"}})
    assert judged.findings == ()
    assert judged.excepted == ((other, "ours"), (one, "its"))
    assert judged.unused == (("pie", "/a"),)
    assert judge([one], {}, {"secret": {"*": "no"}}).findings == (one,)
    assert merged([{"a": {"x": "1"}}, {"a": {"y": "2"}, "b": {}}]) == {"a": {"x": "1", "y": "2"}, "b": {}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# TYPE a counter\na 1\n", ""),
        ('a{b="c"} 1 1700000000000\n', ""),
        ("", "has no sample"),
        ("# only a comment\n", "has no sample"),
        ("a {{{ b\n", "cannot be parsed"),
        ("<html></html>\n", "cannot be parsed"),
    ],
)
def test_metrics_that_prometheus_cannot_read_are_found(text: str, said: str) -> None:
    found = metrics.findings(text, "http://a/")
    assert [one["check"] for one in found] == (["metrics"] if said else [])
    assert all(said in one["words"] for one in found)


class Shelf:
    """The blobs of a registry."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {oci.digest(data): data for data in blobs}

    def blob(self, repository: str, digest: str, size: int) -> Any:
        data = self.blobs[digest]
        return iter([data[at:at + 7] for at in range(0, len(data), 7)])


def layer(**members: tuple[int, bytes]) -> bytes:
    """A layer of files: name (with / for __) -> mode and content."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, (mode, content) in members.items():
            entry = tarfile.TarInfo("./" + name.replace("__", "/"))
            entry.mode, entry.size = mode, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def test_layers_hide_and_replace_what_is_below() -> None:
    below = layer(a=(0o644, b"1"), b=(0o644, b"2"), c__d=(0o644, b"3"), c__e=(0o644, b"4"))
    above = zstandard.compress(layer(a=(0o755, b"5"), **{".wh.b": (0o644, b""), "c__.wh..wh..opq": (0o644, b""),
                                                         "c__f": (0o644, b"6")}))
    kind = "application/vnd.oci.image.layer.v1.tar"
    layers = tuple(oci.Descriptor(oci.digest(data), len(data), kind + more)
                   for data, more in ((below, ""), (above, "+zstd")))
    found = Layers(Shelf(below, above)).files("a/b", layers)  # type: ignore[arg-type]
    assert {path: one.content for path, one in found.items()} == {"/a": b"5", "/c/f": b"6"}
    assert found["/a"].runs


def test_a_layer_that_is_none_is_told() -> None:
    wrong = oci.Descriptor(oci.digest(b"nothing"), 7, "application/vnd.oci.image.layer.v1.tar+zstd")
    with pytest.raises(FarmError, match="is not a layer that can be read"):
        Layers(Shelf(b"nothing")).files("a/b", (wrong,))  # type: ignore[arg-type]


def test_files_of_packages_are_known_also_where_usr_is_merged() -> None:
    listed = {path: file(path, content=b"/.\n/bin\n/bin/su\n/usr/lib/x\n") for path in ["/var/lib/dpkg/info/a.list"]}
    assert {"/bin/su", "/usr/bin/su", "/usr/lib/x"} <= packaged(listed)


def test_each_check_is_described() -> None:
    said = (PROJECT / "docs/contract.md").read_text(encoding="utf-8").partition("## Checks")[2]
    assert [name for name in CHECKS if f"**{name}**" not in said] == []
