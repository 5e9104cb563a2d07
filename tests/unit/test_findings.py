"""What the files and the configuration of an image say about its contract."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from ansible_collections.desimages.farm.plugins.module_utils import elf as smallest
from ansible_collections.desimages.farm.plugins.module_utils import platforms
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import ALL, AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import elffile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.checks import CHECKS
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.contract import Contract
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.http import BrokenOff
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import config, elf, files, metrics
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.findings import Finding, judge, merged
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.layers import File, Layers, packaged

PROJECT = Path(__file__).resolve().parents[2]
NATIVE = smallest.program(AMD64)


def small(platform: platforms.Platform) -> bytes:
    """The beginning of a program, in which nothing is that could be hardened."""
    return smallest.program(platform)[:40]


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
        (file("/etc/not.npmrc", content=b"//r/:_authToken=abc\n"), set()),
        (file("/usr/etc/npmrc", content=b"//r/:_authToken=abc\n"), {"secret"}),
        (file("/usr/bin/x86_64-linux-gnu-gcc-14", 0o755), {"compiler"}),
        (file("/usr/bin/gcc.real", 0o755), {"compiler"}),
        (file("/usr/bin/rustc-1.85", 0o755), {"compiler"}),
        (file("/usr/bin/cc", 0o777, stat.S_IFLNK, target="gcc"), {"compiler"}),
        (file("/usr/local/go/bin/go", 0o755), {"compiler"}),
        (file("/usr/share/go", 0o644), set()),
        (file("/usr/bin/apt-get", 0o755), {"package-manager"}),
        (file("/usr/bin/pip3", 0o755), {"package-manager"}),
        (file("/opt/a", content=smallest.program(ARM64)), {"platform"}),
        (file("/opt/a", content=NATIVE), {"pie", "canary", "stack"}),
        (file("/opt/a", content=NATIVE[:40]), set()),
        (file("/opt/a", content=NATIVE[:19]), set()),
        (file("/opt/magic", content=NATIVE[:4]), {"platform"}),
        (file("/etc/account.json", content=rb'{"private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ'
              rb'EFAASC\n'), {"secret"}),
        (file("/srv/pem.js", content=rb"x = '-----BEGIN PRIVATE KEY-----\n' + lines"), set()),
        (file("/root/x.ppk", content=b"PuTTY-User-Key-File-3: ssh-ed25519\n"), {"secret"}),
        (file("/etc/shadow-", content=b"me:$y$j9T$x:20000\n"), {"secret"}),
        (file("/etc/passwd", content=b"root:x:0:0::/:\ndaemon:*:1:1:::\n+::::\n-::::\n"), set()),
        (file("/etc/passwd", content=b"root:$1$x$y:0:0::/:\n"), {"secret"}),
        (file("/etc/pam.d/passwd", content=b"auth: required\n"), set()),
        (file("/root/.cargo/credentials.toml", content=b"token = \"x\"\n"), {"secret"}),
        (file("/root/.kube/config", content=b"users:\n- user:\n    token: abc\n"), {"secret"}),
        (file("/etc/pip.conf", content=b"index-url = https://me:word@example.org/simple\n"), {"secret"}),
        (file("/etc/pip.conf", content=b"index-url = https://example.org:443/simple@1\n"), set()),
        (file("/usr/bin/x86_64-linux-gnu-ld.bfd", 0o755), {"compiler"}),
        (file("/usr/bin/x86_64-linux-gnu-cpp-14", 0o755), {"compiler"}),
        (file("/usr/bin/mold", 0o755), {"compiler"}),
        (file("/usr/bin/x86_64-linux-gnu-gfortran-14", 0o755), {"compiler"}),
        (file("/usr/bin/x86_64-linux-gnu-clang-19", 0o755), {"compiler"}),
        (file("/root/sdk/go/bin/go1.22.0", 0o755), {"compiler"}),
        (file("/opt/tcc", 0o755, content=small(AMD64)), {"compiler"}),
        (file("/opt/tcc", 0o755, content=b"#!/bin/sh\n"), set()),
        (file("/opt/tcc", 0o644, content=small(AMD64)), set()),
        (file("/usr/share/make", 0o777, stat.S_IFLNK, target="x"), set()),
        (file("/app/uv", 0o755, content=small(AMD64)), {"package-manager"}),
        (file("/usr/bin/gem3.3", 0o755), {"package-manager"}),
        (file("/usr/local/bin/bun", 0o755), {"package-manager"}),
        (file("/usr/lib/python3.13/ensurepip/_bundled/pip-25.1-py3-none-any.whl"), {"package-manager"}),
        (file("/opt/composer.phar"), {"package-manager"}),
        (file("/usr/bin/meson", 0o755), {"compiler"}),
        (file("/usr/bin/microdnf", 0o755), {"package-manager"}),
        (file("/usr/lib/python3/dist-packages/pip/__main__.py"), {"package-manager"}),
        (file("/usr/local/lib/node_modules/npm/bin/npm-cli.js"), {"package-manager"}),
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
        ((*(flag for flag in HARD if flag != "-Wl,-z,now"), "-static-pie"), set()),  # binds by itself
        (("-static", *(flag for flag in HARD if flag not in ("-fPIE", "-pie"))), {"pie"}),
        ((*HARD, "-Wl,-dynamic-linker,lib/ld.so"), {"rpath"}),
    ],
)
def test_a_program_that_is_not_hardened_is_found(tmp_path: Path, flags: tuple[str, ...], checks: set[str]) -> None:
    found = file("/a", 0o755, content=compiled(tmp_path, *flags))
    assert seen(found) == checks


def seen(program: File, *paths: str) -> set[str]:
    """The checks that find something in a program of this machine, in an image with its loader, or with `paths`."""
    here = next(platform for platform, head in elf.MACHINES.items() if head == elf.machine(program.content))
    read = elf.read(program.content)
    others = paths or ((read.loader,) if read and read.loader else ())
    image = {program.path: program, **{path: file(path) for path in others}}
    return {one.check for one in files.findings(image, frozenset(), here)}


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled(tmp_path_factory.mktemp("hard"), *HARD)


def compiled(folder: Path, *flags: str) -> bytes:
    (folder / "a.c").write_text(SOURCE)
    subprocess.run(["gcc", *flags, "-o", folder / "a", folder / "a.c"], check=True)
    return (folder / "a").read_bytes()


def test_a_program_whose_loader_is_not_in_the_image_is_for_another(hard: bytes) -> None:
    assert seen(file("/a", 0o755, content=hard), "/lib/ld-of-others.so.1") == {"platform"}
    loader = elf.read(hard).loader.rpartition("/")[2]  # type: ignore[union-attr]
    assert seen(file("/a", 0o755, content=hard), f"/usr/lib/anywhere/{loader}") == set()


def test_a_program_that_says_nothing_of_its_stack_has_an_executable_one_on_some_machines(hard: bytes) -> None:
    at = hard.index(struct.pack("<I", 0x6474E551))  # PT_GNU_STACK
    assert "stack" in seen(file("/a", 0o755, content=hard[:at] + bytes(4) + hard[at + 4:]))
    for platform, checks in ((ARM64, {"pie", "canary"}), (platforms.S390X, {"pie", "canary", "stack"})):
        found = file("/a", 0o755, content=smallest.program(platform))
        assert {one.check for one in files.findings({"/a": found}, frozenset(), platform)} == checks


def test_sections_that_cannot_be_read_hide_nothing(tmp_path: Path) -> None:
    content = compiled(tmp_path, *HARD, "-Wl,-z,lazy", "-Wl,-z,norelro", "-no-pie", "-fno-pie")
    for place, value in ((40, b"\xff" * 8), (62, b"\xf0\xf0"), (40, struct.pack("<Q", len(content) - 9))):
        spoilt = content[:place] + value + content[place + len(value):]
        assert {"pie", "relro", "bind-now"} <= seen(file("/a", 0o755, content=spoilt)), place


@pytest.mark.parametrize(("name", "checks"), [("libx.so", set()), ("./libx.so", {"rpath"}), ("/tmp/libx.so", {"rpath"}),
                                              ("/usr/lib/libx.so", set())])
def test_a_library_that_is_named_with_a_folder_is_looked_for_there_alone(tmp_path: Path, name: str,
                                                                         checks: set[str]) -> None:
    library = tmp_path / "x.so"
    subprocess.run(["gcc", "-shared", "-o", library, f"-Wl,-soname,{name}", "-x", "c", os.devnull], check=True)
    assert seen(file("/a", 0o755, content=compiled(tmp_path, *HARD, "-Wl,--no-as-needed", str(library)))) == checks


def test_a_section_that_is_compressed_is_not_unpacked(hard: bytes) -> None:
    """It may be broken, or much larger than the file."""
    there = elffile.ELFFile(io.BytesIO(hard))
    number = next(number for number, section in enumerate(there.iter_sections()) if section.name == ".comment")
    at = there["e_shoff"] + number * there["e_shentsize"] + 8  # sh_flags
    spoilt = bytearray(hard)
    spoilt[at:at + 8] = struct.pack("<Q", 0x800)  # SHF_COMPRESSED
    begin = there.get_section(number)["sh_offset"]
    spoilt[begin:begin + 4] = struct.pack("<I", 1)  # ELFCOMPRESS_ZLIB
    assert seen(file("/a", 0o755, content=bytes(spoilt))) == set()


def test_no_damage_to_a_program_ends_the_reading(hard: bytes) -> None:
    chance = random.Random(1)
    for _try in range(300):
        spoilt = bytearray(hard)
        for _change in range(chance.randint(1, 8)):
            place = chance.choice((chance.randrange(20, 1024), chance.randrange(20, len(spoilt))))
            spoilt[place] = chance.randrange(256)
        elf.read(bytes(spoilt[:chance.choice((len(spoilt), chance.randrange(20, len(spoilt))))]))


def test_a_program_for_musl_has_no_checked_functions_to_use(tmp_path: Path) -> None:
    flags = [flag for flag in HARD if not flag.startswith("-D")]
    content = compiled(tmp_path, *flags, "-U_FORTIFY_SOURCE", "-Wl,-dynamic-linker,/lib/ld-musl-x86_64.so.1")
    assert seen(file("/a", 0o755, content=content)) == set()


@pytest.mark.parametrize(
    ("path", "rpath", "strays"),
    [
        ("/usr/bin/a", "$ORIGIN/../lib", False),
        ("/usr/bin/a", "${ORIGIN}/../lib", False),
        ("/opt/x/site/core/a.so", "$ORIGIN/../../x.libs:/usr/lib/x", False),
        ("/a", "$ORIGIN", False),
        ("/usr/bin/a", "/usr/lib", False),
        ("/usr/bin/a", "/lib/x86_64-linux-gnu", False),
        ("/usr/bin/a", "/lib64:/usr/lib64/x", False),
        ("/usr/bin/a", "", False),  # ld.so takes it for none
        ("/usr/bin/a", "/usr/lib/x:", True),  # the current folder
        ("/usr/bin/a", "lib", True),
        ("/usr/bin/a", "/usr/lib/../../tmp", True),
        ("/usr/bin/a", "$ORIGIN/../../tmp", True),
        ("/usr/bin/a", "$ORIGINAL/lib", True),
        ("/usr/bin/a", "/usr/library", True),
        ("/usr/bin/a", "/opt/x", True),
    ],
)
def test_a_program_looks_for_libraries_in_the_systems_folders_and_beside_itself(path: str, rpath: str,
                                                                                strays: bool) -> None:
    found = elf.Elf(elf.C, True, True, True, True, True, True, False,
                    tuple(part for text in [rpath] if text for part in text.split(":")))
    assert bool(files._unhardened(found, path.rpartition("/")[0] or "/")) is strays


def test_what_is_called_elf_but_is_none_is_no_error() -> None:
    for content in (b"\x7fELF", b"\x7fELF" + bytes(60), NATIVE[:30], NATIVE[:16] + struct.pack("<H", 1) + NATIVE[18:]):
        assert elf.read(content) is None


CREATED = "org.opencontainers.image.created"
LABELS = {**{f"org.opencontainers.image.{name}": "x" for name in config.LABELS}, CREATED: "2026-08-01T00:00:00Z"}
SERVICE = Contract(command=("serve",), user=2000, ports={"a": "1/tcp"}, health={"http": "http://a/", "within": 5},
                   volumes=("/data",))
GOOD = {"Labels": LABELS, "User": "2000:2000", "ExposedPorts": {"1/tcp": {}}, "Volumes": {"/data": {}},
        "Cmd": ["serve"], "Healthcheck": {"Test": ["CMD", "/health", "http://a/"]}}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, set()),
        ({"Labels": {**LABELS, "org.opencontainers.image.title": ""}}, {("labels", "title")}),
        ({"Labels": None}, {("labels", name) for name in config.LABELS}),
        ({"User": ""}, {("root", "root")}),
        ({"User": "root:2000"}, {("root", "root")}),
        ({"User": ":2000"}, {("root", "root")}),
        ({"User": "00"}, {("root", "00")}),
        ({"User": "toor"}, {("root", "toor")}),
        ({"User": "+0"}, {("root", "+0")}),
        ({"User": "2001"}, {("root", "2001")}),  # a name of root, which engines take for it
        ({"User": "twice"}, set()),
        ({"Labels": {**LABELS, "org.opencontainers.image.title": " "}}, {("labels", "title")}),
        ({"Labels": {**LABELS, CREATED: "yesterday"}}, {("labels", "created")}),
        ({"Labels": {**LABELS, CREATED: "2026-13-01T00:00:00Z"}}, {("labels", "created")}),
        ({"Labels": {**LABELS, CREATED: "2026-08-01T00:00:00.5+02:00"}}, set()),
        ({"Healthcheck": {"Test": ["CMD", "/health", "http://b/"]}}, {("config", "HEALTHCHECK")}),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "/health http://$WHERE/"]}}, set()),
        ({"Env": ["PATH=/usr/bin:/bin", "LD_LIBRARY_PATH="]}, set()),
        ({"Env": ["PATH=/usr/bin:bin"]}, {("config", "ENV PATH")}),
        ({"Env": ["PATH=:/usr/bin"]}, {("config", "ENV PATH")}),
        ({"Env": ["PATH=/usr/bin:/usr/../tmp/bin"]}, {("config", "ENV PATH")}),
        ({"Env": ["LD_LIBRARY_PATH=/data/lib"]}, {("config", "ENV LD_LIBRARY_PATH")}),
        ({"Env": ["LD_LIBRARY_PATH=/database/lib"]}, set()),
        ({"User": "app"}, set()),
        ({"User": "other"}, {("config", "USER")}),
        ({"User": "nobody-knows"}, {("config", "USER")}),
        ({"User": "3000"}, {("config", "USER")}),
        ({"ExposedPorts": {}}, {("config", "EXPOSE")}),
        ({"ExposedPorts": {port.removesuffix("/tcp"): {} for port in GOOD["ExposedPorts"]}}, set()),
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
    users = config.users("root:x:0:0::/:/bin/sh\ntoor:x:0:0:::\napp:x:2000:2000:::\nother:x:2001:1:::\nbroken\n+::::\n"
                         f"2001:x:0:0:::\ntwice:x:2000:1:::\ntwice:x:0:0:::\nmany:x:{'9' * 5000}:0:::\n")
    seen = {(one.check, one.subject) for one in config.findings({**GOOD, **changed}, SERVICE, users)}
    assert seen == found | {("root", "/etc/passwd")}  # toor


def test_a_user_of_no_number_is_found_although_the_recipe_promises_none() -> None:
    found = config.findings({**GOOD, "User": "nobody-knows"}, Contract(), config.users("root:x:0:0:::\n"))
    assert ("config", "USER") in {(one.check, one.subject) for one in found}


def test_root_has_one_name() -> None:
    for passwd, found in (("root:*:0:0::/:/bin/sh\napp:*:2000:0:::\n", []), ("", []),
                          ("root:*:0:0:::\ntoor:*:0:0:::\n", ["root"])):
        assert [one.check for one in config.findings(GOOD, SERVICE, config.users(passwd))] == found


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"config": {"Env": ["PATH=/bin", "POSTGRES_PASSWORD_FILE=/run/x", "TOKEN=", "API_KEY=/run/key"]}}, set()),
        ({"config": {"Env": ["POSTGRES_PASSWORD=x", "npm_token=y", "GPG_KEY=0D96"]}},
         {"ENV POSTGRES_PASSWORD", "ENV npm_token"}),
        ({"config": {"Labels": {"a": "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC"}}},
         {"configuration"}),
        ({"history": [{"created_by": "RUN echo '-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC'"}]},
         {"configuration"}),
        ({"config": None}, set()),
    ],
)
def test_a_secret_in_the_configuration_is_found(said: dict[str, Any], found: set[str]) -> None:
    assert {one.subject for one in config.secrets(said) if one.check == "secret"} == found


def test_an_exception_takes_its_finding_away_and_one_that_nothing_needs_is_told() -> None:
    one, other = Finding("setuid", "/usr/bin/su", "a"), Finding("setuid", "/opt/su", "b")
    own = {"setuid": {"/opt/*": "ours"}, "pie": {"/a": "why"}, "capabilities": {"SETUID": "given, and never found"}}
    judged = judge([other, one, one], own, {"setuid": {"/usr/*": "its"}})
    assert judged.findings == ()
    assert judged.excepted == ((other, "ours"), (one, "its"))
    assert judged.unused == (("pie", "/a"),)
    assert judge([one], {}, {"secret": {"*": "no"}}).findings == (one,)
    assert merged([{"a": {"x": "1"}}, {"a": {"y": "2"}, "b": {}}]) == {"a": {"x": "1", "y": "2"}, "b": {}}


def test_brackets_in_an_exception_mean_themselves() -> None:
    asked = Finding("answers", "GET http://[::1]:5000/", "it answers with 404")
    assert judge([asked], {"answers": {"GET http://[::1]:*": "why"}}, {}).findings == ()
    assert judge([asked], {"answers": {"GET http://[:1]*": "why"}}, {}).findings == (asked,)


def test_metrics_that_a_trial_read_are_checked_also_if_they_are_empty() -> None:
    assert metrics.added({}, {}) == []
    one, = metrics.added({"metrics": "", "by_hand": "ask it"}, {"metrics": "http://a/"})
    assert (one["words"], one["by_hand"]) == ("http://a/ has no sample", "ask it | promtool check metrics")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# TYPE a counter\na 1\n", ""),
        ('a{b="c"} 1 1700000000000\n', ""),
        ("", "has no sample"),
        ("# only a comment\n", "has no sample"),
        ("a {{{ b\n", "cannot be parsed"),
        ('a{b="1"} 1\na{b="2"} 1\n', ""),
        ('a{b="1",c="2"} 1\na{c="2",b="1"} 2\n', 'has a{b="1",c="2"} twice'),
        ("# TYPE a counter\na 1\n# TYPE a gauge\nb 1\n", "has the type of a twice"),
        ('# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n', ""),
        ("<html></html>\n", "cannot be parsed"),
        (f"a 1 {'1' * 400}\n", "cannot be parsed"),
        ("# TYPE a\na 1\n", "cannot be parsed: a line lacks something"),
    ],
)
def test_metrics_that_prometheus_cannot_read_are_found(text: str, said: str) -> None:
    found = metrics.findings(text, "http://a/")
    assert [one["check"] for one in found] == (["metrics"] if said else [])
    assert all(said in one["words"] for one in found)


class Shelf:
    """The blobs of a registry, of which the first answers break off."""

    _pauses, whole = (0, 0), Registry.whole

    def __init__(self, *blobs: bytes, breaks: int = 0) -> None:
        self.blobs = {oci.digest(data): data for data in blobs}
        self.breaks = breaks

    def blob(self, repository: str, digest: str, size: int) -> Iterator[bytes]:
        data = self.blobs[digest]
        for at in range(0, len(data), 7):
            if at > len(data) // 2 and self.breaks:
                self.breaks -= 1
                raise BrokenOff("it breaks off")
            yield data[at:at + 7]


def layer(**members: tuple[int, bytes]) -> bytes:
    """A layer of files: name (with / for __) -> mode and content."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, (mode, content) in members.items():
            entry = tarfile.TarInfo("./" + name.replace("__", "/"))
            entry.mode, entry.size = mode, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize("breaks", [0, 2, 3])
