"""The registry's client, on registries that answer incorrectly; integration tests try the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    HashMismatch,
    NoSpace,
    RegistryError,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import client, oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .faulty import Faulty, Reply, digest, to


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a registry knows a moment later is known sooner here."""
    monkeypatch.setattr(client, "SOON", (0.01, 0.02, 0.03))


DATA = b"what is pushed"
TO = digest(DATA)


def index(*children: dict[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": children}).encode()


# --- names ---


@pytest.mark.parametrize(
    "name", ["ver#1", "x/../y", "v1+b", "v 1", "", ".v1", "-v1", "a" * 129, "v1\n", "ä", "sha256:12", "v?x=1", "v%2f1"]
)
def test_a_tag_that_is_none_comes_into_no_request(faulty: Faulty, name: str) -> None:
    registry = to(faulty)
    for act in (
        lambda: registry.digest("a/b", name),
        lambda: registry.manifest("a/b", name),
        lambda: registry.put_manifest("a/b", name, b"{}", oci.MANIFEST),
    ):
        with pytest.raises(RegistryError, match="must be a tag"):
            act()
    assert faulty.asked == []


@pytest.mark.parametrize(
    "name", ["A/b", "a//b", "a/../b", "/a", "a/", "", "a b", "a?b", "a#b", "a" * 256, "_a", "a%2fb"]
)
def test_a_repository_that_is_none_comes_into_no_request(faulty: Faulty, name: str) -> None:
    registry = to(faulty)
    for act in (
        lambda: registry.digest(name, "v1"),
        lambda: registry.tags(name),
        lambda: registry.has_blob(name, TO),
        lambda: registry.put_blob(name, DATA, TO),
        lambda: registry.delete_manifest(name, TO),
    ):
        with pytest.raises(RegistryError, match="lower case letters"):
            act()
    assert faulty.asked == []


@pytest.mark.parametrize("address", ["", "http://a", "a/b", "me:secret@host", "host:0", "host:65536", "a b", "host:"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(RegistryError, match="HOST:PORT"):
        Registry(address)


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("localhost:5000", "http://localhost:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("127.0.0.1.example.org", "https://127.0.0.1.example.org"),
        ("127.example.org:5000", "https://127.example.org:5000"),
        ("localhost.example.org", "https://localhost.example.org"),
    ],
)
def test_only_this_machine_itself_is_spoken_to_in_the_clear(address: str, base: str) -> None:
    assert Registry(address).base == base


# --- what is told of a manifest ---


@pytest.mark.parametrize(
    "change",
    [
        lambda faulty: faulty.drop.add("Docker-Content-Digest"),
        lambda faulty: faulty.drop.add("Content-Type"),
        lambda faulty: faulty.drop.add("Content-Length"),
        lambda faulty: faulty.said.update({"Content-Type": "application/json; charset=utf-8"}),
        lambda faulty: faulty.said.update({"Docker-Content-Digest": "sha256:1"}),
        lambda faulty: faulty.answers.update({"HEAD .*": [Reply(405)]}),
        lambda faulty: faulty.answers.update(
            {"HEAD .*": [Reply(200, {"Docker-Content-Digest": TO, "Content-Type": oci.MANIFEST})]}
        ),
        lambda faulty: faulty.answers.update(
            {"HEAD .*": [Reply(200, {"Docker-Content-Digest": TO, "Content-Length": "many"})]}
        ),
    ],
)
def test_what_a_head_lacks_is_read_from_the_manifest(faulty: Faulty, change: Callable[[Faulty], object]) -> None:
    made = faulty.image("a/b", "v1")
    change(faulty)
    assert to(faulty).digest("a/b", "v1") == (made, len(faulty.manifests["a/b", "v1"][0]), oci.MANIFEST)


def test_what_is_no_manifest_has_no_media_type(faulty: Faulty) -> None:
    made = faulty.hold("a/b", "v1", b"<html>", "text/html")
    assert to(faulty).digest("a/b", "v1") == (made, 6, "")


def test_bytes_that_are_not_those_of_the_digest_are_refused(faulty: Faulty) -> None:
    made = faulty.image("a/b", "v1")
    faulty.manifests["a/b", made] = b"{}", oci.MANIFEST
    with pytest.raises(HashMismatch, match=made):
        to(faulty).manifest("a/b", made)
    faulty.said["Docker-Content-Digest"] = TO
    with pytest.raises(HashMismatch, match="playbooks/check.yml"):
        to(faulty).manifest("a/b", "v1")
    faulty.blobs[TO] = b"something else"
    with pytest.raises(HashMismatch):
        list(to(faulty).blob("a/b", TO))


def test_a_digest_means_its_bytes_whatever_kind_they_say_they_are(faulty: Faulty) -> None:
    """Of Docker's first kind of manifest a registry names another digest than that of its bytes, by tag alone."""
    made = faulty.image("a/b", "v1")
    other = faulty.image("a/b", "v2", schemaVersion=1)
    faulty.manifests["a/b", made] = faulty.manifests["a/b", other]
    with pytest.raises(HashMismatch, match=made):
        to(faulty).tag("a/b", made, "v3")
    faulty.said["Docker-Content-Digest"] = TO
    assert to(faulty).manifest("a/b", "v2") == faulty.manifests["a/b", "v2"][0]


def test_an_upload_goes_on_where_it_began(faulty: Faulty, other: Faulty) -> None:
    faulty.answers["POST"] = [Reply(307, {"Location": f"http://{other.address}/v2/a/b/blobs/uploads/"})] * 2
    with pytest.raises(RegistryError, match="does not have it"):
        to(faulty).put_blob("a/b", DATA, TO)
    assert other.blobs == {TO: DATA}


def test_no_more_of_a_blob_is_taken_than_it_has(faulty: Faulty) -> None:
    faulty.blobs[TO] = DATA * 1000
    with pytest.raises(HashMismatch, match="more than its 14 bytes"):
        list(to(faulty).blob("a/b", TO, len(DATA)))


@pytest.mark.parametrize(
    "text",
    [
        "<html>",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        '{"schemaVersion": 2}',
        '{"manifests": null}',
        '{"manifests": [7]}',
        '{"manifests": [{}]}',
        '{"mediaType": 7, "manifests": []}',
        '{"mediaType": "text/html", "manifests": []}',
        json.dumps({"manifests": [{"mediaType": "x", "digest": "sha256:../..", "size": 1}]}),
        json.dumps({"manifests": [{"mediaType": "x", "digest": TO, "size": -1}]}),
        json.dumps({"manifests": [{"mediaType": "x", "digest": TO, "size": "1"}]}),
        json.dumps({"manifests": [{"mediaType": None, "digest": TO, "size": 1}]}),
        json.dumps({"config": {"mediaType": "x", "digest": TO, "size": True}, "layers": []}),
        '{"config": {}, "layers": []}',
        '{"config": {}}',
        '{"schemaVersion": 1, "fsLayers": []}',
    ],
)
def test_what_is_no_manifest_is_an_error_in_words(faulty: Faulty, text: str) -> None:
    made = faulty.hold("a/b", "v1", text.encode())
    for act in (lambda: to(faulty).tag("a/b", made, "v2"), lambda: to(faulty).copy("a/b", made, to(faulty), "c/d", [])):
        with pytest.raises(RegistryError, match=made):
            act()
    assert oci.lines(text.encode()) is not None


def test_an_index_whose_parts_are_odd_can_still_be_compared() -> None:
    odd = {
        "manifests": [{"digest": TO, "platform": None}, 7, {"platform": {"os": "a\x1b[2J"}}],
        "annotations": {"a": 1, "b": "\ud800"},
    }
    assert oci.lines(json.dumps(odd).encode()) == [f" {TO}", " 7", r"'a\x1b[2J None'", r"'b=\ud800'"]
    assert oci.lines(json.dumps({"manifests": None, "annotations": None}).encode()) == []


# --- pushes ---


def test_a_push_whose_answer_has_the_digest_asks_no_more(faulty: Faulty) -> None:
    to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST)
    assert [asked.method for asked in faulty.asked] == ["PUT"]


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_push_that_is_answered_otherwise_is_looked_for(faulty: Faulty, status: int) -> None:
    faulty.answers["PUT .*/manifests/"] = [Reply(status)]
    with pytest.raises(RegistryError, match=f"HTTP {status} to the push of v1, but does not have it"):
        to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST)
    assert faulty.count("HEAD") == 4
    faulty.answers["PUT .*/manifests/"] = [Reply(status)]
    faulty.hold("a/b", "v1", b"{}")
    assert to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST) == digest(b"{}")


