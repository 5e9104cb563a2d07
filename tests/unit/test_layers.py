"""What is in an image, layer by layer: what hides what, and what is a secret although it is hidden."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import zstandard
from ansible_collections.desimages.farm.plugins.module_utils import elf
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.verify import by_hand, files, subjects
from ansible_collections.desimages.farm.plugins.plugin_utils.verify.layers import File, Layers, Root, packaged

from .conftest import Catalog
from .faulty import Faulty, digest

TAR = "application/vnd.oci.image.layer.v1.tar"
KEY = b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n"
PROGRAM = elf.program(AMD64)


class Member(tarfile.TarInfo):
    """A member of a layer: a file with its content, or a folder, a symbolic or a hard link."""

    def __init__(self, name: str, content: bytes = b"", mode: int = 0o644, kind: bytes = tarfile.REGTYPE,
                 target: str = "", **attributes: str) -> None:
        super().__init__(name)
        self.content, self.mode, self.type, self.linkname, self.size = content, mode, kind, target, len(content)
        self.pax_headers = {f"SCHILY.xattr.security.{key}": value for key, value in attributes.items()}


def folder(name: str, mode: int = 0o755) -> Member:
    return Member(name, mode=mode, kind=tarfile.DIRTYPE)


def link(name: str, target: str) -> Member:
    return Member(name, mode=0o777, kind=tarfile.SYMTYPE, target=target)


def hard(name: str, target: str) -> Member:
    return Member(name, kind=tarfile.LNKTYPE, target=target)


def image(*layers: list[Member]) -> Root:
    """What is read of an image with these layers."""
    blobs: dict[str, bytes] = {}
    described = []
    for members in layers:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for member in members:
                archive.addfile(member, io.BytesIO(member.content))
        data = made.getvalue()
        blobs[oci.digest(data)] = data
        described.append(oci.Descriptor(oci.digest(data), len(data), TAR))
    return read(list(blobs.values()), *described)


def read(data: list[bytes], *described: oci.Descriptor) -> Root:
    blobs = {oci.digest(each): each for each in data}

    class Shelf:
        _pauses, whole = (), Registry.whole

        def blob(self, repository: str, digest: str, size: int) -> Any:
            return iter([blobs[digest]])

    return Layers(Shelf()).root("a/b", described)  # type: ignore[arg-type]


def checks(root: Root) -> set[tuple[str, str]]:
    return {(one.check, one.subject) for one in files.findings(root.files, packaged(root.files), AMD64)}


def test_a_hard_link_has_what_its_file_has_also_when_that_is_gone() -> None:
    root = image([Member("a/prog", PROGRAM, 0o4755), hard("b", "a/prog"), Member("key", KEY), hard("c", "./key")],
                 [Member("a/.wh.prog"), Member(".wh.key")])
    assert (root.files["/b"].content, stat.S_IMODE(root.files["/b"].mode)) == (PROGRAM, 0o4755)
    assert {("setuid", "/b"), ("pie", "/b"), ("secret", "/c")} <= checks(root)
    assert "/a/prog" not in root.files


def test_a_hard_link_to_a_file_with_capabilities_has_them() -> None:
    root = image([Member("ping", b"x", 0o755, capability="\1"), hard("pong", "ping")])
    assert {"/ping", "/pong"} == {path for check, path in checks(root) if check == "setuid"}


def test_a_hard_link_has_also_the_mode_and_the_capabilities_of_its_own_entry() -> None:
    """Engines set both of the file, whichever name they are given with."""
    linked, capable = hard("b", "a"), hard("c", "a")
    linked.mode, capable.pax_headers = 0o4755, {"SCHILY.xattr.security.capability": "\1"}
    assert checks(image([Member("a", b"x", 0o755), linked, capable])) == {("setuid", "/b"), ("setuid", "/c")}


@pytest.mark.parametrize(("pack", "kind"), [(gzip.compress, TAR + "+gzip"), (zstandard.compress, TAR + "+zstd")])
def test_a_layer_that_was_compressed_in_parts_is_read_whole(pack: Callable[[bytes], bytes], kind: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for member in (Member("a", b"x" * 512), Member("b"), Member("key", KEY)):
            archive.addfile(member, io.BytesIO(member.content))
    plain = made.getvalue()
    for cut in (100, 1024, 1536):
        data = pack(plain[:cut]) + pack(plain[cut:])
        assert set(read([data], oci.Descriptor(oci.digest(data), len(data), kind)).files) == {"/a", "/b", "/key"}


@pytest.mark.parametrize("spoil", [lambda data: data[:30] + b"x" * 20 + data[50:], lambda data: data[:20],
                                   lambda data: data[:2] + b"x" + data[3:], lambda data: data[:2]])
def test_a_damaged_compressed_layer_is_none(spoil: Callable[[bytes], bytes]) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(Member("a", b"x" * 512), io.BytesIO(b"x" * 512))
    data = spoil(gzip.compress(made.getvalue()))
    with pytest.raises(FarmError, match="is not a readable layer"):
        read([data], oci.Descriptor(oci.digest(data), len(data), TAR + "+gzip"))


@pytest.mark.parametrize(("pack", "kind"), [(bytes, TAR), (gzip.compress, TAR + "+gzip"),
                                            (zstandard.compress, TAR + "+zstd")])
def test_a_layer_that_ends_before_its_files_is_none(pack: Callable[[bytes], bytes], kind: str) -> None:
    """tarfile would read at the end again and again: a header may claim more than a disk can have."""
    for size, kind_of_entry in ((1000, tarfile.REGTYPE), (1 << 60, b"9")):
        entry = tarfile.TarInfo("a")
        entry.size, entry.type = size, kind_of_entry
        data = pack(entry.tobuf(tarfile.GNU_FORMAT) + bytes(512))
        with pytest.raises(FarmError, match="is not a readable layer"):
            read([data], oci.Descriptor(oci.digest(data), len(data), kind))


@pytest.mark.parametrize("spoilt", [{"GNU.sparse.map": "0,x"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}])
def test_a_layer_with_an_entry_that_means_nothing_is_none(spoilt: dict[str, str]) -> None:
    entry = Member("a", b"x" * 600)
    entry.pax_headers = spoilt
    with pytest.raises(FarmError, match="is not a readable layer"):
        image([entry])


def test_bits_that_no_mode_has_are_none() -> None:
    for mode in (b"7777777\0", b"\xff" * 8):  # the second is -1
        head = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
        head[100:108], head[148:156] = mode, b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        data = bytes(head) + bytes(1024)
        assert checks(read([data], oci.Descriptor(oci.digest(data), len(data), TAR))) == {
            ("setuid", "/a"), ("world-writable", "/a")}


def test_a_hard_link_keeps_its_content_when_its_file_is_replaced() -> None:
    root = image([Member("a", b"1"), hard("b", "a")], [Member("a", b"2")])
    assert {path: file.content for path, file in root.files.items()} == {"/a": b"2", "/b": b"1"}


def test_what_a_layer_hides_is_below_it_whatever_the_order_of_its_members() -> None:
    below = [Member("c/old", b"1"), Member("d", b"2")]
    members = [Member("c/new", b"3"), Member("c/.wh..wh..opq")]
    for order in (members, members[::-1]):
        assert set(image(below, order).files) == {"/c/new", "/d"}
    assert set(image(below, [Member("d", b"3"), Member(".wh.d"), Member(".wh.c")]).files) == {"/d"}


def test_a_layer_that_hides_all_below_hides_the_root() -> None:
    root = image([folder("./", 0o777), Member("a", b"1"), Member("b/c", b"1")], [Member(".wh..wh..opq"), Member("d")])
    assert set(root.files) == {"/", "/d"}


def test_a_layer_that_hides_thousands_of_folders_is_applied_at_once() -> None:
    def layer(name: str) -> oci.Descriptor:
        return oci.Descriptor(f"sha256:{name}", 1, TAR)

    root, began, many = Root(), time.monotonic(), range(30_000)
    root.apply(layer("a"), [(f"/d{n}/f", File(f"/d{n}/f", stat.S_IFREG)) for n in many])
    root.apply(layer("b"), [(f"/d{n}/" if n % 2 else f"/d{n}", None) for n in many if n])
    assert set(root.files) == {"/d0/f"} and len(root.hidden) == len(many) - 1
    assert time.monotonic() - began < 10  # each by itself takes minutes


def test_files_are_where_links_of_folders_lead() -> None:
    below = [folder("usr/lib"), link("lib", "usr/lib"), link("far", "/lib/../lib"), link("round", "round"),
             Member("usr/lib/a", b"1"), Member("usr/lib/b", b"1")]
    root = image(below, [Member("lib/a", b"2"), Member("far/.wh.b"), Member("lib/c", b"3"), Member("round/x", b"4")])
    assert {path: file.content for path, file in root.files.items() if file.regular} == {
        "/usr/lib/a": b"2", "/usr/lib/c": b"3", "/round/x": b"4"}


def test_a_folder_stays_when_a_later_layer_has_it_too_and_goes_when_a_file_takes_its_name() -> None:
    below = [folder("a", 0o777), Member("a/b", KEY)]
    assert set(image(below, [folder("a", 0o755)]).files) == {"/a", "/a/b"}
    assert set(image(below, [Member("a", b"x")]).files) == {"/a"}


def test_a_secret_that_a_later_layer_hides_is_found_in_its_layer() -> None:
    root = image([Member("root/key", KEY), Member("etc/shadow", b"me:$y$j:1:\n"), Member("x", b"plain"), folder("d"),
                  Member("d/key", KEY), Member("prog", PROGRAM, 0o4777)],
                 [Member("root/.wh.key"), Member("etc/shadow", b"me:*:1:\n"), Member(".wh.x"), Member("d", b"file"),
                  Member(".wh.prog")])
    assert not {one for one in checks(root) if one[0] in ("secret", "setuid")}
    found = list(files.secrets_below(root.hidden))
    assert {(one.check, one.subject) for one, _layer in found} == {
        ("secret", "/root/key"), ("secret", "/etc/shadow"), ("secret", "/d/key")}
    finding, layer = found[0]
    assert layer.digest in finding.words
    assert by_hand.below(finding, "http://r/v2/a/b/blobs", layer) == (
        f"curl -sL http://r/v2/a/b/blobs/{layer.digest} | cat | tar -xO {finding.subject[1:]}")


@pytest.mark.parametrize("content", [
    b"x" * (70 << 10) + KEY, KEY + b"x" * (70 << 10), b"x" * ((1 << 20) + (64 << 10) - 20) + KEY + b"x" * (2 << 20),
    PROGRAM + b"\0" + KEY,
])
def test_a_secret_in_a_large_file_or_a_program_is_found(content: bytes) -> None:
    root = image([Member("a", content)])
    assert ("secret", "/a") in checks(root)
    assert root.files["/a"].elf or not root.files["/a"].content


def test_a_key_in_a_program_of_a_package_is_no_secret() -> None:
    """GnuTLS has some, with which it tests itself."""
    program = PROGRAM + b"\0" + KEY
    md5 = hashlib.md5(program, usedforsecurity=False).hexdigest()
    info = "var/lib/dpkg/info/a"
    records = [Member(f"{info}.list", b"/usr/lib/a.so\n"),
               Member(f"{info}.md5sums", f"{md5}  usr/lib/a.so\n".encode()), Member("usr/lib/a.so", program)]
    assert "secret" not in {check for check, path in checks(image(records))}
    own = image(records, [Member("usr/lib/a.so", program + b"\0")])
    assert ("secret", "/usr/lib/a.so") in checks(own) and not [*files.secrets_below(own.hidden)]


def test_what_only_looks_like_a_secret_in_a_compressed_file_is_none() -> None:
    assert checks(image([Member("a.gz", b"\x1f\x8b" + b"x" * (70 << 10) + KEY)])) == set()


def test_a_program_of_a_package_is_debians_only_as_long_as_it_is_what_the_package_brought() -> None:
    info, md5 = "var/lib/dpkg/info/", hashlib.md5(PROGRAM, usedforsecurity=False).hexdigest()
    records = [Member(f"{info}a.list", b"/.\n/bin/a\n/usr/bin/b\n/usr/bin/c\n"),
               Member(f"{info}a.md5sums", f"{md5}  bin/a\n{md5}  usr/bin/b\n".encode()),
               *(Member(f"usr/bin/{name}", PROGRAM, 0o755) for name in "abc")]
    assert {"/usr/bin/a", "/usr/bin/b", "/usr/bin/c"} <= packaged(image(records).files)
    own = [Member("usr/bin/a", PROGRAM + b"\0", 0o755), Member("usr/bin/b", PROGRAM, 0o755)]
    root = image(records, own)
    assert {path for check, path in checks(root) if check == "pie"} == {"/usr/bin/a"}


def test_a_name_of_a_file_commands_no_terminal_and_can_be_written() -> None:
    for name in ("\x1b[2Jup", "\udcff"):
        one, = files.findings({f"/{name}": File(f"/{name}", stat.S_IFREG | 0o4755)}, frozenset(), AMD64)
        said = subjects.shown(replace(one, by_hand=by_hand.of(one, "r/a")))
        assert all("\x1b" not in text and text.encode() for text in said.values())
        assert said["check"] == "setuid"


def test_the_commands_for_people_show_what_was_read() -> None:
    found = {path: File(path, stat.S_IFREG | mode, content=content) for path, mode, content in [
        ("/usr/bin/su", 0o4755, b""), ("/opt/it's", 0o755, PROGRAM), ("/etc/key", 0o600, KEY)]}
    shown = {(one.check, one.subject): by_hand.of(one, "r/a@sha256:1")
             for one in files.findings(found, frozenset(), AMD64)}
    assert shown["setuid", "/usr/bin/su"] == (
        'docker cp "$(docker create r/a@sha256:1 -)":/usr/bin/su - | tar --xattrs -tvv | head -n 3')
    assert shown["pie", "/opt/it's"] == (
        'docker cp "$(docker create r/a@sha256:1 -)":\'/opt/it\'"\'"\'s\' /tmp/seen && readelf -hW /tmp/seen')
    assert shown["secret", "/etc/key"] == 'docker cp "$(docker create r/a@sha256:1 -)":/etc/key - | tar -xO'
    assert by_hand.of(files.Finding("root", "/etc/passwd", ""), "r/a") == (
        'docker cp "$(docker create r/a -)":/etc/passwd - | tar -xO')
    assert by_hand.of(files.Finding("secret", "history TOKEN", ""), "r/a").endswith(" && docker history --no-trunc r/a")
    assert by_hand.of(files.Finding("root", "0", ""), "r/a") == "docker pull -q r/a && docker image inspect r/a"


def test_an_index_that_names_no_image_is_refused_by_the_name_of_its_unit(chain: Catalog, faulty: Faulty) -> None:
    plan, none = chain.plan(), oci.index([], {})
    key = next(iter(plan.units))
    faulty.manifests[f"farm/{key.image}", digest(none)] = none, oci.INDEX
    reader = subjects.Reader(Registry(faulty.address, pauses=()), "farm", plan, print)
    with pytest.raises(FarmError, match=f"^{key}: .* is an index without manifests"):
        reader.all({key: digest(none)})


@pytest.mark.parametrize("said", [
    b"[]", b"no JSON", b'{"config": 1}', b'{"config": {"Env": [null]}}',
    b'{"config": {"Healthcheck": {"Test": {"a": 1}}}}',
    b'{"config": {"ExposedPorts": 1}}', b'{"config": {}, "history": [null]}', b"[" * 100_000,
])
def test_a_configuration_of_another_shape_is_refused_by_the_name_of_its_unit(chain: Catalog, faulty: Faulty,
                                                                             said: bytes) -> None:
    plan = chain.plan()
    key = next(iter(plan.units))
    faulty.blobs[digest(said)] = said
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(said), "size": len(said)}
    made = json.dumps({"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": config, "layers": []}).encode()
    faulty.manifests[f"farm/{key.image}", digest(made)] = made, oci.MANIFEST
    reader = subjects.Reader(Registry(faulty.address, pauses=()), "farm", plan, print)
    with pytest.raises(FarmError, match=f"^{key}: the configuration of .* cannot be read"):
        reader.all({key: digest(made)})
