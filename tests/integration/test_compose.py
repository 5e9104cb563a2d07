"""The compose file in each README: valid by the schema of the specification, and run by docker compose."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.golang import find_go

from . import services
from .conftest import PROJECT, Chain, Farm
from .containers import bring
from .docker_host import DockerHost, until
from .unpacked import NATIVE

SPECIFICATION = ("github.com/compose-spec/compose-go/v2", "v2.16.2")
FILES = {path.parent.name: text for path in sorted((PROJECT / "images").glob("*/README.md"))
         for text in re.findall(r"(?s)As a compose file:\n\n```yaml\n(.*?)```", path.read_text(encoding="utf-8"))}
pytestmark = pytest.mark.catalog


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """From the module of the reference implementation, checked by the go command."""
    done = subprocess.run([find_go(), "mod", "download", "-json", "@".join(SPECIFICATION)], check=True, text=True,
                          capture_output=True, cwd=tmp_path_factory.mktemp("empty"))
    found: dict[str, Any] = json.loads((Path(json.loads(done.stdout)["Dir"]) / "schema/compose-spec.json").read_text())
    return found


def test_every_service_has_a_compose_file() -> None:
    said = {path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8")).get("contract", {})
            for path in (PROJECT / "images").glob("*/image.yml")}
    services = {name for name, contract in said.items() if contract.keys() & {"ports", "health"}}
    assert services and services == set(FILES)


@pytest.mark.parametrize("image", FILES)
def test_a_compose_file_is_valid(image: str, schema: dict[str, Any]) -> None:
    value = yaml.safe_load(FILES[image])
    jsonschema.validate(value, schema)
    with pytest.raises(jsonschema.ValidationError):  # the schema does refuse
        jsonschema.validate({**value, "services": {image: {**value["services"][image], "read_onyl": True}}}, schema)


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    return services.build(farm, *FILES)


@pytest.fixture(scope="module")
def apart() -> Iterator[DockerHost]:
    """Its network is its own: other services of this machine have the same ports."""
    host = DockerHost.start(apart=True)
    yield host
    host.stop()


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="needs Debian's docker-compose")
@pytest.mark.parametrize("image", FILES)
def test_a_compose_file_runs(image: str, built: Chain, apart: DockerHost, tmp_path: Path) -> None:
    docker = apart.client()
    name = yaml.safe_load(FILES[image])["services"][image]["image"]
    docker.images.get(bring(docker, built.reference(image, NATIVE), tmp_path)).tag(name)
    (tmp_path / "compose.yaml").write_text(FILES[image])

    def compose(*words: str) -> None:
        done = subprocess.run(["docker-compose", "--project-name=test", *words], cwd=tmp_path, text=True, check=False,
                              env={**os.environ, "DOCKER_HOST": apart.address}, capture_output=True)
        assert done.returncode == 0, done.stderr[-2000:]

    compose("up", "--detach")
    try:
        (container,) = docker.containers.list(filters={"label": "com.docker.compose.project=test"})

        def healthy() -> bool:
            container.reload()
            assert container.attrs["RestartCount"] == 0, container.logs().decode()[-2000:]
            return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

        until(f"{image} is healthy", 180, healthy)
        assert container.attrs["HostConfig"]["ReadonlyRootfs"]
    finally:
        compose("down", "--volumes", "--timeout=10")
    assert not docker.volumes.list()
