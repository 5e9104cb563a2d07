"""Images copied to a registry: whole, children first, and without sending a blob that is there already."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import RegistryError, Unreachable
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .faulty import Asked, Faulty, Reply, digest, to

Guard = Callable[[Asked], "Reply | None"]


def keeps_apart(mounting: Reply | None = None) -> Guard:
    """A registry whose repositories each have only the blobs that were pushed or mounted there; `mounting` is its
    answer to a request to mount."""
    held: set[tuple[str, str]] = set()

    def guard(asked: Asked) -> Reply | None:
        path, query = urlsplit(asked.path).path, parse_qs(urlsplit(asked.path).query)
        found = re.fullmatch(r"/v2/(.+)/blobs/(?:uploads/.*|(.+))", path)
        if not found:
            return None
        repository, wanted = found.groups()
        if asked.method == "HEAD" and (repository, wanted) not in held:
            return Reply(404)
        if asked.method == "PUT":
            held.add((repository, query["digest"][0]))
        if asked.method == "POST" and "mount" in query:
            (wanted,), (source,) = query["mount"], query["from"]
            assert (source, wanted) in held
            if not mounting:
                held.add((repository, wanted))
            return mounting or Reply(201, {"Location": f"/v2/{repository}/blobs/{wanted}"})
        return None

    return guard


@pytest.mark.parametrize(("mounting", "sent"), [
    (None, 2),
    (Reply(202, {"Location": "/v2/c/e/blobs/uploads/1"}), 4),  # it may always begin an upload instead
    (Reply(201), 4),  # it says so, and has nothing
    (Reply(400), 4),
    (Reply(403, body=b'{"errors": [{"code": "DENIED"}]}'), 4),
    (Reply(405), 4),
    (Reply(503), 4),
])
def test_a_blob_that_another_repository_has_is_mounted_or_sent(faulty: Faulty, other: Faulty, mounting: Reply | None,
                                                               sent: int) -> None:
    made = faulty.image("a/b", "x")
    other.guard = keeps_apart(mounting)
    source, target = to(faulty), to(other)
    for name in ("c/d", "c/e"):
        source.copy("a/b", made, target, name, ["v1"])
        assert other.manifests[name, "v1"] == faulty.manifests["a/b", made]
    assert other.count("PUT .*/blobs/uploads/") == sent
    assert faulty.count("GET .*/blobs/") == sent  # what is not sent is not read either
    assert other.count("DELETE .*/blobs/uploads/") == (2 if mounting and mounting.status == 202 else 0)


def test_a_blob_is_mounted_with_a_token_for_both_repositories(
    faulty: Faulty, other: Faulty, log_in: Callable[..., str]
) -> None:
    scopes: list[list[str]] = []
    apart = keeps_apart()

    def guard(asked: Asked) -> Reply | None:
        if asked.path.startswith("/token"):
            scopes.append(parse_qs(urlsplit(asked.path).query)["scope"])
            return Reply(200, body=json.dumps({"token": f"t{len(scopes) - 1}"}).encode())
        query = parse_qs(urlsplit(asked.path).query)
        name = asked.path.split("/")[3]
        needed = {f"repository:c/{name}:pull,push", *(f"repository:{source}:pull" for source in query.get("from", []))}
        held = scopes[int(asked.authorization.removeprefix("Bearer t"))] if asked.authorization else []
        if not needed.issubset(held):
            realm = f"http://{other.address}/token"
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",scope="repository:c/{name}:pull,push"'})
        return apart(asked)

    made = faulty.image("a/b", "x")
    other.guard = guard
    log_in(other)
    source, target = to(faulty), to(other)
    for name in ("c/d", "c/e"):
        source.copy("a/b", made, target, name, [])
    assert other.count("PUT .*/blobs/uploads/") == 2
    assert ["repository:c/e:pull,push", "repository:c/d:pull"] in scopes


def test_a_copy_within_a_registry_sends_nothing(faulty: Faulty) -> None:
    made = faulty.image("a/b", "x")
    apart = keeps_apart()
    faulty.guard = apart
    registry = to(faulty)
    for blob in list(faulty.blobs):
        registry.put_blob("a/b", faulty.blobs[blob], blob)
    before = faulty.count("PUT .*/blobs/")
    registry.copy("a/b", made, registry, "c/d", ["v1"])
    assert faulty.count("PUT .*/blobs/") == before
    assert faulty.manifests["c/d", "v1"] == faulty.manifests["a/b", made]


def test_a_copy_has_what_its_index_names_and_its_tags_come_last(faulty: Faulty, other: Faulty) -> None:
    child = faulty.image("a/b", "x", annotations={"a": "b"})
    size = len(faulty.manifests["a/b", child][0])
    data = json.dumps(
        {"schemaVersion": 2, "manifests": [{"mediaType": oci.MANIFEST, "digest": child, "size": size}]}
    ).encode()
    faulty.hold("a/b", "v1", data, oci.INDEX)  # its media type stands in no manifest: that is optional
    to(faulty).copy("a/b", digest(data), to(other), "c/d", ["v1", "v2"])
    assert other.manifests["c/d", "v2"] == (data, oci.INDEX)
    pushed = [
        asked.path.rpartition("/")[2] for asked in other.asked if asked.method == "PUT" and "manifests" in asked.path
    ]
    assert pushed == [child, digest(data), "v1", "v2"]
    assert len(other.blobs) == 2


@pytest.mark.parametrize("breaks", [2, 99])
def test_a_blob_that_breaks_off_is_read_again(faulty: Faulty, other: Faulty, breaks: int) -> None:
    made = faulty.image("a/b", "v1")
    faulty.answers = {"GET .*/blobs/": [Reply(200, {"Content-Length": "99", "Connection": "close"}, b"lay")] * breaks}
    registry = Registry(faulty.address, pauses=(0, 0, 0))
    if breaks == 2:
        registry.copy("a/b", made, to(other), "c/d", ["v1"])
        assert other.blobs == faulty.blobs
        return
    with pytest.raises(Unreachable, match="ended early"):
        registry.copy("a/b", made, to(other), "c/d", ["v1"])
    assert faulty.count("GET .*/blobs/") == 4


def test_indexes_in_indexes_end(faulty: Faulty, other: Faulty) -> None:
    made = faulty.image("a/b", "x")
    for _time in range(8):
        children = [{"mediaType": oci.INDEX, "digest": made, "size": 1}]
        data = json.dumps({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": children}).encode()
        made = faulty.hold("a/b", "y", data, oci.INDEX)
    with pytest.raises(RegistryError, match="nested 5 indexes deep"):
        to(faulty).copy("a/b", made, to(other), "c/d", [])
