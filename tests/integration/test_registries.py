"""The client at real registries: Debian's docker-registry, which is distribution 2.8, and our own image, which is 3.
Each in the clear, with TLS at an address that is not loopback (0.0.0.0 is this machine), with passwords, with tokens.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from ansible_collections.desimages.farm.plugins.module_utils import fetching
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, RegistryError
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import client, oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import ACCEPT, Registry

from tests.unit.faulty import digest

from .conftest import Chain, Farm
from .docker_host import run
from .token_service import IDENTITY, ISSUER, NAME, Service, apart, beside
from .unpacked import NATIVE, Unpacked

KINDS = ("debian", "ours")
HOST = "0.0.0.0"
PEOPLE = {"ann": "right", "bob": "reads"}
MAY = {"ann": ["pull", "push", "delete", "*"], "bob": ["pull"], "anonymous": []}
LARGE = b"0123456789abcdef" * (1 << 18)  # more than a socket holds
NOW = datetime.now(timezone.utc)


@dataclass(frozen=True)
class Place:
    """A registry that runs, the CA of its certificate ('' without TLS), and who gives its tokens."""

    address: str
    ca: str = ""
    service: Service | None = None

    def by(self, name: str = "ann", password: str = "") -> Registry:
        """The client of a user, or an anonymous one if the name is empty."""
        access = Access(self.ca, name, password or PEOPLE.get(name, ""))
        return Registry(self.address, access=access, pauses=(0, 0))


@pytest.fixture(scope="module")
def programs(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind -> the program."""
    ours = Unpacked.of(chain, "registry", NATIVE, tmp_path_factory.mktemp("ours"))
    return {"debian": "/usr/bin/docker-registry", "ours": str(ours.root / "registry")}


@pytest.fixture(scope="module")
def authority() -> certificates.Pair:
    return certificates.new_authority(NOW, "tests")


@contextmanager
def running(program: str, folder: Path, host: str, http: dict[str, Any], auth: dict[str, Any]) -> Iterator[str]:
    """A registry on a free port of a host; gives its address."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"version": "0.1", "log": {"accesslog": {"disabled": True}, "level": "info", "formatter": "json"},
              "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
              "http": {"addr": f"{host}:0", "secret": "x", **http}, **({"auth": auth} if auth else {})}
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log,
                                   env={"OTEL_TRACES_EXPORTER": "none", "HOME": str(folder)})
    try:
        while not (found := re.search(r"listening on \S+?:([0-9]+)[^0-9]", said := (folder / "log").read_text())):
            assert process.poll() is None, said
            time.sleep(0.02)  # it tells nobody but its log
        yield f"{host}:{found[1]}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def place(kind: str, folder: Path, programs: dict[str, str], authority: certificates.Pair, *,
          gives: Callable[..., AbstractContextManager[int]] = beside) -> Iterator[Place]:
    """A registry of a kind, such as `ours tokens`; `gives` starts the service that gives them."""
    name, _space, guard = kind.partition(" ")
    folder.mkdir(parents=True, exist_ok=True)
    if guard == "plain":
        with running(programs[name], folder, "127.0.0.1", {}, {}) as address:
            yield Place(address)
        return
    pair = certificates.new_server(authority, [HOST], NOW)
    for path, text in (("ca.pem", authority.pem), ("own.pem", pair.pem), ("own.key", pair.key_pem)):
        (folder / path).write_text(text)
    tls = {"tls": {"certificate": str(folder / "own.pem"), "key": str(folder / "own.key")}}
    auth: dict[str, Any] = {}
    service = Service(certificates.new_server(authority, ["signer"], NOW), PEOPLE, MAY)
    if guard == "passwords":
        lines = [f"{who}:{bcrypt.hashpw(word.encode(), bcrypt.gensalt(5)).decode()}\n" for who, word in PEOPLE.items()]
        (folder / "htpasswd").write_text("".join(lines))
        auth = {"htpasswd": {"realm": "r", "path": str(folder / "htpasswd")}}
    with ExitStack() as stack:
        if guard == "tokens":
            port = stack.enter_context(gives(service, HOST, pair, folder))
            auth = {"token": {"realm": f"https://{HOST}:{port}/token", "service": NAME, "issuer": ISSUER,
                              "rootcertbundle": str(folder / "ca.pem")}}
        address = stack.enter_context(running(programs[name], folder, HOST, tls, auth))
        yield Place(address, str(folder / "ca.pem"), service)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, authority: certificates.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token service's certificate is one that the system trusts; nobody is logged in."""
    (tmp_path / "system.pem").write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    monkeypatch.setenv("no_proxy", HOST)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(client, "SOON", (0.01,))  # what these registries took, they have


