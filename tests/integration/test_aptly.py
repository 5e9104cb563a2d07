"""The image aptly: it mirrors a small repository, keeps a snapshot of it and publishes that, signed by a key on its
volume. apt downloads from what it published."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .apt_repository import Repository
from .conftest import Chain, Farm
from .containers import ask, await_health, bring, get, inside, start, within
from .docker_host import ROOT, run, until
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
ORIGIN = "http://127.0.0.1:9000"
# Prints the status and the text of an answer of the API.
ASK = r"""
import json, sys, urllib.error, urllib.request
method, path, body = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:8080/api/" + path, method=method, data=body.encode() or None,
                                 headers={"Content-Type": "application/json"})
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, answer.read().decode()]))
"""


@pytest.fixture(scope="module")
def images(farm: Farm) -> Chain:
    built = farm.run(farm_images=["aptly"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    return Chain(farm, (built, built))


@dataclass
class Served:
    """A container of the image, and a repository that it mirrors, in its network, where nobody else is."""

    docker: Any
    image: str
    folder: Path
    theirs: Repository  # signed by its own key
    ours: Repository  # its key signs what aptly publishes
    container: Any = None
    origin: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.container = start(self.docker, self.image, tmpfs={"/tmp": ""},
                               volumes=["aptly:/data", f"{self.folder}/keys:/data/keys"])
        await_health(self.container)
        self.origin = subprocess.Popen(
            [*ROOT, *within(self.container, sys.executable, "-m", "http.server", "--bind=127.0.0.1",
                            f"--directory={self.theirs.root}", "9000")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("the origin answers", 30, lambda: ask(self.container, 9000).status == 200)

    def end(self) -> None:
        if self.origin:
            run("kill", str(self.origin.pid))
            self.origin.wait(30)
            self.origin = None

    def asks(self, method: str, path: str, **body: Any) -> tuple[int, str]:
        status, text = json.loads(inside(self.container, sys.executable, "-c", ASK, method, path,
                                         "" if method == "GET" else json.dumps(body)))
        return int(status), text

    def done(self, method: str, path: str, **body: Any) -> str:
        status, text = self.asks(method, path, **body)
        assert 200 <= status < 300, text
        return text

    def aptly(self, *words: str) -> tuple[int, str]:
        """One of its commands, beside the server."""
        code, said = self.container.exec_run(["aptly", "-config=/config/aptly.conf", *words])
        return code, said.decode()

    def apt(self, name: str) -> Path:
        """A client that has nothing updates and downloads a package from what is published."""
        home = self.folder / name
        words = self.ours.client(home, "http://127.0.0.1:8080/repos/-/ours", suite="test")
        inside(self.container, *words, "update")
        inside(self.container, "env", f"--chdir={home}", *words, "download", "hello")
        (package,) = home.glob("hello_*.deb")
        return package


@pytest.fixture(scope="module")
def served(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("aptly")
    theirs = Repository.make(folder / "theirs", {"hello": "1.0"})
    ours = Repository.make(folder / "ours", {})
    # As the README says.
    keys = folder / "keys"
    keys.mkdir()
    ours.gpg("--output", str(keys / "pubring.gpg"), "--export")
    ours.gpg("--output", str(keys / "secring.gpg"), "--export-secret-keys")
    theirs.gpg("--output", str(keys / "trustedkeys.gpg"), "--export")
    run("chown", "-R", "2000:2000", str(keys))
    made = Served(docker, bring(docker, images.reference("aptly", NATIVE), folder), folder, theirs, ours)
    made.start()
    yield made
    made.end()
    run("rm", "-rf", str(keys))


def snapshot(served: Served, name: str) -> None:
    """The mirror as the repository is now."""
    served.done("PUT", "mirrors/theirs")
    served.done("POST", "mirrors/theirs/snapshots", Name=name)


def test_a_repository_is_mirrored_and_a_snapshot_of_it_published_for_apt(served: Served) -> None:
    code, said = served.aptly("mirror", "create", "theirs", f"{ORIGIN}/", "test", "main")
    assert code == 0, said
    assert "theirs" in served.done("GET", "mirrors")
    snapshot(served, "first")
    assert "hello" in served.done("GET", "snapshots/first/packages")
    served.done("POST", "publish/ours", SourceKind="snapshot", Sources=[{"Name": "first"}], Distribution="test",
                Architectures=["amd64"], Signing={"Batch": True})
    found = served.apt("one")
    assert found.name == "hello_1.0_all.deb"
    assert found.read_bytes() == served.theirs.package("hello").read_bytes()


def test_a_client_that_trusts_another_key_refuses_what_is_published(served: Served) -> None:
    words = served.ours.client(served.folder / "other", "http://127.0.0.1:8080/repos/-/ours", key=served.theirs.key)
    with pytest.raises(AssertionError, match="NO_PUBKEY"):
        inside(served.container, *words, "update")


def test_a_mirror_of_a_repository_with_another_key_is_refused(served: Served, tmp_path: Path) -> None:
    stranger = Repository.make(tmp_path / "stranger", {"hello": "9.0"})
    for name in ("InRelease", "Release", "Release.gpg"):
        (served.theirs.root / "dists/strange").mkdir(exist_ok=True)
        (served.theirs.root / "dists/strange" / name).write_bytes(
            (stranger.root / "dists/test" / name).read_bytes())
    code, said = served.aptly("mirror", "create", "strange", f"{ORIGIN}/", "strange", "main")
    assert code == 1
    assert re.search("verification|signature|public key", said, re.I), said


def test_what_is_published_changes_when_somebody_says_so_and_not_before(served: Served) -> None:
    served.theirs.publish({"hello": "2.0"})
    snapshot(served, "second")
    assert served.apt("before").name == "hello_1.0_all.deb"
    served.done("PUT", "publish/ours/test", Snapshots=[{"Component": "main", "Name": "second"}],
                Signing={"Batch": True})
    assert served.apt("after").name == "hello_2.0_all.deb"


def test_after_a_restart_it_serves_and_knows_what_it_had_without_the_origin(served: Served) -> None:
    served.end()
    began = time.monotonic()
    served.container.stop(timeout=30)
    assert time.monotonic() - began < 10
    served.container.reload()
    assert served.container.attrs["State"]["ExitCode"] in (0, 143)
    served.container.remove()
    served.start()
    served.end()
    assert served.apt("again").name == "hello_2.0_all.deb"
    assert {one["Name"] for one in json.loads(served.done("GET", "snapshots"))} == {"first", "second"}
    status, _text = served.asks("PUT", "mirrors/theirs")
    assert status >= 400


def test_it_is_one_process_without_rights_that_counts_its_requests(served: Served) -> None:
    top = [(pid, words) for pid, words in served.container.top(ps_args="-eo pid,args")["Processes"]
           if "/health" not in words]
    assert len(top) == 1, top
    process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{top[0][0]}/status").read_text(), re.M))
    assert process["Uid"].split() == ["2000"] * 4
    assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    served.done("GET", "snapshots")
    status, metrics = get(served.container, "http://127.0.0.1:8080/api/metrics")
    assert status == 200
    assert re.search(r'^aptly_api_http_requests_total\{.*"/api/snapshots".*\} \d', metrics, re.M), metrics[-2000:]


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_programs_find_their_libraries(images: Chain, scratch: Path, platform: str) -> None:
    image = Unpacked.of(images, "aptly", platform, scratch)
    assert "aptly version: 1." in image.run(platform, "/usr/bin/aptly", "version", user=2000)
    assert image.run(platform, "/usr/bin/dpkg", "--audit") == ""
