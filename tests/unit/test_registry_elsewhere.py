"""Other people's registries: how they are called, what they answer although it was not asked, and what they say."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    HashMismatch,
    RegistryError,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.plugin_utils.build.handover import Planned
from ansible_collections.desimages.farm.plugins.plugin_utils.build.lists import Lists
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import client, http, oci, session
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.login import Login, login
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.session import next_page
from ansible_collections.desimages.farm.plugins.plugin_utils.schedule.scheduler import Outcome, State

from .conftest import Catalog
from .faulty import Asked, Faulty, Reply, digest, to
from .test_registry import page

AUTH = base64.b64encode(b"me:secret").decode()
BASIC = f"Basic {AUTH}"
DATA = b"what is pushed"
TO = digest(DATA)


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the Docker client's configuration."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(client, "SOON", (0.01,))

    def write(**configuration: object) -> None:
        (tmp_path / "docker").mkdir(exist_ok=True)
        (tmp_path / "docker/config.json").write_text(json.dumps(configuration))

    return write


def elsewhere(faulty: Faulty) -> Registry:
    """A client of a registry that is not the farm's, which tries nothing again."""
    return Registry(faulty.address, pauses=())


# --- Docker Hub ---

HUB = ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.io"]


@pytest.mark.parametrize("name", HUB)
def test_docker_hub_answers_at_one_host_whatever_it_is_called(name: str) -> None:
    assert Registry(name).base == "https://registry-1.docker.io"


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://docker.io"])
def test_the_login_at_docker_hub_is_found_by_each_of_its_names(docker: Callable[..., None], name: str,
                                                               key: str) -> None:
    docker(auths={"x.example.org": {"auth": base64.b64encode(b"you:word").decode()}, key: {"auth": AUTH}})
    assert login(name) == Login("me", "secret")


def test_of_several_entries_for_docker_hub_the_docker_clients_own_counts(docker: Callable[..., None]) -> None:
    """Its login by a browser leaves two more, for itself."""
    docker(auths={f"https://index.docker.io/v1/{end}": {"auth": base64.b64encode(f"me:{end}".encode()).decode()}
                  for end in ("access-token", "refresh-token", "")} | {"docker.iou": {"auth": AUTH}})
    assert login("docker.io") == Login("me", "")
    assert login("docker.io.example.org") is None


