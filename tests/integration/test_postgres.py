"""The image postgres: a cluster on an empty volume, queries of a real client, the same data after a restart."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Chain, Farm
from .containers import bring
from .docker_host import until
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
PASSWORD = "it's a secret"
FIRST = {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_USER": "owner", "POSTGRES_DB": 'my "shop"'}
DATABASE = "postgresql://owner@127.0.0.1/my%20%22shop%22"


@pytest.fixture(scope="module")
def images(farm: Farm) -> Chain:
    built = farm.run(farm_images=["postgres"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    return Chain(farm, (built, built))


@pytest.fixture(scope="module")
def image(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return bring(docker, images.reference("postgres", NATIVE), tmp_path_factory.mktemp("postgres"))


def start(docker: Any, image: str, volume: str, **environment: str) -> Any:
    """A container as the README says, healthy."""
    container = docker.containers.create(
        image, ["-c", "max_connections=20"], read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"],
        network_mode="none", tmpfs={"/tmp": ""}, volumes=[f"{volume}:/data"], environment=environment)
    container.start()

    def healthy() -> bool:
        container.reload()
        assert container.status == "running", container.logs().decode()
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until("postgres is healthy", 120, healthy)
    return container


def asks(container: Any, query: str, password: str = PASSWORD, database: str = DATABASE) -> tuple[int, str]:
    """psql's exit code, and what it printed."""
    code, said = container.exec_run(["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", query],
                                    environment={"PGPASSWORD": password})
    return code, said.decode().strip()


def answers(container: Any, query: str) -> str:
    code, said = asks(container, query)
    assert code == 0, said
    return said


def end(container: Any) -> None:
    began = time.monotonic()
    container.stop(timeout=60)
    assert time.monotonic() - began < 30
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    container.remove()


def test_a_database_is_made_queried_and_there_after_a_restart(docker: Any, image: str) -> None:
    container = start(docker, image, "one", **FIRST)
    assert answers(container, "SHOW max_connections") == "20"
    assert answers(container, "SELECT datcollate || ' ' || datlocprovider::text || ' ' || pg_encoding_to_char(encoding)"
                              " FROM pg_database WHERE datname = current_database()") == "C.UTF-8 b UTF8"
    answers(container, "CREATE EXTENSION pg_trgm")
    answers(container, "CREATE TABLE t AS SELECT n, repeat('ä', n) FROM generate_series(1, 1000) n")
    assert answers(container, "SELECT similarity('word', 'words') > 0.5, sum(n), max(length(repeat)) FROM t") == (
        "t|500500|1000")
    assert answers(container, "SHOW data_checksums") == "on"
    end(container)

    container = start(docker, image, "one", POSTGRES_PASSWORD="of no account now")
    assert answers(container, "SELECT sum(n) FROM t") == "500500"
    log = container.logs(stdout=True, stderr=False).decode()
    assert "database system is ready to accept connections" in log
    assert "was not properly shut down" not in log
    assert container.logs(stdout=False, stderr=True) == b""
    end(container)


def test_a_wrong_password_is_refused_everywhere(docker: Any, image: str) -> None:
    container = start(docker, image, "two", **FIRST)
    for database in (DATABASE, "postgresql://owner@/postgres?host=/tmp"):
        assert asks(container, "SELECT 1", database=database) == (0, "1")
        for password in ("wrong", ""):
            code, said = asks(container, "SELECT 1", password, database)
            assert code == 2
            assert re.search("password authentication failed|no password supplied", said), said
    end(container)


def test_a_container_that_loses_its_power_has_what_was_committed(docker: Any, image: str) -> None:
    container = start(docker, image, "three", **FIRST)
    answers(container, "CREATE TABLE t (n int); INSERT INTO t VALUES (42)")
    container.kill()
    container.wait(timeout=30)
    container.remove()
    container = start(docker, image, "three")
    assert answers(container, "SELECT n FROM t") == "42"
    end(container)


def test_its_processes_have_no_rights(docker: Any, image: str) -> None:
    container = start(docker, image, "four", **FIRST)
    for pid, _words in container.top(ps_args="-eo pid,args")["Processes"]:
        process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
        assert process["Uid"].split() == ["2000"] * 4
        assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    end(container)


@pytest.mark.parametrize(("environment", "says"), [
    ({}, "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE"),
    ({"POSTGRES_PASSWORD_FILE": "/none"}, "open /none: no such file or directory"),
])
def test_without_a_password_no_database_is_made(docker: Any, image: str, environment: dict[str, str],
                                                says: str) -> None:
    container = docker.containers.create(image, read_only=True, network_mode="none", tmpfs={"/tmp": ""},
                                         environment=environment)
    container.start()
    assert container.wait(timeout=30)["StatusCode"] == 2
    assert says in container.logs().decode()


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_programs_find_their_libraries(images: Chain, scratch: Path, platform: str) -> None:
    postgres = Unpacked.of(images, "postgres", platform, scratch)
    assert "(PostgreSQL) 17." in postgres.run(platform, "/usr/lib/postgresql/17/bin/postgres", "--version", user=2000)
    assert postgres.run(platform, "/usr/bin/dpkg", "--audit") == ""
    if platform == NATIVE:  # it runs dpkg, which no emulator is told of
        assert "Reading package lists" in postgres.run(platform, "apt-get", "check")