def test_a_push_without_a_digest_in_its_answer_is_looked_for(faulty: Faulty) -> None:
    faulty.drop.add("Docker-Content-Digest")
    assert to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST) == digest(b"{}")
    assert [asked.method for asked in faulty.asked] == ["PUT", "HEAD", "GET"]
    assert to(faulty).put_blob("a/b", DATA, TO)
    assert [asked.method for asked in faulty.asked[3:]] == ["HEAD", "POST", "PUT", "HEAD"]


def test_a_registry_that_stored_something_else_is_told(faulty: Faulty) -> None:
    faulty.said["Docker-Content-Digest"] = TO
    with pytest.raises(RegistryError, match=f"says that it has {TO}"):
        to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST)


@pytest.mark.parametrize(("status", "code"), [(404, "BLOB_UNKNOWN"), (400, "MANIFEST_BLOB_UNKNOWN")])
def test_a_blob_that_is_known_a_moment_later_is_waited_for(faulty: Faulty, status: int, code: str) -> None:
    unknown = Reply(status, body=json.dumps({"errors": [{"code": code}]}).encode())
    faulty.answers["PUT .*/manifests/"] = [unknown, unknown]
    assert to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST) == digest(b"{}")
    faulty.answers["PUT .*/manifests/"] = [unknown] * 9
    with pytest.raises(RegistryError, match="lacks a blob that this manifest names"):
        to(faulty).put_manifest("a/b", "v2", b"{}", oci.MANIFEST)


