"""The image goproxy before an origin of our own, asked by the go command: what it keeps, what it passes on, what it
never does. The origin has a checksum database of one record, signed with a key made on the spot."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog import lockfile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .conftest import PROJECT, Chain, Farm
from .containers import bring, inside, requests
from .docker_host import ROOT, run, until
from .test_images import skopeo
from .unpacked import NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm64" if NATIVE == "linux/amd64" else "linux/amd64"
PROXY = "http://127.0.0.1:8080"
LOGIN = "Basic " + base64.b64encode(b"farm:secret").decode()
MODULE, VERSION, DATABASE = "example.org/hello", "v1.2.0", "sum.example.org"
IMMUTABLE = {f"/{MODULE}/@v/{VERSION}.{kind}" for kind in ("info", "mod", "zip")} | {
    f"/sumdb/{DATABASE}/lookup/{MODULE}@{VERSION}"}

# Serves the files of a folder to whoever has the password, and writes down who asked for what. The zip has moved to a
# place that wants to see no password.
ORIGIN = r"""
import functools, http.server, sys
class Origin(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[2], "a") as log:
            print(self.command, self.path, self.headers.get("Authorization", "-"), self.headers.get("Cookie", "-"),
                  self.headers.get("Host"), sep="\t", file=log)
        if self.path.startswith("/moved/"):
            if self.headers.get("Authorization"):
                return self.send_error(400)
            self.path = self.path.removeprefix("/moved")
        elif self.headers.get("Authorization") != sys.argv[3]:
            return self.send_error(401)
        elif self.path.endswith(".zip"):
            self.send_response(302)
            self.send_header("Location", "/moved" + self.path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.path = self.path.removeprefix("/go") if self.path.startswith("/go/") else self.path
        super().do_GET()
handler = functools.partial(Origin, directory=sys.argv[1])
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), handler).serve_forever()
"""
# Prints status, X-Cache and text of an answer.
ASK = r"""
import sys, urllib.error, urllib.request
mine = {"Cookie": "mine", "Authorization": "Basic bWU="}
request = urllib.request.Request(sys.argv[1], method=sys.argv[2], headers=mine)
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.headers.get("X-Cache", "-"), answer.read().decode(errors="replace"))
"""


def h1(files: dict[str, bytes]) -> str:
    """The go command's hash of some files: https://pkg.go.dev/golang.org/x/mod/sumdb/dirhash"""
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def verifier(key: Ed25519PrivateKey) -> tuple[bytes, str]:
    """The number of a key in signed notes, and GOSUMDB: https://pkg.go.dev/golang.org/x/mod/sumdb/note"""
    public = b"\1" + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    number = hashlib.sha256(f"{DATABASE}\n".encode() + public).digest()[:4]
    return number, f"{DATABASE}+{number.hex()}+{base64.b64encode(public).decode()}"


