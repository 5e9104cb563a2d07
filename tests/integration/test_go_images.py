"""The images of Go programs that people run as services, used as people use them: with browsers' TLS, with a resolver's
queries, and with the examples of their own pages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates

from .conftest import PROJECT, Chain, Farm, children, sh
from .containers import ask, await_health, bring, get, inside, listening, logs, start, within
from .docker_host import ROOT, run, until
from .unpacked import EMULATORS, NATIVE, Unpacked

pytestmark = pytest.mark.catalog

FOREIGN = "linux/arm/v6"
SERVICES = ("registry", "caddy", "coredns")
VERSIONS = {
    "registry": (["/registry", "--version"], r"distribution/v3 v3\.\d"),
    "caddy": (["/caddy", "version"], r"^v2\.\d+\.\d+"),
    "coredns": (["/coredns", "-version"], r"^CoreDNS-1\.\d"),
}
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    """The images, built for this machine and for the smallest one."""
    done = farm.run(farm_images=["tools", *SERVICES], farm_platforms=[NATIVE, FOREIGN], farm_partial=True)
    assert done.rc == 0, done.text[-4000:]
    return Chain(farm, (done, done))


@pytest.fixture(scope="module")
def images(built: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Image -> its id in Docker."""
    return {name: bring(docker, built.reference(name, NATIVE), tmp_path_factory.mktemp(name)) for name in SERVICES}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder for files that containers read: pytest's own let nobody else in."""
    with tempfile.TemporaryDirectory(prefix="desimages-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def put(folder: Path, files: dict[str, str]) -> None:
    """Writes files that user 2000 can read."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run("chmod", "-R", "a+rX", str(folder))


def authority(folder: Path, *names: str) -> tuple[certificates.Pair, Path]:
    """A certificate for names, and the file of the CA that signed it."""
    now = datetime.now(timezone.utc)
    ca = certificates.new_authority(now, "test")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_text(ca.pem)
    return certificates.new_server(ca, names, now), folder / "ca.pem"


def example(image: str, word: str) -> str:
    """The fenced block on an image's page that has no language, and a word."""
    parts = re.split(r"^```(.*)\n", (PROJECT / "images" / image / "README.md").read_text(), flags=re.M)
    (found,) = (text for language, text in zip(parts[1::4], parts[2::4]) if not language and word in text)
    return found


# --- what holds for all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", SERVICES)
@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_a_service_starts_on_its_platform(built: Chain, scratch: Path, image: str, platform: str) -> None:
    assert platform in EMULATORS
    words, says = VERSIONS[image]
    assert re.search(says, Unpacked.of(built, image, platform, scratch).run(platform, *words, user=2000), re.M)


@pytest.mark.parametrize("image", SERVICES)
def test_a_service_keeps_its_contract_and_its_health_follows_it(docker: Any, images: dict[str, str],
                                                                image: str) -> None:
    contract = load_catalog(["desimages.farm"])[image].contract
    container = start(docker, images[image], list(contract.command), volumes=[f"{image}-contract:/data"],
                      dns=["127.0.0.1"])
    await_health(container)
    pid = container.attrs["State"]["Pid"]
    process = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M))
    assert process["Uid"].split() == ["2000"] * 4
    assert (int(process["CapEff"], 16), int(process["CapBnd"], 16), process["NoNewPrivs"]) == (0, 0, "1")
    assert len(container.top()["Processes"]) == 1
    there = listening(container)
    assert set(contract.ports.values()) <= there
    # what is not promised is for the container itself
    assert {place for place in there - set(contract.ports.values()) if not place.startswith("127.0.0.1:")} == set()
    status, metrics = get(container, contract.metrics)
    assert status == 200
    assert re.search(r"^go_goroutines \d", metrics, re.M)

    run("kill", "-STOP", str(pid))
    await_health(container, "unhealthy")
    run("kill", "-CONT", str(pid))
    await_health(container)

    began = time.monotonic()
    container.stop(timeout=20)
    assert time.monotonic() - began < 10
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 0
    out, err = logs(container)
    assert err == []
    assert out


# --- registry ---------------------------------------------------------------------------------------------------------


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


# --- caddy ------------------------------------------------------------------------------------------------------------

