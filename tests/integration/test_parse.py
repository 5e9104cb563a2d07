"""The image parse over the image postgres, used by Parse's own client."""

from __future__ import annotations

import json
import posixpath
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import PROJECT, STATE, Chain, Farm, sh
from .containers import ask, await_health, bring, inside, listening, logs, start, within
from .docker_host import DockerHost, until
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
SECRET = "it's a secret"
DATABASE = {"POSTGRES_USER": "parse", "POSTGRES_DB": "parse", "POSTGRES_PASSWORD": SECRET}
SETTINGS = {
    "PARSE_SERVER_APPLICATION_ID": "app", "PARSE_SERVER_MASTER_KEY": "master",
    "PARSE_SERVER_DATABASE_URI": "postgresql://parse:it%27s%20a%20secret@127.0.0.1/parse",
    "PARSE_SERVER_LIVE_QUERY": '{"classNames": ["GameScore"]}',
}
CLASS_MISSING, WRONG_PASSWORD = 119, 101  # https://docs.parseplatform.org/rest/guide/#error-codes


@pytest.fixture(scope="module")
def images(farm: Farm) -> Chain:
    built = farm.run(farm_images=["parse", "postgres"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    return Chain(farm, (built, built))


@pytest.fixture(scope="module")
def docker() -> Iterator[Any]:
    host = DockerHost.start()
    yield host.client()
    host.stop()


@pytest.fixture(scope="module")
def ids(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: bring(docker, images.reference(name, NATIVE), tmp_path_factory.mktemp(name))
            for name in ("parse", "postgres")}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parse's client, installed from its own lock."""
    folder = tmp_path_factory.mktemp("client") / "parse"
    shutil.copytree(Path(__file__).with_name("parse_client"), folder)
    sh("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    return folder


def database(docker: Any, ids: dict[str, str], beside: Any, volume: str) -> Any:
    """PostgreSQL in the network of another container."""
    return start(docker, ids["postgres"], network=f"container:{beside.id}", environment=DATABASE, tmpfs={"/tmp": ""},
                 volumes=[f"{volume}:/data"])


def parse(docker: Any, ids: dict[str, str], volume: str, **settings: str) -> Any:
    return start(docker, ids["parse"], environment={**SETTINGS, **settings}, volumes=[f"{volume}:/data"])


def serves(container: Any) -> bool:
    container.reload()
    assert container.status == "running", container.logs().decode()
    answer = ask(container, 1337, "/parse/health")
    return (answer.status, answer.text) == (200, '{"status":"ok"}')


def asks(container: Any, client: Path, work: str) -> Any:
    return json.loads(inside(container, "node", str(client / "client.js"), work))


def end(container: Any) -> None:
    began = time.monotonic()
    container.stop(timeout=20)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0, container.logs().decode()


def test_objects_files_users_and_live_queries(docker: Any, ids: dict[str, str], client: Path) -> None:
    """It waits for a database that starts later; what was stored is there after a restart of both; and it ends at once
    while a client listens."""
    server = parse(docker, ids, "parse-all")
    await_health(server)
    answer = ask(server, 1337, "/parse/health")
    assert (answer.status, json.loads(answer.text)["status"]) == (503, "waiting for the database")
    assert ask(server, 1337, "/parse/classes/GameScore").status == 503

    store = database(docker, ids, server, "parse-all-db")
    until("parse has its database", 60, lambda: serves(server))
    assert listening(server) - {"5432/tcp"} == {"1337/tcp"}
    assert asks(server, client, "all") == {
        "before": CLASS_MISSING,
        "query": [["bob", 10], ["ann", 1337]],
        "events": [["create", "ann", 1337], ["update", "ann", 2000], ["enter", "bob", 1001], ["leave", "bob", 12],
                   ["delete", "ann", 2000]],
        "hers": ["mine"], "others": 0, "wrong": WRONG_PASSWORD, "own": 10, "file": "kept",
    }

    with subprocess.Popen(within(server, "node", str(client / "client.js"), "stay"), stdout=subprocess.PIPE,
                          text=True) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == "subscribed\n"
        store.stop(timeout=20)
        end(server)
        assert json.loads(listener.stdout.readline()) == {"closed": True}
    out, err = logs(server)
    assert err == []
    assert all("message" in json.loads(line) for line in out)

    for container in (server, store):
        container.remove()
    server = parse(docker, ids, "parse-all")
    store = database(docker, ids, server, "parse-all-db")
    until("parse has its database", 60, lambda: serves(server))
    assert asks(server, client, "again") == {"query": [["bob", 12]], "file": "kept"}
    assert len(server.top()["Processes"]) == 1
    end(server)
    store.kill()


def test_secrets_come_from_files_too(docker: Any, ids: dict[str, str], shared: Path) -> None:
    for name, text in (("uri", SETTINGS["PARSE_SERVER_DATABASE_URI"]), ("key", "master")):
        (shared / name).write_text(f"{text}\n")
        (shared / name).chmod(0o644)
    server = start(docker, ids["parse"], volumes=["parse-files:/data", f"{shared}:/secrets:ro"], environment={
        "PARSE_SERVER_APPLICATION_ID": "app", "PARSE_SERVER_MASTER_KEY_FILE": "/secrets/key",
        "PARSE_SERVER_DATABASE_URI_FILE": "/secrets/uri"})
    store = database(docker, ids, server, "parse-files-db")
    until("parse has its database", 60, lambda: serves(server))
    status = ask(server, 1337, "/parse/schemas", headers={"X-Parse-Application-Id": "app",
                                                          "X-Parse-Master-Key": "master"}).status
    assert status == 200
    end(server)
    store.kill()


@pytest.mark.parametrize(("settings", "says"), [
    ({"PARSE_SERVER_DATABASE_URI": ""}, "set PARSE_SERVER_DATABASE_URI or PARSE_SERVER_DATABASE_URI_FILE"),
    ({"PARSE_SERVER_MASTER_KEY_FILE": "/none"}, "PARSE_SERVER_MASTER_KEY_FILE, not both"),
    ({"PARSE_SERVER_MASTER_KEY": "", "PARSE_SERVER_MASTER_KEY_FILE": "/none"}, "ENOENT"),
    ({"PARSE_SERVER_LIVE_QUERY": "{"}, "PARSE_SERVER_LIVE_QUERY"),
])
def test_it_says_what_it_lacks(docker: Any, ids: dict[str, str], settings: dict[str, str], says: str) -> None:
    container = start(docker, ids["parse"], environment={**SETTINGS, **settings})
    assert container.wait(timeout=30)["StatusCode"] == 2
    assert says in container.logs().decode()


def test_a_wrong_password_is_not_waited_for(docker: Any, ids: dict[str, str]) -> None:
    store = start(docker, ids["postgres"], environment=DATABASE, tmpfs={"/tmp": ""}, volumes=["parse-wrong-db:/data"])
    await_health(store)
    server = start(docker, ids["parse"], network=f"container:{store.id}", environment={
        **SETTINGS, "PARSE_SERVER_DATABASE_URI": "postgresql://parse:wrong@127.0.0.1/parse"})
    assert server.wait(timeout=30)["StatusCode"] == 1
    assert "parse: password authentication failed" in server.logs(stdout=False).decode()
    store.kill()


def test_no_install_script_ran(images: Chain, scratch: Path) -> None:
    """Every file of a package is as in its tarball, and no other is there."""
    image = Unpacked.of(images, "parse", NATIVE, scratch)
    lock = [json.loads(line) for line in (PROJECT / "images/parse/lock.jsonl").read_text().splitlines()[1:]]
    tarballs = {line["integrity"]: line["sha256"] for line in lock}
    tree = json.loads((PROJECT / "images/parse/npm/parse/package-lock.json").read_text())["packages"]
    wanted = {}
    for place, entry in tree.items():
        if place and entry.get("integrity") in tarballs and not entry.get("optional"):
            sha256 = tarballs[entry["integrity"]]
            with tarfile.open(STATE / "store/sha256" / sha256[:2] / sha256) as archive:
                for file in archive:
                    if file.isfile():
                        path = posixpath.normpath(f"{place}/{file.name.partition('/')[2]}")
                        wanted[path] = archive.extractfile(file).read()
    assert len(wanted) > 10_000
    found = {path.removeprefix(f"{image.root}/app/"): Path(path).read_bytes()
             for path in image.find("-path", f"{image.root}/app/node_modules/*", "-type", "f")}
    assert found.keys() - wanted.keys() == set()
    left_out = (".map", ".ts", ".mts", ".cts", ".pem", ".key", "ignore")
    assert {path for path in wanted.keys() - found.keys() if not path.endswith(left_out)} == set()
    assert [path for path, content in found.items() if content != wanted[path]] == []


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_program_runs(images: Chain, scratch: Path, platform: str) -> None:
    image = Unpacked.of(images, "parse", platform, scratch)
    program = "const { ParseServer } = require('/app/node_modules/parse-server'); console.log(typeof ParseServer)"
    assert "function" in image.run(platform, "/usr/bin/node", "-e", program, user=2000)
    assert image.run(platform, "/usr/bin/dpkg", "--audit") == ""