def tree(folder: Path) -> str:
    """Writes what a GOPROXY with one module serves, and its checksum database; returns GOSUMDB, which has the key.

    https://go.dev/ref/mod#goproxy-protocol, https://go.dev/design/25530-sumdb
    """
    mod = f"module {MODULE}\n\ngo 1.21\n".encode()
    files = {"go.mod": mod, "hello.go": b"package hello\n", "large.bin": os.urandom(3_000_000)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, data in files.items():
            made.writestr(f"{MODULE}@{VERSION}/{name}", data)
    info = json.dumps({"Version": VERSION, "Time": "2026-01-02T03:04:05Z"}).encode()
    record = (f"{MODULE} {VERSION} {h1({f'{MODULE}@{VERSION}/{name}': data for name, data in files.items()})}\n"
              f"{MODULE} {VERSION}/go.mod {h1({'go.mod': mod})}\n").encode()

    leaf = hashlib.sha256(b"\0" + record).digest()  # of the only record, so the tree's root too
    key = Ed25519PrivateKey.generate()
    number, sums = verifier(key)
    head = f"go.sum database tree\n1\n{base64.b64encode(leaf).decode()}\n".encode()
    signature = base64.b64encode(number + key.sign(head)).decode()
    signed = head + f"\n— {DATABASE} {signature}\n".encode()

    served = {
        **{f"{MODULE}/@v/{VERSION}.{kind}": data
           for kind, data in (("info", info), ("mod", mod), ("zip", packed.getvalue()))},
        f"{MODULE}/@v/list": f"{VERSION}\n".encode(),
        f"{MODULE}/@v/main.info": info,
        f"{MODULE}/@latest": info,
        f"sumdb/{DATABASE}/supported": b"",
        f"sumdb/{DATABASE}/latest": signed,
        f"sumdb/{DATABASE}/lookup/{MODULE}@{VERSION}": b"0\n" + record + b"\n" + signed,
        f"sumdb/{DATABASE}/tile/8/0/000.p/1": leaf,
        "secret/file": b"not for clients of a module proxy",
    }
    for name, data in served.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return sums


@pytest.fixture(scope="module")
def images(farm: Farm) -> Chain:
    built = farm.run(farm_images=["goproxy"], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert built.rc == 0, built.text[-4000:]
    return Chain(farm, (built, built))


@dataclass
class Served:
    """A container of the image, an origin and clients in its network, where nobody else is."""

    docker: Any
    image: str
    folder: Path
    sums: str
    container: Any = None
    origin: subprocess.Popen[bytes] | None = None
    caches: list[Path] = field(default_factory=list)

    def start(self) -> None:
        self.container = self.docker.containers.create(
            self.image, read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"], network_mode="none",
            tmpfs={"/tmp": ""}, volumes=["modules:/data"],
            environment={"ORIGIN": "http://farm:secret@localhost:9000/go"})
        self.container.start()
        until("the cache is healthy", 60, self.healthy)

    def healthy(self) -> bool:
        self.container.reload()
        assert self.container.status == "running", self.container.logs().decode()
        return bool(self.container.attrs["State"]["Health"]["Status"] == "healthy")

    def begin(self) -> None:
        """The origin answers from now on."""
        (self.folder / "origin.py").write_text(ORIGIN)
        pid = self.container.attrs["State"]["Pid"]
        self.origin = subprocess.Popen([*ROOT, "nsenter", f"--net=/proc/{pid}/ns/net", sys.executable,
                                        str(self.folder / "origin.py"), str(self.folder / "served"),
                                        str(self.folder / "asked"), LOGIN], stderr=subprocess.DEVNULL)
        until("the origin answers", 30, lambda: self.asks("/go/x", site="http://127.0.0.1:9000")[0] == 401)
        run("rm", str(self.folder / "asked"))

    def end(self) -> None:
        if self.origin:
            run("kill", str(self.origin.pid))
            self.origin.wait(30)
            self.origin = None

    def asks(self, path: str, method: str = "GET", site: str = PROXY) -> tuple[int, str, str]:
        """Status, what the cache says of itself, and text of an answer; status 0 where nobody answers."""
        try:
            said = inside(self.container, sys.executable, "-c", ASK, site + path, method)
        except AssertionError as error:
            assert "URLError" in str(error)
            return 0, "", ""
        status, cache, text = said.split(" ", 2)
        return int(status), cache, text.rstrip("\n")

    def go(self, *words: str, sums: str = "") -> str:
        """The go command, with nothing in its module cache, and the cache as its only proxy."""
        home = self.folder / f"home{len(self.caches)}"
        home.mkdir()
        self.caches.append(home)
        (home / "go.mod").write_text("module example.org/client\n\ngo 1.21\n")
        go = shutil.which("go")
        assert go
        return inside(self.container, "env", "-i", f"--chdir={home}", f"HOME={home}", f"GOPATH={home}/go",
                      f"GOPROXY={PROXY}", f"GOSUMDB={sums or self.sums}", "GOTOOLCHAIN=local", "GOENV=off",
                      "GOFLAGS=-modcacherw", go, *words)

    def asked(self) -> Counter[str]:
        """What the origin was asked for, and how often."""
        log = self.folder / "asked"
        return Counter(line.split("\t")[1] for line in log.read_text().splitlines()) if log.exists() else Counter()

    def lines(self) -> list[dict[str, Any]]:
        """The log on stdout."""
        return requests(self.container, 8080)

    def told(self) -> dict[str, str]:
        """path -> what the cache said of the last request for it."""
        return {line["path"]: line["cache"] for line in self.lines()}


@pytest.fixture(scope="module")
def served(images: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("goproxy")
    made = Served(docker, bring(docker, images.reference("goproxy", NATIVE), folder), folder, tree(folder / "served"))
    made.start()
    made.begin()
    yield made
    made.end()
    for home in made.caches:
        run("rm", "-rf", str(home))


def test_the_go_command_gets_a_module_once_from_the_origin_and_then_from_the_cache(served: Served) -> None:
    first = json.loads(served.go("mod", "download", "-json", f"{MODULE}@{VERSION}"))
    assert {served.told()[path] for path in IMMUTABLE} == {"MISS"}
    again = json.loads(served.go("mod", "download", "-json", f"{MODULE}@{VERSION}"))
    assert (again["Sum"], again["GoModSum"]) == (first["Sum"], first["GoModSum"])
    assert {served.told()[path] for path in IMMUTABLE} == {"HIT"}
    asked = served.asked()
    assert {path: asked[f"/go{path}"] for path in IMMUTABLE} == dict.fromkeys(IMMUTABLE, 1)


def test_the_checksum_database_is_asked_through_the_cache_and_believed(served: Served) -> None:
    served.go("mod", "download", f"{MODULE}@{VERSION}")
    told = served.told()
    assert f"/sumdb/{DATABASE}/supported" in told and f"/sumdb/{DATABASE}/lookup/{MODULE}@{VERSION}" in told
    with pytest.raises(AssertionError, match="SECURITY ERROR|invalid signature|no verifiable signatures"):
        served.go("mod", "download", f"{MODULE}@{VERSION}", sums=verifier(Ed25519PrivateKey.generate())[1])


def test_the_origin_gets_its_own_login_and_nothing_of_a_clients(served: Served) -> None:
    assert served.asks(f"/{MODULE}/@v/main.info")[0] == 200
    lines = [line.split("\t") for line in (served.folder / "asked").read_text().splitlines()]
    for method, path, login, cookie, host in lines:
        assert (method, cookie) == ("GET", "-")
        assert (login, host) == (("-", "127.0.0.1:9000") if path.startswith("/moved/") else (LOGIN, "localhost:9000"))


@pytest.mark.parametrize(("path", "method", "status"), [
    ("/example.org/none/@v/list", "GET", 404),
    (f"/{MODULE}/@v/v9.9.9.zip", "GET", 404),
    (f"/sumdb/{DATABASE}/lookup/example.org/none@v1.0.0", "GET", 404),
    ("/", "GET", 404),
    ("/secret/file", "GET", 404),
    (f"/{MODULE}/@v/../../../secret/file", "GET", 404),
    (f"/{MODULE}/@v/list", "POST", 405),
])
def test_what_is_not_there_or_no_business_of_a_client_is_refused(served: Served, path: str, method: str,
                                                                 status: int) -> None:
    assert served.asks(path, method)[0] == status
    assert not [asked for asked in served.asked() if "secret" in asked]


def test_lists_and_branches_are_asked_for_again_after_a_minute(served: Served) -> None:
    for path in (f"/{MODULE}/@v/list", f"/{MODULE}/@latest", f"/{MODULE}/@v/main.info"):
        served.asks(path)
        assert served.asks(path)[1] == "HIT"
    (served.folder / "served" / MODULE / "@v/list").write_text(f"{VERSION}\nv1.3.0\n")
    until("the new version is listed", 90, lambda: "v1.3.0" in served.asks(f"/{MODULE}/@v/list")[2])
    assert served.asks(f"/{MODULE}/@v/list")[1] == "HIT"


def test_without_its_origin_a_new_container_serves_what_its_volume_has(served: Served) -> None:
    served.asks(f"/{MODULE}/@v/list")
    served.asks("/example.org/none/@latest")
    served.end()
    began = time.monotonic()
    served.container.stop(timeout=30)
    assert time.monotonic() - began < 10
    served.container.reload()
    assert served.container.attrs["State"]["ExitCode"] == 0
    served.container.remove()

    served.start()
    found = json.loads(served.go("mod", "download", "-json", f"{MODULE}@{VERSION}"))
    assert found["Version"] == VERSION
    assert {served.told()[path] for path in IMMUTABLE} == {"HIT"}
    until("the list is too old, and served all the same", 90,
          lambda: served.asks(f"/{MODULE}/@v/list")[1] == "STALE")
    assert served.asks(f"/{MODULE}/@v/list")[0] == 200
    until("so is the answer that there is no such module", 90,
          lambda: served.asks("/example.org/none/@latest")[:2] == (404, "STALE"))
    assert served.asks("/example.org/other/@v/list")[0] == 502
    served.begin()


def test_the_container_keeps_its_contract(served: Served) -> None:
    top = [(pid, words) for pid, words in served.container.top(ps_args="-eo pid,args")["Processes"]
           if "/health" not in words]
    assert all("nginx: " in words for _pid, words in top), top
    assert 2 <= len(top) <= 4, top  # master, worker, cache manager; in the first minute one that reads the cache
    for pid, _words in top:
        process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
        assert process["Uid"].split() == ["2000"] * 4
        assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    line = served.lines()[-1]
    assert line.keys() == {"time", "client", "method", "path", "status", "bytes", "seconds", "cache"}
    assert "/healthz" not in {line["path"] for line in served.lines()}


@pytest.mark.parametrize(("environment", "says"), [
    ({}, "goproxy: ORIGIN is not set: say which Go module proxy is to be cached"),
    ({"ORIGIN": "proxy.example", "CACHE_SIZE": "much"}, "goproxy: ORIGIN must be one http or https URL"),
])
def test_without_an_origin_it_does_not_start_and_says_why(served: Served, environment: dict[str, str],
                                                          says: str) -> None:
    container = served.docker.containers.create(served.image, read_only=True, network_mode="none", tmpfs={"/tmp": ""},
                                                environment=environment)
    container.start()
    assert container.wait(timeout=30)["StatusCode"] == 2
    assert says in container.logs(stdout=False, stderr=True).decode()
    assert container.logs(stdout=True, stderr=False) == b""


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_its_packages_are_in_dpkgs_records_and_its_programs_find_their_libraries(images: Chain, scratch: Path,
                                                                                 platform: str) -> None:
    image = Unpacked.of(images, "goproxy", platform, scratch)
    packages = dict(line.split("=", 1) for line in image.run(
        platform, "/usr/bin/dpkg-query", "-W", "-f", "${Package}=${db:Status-Abbrev}${Version}\\n").splitlines())
    lock = lockfile.parse((PROJECT / "images/goproxy/lock.jsonl").read_text(), "goproxy")
    locked = {entry.fact["name"]: f"ii {entry.fact['version']}" for entry in lock.of("nginx", platform)}
    assert "nginx" in locked
    assert packages.items() >= locked.items()
    assert image.run(platform, "/usr/bin/dpkg", "--print-foreign-architectures") == ""

    patterns = re.findall(r"^path-(in|ex)clude=(.*)$", (image.root / "etc/dpkg/dpkg.cfg.d/slim").read_text(), re.M)

    def left_out(path: str) -> bool:
        return [kind for kind, pattern in patterns if fnmatch.fnmatchcase(path, pattern)][-1:] == ["ex"]

    differing = [line for line in image.run(platform, "/usr/bin/dpkg", "--verify").splitlines()
                 if not (line.startswith("missing ") and left_out(line.rpartition(" ")[2]))]
    assert differing == []
    assert image.run(platform, "/usr/bin/dpkg", "--audit") == ""
    if platform == NATIVE:  # it runs dpkg, which no emulator is told of
        assert "Reading package lists" in image.run(platform, "apt-get", "check")
    assert not [path for path in image.find("-path", "*/share/doc/*", "-type", "f", "-printf", "%P\n")
                if not path.endswith("/copyright")]
    image.run(platform, "/usr/sbin/nginx", "-v", user=2000)
    config = skopeo(f"--config docker://{images.reference('goproxy', platform)}")["config"]
    assert config["User"] == "2000:2000"
