"""The image aptutil before an origin of our own, asked by apt: what it keeps, what it asks again, what it serves when
the origin is away. The origin is a small repository, signed with a key made on the spot."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .apt_repository import Repository
from .conftest import Chain, Farm
from .containers import ask, await_health, bring, inside, requests, start, within
from .docker_host import ROOT, run, until
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
CACHE = "http://127.0.0.1:8080"
ORIGINS = "my-team=http://farm:secret@localhost:9000/debian other=http://127.0.0.1:9/none"

# Serves the files of a folder to whoever has the password, and writes down who asked for what. Packages have moved to a
# place that wants to see no password.
ORIGIN = r"""
import base64, functools, http.server, sys
login = "Basic " + base64.b64encode(b"farm:secret").decode()
class Origin(http.server.SimpleHTTPRequestHandler):
    def send_head(self):
        path, given = self.path, self.headers.get("Authorization")
        self.answer = 0
        try:
            if path.startswith("/moved/"):
                if given:
                    return self.send_error(400)
                self.path = path.removeprefix("/moved/debian")
            elif given != login:
                return self.send_error(401)
            elif path.endswith(".deb"):
                self.send_response(302)
                self.send_header("Location", "/moved" + path)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            else:
                self.path = path.removeprefix("/debian")
            return super().send_head()
        finally:
            with open(sys.argv[2], "a") as log:
                print(self.command, path, self.answer, self.headers.get("Cookie", "-"), sep="\t", file=log)
    def send_response(self, code, message=None):
        self.answer = code
        super().send_response(code, message)