def test_a_refused_push_is_not_repeated(faulty: Faulty) -> None:
    faulty.answers["PUT .*/manifests/"] = [Reply(400, body=b'{"errors": [{"message": "tag is immutable"}]}')]
    with pytest.raises(RegistryError, match="HTTP 400 tag is immutable"):
        to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST)
    assert faulty.count("PUT") == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_blob_that_was_taken_in_is_known_to_be_there(faulty: Faulty, status: int) -> None:
    faulty.answers["PUT"] = [Reply(status)]
    with pytest.raises(RegistryError, match="but does not have it"):
        to(faulty).put_blob("a/b", DATA, TO)
    assert to(faulty).put_blob("a/b", DATA, TO)
    assert not to(faulty).put_blob("a/b", DATA, TO)


@pytest.mark.parametrize(
    "location", ["", "ftp://a/b", "http://me:secret@127.0.0.1/", "http://[", "http://127.0.0.1:0/"]
)
def test_an_upload_that_goes_on_nowhere_is_an_error_in_words(faulty: Faulty, location: str) -> None:
    faulty.answers["POST"] = [Reply(202, {"Location": location} if location else {})]
    with pytest.raises(RegistryError, match="not a valid address"):
        to(faulty).put_blob("a/b", DATA, TO)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_an_upload_that_does_not_begin_as_it_should_is_an_error(faulty: Faulty, status: int) -> None:
    faulty.answers["POST"] = [Reply(status, {"Location": "/v2/a/b/blobs/uploads/1"})]
    with pytest.raises(RegistryError, match=f"POST .* HTTP {status}"):
        to(faulty).put_blob("a/b", DATA, TO)


def test_a_full_disk_is_told_and_not_tried_again(faulty: Faulty) -> None:
    full = Reply(500, body=b'{"errors": [{"code": "UNKNOWN", "message": "unknown error", "detail": {"Err": 28}}]}')
    faulty.answers["P"] = [full] * 9
    registry = Registry(faulty.address)
    for act in (
        lambda: registry.put_blob("a/b", DATA, TO),
        lambda: registry.put_manifest("a/b", "v1", b"{}", oci.MANIFEST),
        lambda: registry.check_room("a/b"),
    ):
        with pytest.raises(NoSpace):
            act()
    assert faulty.count("P") == 3


def test_a_file_is_sent_whole_and_a_failed_upload_begins_anew(faulty: Faulty, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    faulty.answers["PUT"] = [Reply(503)]
    assert Registry(faulty.address, pauses=(0,)).put_blob("a/b", tmp_path / "file", TO)
    assert faulty.blobs[TO] == DATA
    assert (faulty.count("POST"), faulty.count("PUT")) == (2, 2)


def test_an_upload_that_the_registry_has_forgotten_begins_anew(faulty: Faulty) -> None:
    """A restart forgets it; of several registries behind one address, another may not know it."""
    forgotten = Reply(404, body=b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "upload unknown"}]}')
    faulty.answers["PUT"] = [forgotten, forgotten]
    assert Registry(faulty.address, pauses=(0, 0)).put_blob("a/b", DATA, TO)
    assert (faulty.count("POST"), faulty.blobs[TO]) == (3, DATA)
    faulty.blobs.clear()
    faulty.answers["PUT"] = [forgotten]
    with pytest.raises(Unreachable, match="cannot be pushed to .*upload unknown"):
        Registry(faulty.address, pauses=()).put_blob("a/b", DATA, TO)
    faulty.answers["PUT"] = [Reply(404, body=b"page not found")]
    with pytest.raises(RegistryError, match="HTTP 404"):
        Registry(faulty.address, pauses=(0,)).put_blob("a/b", DATA, TO)
    assert faulty.answers["PUT"] == []


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_may_change_the_method_is_no_success_of_a_push(faulty: Faulty, status: int) -> None:
    faulty.answers["PUT"] = [Reply(status, {"Location": f"http://{faulty.address}/v2/a/b/manifests/v2"})]
    with pytest.raises(RegistryError, match=f"HTTP {status}: a redirect to .*/v2, which is not followed here"):
        to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST)
    assert faulty.manifests == {}


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_keeps_the_method_is_followed_and_what_was_pushed_is_looked_for(
    faulty: Faulty, other: Faulty, status: int
) -> None:
    faulty.answers["PUT .*/v1"] = [Reply(status, {"Location": f"http://{other.address}/v2/a/b/manifests/v1"})] * 2
    with pytest.raises(RegistryError, match="does not have it"):
        to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST)
    assert other.manifests["a/b", "v1"] == (b"{}", oci.MANIFEST)
    faulty.hold("a/b", "v1", b"{}")
    assert to(faulty).put_manifest("a/b", "v1", b"{}", oci.MANIFEST) == digest(b"{}")


