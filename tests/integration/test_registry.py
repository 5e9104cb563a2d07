"""The image registry: with TLS and a password, garbage, and S3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from . import services
from .conftest import Chain, Farm, children, sh
from .containers import ask, await_health, inside, start
from .docker_host import run
from .services import FOREIGN, PASSWORD, authority, example, put
from .unpacked import NATIVE

pytestmark = pytest.mark.catalog


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    return services.build(farm, "tools", "registry", "caddy")


@pytest.fixture(scope="module")
def images(built: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Image -> its id in Docker."""
    return services.bring_all(docker, built, tmp_path_factory.mktemp("brought"), "registry", "caddy")


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_registry_starts_on_its_platform(built: Chain, scratch: Path, platform: str) -> None:
    services.starts(built, scratch, "registry", platform, ["/registry", "--version"], r"distribution/v3 v3\.\d")


def test_registry_keeps_its_contract_and_its_health_follows_it(docker: Any, images: dict[str, str]) -> None:
    services.keeps_its_contract(docker, "registry", images["registry"])


def count(container: Any, kind: str) -> int:
    """How many blobs or manifests are stored."""
    (mount,) = container.attrs["Mounts"]
    paths = {"blobs": "blobs/sha256/*/*/data", "revisions": "repositories/*/_manifests/revisions/sha256/*/link"}
    return len(run("find", mount["Source"], "-path", f"*/v2/{paths[kind]}").splitlines())


def test_registry_is_closed_by_tls_and_a_password_as_its_page_says(built: Chain, docker: Any, images: dict[str, str],
                                                                   shared: Path) -> None:
    pair, ca = authority(shared / "trusted", "127.0.0.1")
    (shared / "trusted/ca.crt").write_text(ca.read_text())
    hashed = docker.containers.run(images["caddy"], ["hash-password", "--plaintext", PASSWORD], network_mode="none",
                                   remove=True).decode().strip()
    put(shared / "certs", {"registry.pem": pair.pem, "registry.key": pair.key_pem, "htpasswd": f"ann:{hashed}\n"})
    variables = dict(line.split("=", 1) for line in example("registry", "REGISTRY_AUTH").splitlines())
    container = start(docker, images["registry"], environment=variables,
                      volumes=["registry-closed:/data", f"{shared}/certs:/certs:ro"])
    await_health(container)

    assert ask(container, 5000, "/v2/").status == 400  # plain HTTP
    nobody = ask(container, 5000, "/v2/", host="127.0.0.1", ca=ca)
    assert (nobody.status, (nobody.headers or {})["www-authenticate"]) == (401, 'Basic realm="registry"')
    sh("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{built.reference('tools', NATIVE)}",
       f"dir:{shared}/in")
    there = "docker://127.0.0.1:5000/some/tools:1"
    words = ["skopeo", "copy", "-q", f"--dest-cert-dir={shared}/trusted"]
    with pytest.raises(AssertionError, match="authentication required|unauthorized"):
        inside(container, *words, "--dest-creds=ann:wrong", f"dir:{shared}/in", there)
    inside(container, *words, f"--dest-creds=ann:{PASSWORD}", f"dir:{shared}/in", there)
    inside(container, "skopeo", "copy", "-q", f"--src-cert-dir={shared}/trusted", f"--src-creds=ann:{PASSWORD}", there,
           f"dir:{shared}/out")
    assert (shared / "in/manifest.json").read_bytes() == (shared / "out/manifest.json").read_bytes()
    container.stop(timeout=20)


def test_registry_collects_garbage_and_keeps_the_platforms_of_an_index(built: Chain, docker: Any,
                                                                       images: dict[str, str], shared: Path) -> None:
    tools = f"docker://{built.registry}/{built.namespace}/tools:latest"
    sh("skopeo", "copy", "-q", "--all", "--src-tls-verify=false", tools, f"dir:{shared}/in")
    sh("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{built.reference('caddy', NATIVE)}",
       f"dir:{shared}/gone")
    volumes = ["registry-garbage:/data"]
    container = start(docker, images["registry"], volumes=volumes)
    await_health(container)
    for name, folder in (("kept:1", "in"), ("gone:1", "gone")):
        inside(container, "skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", f"dir:{shared}/{folder}",
               f"docker://127.0.0.1:5000/{name}")
    before = count(container, "blobs")
    inside(container, "skopeo", "delete", "--tls-verify=false", "docker://127.0.0.1:5000/gone:1")
    container.stop(timeout=20)
    assert count(container, "blobs") == before  # deleted is only the name

    said = docker.containers.run(images["registry"], ["garbage-collect", "--delete-untagged", "/config/registry.yml"],
                                 read_only=True, network_mode="none", volumes=volumes, remove=True).decode()
    layers = json.loads((shared / "gone/manifest.json").read_text())["layers"]
    kept = {layer["digest"] for path in (shared / "in").glob("*.manifest.json")
            for layer in json.loads(path.read_text())["layers"]}
    away = {layer["digest"] for layer in layers} - kept
    assert away
    assert before - count(container, "blobs") == len(away) + 2, said  # and manifest and configuration

    container.start()
    await_health(container)
    inside(container, "skopeo", "copy", "-q", "--all", "--src-tls-verify=false", "docker://127.0.0.1:5000/kept:1",
           f"dir:{shared}/out")
    read = (shared / "out/manifest.json").read_text()
    assert set(children(read)) == {NATIVE, FOREIGN}
    assert read == (shared / "in/manifest.json").read_text()
    container.stop(timeout=20)


@pytest.mark.parametrize(("driver", "says"), [
    ("azure", "StorageDriver not registered: azure"), ("gcs", "StorageDriver not registered: gcs"),
    ("s3", "no region parameter provided")])
def test_registry_stores_in_s3_and_in_no_other_cloud(docker: Any, images: dict[str, str], driver: str,
                                                     says: str) -> None:
    container = start(docker, images["registry"], ["garbage-collect", "--dry-run", "/config/registry.yml"],
                      environment={"REGISTRY_STORAGE": driver}, volumes=["registry-driver:/data"])
    status = container.wait(timeout=60)["StatusCode"]
    assert (status, says in container.logs().decode()) == (1, True), container.logs().decode()