@pytest.fixture
def open_(tmp_path: Path, programs: dict[str, str], authority: certificates.Pair) -> Iterator[Callable[..., Place]]:
    """Starts registries, which end with the test."""
    with ExitStack() as stack:
        def start(kind: str, **options: Any) -> Place:
            folder = tmp_path / kind.replace(" ", "-")
            return stack.enter_context(place(kind, folder, programs, authority, **options))

        yield start


def push(registry: Registry, repository: str, tag: str, large: Path) -> str:
    """Pushes an index of two images that share a large layer; returns its digest."""
    large.write_bytes(LARGE)
    shared = digest(LARGE)
    registry.put_blob(repository, large, shared)
    children = []
    for architecture in ("amd64", "arm64"):
        config = json.dumps({"os": "linux", "architecture": architecture}).encode()
        registry.put_blob(repository, config, digest(config))
        value = {"schemaVersion": 2, "mediaType": oci.MANIFEST,
                 "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config),
                            "size": len(config)},
                 "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": shared,
                             "size": len(LARGE)}]}
        data = json.dumps(value).encode()
        made = registry.put_manifest(repository, digest(data), data, oci.MANIFEST)
        children.append({"mediaType": oci.MANIFEST, "digest": made, "size": len(data),
                         "platform": {"os": "linux", "architecture": architecture}})
    value = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": children}
    return registry.put_manifest(repository, tag, json.dumps(value).encode(), oci.INDEX)


@pytest.mark.parametrize("kind", [f"{name} {guard}" for name in KINDS for guard in
                                  ("plain", "tls", "passwords", "tokens")])