def test_redirects_end(faulty: Faulty) -> None:
    faulty.answers["GET"] = [Reply(307, {"Location": "/v2/a/b/manifests/v1"})] * 99
    with pytest.raises(RegistryError, match="more than 5 redirects"):
        to(faulty).manifest("a/b", "v1")
    assert faulty.count("GET") == 6


def test_a_blob_may_lie_elsewhere(faulty: Faulty, other: Faulty) -> None:
    faulty.answers["GET"] = [
        Reply(307, {"Location": f"http://{other.address}/v2/store/blobs/{TO}?signature=s3cret"})
    ] * 2
    other.blobs[TO] = DATA
    assert b"".join(to(faulty).blob("a/b", TO)) == DATA
    other.answers["GET"] = [Reply(403)]
    with pytest.raises(RegistryError, match="HTTP 403") as error:
        list(to(faulty).blob("a/b", TO))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "location", ["http://registry.example.org/v2/a/b/blobs/uploads/1", "http://198.51.100.1:5000/x"]
)
def test_nothing_is_sent_out_of_tls(faulty: Faulty, location: str) -> None:
    faulty.answers["POST"] = [Reply(202, {"Location": location})]
    with pytest.raises(RegistryError, match="which is not TLS: nothing is sent there"):
        to(faulty).put_blob("a/b", DATA, TO)


# --- lists ---


def page(key: str, names: list[str], link: str = "") -> Reply:
    return Reply(200, {"Link": f'<{link}>; rel="next"'} if link else {}, json.dumps({key: names}).encode())


def test_a_list_is_read_to_its_end(faulty: Faulty) -> None:
    faulty.answers["GET"] = [page("tags", ["b", "a"], "/v2/a/b/tags/list?last=b"), page("tags", ["c"])]
    assert to(faulty).tags("a/b") == ["a", "b", "c"]
    faulty.answers["GET"] = [page("repositories", ["x/a", "xy/a", "x"], "?last=x"), page("repositories", ["x/b/c"])]
    assert to(faulty).repositories("x") == ["x/a", "x/b/c"]
    assert to(faulty).tags("a/none") == []
    faulty.answers["GET"] = [Reply(200, body=b'{"tags": null}')]
    assert to(faulty).tags("a/b") == []


@pytest.mark.parametrize(
    "reply",
    [
        page("tags", ["a"], "/v2/a/b/tags/list?n=1000"),
        page("tags", ["a"], "http://127.0.0.2:1/v2/a/b/tags/list"),
        Reply(200, body=b"[]"),
        page("tags", ["a"], "http://["),
        Reply(200, body=b'{"tags": [7]}'),
        Reply(200, body=b'{"tags": "a"}'),
        Reply(200, body=b"<html>"),
        Reply(200, {"Link": '/v2/a/b/tags/list?last=a; rel="next"'}, b'{"tags": ["a"]}'),
    ],
)
def test_a_list_that_is_none_or_does_not_end_is_an_error(faulty: Faulty, reply: Reply) -> None:
    faulty.answers["GET"] = [reply] * 9
    with pytest.raises(RegistryError):
        to(faulty).tags("a/b")
    assert len(faulty.asked) <= 2


def test_a_registry_that_lets_nobody_delete_is_told(faulty: Faulty) -> None:
    faulty.answers["DELETE"] = [Reply(202), Reply(404), Reply(405)]
    assert to(faulty).delete_manifest("a/b", TO)
    assert not to(faulty).delete_manifest("a/b", TO)
    with pytest.raises(RegistryError, match="does not allow deleting"):
        to(faulty).delete_manifest("a/b", TO)
    with pytest.raises(RegistryError, match="the digest 'v1' is not valid"):
        to(faulty).delete_manifest("a/b", "v1")