BACKEND = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = json.dumps({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *words):
        pass
with http.server.HTTPServer(("127.0.0.1", 9000), Handler) as server:
    print("there", flush=True)
    server.serve_forever()
"""


@contextmanager
def backend(container: Any) -> Iterator[str]:
    """A server in the container's network that answers with what it was asked; gives its address."""
    words = [*ROOT, *within(container, "setpriv", "--pdeathsig=TERM", sys.executable, "-c", BACKEND)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "there\n"
            yield "127.0.0.1:9000"
        finally:
            process.terminate()


def root_of(container: Any, folder: Path) -> Path:
    """The certificate of Caddy's own CA, taken from its volume."""
    (source,) = (mount["Source"] for mount in container.attrs["Mounts"] if mount["Destination"] == "/data")
    path = f"{source}/caddy/pki/authorities/local/root.crt"
    until("Caddy has its CA", 30, lambda: subprocess.run([*ROOT, "test", "-s", path], check=False).returncode == 0)
    (folder / "root.crt").write_text(run("cat", path))
    return folder / "root.crt"


def test_caddy_serves_files_over_http_and_https_as_it_comes(docker: Any, images: dict[str, str], shared: Path) -> None:
    put(shared / "www", {"index.html": "<p>home</p>", "page.txt": "text " * 500, "folder/a.txt": "a"})
    container = start(docker, images["caddy"], volumes=["caddy-files:/data", f"{shared}/www:/srv:ro"],
                      environment={"DOMAIN": "www.example.org"})
    await_health(container)
    assert get(container, ":8080/") == (200, "<p>home</p>")
    assert get(container, ":8080/page.txt") == (200, "text " * 500)
    for path in ("nothing", "folder/", "../etc/passwd", "%2e%2e/etc/passwd"):
        assert get(container, f":8080/{path}")[0] == 404, path
    assert ask(container, 8080, "/page.txt", headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"

    ca = root_of(container, shared)
    secure = ask(container, 8443, "/", host="www.example.org", ca=ca)
    assert (secure.status, secure.text, secure.tls) == (200, "<p>home</p>", "TLSv1.3"), secure.error
    assert ask(container, 8443, "/", host="other.example.org", ca=ca).error

    status, metrics = get(container, ":9253/metrics")
    assert status == 200
    assert re.search(r'^caddy_http_requests_total\{.*\} [1-9]', metrics, re.M)
    assert get(container, ":9253/")[0] == 404
    assert ask(container, 2019, "/config/").error  # where its interface for changes would be
    container.stop(timeout=20)
    lines = [json.loads(line) for line in logs(container)[0]]
    asked = [line["request"]["uri"] for line in lines if line.get("logger", "").startswith("http.log.access")]
    assert "/page.txt" in asked


def test_caddy_is_the_proxy_of_its_page_with_its_own_ca_and_a_password(docker: Any, images: dict[str, str],
                                                                       shared: Path) -> None:
    hashed = docker.containers.run(images["caddy"], ["hash-password", "--plaintext", PASSWORD], network_mode="none",
                                   remove=True).decode().strip()
    put(shared / "sites", {"app.caddy": example("caddy", "reverse_proxy")})
    put(shared / "www", {"index.html": "files"})
    container = start(docker, images["caddy"], environment={"ANN": hashed, "APP": "127.0.0.1:9000"},
                      volumes=["caddy-proxy:/data", f"{shared}/sites:/config/sites:ro", f"{shared}/www:/srv:ro"])
    await_health(container)
    ca = root_of(container, shared)
    right = {"Authorization": "Basic YW5uOmNvcnJlY3QgaG9yc2U="}  # ann:correct horse

    def app(**options: Any) -> Any:
        return ask(container, 8443, "/path?a=b", host="app.example.org", **{"ca": ca, **options})

    with backend(container):
        there = app(headers=right)
        assert (there.status, there.tls) == (200, "TLSv1.3"), there
        said = json.loads(there.text)
        assert (said["path"], said["host"], said["x-forwarded-proto"]) == ("/path?a=b", "app.example.org", "https")
        assert there.headers["strict-transport-security"] == "max-age=31536000"
        assert there.headers["x-content-type-options"] == "nosniff"
        assert "caddy" not in there.headers.get("server", "").lower()
        assert app().status == 401
        assert app(headers={"Authorization": "Basic YW5uOndyb25n"}).status == 401  # ann:wrong
        assert "alert protocol version" in app(headers=right, newest="TLSv1_2").error
        assert "certificate verify failed" in app(headers=right, ca=authority(shared / "stranger", "x")[1]).error
    assert app(headers=right).status == 502  # nobody is there any more

    assert ask(container, 8443, host="files.example.org", ca=ca).text == "files"
    redirected = ask(container, 8080, "/path", host="app.example.org")
    assert (redirected.status, redirected.headers["location"]) == (308, "https://app.example.org/path")

    before = ca.read_text()
    container.restart(timeout=20)
    await_health(container)
    assert root_of(container, shared).read_text() == before
    assert ask(container, 8443, host="files.example.org", ca=ca).text == "files"
    container.stop(timeout=20)
    assert logs(container)[1] == []


def test_caddy_asks_clients_for_certificates_as_its_page_says(docker: Any, images: dict[str, str],
                                                              shared: Path) -> None:
    sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
       "1", "-subj", "/CN=ann", "-keyout", f"{shared}/ann.key", "-out", f"{shared}/ann.pem")
    put(shared / "certs", {"clients.pem": (shared / "ann.pem").read_text()})
    put(shared / "sites", {"private.caddy": example("caddy", "require_and_verify")})
    container = start(docker, images["caddy"], volumes=["caddy-mutual:/data", f"{shared}/sites:/config/sites:ro",
                                                        f"{shared}/certs:/certs:ro"])
    await_health(container)
    root = root_of(container, shared)
    words = ["openssl", "s_client", "-quiet", "-connect", "127.0.0.1:8443", "-servername", "private.example.org",
             "-CAfile", str(root), "-verify_return_error"]
    request = b"GET / HTTP/1.1\r\nHost: private.example.org\r\nConnection: close\r\n\r\n"
    said = run(*within(container, *words, "-cert", f"{shared}/ann.pem", "-key", f"{shared}/ann.key"), stdin=request)
    assert "Hello CN=ann" in said
    with pytest.raises(AssertionError, match="certificate required"):
        run(*within(container, *words), stdin=request)
    container.stop(timeout=20)


def test_caddy_reads_its_sites_again_and_keeps_them_if_they_are_wrong(docker: Any, images: dict[str, str],
                                                                      shared: Path) -> None:
    put(shared / "sites", {"one.caddy": "http:// {\n\trespond first\n}\n"})
    container = start(docker, images["caddy"], volumes=["caddy-again:/data", f"{shared}/sites:/config/sites:ro"])
    await_health(container)
    assert get(container, ":8080/") == (200, "first")
    put(shared / "sites", {"one.caddy": "http:// {\n\trespond second\n}\n"})
    container.kill("USR1")
    until("the change counts", 20, lambda: get(container, ":8080/") == (200, "second"))
    put(shared / "sites", {"one.caddy": "http:// {\n\tresponse third\n}\n"})
    container.kill("USR1")
    until("the log names the mistake", 20,
          lambda: any("unrecognized directive: response" in line for line in logs(container)[0]))
    assert get(container, ":8080/") == (200, "second")
    container.stop(timeout=20)


# --- coredns ----------------------------------------------------------------------------------------------------------

ZONE = """$ORIGIN example.org.
@ 3600 IN SOA ns.example.org. ann.example.org. 1 3600 600 86400 60
@ 3600 IN NS ns
ns 3600 IN A 192.0.2.1
www 3600 IN A 192.0.2.80
www 3600 IN AAAA 2001:db8::80
"""
UPSTREAM = """.:53 tls://.:853 {
    bind 127.0.0.1
    tls /certs/upstream-server.pem /certs/upstream-server.key
    file /zones/far.zone far.example.net
    errors
}
"""
FAR = ZONE.replace("example.org", "far.example.net").replace("192.0.2.", "198.51.100.")


def kdig(container: Any, *words: str, port: int = 10053) -> str:
    return inside(container, "kdig", "@127.0.0.1", "-p", str(port), "+retry=0", "+timeout=3", *words)


def test_coredns_forwards_and_caches_as_it_comes(docker: Any, images: dict[str, str], shared: Path) -> None:
    pair, _ca = authority(shared / "ca", "dns.example.net")
    put(shared / "certs", {"upstream-server.pem": pair.pem, "upstream-server.key": pair.key_pem})
    put(shared / "zones", {"far.zone": FAR})
    put(shared / "upstream", {"Corefile": UPSTREAM})
    container = start(docker, images["coredns"], dns=["127.0.0.1"])
    await_health(container)
    assert "SERVFAIL" in kdig(container, "www.far.example.net")  # nobody to ask yet

    upstream = start(docker, images["coredns"], network=f"container:{container.id}", volumes=[
        f"{shared}/certs:/certs:ro", f"{shared}/zones:/zones:ro", f"{shared}/upstream:/config:ro"])
    until("the upstream listens", 30, lambda: "127.0.0.1:53/tcp" in listening(container))
    until("it is forwarded", 30, lambda: "198.51.100.80" in kdig(container, "www.far.example.net"))
    assert "198.51.100.1" in kdig(container, "+tcp", "ns.far.example.net")
    assert "NXDOMAIN" in kdig(container, "nothing.far.example.net")
    assert get(container, ":8181/ready")[0] == 200

    upstream.stop(timeout=20)
    # this it knows, and for less long than it was told
    again = kdig(container, "www.far.example.net")
    assert "198.51.100.80" in again
    assert 3400 < int(re.search(r"^www\S*\s+(\d+)\s", again, re.M)[1]) <= 3600  # type: ignore[index]
    assert "SERVFAIL" in kdig(container, "AAAA", "www.far.example.net")  # this it was never asked
    metrics = get(container, ":9153/metrics")[1]
    assert re.search(r"^coredns_cache_hits_total\{.*\} [1-9]", metrics, re.M)
    assert re.search(r'^coredns_dns_requests_total\{.*type="A".*\} [1-9]', metrics, re.M)
    container.stop(timeout=20)
    assert logs(container)[1] == []


def test_coredns_is_the_server_of_its_page_over_dns_and_tls(docker: Any, images: dict[str, str], shared: Path) -> None:
    own, ca = authority(shared / "own", "dns.example.org")
    far, far_ca = authority(shared / "far", "dns.example.net")
    put(shared / "certs", {"dns.pem": own.pem, "dns.key": own.key_pem, "upstream.pem": far_ca.read_text(),
                           "upstream-server.pem": far.pem, "upstream-server.key": far.key_pem})
    put(shared / "zones", {"far.zone": FAR, "example.org.zone": ZONE})
    corefile = example("coredns", "forward . tls")
    assert "tls://192.0.2.53" in corefile
    put(shared / "config", {"Corefile": corefile.replace("tls://192.0.2.53", "tls://127.0.0.1")})
    put(shared / "upstream", {"Corefile": UPSTREAM})
    volumes = [f"{shared}/certs:/certs:ro", f"{shared}/zones:/zones:ro"]
    container = start(docker, images["coredns"], volumes=[*volumes, f"{shared}/config:/config:ro"])
    await_health(container)
    own_answer = kdig(container, "www.example.org")
    assert "192.0.2.80" in own_answer
    assert re.search(r"^;; Flags:.*\baa\b", own_answer, re.M)  # it is the authority
    assert "2001:db8::80" in kdig(container, "+tcp", "AAAA", "www.example.org")
    assert "NXDOMAIN" in kdig(container, "nothing.example.org")

    secure = [f"+tls-ca={ca}", "+tls-hostname=dns.example.org"]
    answer = kdig(container, *secure, "www.example.org", port=10853)
    assert "192.0.2.80" in answer and "TLS session (TLS1.3)" in answer
    assert "192.0.2.80" not in kdig_fails(container, f"+tls-ca={far_ca}", "+tls-hostname=dns.example.org")
    assert "192.0.2.80" not in kdig_fails(container, f"+tls-ca={ca}", "+tls-hostname=other.example.org")

    upstream = start(docker, images["coredns"], network=f"container:{container.id}",
                     volumes=[*volumes, f"{shared}/upstream:/config:ro"])
    until("it is forwarded over TLS", 30,
          lambda: "198.51.100.80" in kdig(container, *secure, "www.far.example.net", port=10853))
    for stopped in (upstream, container):
        stopped.stop(timeout=20)


def kdig_fails(container: Any, *words: str) -> str:
    """What kdig says where it does not trust the server."""
    with pytest.raises(AssertionError) as error:
        kdig(container, *words, "www.example.org", port=10853)
    return str(error.value)
