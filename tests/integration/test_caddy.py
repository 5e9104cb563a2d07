"""The image caddy, used with the TLS of browsers, and with the examples of its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import services
from .conftest import Chain, Farm, sh
from .containers import ask, await_health, get, logs, start, within
from .docker_host import ROOT, run, until
from .services import FOREIGN, PASSWORD, authority, example, put
from .unpacked import NATIVE

pytestmark = pytest.mark.catalog


@pytest.fixture(scope="module")
def built(farm: Farm) -> Chain:
    return services.build(farm, "tools", "caddy")


@pytest.fixture(scope="module")
def images(built: Chain, docker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Image -> its id in Docker."""
    return services.bring_all(docker, built, tmp_path_factory.mktemp("brought"), "caddy")


@pytest.mark.parametrize("platform", [NATIVE, FOREIGN])
def test_caddy_starts_on_its_platform(built: Chain, scratch: Path, platform: str) -> None:
    services.starts(built, scratch, "caddy", platform, ["/caddy", "version"], r"^v2\.\d+\.\d+")


def test_caddy_keeps_its_contract_and_its_health_follows_it(docker: Any, images: dict[str, str]) -> None:
    services.keeps_its_contract(docker, "caddy", images["caddy"])


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