handler = functools.partial(Origin, directory=sys.argv[1])
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), handler).serve_forever()
"""


@pytest.fixture(scope="module")
def images(farm: Farm) -> Chain:
    built = farm.run(farm_images=["aptutil"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    return Chain(farm, (built, built))


@dataclass
class Served:
    """A container of the image, an origin and clients in its network, where nobody else is."""

    docker: Any
    image: str
    folder: Path
    repository: Repository
    container: Any = None
    origin: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.container = start(self.docker, self.image, tmpfs={"/tmp": ""}, volumes=["packages:/data"],
                               environment={"ORIGINS": ORIGINS})
        await_health(self.container)

    def begin(self) -> None:
        """The origin answers from now on."""
        (self.folder / "origin.py").write_text(ORIGIN)
        self.origin = subprocess.Popen(
            [*ROOT, *within(self.container, sys.executable, str(self.folder / "origin.py"), str(self.repository.root),
                            str(self.folder / "asked"))], stderr=subprocess.DEVNULL)
        until("the origin answers", 30, lambda: ask(self.container, 9000).status == 401)

    def end(self) -> None:
        if self.origin:
            run("kill", str(self.origin.pid))
            self.origin.wait(30)
            self.origin = None

    def apt(self, name: str) -> str:
        """A client of its own, which has nothing: updates, and downloads a package. Returns where the package is."""
        home = self.folder / name
        words = self.repository.client(home, f"{CACHE}/my-team")
        inside(self.container, *words, "update")
        inside(self.container, "env", f"--chdir={home}", *words, "download", "hello")
        (package,) = home.glob("hello_*.deb")
        return str(package)

    def asked(self) -> Counter[str]:
        """What the origin was asked for, and with which answer, and how often."""
        log = self.folder / "asked"
        words = (line.split("\t") for line in log.read_text().splitlines())
        return Counter(f"{answer} {path}" for _method, path, answer, _cookie in words)

    def told(self) -> dict[str, str]:
        """path -> what the cache said of the last request for it."""
        return {line["path"]: line["cache"] for line in requests(self.container, 8080)}

    def kinds(self) -> dict[str, set[str]]:
        """The same, by what a file is."""
        found: dict[str, set[str]] = {}
        for path, told in self.told().items():
            if path.startswith("/my-team/"):
                kind = "package" if path.endswith(".deb") else "by-hash" if "/by-hash/" in path else path.split("/")[-1]
                found.setdefault(kind, set()).add(told)
        return found


@pytest.fixture(scope="module")
def served(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("aptutil")
    repository = Repository.make(folder / "repository", {"hello": "1.0"})
    made = Served(docker, bring(docker, images.reference("aptutil", NATIVE), folder), folder, repository)
    made.start()
    made.begin()
    yield made
    made.end()


def test_apt_gets_a_package_once_from_the_origin_and_then_from_the_cache(served: Served) -> None:
    first = served.apt("one")
    assert served.kinds() == {"InRelease": {"MISS"}, "by-hash": {"MISS"}, "package": {"MISS"}}
    again = served.apt("two")
    assert Path(first).read_bytes() == Path(again).read_bytes() == served.repository.package("hello").read_bytes()
    told = served.kinds()
    assert (told["by-hash"], told["package"]) == ({"HIT"}, {"HIT"})
    assert told["InRelease"] in ({"HIT"}, {"REVALIDATED"})
    packages = {path: count for path, count in served.asked().items() if path.endswith(".deb")}
    name = served.repository.path("hello")
    assert packages == {f"302 /debian/{name}": 1, f"200 /moved/debian/{name}": 1}


def test_a_new_version_is_there_at_once_and_what_did_not_change_is_not_sent_again(served: Served) -> None:
    served.apt("three")
    until("the origin is asked whether it changed", 10,
          lambda: (served.apt(f"wait{time.monotonic_ns()}"), "REVALIDATED" in served.kinds()["InRelease"])[1])
    assert served.asked()["304 /debian/dists/test/InRelease"] >= 1
    served.repository.publish({"hello": "2.0"})
    until("what was asked for in this second is asked for again", 10,
          lambda: "hello_2.0" in served.apt(f"new{time.monotonic_ns()}"))
    assert served.kinds()["by-hash"] >= {"MISS"}


@pytest.mark.parametrize(("path", "method", "status"), [
    ("/my-team/dists/none/InRelease", "GET", 404),
    ("/my-team/dists/test/InRelease", "POST", 405),
    ("/my-team/dists/test/InRelease?x", "GET", 404),
    ("/my-team/../secret", "GET", 404),
    ("/other/../my-team/dists/test/InRelease", "GET", 404),
    ("/my-team/%2e%2e/my-team/dists/test/InRelease", "GET", 404),
    ("/my-team/a%2f..%2fb.deb", "GET", 404),
    ("/my-team/pool/", "GET", 404),
    ("/none/dists/test/InRelease", "GET", 404),
    ("/other/dists/test/InRelease", "GET", 502),
    ("http://127.0.0.1:9000/debian/secret", "GET", 404),
])
def test_what_is_not_there_or_no_business_of_a_client_is_refused(served: Served, path: str, method: str,
                                                                 status: int) -> None:
    said = inside(served.container, sys.executable, "-c",
                  "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8080);"
                  "c.request(*sys.argv[1:], headers={'Cookie': 'mine', 'Authorization': 'Basic bWU='});"
                  "print(c.getresponse().status)", method, path)
    assert int(said) == status
    assert not [asked for asked in served.asked() if "secret" in asked or ".." in asked]
    assert {line.split("\t")[3] for line in (served.folder / "asked").read_text().splitlines()} == {"-"}


def test_without_its_origin_a_new_container_serves_what_its_volume_has(served: Served) -> None:
    before = served.apt("four")
    served.end()
    began = time.monotonic()
    served.container.stop(timeout=30)
    assert time.monotonic() - began < 10
    served.container.reload()
    assert served.container.attrs["State"]["ExitCode"] == 0
    served.container.remove()

    served.start()
    after = served.apt("five")
    assert Path(after).read_bytes() == Path(before).read_bytes()
    assert served.kinds() == {"InRelease": {"STALE"}, "by-hash": {"HIT"}, "package": {"HIT"}}
    assert ask(served.container, 8080, "/my-team/dists/other/InRelease").status == 502
    served.begin()


def test_a_container_ends_on_sigterm_too(images: Chain, served: Served) -> None:
    container = start(served.docker, served.image, tmpfs={"/tmp": ""}, environment={"ORIGINS": ORIGINS})
    await_health(container)
    container.kill("SIGTERM")
    assert container.wait(timeout=10)["StatusCode"] == 0


def test_its_processes_have_no_rights_and_its_front_page_no_password(served: Served) -> None:
    top = [(pid, words) for pid, words in served.container.top(ps_args="-eo pid,args")["Processes"]
           if "/health" not in words]
    assert all("nginx: " in words for _pid, words in top), top
    assert 2 <= len(top) <= 4, top  # master, worker, cache manager; in the first minute one that reads the cache
    for pid, _words in top:
        process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
        assert process["Uid"].split() == ["2000"] * 4
        assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    page = ask(served.container, 8080)
    assert (page.status, page.text) == (
        200, "deb http://localhost/my-team/ SUITE COMPONENT\ndeb http://localhost/other/ SUITE COMPONENT\n")


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_programs_find_their_libraries(images: Chain, scratch: Path, platform: str) -> None:
    image = Unpacked.of(images, "aptutil", platform, scratch)
    image.run(platform, "/usr/sbin/nginx", "-v", user=2000)
    assert image.run(platform, "/usr/bin/dpkg", "--audit") == ""
