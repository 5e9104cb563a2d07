"""The image opensearch: documents are indexed, found, and there after a restart."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from . import services
from .conftest import Chain, Farm
from .containers import inside, logs, start
from .docker_host import until
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
SMALL = {"OPENSEARCH_JAVA_OPTS": "-Xms256m -Xmx256m"}
ASK = """
import sys, urllib.error, urllib.request
method, path, kind, body = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:9200" + path, body.encode() or None, method=method,
                                 headers={"Content-Type": kind})
try:
    answer = urllib.request.urlopen(request, timeout=60)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""
BOOKS = [
    ("1", {"title": "The lighthouse keeper", "year": 1901, "text": "He counted the ships that passed at night."}),
    ("2", {"title": "Ships of glass", "year": 1950, "text": "Nobody had told the glassblower about the sea."}),
    ("3", {"title": "A garden in winter", "year": 1987, "text": "Snow lay on the hedge."}),
]


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    done = farm.run(farm_images=["opensearch"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert done.rc == 0, done.text[-4000:]
    return Chain(farm, (done, done))


@pytest.fixture(scope="module")
def image(built: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its id in Docker."""
    return services.bring_all(docker, built, tmp_path_factory.mktemp("brought"), "opensearch")["opensearch"]


def up(docker: Any, image: str, volume: str, *words: str) -> Any:
    """A container as its page says, healthy."""
    container = start(docker, image, list(words), tmpfs={"/tmp": ""}, volumes=[f"{volume}:/data"], environment=SMALL)

    def healthy() -> bool:
        container.reload()
        assert container.status == "running", container.logs().decode()
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until("opensearch is healthy", 240, healthy)
    return container


def ask(container: Any, method: str, path: str, body: str = "", kind: str = "application/json") -> tuple[int, Any]:
    """Status and JSON of an answer."""
    status, text = inside(container, sys.executable, "-c", ASK, method, path, kind, body).split(" ", 1)
    return int(status), json.loads(text)


def search(container: Any, query: dict[str, Any]) -> list[str]:
    """The ids that are found, the best first."""
    status, said = ask(container, "POST", "/books/_search", json.dumps({"query": query}))
    assert status == 200, said
    return [hit["_id"] for hit in said["hits"]["hits"]]


def end(container: Any) -> None:
    began = time.monotonic()
    container.stop(timeout=60)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 143
    container.remove()


def test_documents_are_indexed_found_and_there_after_a_restart(docker: Any, image: str) -> None:
    container = up(docker, image, "books")
    lines = [line for number, book in BOOKS for line in ({"index": {"_id": number}}, book)]
    status, said = ask(container, "POST", "/books/_bulk?refresh=true",
                       "".join(f"{json.dumps(line)}\n" for line in lines), "application/x-ndjson")
    assert (status, said["errors"]) == (200, False), said

    def all_is_found(container: Any) -> None:
        assert search(container, {"match": {"text": "glassblower"}}) == ["2"]
        assert set(search(container, {"multi_match": {"query": "ships", "fields": ["title", "text"]}})) == {"1", "2"}
        assert search(container, {"range": {"year": {"gt": 1960}}}) == ["3"]
        assert search(container, {"match": {"text": "volcano"}}) == []

    all_is_found(container)
    status, said = ask(container, "POST", "/books/_search", json.dumps(
        {"size": 0, "aggs": {"years": {"stats": {"field": "year"}}}}))
    assert said["aggregations"]["years"] == {"count": 3, "min": 1901, "max": 1987, "avg": 1946, "sum": 5838}
    assert ask(container, "POST", "/books/_search", '{"query": {"nothing": {}}}')[0] == 400
    assert ask(container, "DELETE", "/books/_doc/3?refresh=true")[0] == 200
    assert ask(container, "PUT", "/books/_doc/3", json.dumps(BOOKS[2][1]))[0] == 201  # in the log, in no segment yet
    end(container)

    container = up(docker, image, "books")
    all_is_found(container)
    assert len(container.top()["Processes"]) == 1
    out, err = logs(container)
    assert err == []
    assert any("started" in line for line in out)
    end(container)


def test_arguments_are_settings_and_options_of_java_count(docker: Any, image: str) -> None:
    container = up(docker, image, "named", "-Ecluster.name=mine", "-Enode.name=first")
    said = ask(container, "GET", "/")[1]
    assert (said["cluster_name"], said["name"], said["version"]["distribution"]) == ("mine", "first", "opensearch")
    assert said["version"]["number"].startswith("2.19.")
    (process,) = ask(container, "GET", "/_nodes/process,jvm")[1]["nodes"].values()
    assert process["jvm"]["version"].startswith("21.")
    assert process["jvm"]["mem"]["heap_max_in_bytes"] == 256 << 20
    end(container)


def test_without_a_folder_in_memory_it_ends_and_says_what_is_missing(docker: Any, image: str) -> None:
    container = start(docker, image)
    assert container.wait(timeout=60)["StatusCode"] == 2
    assert "with a read-only root it needs a tmpfs there" in container.logs().decode()


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_java_is_that_of_the_platform(built: Chain, scratch: Path, platform: str) -> None:
    """Java itself does not start in a tree without /proc."""
    image = Unpacked.of(built, "opensearch", platform, scratch)
    java = image.run(platform, "/usr/bin/readlink", "-e", "/usr/bin/java", user=2000).strip()
    version = image.run(platform, "/usr/bin/dpkg-query", "-W", "-f", "${Version} ${Architecture}",
                        "openjdk-21-jre-headless")
    assert version.startswith("21.")
    assert java == f"/usr/lib/jvm/java-21-openjdk-{version.split()[1]}/bin/java"
    assert image.run(platform, "/usr/bin/dpkg", "--audit") == ""