def test_all_that_a_registry_is_asked_for_is_had_there(open_: Callable[..., Place], tmp_path: Path, kind: str) -> None:
    registry = open_(kind).by("" if kind.endswith(("plain", "tls")) else "ann")
    assert registry.answers()
    assert registry.digest("team/app", "v1") is None and registry.tags("team/app") == []
    registry.check_room("team/app")
    made = push(registry, "team/app", "v1", tmp_path / "large")
    data = registry.manifest("team/app", "v1")
    assert data and registry.digest("team/app", "v1") == (made, len(data), oci.INDEX)
    assert not registry.put_blob("team/app", LARGE, digest(LARGE))
    assert b"".join(registry.blob("team/app", digest(LARGE))) == LARGE
    for number in range(5):
        registry.tag("team/app", made, f"t{number}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "put_blob", lambda *_given: pytest.fail("what is there is sent again"))
        registry.copy("team/app", made, registry, "team/copied", ["v1"])
    assert registry.repositories("team") == ["team/app", "team/copied"]
    assert registry.tags("team/app") == ["t0", "t1", "t2", "t3", "t4", "v1"]
    assert registry.delete_manifest("team/app", made) and not registry.delete_manifest("team/app", made)
    assert registry.digest("team/app", "v1") is None
    assert registry.manifest("team/copied", made) == data
    with pytest.raises(RegistryError, match="lacks a blob|unknown"):
        registry.put_manifest("team/app", "v2", json.dumps({
            "schemaVersion": 2, "mediaType": oci.MANIFEST, "config": {"mediaType": "x/y", "digest": digest(b"none"),
                                                                      "size": 4}, "layers": []}).encode(), oci.MANIFEST)


@pytest.mark.parametrize("name", KINDS)
def test_lists_are_read_page_by_page(open_: Callable[..., Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     name: str) -> None:
    """distribution 2.8 gives all tags at once, 3 in pages; both give repositories in pages."""
    monkeypatch.setattr("ansible_collections.desimages.farm.plugins.plugin_utils.registry.session.PAGE", 2)
    registry = open_(f"{name} plain").by("")
    made = push(registry, "team/a0", "t0", tmp_path / "large")
    for number in range(1, 5):
        registry.tag("team/a0", made, f"t{number}")
        registry.copy("team/a0", made, registry, f"team/a{number}", ["t0"])
    assert registry.tags("team/a0") == [f"t{number}" for number in range(5)]
    assert registry.repositories("team") == [f"team/a{number}" for number in range(5)]


@pytest.mark.parametrize(("first", "second"), [("debian tokens", "ours tokens"), ("ours passwords", "debian tokens"),
                                               ("debian plain", "ours passwords")])
def test_an_image_goes_from_one_registry_to_the_other(open_: Callable[..., Place], tmp_path: Path, first: str,
                                                      second: str) -> None:
    here, there = open_(first), open_(second)
    source = here.by("" if first.endswith("plain") else "ann")
    made = push(source, "team/app", "v1", tmp_path / "large")
    source.copy("team/app", made, there.by(), "other/app", ["v1", "latest"])
    assert there.by("bob").digest("other/app", "latest") == source.digest("team/app", "v1")


@pytest.mark.parametrize("kind", [f"{name} {guard}" for name in KINDS for guard in ("passwords", "tokens")])
def test_who_may_not_is_told_which_login_it_is(open_: Callable[..., Place], tmp_path: Path, kind: str) -> None:
    found = open_(kind)
    push(found.by(), "team/app", "v1", tmp_path / "large")
    cases = [("ann", "wrong", "farm_registry_user .ann. and farm_registry_password"), ("", "", "docker login 0.0.0.0")]
    for name, password, remedy in cases:
        with pytest.raises(FarmError, match=f"HTTP 401(?s:.*){remedy}"):
            found.by(name, password).manifest("team/app", "v1")
    assert found.by("bob").manifest("team/app", "v1")
    if kind.endswith("tokens"):
        with pytest.raises(FarmError, match="HTTP 401(?s:.*)may that user do this"):
            found.by("bob").put_blob("team/app", b"new", digest(b"new"))
    with pytest.raises(RegistryError, match="CERTIFICATE_VERIFY_FAILED(?s:.*)farm_registry_ca"):
        (tmp_path / "other.pem").write_text(certificates.new_authority(NOW, "other").pem)
        Registry(found.address, access=Access(str(tmp_path / "other.pem"))).manifest("team/app", "v1")


@pytest.mark.parametrize("name", KINDS)
def test_one_token_is_enough_for_many_requests_and_another_comes_when_it_ends(
    open_: Callable[..., Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It ends after an upload has begun: the registry refuses the blob itself."""
    found = open_(f"{name} tokens")
    assert found.service
    registry = found.by()
    push(registry, "team/app", "v1", tmp_path / "large")
    assert [sorted(one["access"][0]["actions"]) for one in found.service.granted] == [["pull"], ["pull", "push"]]

    found.service.granted.clear()
    found.service.life = 2
    registry = found.by()
    begin = registry._begin

    def slow(repository: str, **options: Any) -> str:
        location = begin(repository, **options)
        (token,) = (text for scope, text in next(iter(registry._session._keys.values()))._held.items()
                    if scope and scope.write)
        path = f"{registry.base}/v2/team/app/manifests/v1"
        while registry._session._wire.ask("GET", path, {**ACCEPT, "Authorization": token}).status != 401:
            time.sleep(0.05)  # nothing tells when it ends
        return location

    monkeypatch.setattr(registry, "_begin", slow)
    (tmp_path / "larger").write_bytes(LARGE + b"!")
    assert registry.put_blob("team/app", tmp_path / "larger", digest(LARGE + b"!"))
    actions = [sorted(one["access"][0]["actions"]) for one in found.service.granted]
    assert actions == [["pull"], *[["pull", "push"]] * 2]
    assert registry.has_blob("team/app", digest(LARGE + b"!"))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("login", [{"auth": base64.b64encode(b"ann:right").decode()}, {"identitytoken": IDENTITY}])
def test_the_docker_clients_login_gets_tokens(open_: Callable[..., Place], tmp_path: Path, name: str,
                                              login: dict[str, str]) -> None:
    found = open_(f"{name} tokens")
    assert found.service
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {found.address: login}}))
    registry = Registry(found.address, pauses=(), writes=True)
    push(registry, "team/app", "v1", tmp_path / "large")
    assert registry.digest("team/app", "v1")
    assert [one["access"] for one in found.service.granted] == [
        [{"type": "repository", "name": "team/app", "actions": ["pull"]},
         {"type": "repository", "name": "team/app", "actions": ["pull", "push"]}]]


@pytest.mark.parametrize("kind", [f"{name} {guard}" for name in KINDS for guard in ("passwords", "tokens")])
def test_a_node_reads_the_archive_with_the_login_of_its_job(open_: Callable[..., Place], kind: str) -> None:
    found = open_(kind)
    registry = found.by()
    registry.put_blob("farm/archive", b"content", digest(b"content"))
    access = registry.for_job(found.ca)
    assert fetching.reached(access) == ""
    url = f"{access['url']}/v2/farm/archive/blobs/{digest(b'content')}"
    for _time in range(3):
        assert b"".join(fetching.pieces(url, 7, access)) == b"content"
    reading = [one for one in found.service.granted if one["access"][0]["actions"] == ["pull"]] if found.service else []
    assert len(reading) == (2 if kind.endswith("tokens") else 0)  # of the client, and of the node
    with pytest.raises(FarmError, match="HTTP Error 401(?s:.*)check farm_registry_user"):
        list(fetching.pieces(url, 7, {**access, "password": "wrong"}))


@pytest.mark.parametrize("name", KINDS)
def test_a_registry_on_loopback_that_speaks_tls_is_told_at_once(
    tmp_path: Path, programs: dict[str, str], authority: certificates.Pair, name: str
) -> None:
    pair = certificates.new_server(authority, ["127.0.0.1"], NOW)
    for path, text in (("own.pem", pair.pem), ("own.key", pair.key_pem)):
        (tmp_path / path).write_text(text)
    tls = {"tls": {"certificate": str(tmp_path / "own.pem"), "key": str(tmp_path / "own.key")}}
    with (running(programs[name], tmp_path / "x", "127.0.0.1", tls, {}) as address,
          pytest.raises(RegistryError, match="HTTP 400 Client sent an HTTP request to an HTTPS server")):
        Registry(address).manifest("team/app", "v1")


@pytest.mark.parametrize("name", KINDS)
def test_images_are_published_to_a_registry_with_tokens_and_a_second_run_finds_them(
    own: Farm, open_: Callable[..., Place], tmp_path: Path, name: str
) -> None:
    found = open_(f"{name} tokens", gives=apart)
    (tmp_path / "docker").mkdir()
    config = tmp_path / "docker/config.json"
    assert own.run(farm_images=["other"]).rc == 0

    def publish(who: str) -> Any:
        word = base64.b64encode(f"{who}:{PEOPLE[who]}".encode()).decode()
        config.write_text(json.dumps({"auths": {f"https://{found.address}": {"auth": word}}}))
        return own.run(farm_images=["other"], farm_publish=f"{found.address}/team")

    refused = publish("bob")
    assert refused.rc != 0 and "HTTP 401" in refused.text, refused.text[-3000:]
    assert f"docker login {found.address}` as a user who may do this" in re.sub(r"\s+", " ", refused.text)
    assert "Published" not in refused.text
    first = publish("ann")
    assert first.rc == 0, first.text[-3000:]
    assert f"Published: {found.address}/team/other:" in first.text
    assert PEOPLE["ann"] not in first.text.split()
    again = publish("ann")
    assert (again.rc, again.changed) == (0, 0), again.text[-3000:]
    skopeo = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"--creds=ann:{PEOPLE['ann']}",
                 f"docker://{found.address}/team/other:latest")
    assert len(json.loads(skopeo)["manifests"]) == 3