@pytest.mark.parametrize("name", HUB)
def test_an_image_is_published_to_docker_hub_with_the_login_there(
    faulty: Faulty, other: Faulty, chain: Catalog, docker: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(session, "HUB", other.address)
    docker(auths={"https://index.docker.io/v1/": {"auth": AUTH}})
    other.guard = lambda asked: None if asked.authorization == BASIC else Reply(401, {"WWW-Authenticate": "Basic"})
    lists = published(faulty, chain, f"{name}/me")
    assert lists.problems == {}
    assert lists.published == [f"{name}/me/debian:latest"]
    assert other.manifests["me/debian", "latest"] == faulty.manifests["desimages/debian", "latest"]
    assert published(faulty, chain, f"{name}/me").published == []


def published(registry: Faulty, chain: Catalog, to_: str, told: list[str] | None = None) -> Lists:
    """The lists of an image that is in a registry, published."""
    plan = chain.plan()
    keys = [key for key in plan.units if key.image == "debian"]
    digests = {key: registry.image("desimages/debian", key.platform.slug, key.platform.architecture) for key in keys}
    planned = Planned(plan, {}, keys, {}, keys and [keys[0].platform], [], False, {}, {}, 0.0)
    farm = to(registry)
    farm.on_trouble((told if told is not None else []).append)
    lists = Lists(farm, planned, {key: Outcome(State.EXISTS, digests[key]) for key in keys},
                  dict.fromkeys(digests.values(), (1, "text/plain")), "desimages", ["latest"], publish=to_)
    lists.finish()
    return lists


# --- publishing ---


def test_who_may_push_asks_for_that_before_there_is_anything(
    faulty: Faulty, other: Faulty, chain: Catalog, docker: Callable[..., None]
) -> None:
    """Some registries let nobody read a repository that does not exist, but who may make it."""
    docker(auths={other.address: {"auth": AUTH}})

    def guard(asked: Asked) -> Reply | None:
        if asked.path.startswith("/token"):
            return Reply(200, body=json.dumps({"token": "push" if "pull%2Cpush" in asked.path else "pull"}).encode())
        if asked.authorization == "Bearer push":
            return None
        says = f'Bearer realm="http://{other.address}/token",service="s",scope="repository:team/debian:pull"'
        return Reply(401, {"WWW-Authenticate": says})

    other.guard = guard
    assert published(faulty, chain, f"{other.address}/team").problems == {}
    (token,) = [asked for asked in other.asked if asked.path.startswith("/token")]
    assert "scope=repository%3Ateam%2Fdebian%3Apull&scope=repository%3Ateam%2Fdebian%3Apull%2Cpush" in token.path


def test_a_registry_that_lasts_in_trouble_is_told_of_where_images_are_published_too(
    faulty: Faulty, other: Faulty, chain: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "QUIET", -1)
    monkeypatch.setattr(http.time, "sleep", lambda seconds: None)
    other.answers["HEAD"] = [Reply(429)]
    told: list[str] = []
    assert published(faulty, chain, f"{other.address}/team", told).problems == {}
    assert [text.partition(";")[0] for text in told] == [f"the registry http://{other.address} fails: HTTP 429"]


@pytest.mark.parametrize("act", [
    lambda registry: registry.manifest("a/b", TO),
    lambda registry: list(registry.blob("a/b", TO)),
    lambda registry: registry.put_manifest("a/b", "v1", b"{}", oci.MANIFEST),
    lambda registry: registry.has_blob("a/b", TO),
])
def test_what_to_do_at_another_registry_is_nothing_that_helps_the_farms_own(
    faulty: Faulty, act: Callable[[Registry], object]
) -> None:
    faulty.manifests["a/b", TO] = b"{}", oci.MANIFEST
    faulty.blobs[TO] = b"other"
    faulty.answers["PUT"] = [Reply(404, body=b'{"errors": [{"code": "BLOB_UNKNOWN"}]}')] * 9
    faulty.answers["HEAD"] = [Reply(502)] * 9
    for registry, own in ((elsewhere(faulty), False), (to(faulty), True)):
        with pytest.raises(FarmError) as error:
            act(registry)
        assert ("playbooks/check.yml" in error.value.hint) is own
        assert error.value.hint


# --- who may ---


@pytest.mark.parametrize(("access", "auths", "remedy"), [
    (Access(farms=False), {}, "run `docker login {0}` first"),
    (Access(farms=False), {"{0}": {"auth": AUTH}}, "run `docker login {0}` as a user who may do this"),
    (Access("", "ann", "x"), {}, "farm_registry_user (ann) and farm_registry_password"),
])
def test_who_may_not_is_told_so(faulty: Faulty, docker: Callable[..., None], access: Access,
                                auths: dict[str, object], remedy: str) -> None:
    docker(auths={name.format(faulty.address): entry for name, entry in auths.items()})
    faulty.guard = lambda asked: Reply(403, body=b'{"errors": [{"code": "DENIED", "message": "not yours"}]}')
    with pytest.raises(RegistryError, match="HTTP 403 not yours") as error:
        Registry(faulty.address, access=access).put_manifest("a/b", "v1", b"{}", oci.MANIFEST)
    assert remedy.format(faulty.address) in error.value.hint
    assert faulty.count("PUT") == 1


def test_what_a_helper_lacks_does_not_hide_why_a_registry_refuses(faulty: Faulty, docker: Callable[..., None]) -> None:
    docker(credsStore="no-such-helper")
    faulty.guard = lambda asked: Reply(403)
    with pytest.raises(RegistryError, match="HTTP 403\n.*docker login"):
        elsewhere(faulty).manifest("a/b", "v1")


# --- what is said ---


@pytest.mark.parametrize(("body", "said"), [
    (b'{"errors": [{"code": "DENIED", "message": "no"}, {"code": "X"}]}', "no; X"),
    (b'{"errors": [{"code": "DENIED", "message": "", "detail": {"a": 1}}]}', "DENIED"),
    (b'{"errors": null, "message": "gone"}', "gone"),
    (b'{"errors": {"message": "x"}}', "x"),
    (b'{"error": {"code": 403, "message": "no such project"}}', "no such project"),
    (b'{"errors": ["denied: x"]}', "denied: x"),
    (b'[{"message": "no"}]', "no"),
    (b'{"Message": "User is not authorized"}', "User is not authorized"),
    (b'{"statusCode": 403, "msg": "quota"}', "quota"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>', "Access Denied"),
    (b'{"errors": [7, null]}', ""),
    (b'{"details": "incorrect username or password"}', "incorrect username or password"),
    (b'{"error": "invalid_grant", "error_description": "expired"}', "expired"),
    (b"<!DOCTYPE html><html><head>\n<TITLE lang=en>\n 502 Bad\nGateway </TITLE><body><h1>x", "502 Bad Gateway"),
    (b"<html><body>x", ""),
    (b"Client sent an HTTP request to an HTTPS server.\n", "Client sent an HTTP request to an HTTPS server."),
    (b"a\x1b[2J\xff", ascii("a\x1b[2J\ufffd")),
    (b'{"errors": [{"message": "\\u001b[2J"}]}', ascii("\x1b[2J")),
    (b'{"errors": [', ""),
    (b"[" * 100_000, ""),
    (b"[]", ""),
    (b"7", "7"),
    (b"", ""),
    (b"x" * 10_000, "x" * 500),
])
def test_what_a_server_says_of_a_failure_is_told_in_a_line(body: bytes, said: str) -> None:
    assert http.words(body) == said


def test_a_registry_on_loopback_that_speaks_tls_says_so(faulty: Faulty) -> None:
    faulty.answers["GET"] = [Reply(400, body=b"Client sent an HTTP request to an HTTPS server.\n")]
    with pytest.raises(RegistryError, match="HTTP 400 Client sent an HTTP request to an HTTPS server"):
        elsewhere(faulty).manifest("a/b", "v1")


def test_a_registry_elsewhere_that_speaks_no_tls_is_told_at_once(faulty: Faulty,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "0.0.0.0")
    monkeypatch.setattr(http.time, "sleep", lambda seconds: pytest.fail("it is tried again"))
    with pytest.raises(RegistryError, match="use an address that does"):
        Registry(faulty.address.replace("127.0.0.1", "0.0.0.0")).manifest("a/b", "v1")
    assert faulty.asked == []


# --- what is packed although nobody asked ---


def packed(data: bytes, kind: str = "gzip") -> Reply:
    return Reply(200, {"Content-Encoding": kind, "Content-Type": oci.MANIFEST}, gzip.compress(data))


@pytest.mark.parametrize("kind", ["gzip", "x-gzip", " GZIP "])
def test_an_answer_that_is_packed_is_unpacked(faulty: Faulty, kind: str) -> None:
    made = faulty.image("a/b", "v1")
    data = faulty.manifests["a/b", made][0]
    faulty.answers["GET .*/manifests/"] = [packed(data, kind), packed(data, kind)]
    faulty.answers["GET .*/tags/"] = [packed(b'{"tags": ["v1"]}', kind)]
    faulty.answers["HEAD"] = [Reply(200, {"Content-Encoding": kind, "Content-Type": oci.MANIFEST,
                                          "Content-Length": "7", "Docker-Content-Digest": made})]
    assert to(faulty).manifest("a/b", made) == data
    assert to(faulty).digest("a/b", "v1") == (made, len(data), oci.MANIFEST)
    assert to(faulty).tags("a/b") == ["v1"]


@pytest.mark.parametrize("body", [b"not packed", gzip.compress(b"x" * 1000, mtime=0)[:-9]])
def test_an_answer_that_cannot_be_unpacked_is_an_error_in_words(faulty: Faulty, body: bytes) -> None:
    faulty.answers["GET"] = [Reply(200, {"Content-Encoding": "gzip"}, body)]
    with pytest.raises(Unreachable, match="/v2/a/b/manifests/v1: the answer "):
        to(faulty).manifest("a/b", "v1")


def test_no_more_is_unpacked_than_a_manifest_may_have(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST", 1 << 20)
    faulty.answers["GET"] = [packed(b"x" * (64 << 20))]
    with pytest.raises(RegistryError, match="the answer has more than 1 MiB"):
        to(faulty).manifest("a/b", "v1")


def test_a_blob_is_taken_as_it_comes(faulty: Faulty) -> None:
    """A layer is packed itself, and some storage says so."""
    layer = gzip.compress(b"a layer")
    faulty.answers["GET"] = [Reply(200, {"Content-Encoding": "gzip"}, layer)] * 2
    assert b"".join(to(faulty).blob("a/b", digest(layer))) == layer
    with pytest.raises(HashMismatch, match="in the Content-Encoding gzip"):
        list(to(faulty).blob("a/b", TO))


# --- manifests of programs in Go, which write an empty list as null ---


def test_a_null_is_an_empty_list(faulty: Faulty, other: Faulty) -> None:
    config = {"mediaType": "x/config", "digest": TO, "size": len(DATA), "annotations": None, "platform": None,
              "urls": None, "data": None}
    faulty.blobs[TO] = DATA
    single = {"schemaVersion": 2, "mediaType": None, "config": config, "layers": None, "annotations": None,
              "subject": None, "artifactType": None}
    made = faulty.hold("a/b", "v1", json.dumps(single).encode())
    assert oci.read(json.dumps(single).encode(), "x") == oci.Content(
        oci.MANIFEST, blobs=(oci.Descriptor(TO, len(DATA), "x/config"),),
        config=oci.Descriptor(TO, len(DATA), "x/config"))
    for kind in oci.LISTS:
        empty = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": None, "annotations": None}).encode()
        assert oci.read(empty, "x") == oci.Content(kind)
    to(faulty).copy("a/b", made, to(other), "c/d", ["v1"])
    assert other.manifests["c/d", "v1"] == faulty.manifests["a/b", "v1"]


# --- lists ---


@pytest.mark.parametrize(("link", "leads"), [
    ('</v2/_catalog?last=b&n=2>; rel="next"', "/v2/_catalog?last=b&n=2"),
    ("<https://h.example/v2/_catalog?last=b>; rel=next", "https://h.example/v2/_catalog?last=b"),
    ('<?last=b>; title="a, <b>; rel=prev"; REL="Next"', "?last=b"),
    ('<?first>; rel="first", <?prev>; rel="prev", <?last=b>; rel="next", <?end>; rel="last"', "?last=b"),
    ('<?both>; rel="last next"', "?both"),
    ('<?prev>; rel="prev"', ""),
    ('<?prev>;rel=prev,<?last=b>;rel=next', "?last=b"),
    ("<?last=b>", "?last=b"),
    ("?last=b; rel=next", ""),
    ("<?prev>; rel='prev', <?last=b>; rel='next'", "?last=b"),
    ("<", ""),
    ("", ""),
])
def test_a_list_goes_on_where_its_next_page_is(link: str, leads: str) -> None:
    assert next_page(link) == leads


def test_a_list_does_not_go_back(faulty: Faulty) -> None:
    back = Reply(200, {"Link": '</v2/a/b/tags/list?n=1000>; rel="prev"'}, b'{"tags": ["b"]}')
    faulty.answers["GET"] = [page("tags", ["a"], "/v2/a/b/tags/list?last=a"), back]
    assert to(faulty).tags("a/b") == ["a", "b"]


def test_a_registry_may_allow_only_smaller_pages(faulty: Faulty) -> None:
    refused = Reply(400, body=b'{"errors": [{"code": "PAGINATION_NUMBER_INVALID"}]}')
    faulty.answers["GET"] = [refused, page("tags", ["a"], "?last=a"), page("tags", ["b"])]
    assert to(faulty).tags("a/b") == ["a", "b"]
    assert [asked.path for asked in faulty.asked] == [
        "/v2/a/b/tags/list?n=1000", "/v2/a/b/tags/list", "/v2/a/b/tags/list?last=a"]
    faulty.answers["GET"] = [refused, Reply(404)]
    assert to(faulty).tags("a/b") == []
    faulty.answers["GET"] = [refused] * 2
    with pytest.raises(RegistryError, match="HTTP 400 PAGINATION_NUMBER_INVALID"):
        to(faulty).tags("a/b")