def test_layers_hide_and_replace_what_is_below(breaks: int) -> None:
    below = layer(a=(0o644, b"1"), b=(0o644, b"2"), c__d=(0o644, b"3"), c__e=(0o644, b"4"))
    above = zstandard.compress(layer(a=(0o755, b"5"), **{".wh.b": (0o644, b""), "c__.wh..wh..opq": (0o644, b""),
                                                         "c__f": (0o644, b"6")}))
    kind = "application/vnd.oci.image.layer.v1.tar"
    layers = tuple(oci.Descriptor(oci.digest(data), len(data), kind + more)
                   for data, more in ((below, ""), (above, "+zstd")))
    read = Layers(Shelf(below, above, breaks=breaks))  # type: ignore[arg-type]
    if breaks > 2:
        with pytest.raises(BrokenOff, match="it breaks off"):
            read.root("a/b", layers)
        return
    found = read.root("a/b", layers).files
    assert {path: one.content for path, one in found.items()} == {"/a": b"5", "/c/f": b"6"}
    assert found["/a"].runs


def test_a_layer_that_is_none_is_told() -> None:
    wrong = oci.Descriptor(oci.digest(b"nothing"), 7, "application/vnd.oci.image.layer.v1.tar+zstd")
    with pytest.raises(FarmError, match="is not a readable layer"):
        Layers(Shelf(b"nothing")).root("a/b", (wrong,))  # type: ignore[arg-type]


def test_files_of_packages_are_known_also_where_usr_is_merged() -> None:
    listed = {path: file(path, content=b"/.\n/bin\n/bin/su\n/usr/lib/x\n") for path in ["/var/lib/dpkg/info/a.list"]}
    assert {"/bin/su", "/usr/bin/su", "/usr/lib/x"} <= packaged(listed)


def test_each_check_is_described() -> None:
    said = (PROJECT / "docs/contract.md").read_text(encoding="utf-8").partition("## Checks")[2]
    assert [name for name in CHECKS if f"**{name}**" not in said] == []
