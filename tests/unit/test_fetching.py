"""What a node reads from the archive with the login and the CA of a job: they are for that registry alone."""

from __future__ import annotations

import base64
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import fetching, readiness
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, Unreachable

BASIC = "Basic " + base64.b64encode(b"farm:right").decode()
pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="makes the certificates")


class Served:
    """A server with TLS that wants a password, unless it leads elsewhere."""

    def __init__(self) -> None:
        self.address, self.leads, self.asked = "", "", list[str]()
        self.redirects = 307
        self.promises = 0  # bytes
        self.hints = 0  # answers before each that only say that one will come
        self.token, self.gives, self.challenge = "", b"", ""  # what lets in, what the token service says
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"https://{self.address}"


@contextmanager
def served(certificate: Path, *, asks: bool = True) -> Iterator[Served]:
    found = Served()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_GET(self) -> None:
            for _each in range(found.hints):
                self.send_response_only(103)
                self.send_header("Link", "</elsewhere>")
                self.end_headers()
            found.asked.append(self.headers.get("Authorization", ""))
            found.paths.append(self.path)
            if self.path.startswith("/token"):
                self.send_response(200 if found.asked[-1] == BASIC else 403)
                self.end_headers()
                self.wfile.write(found.gives)
                return
            if found.token:
                if found.asked[-1] == f"Bearer {found.token}":
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b"content")
                    return
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("WWW-Authenticate", found.challenge.format(found.url))
                self.end_headers()
                return
            if found.leads:
                self.send_response(found.redirects)
                self.send_header("Location", found.leads)
            elif asks and found.asked[-1] != BASIC:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="farm"')
            else:
                self.send_response(200)
            if found.promises:
                self.send_header("Content-Length", str(found.promises))
            self.end_headers()
            self.wfile.write(b"" if found.leads else b"content")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(certificate))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # handshakes fail here
        server.socket = context.wrap_socket(server.socket, server_side=True)
        found.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two certificates for 127.0.0.1, each with its key, each its own CA."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("mine", "other"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / f"{name}.key"),
             "-out", str(folder / f"{name}.crt")], check=True, capture_output=True)
        both = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(both)
    return folder / "mine.pem", folder / "other.pem"


def read(at: str, **access: str) -> bytes:
    return b"".join(fetching.pieces(f"{at}/v2/a/blobs/sha256:0", 7, access))


def test_it_reads_with_the_login_and_the_ca(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0]) as server:
        got = read(server.url, url=server.url, ca=str(certificates[0]), user="farm", password="right")
        assert (got, server.asked) == (b"content", [BASIC])


def test_answers_that_only_say_that_one_will_come_are_none(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0]) as server:
        server.hints = 2
        access = {"url": server.url, "ca": str(certificates[0]), "user": "farm", "password": "right"}
        assert read(server.url, **access) == b"content"
        server.hints = 200
        with pytest.raises(Unreachable, match="say only that one will come"):
            read(server.url, **access)


@pytest.mark.parametrize(("access", "said"), [
    ({"user": "farm", "password": "wrong"}, "check farm_registry_user and farm_registry_password"),
    ({}, "check farm_registry_user and farm_registry_password"),
])
def test_a_login_that_is_refused_is_told(
        certificates: tuple[Path, Path], access: dict[str, str], said: str) -> None:
    with served(certificates[0]) as server, pytest.raises(FarmError, match=said) as error:
        read(server.url, url=server.url, ca=str(certificates[0]), **access)
    assert "wrong" not in str(error.value)


CHALLENGE = 'Bearer realm="{}/token?a=b",service="s"'


def test_a_registry_that_wants_tokens_gets_one_for_the_login(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0]) as server:
        access = {"url": server.url, "ca": str(certificates[0]), "user": "farm", "password": "right"}
        for number, known in ((1, [BASIC, BASIC, "Bearer t1"]), (1, ["Bearer t1"]), (2, ["Bearer t1", BASIC,
                                                                                         "Bearer t2"])):
            server.token, server.gives = f"t{number}", b'{"access_token": "t%d"}' % number
            server.challenge = CHALLENGE
            server.asked.clear()
            assert read(server.url, **access) == b"content"
            assert server.asked == known
        assert server.paths[1] == "/token?a=b&service=s&scope=repository%3Aa%3Apull"
        with pytest.raises(FarmError, match="HTTP Error 403(?s:.*)check farm_registry_user"):
            read(server.url, **{**access, "password": "wrong"})


@pytest.mark.parametrize(("challenge", "gives", "said"), [
    (CHALLENGE, b"<html>", "answers without one"),
    (CHALLENGE, b'{"token": "a\\nb"}', "answers without one"),
    ("Bearer", b"", "HTTP Error 401"),
    ('Bearer realm="http://registry.example.org/token"', b"", "HTTP Error 401"),
    ("Negotiate", b"", "HTTP Error 401"),
])
def test_a_token_that_is_not_had_is_told(certificates: tuple[Path, Path], challenge: str, gives: bytes,
                                         said: str) -> None:
    with served(certificates[0]) as server:
        server.token, server.challenge, server.gives = "t", challenge, gives
        with pytest.raises(FarmError, match=said) as error:
            read(server.url, url=server.url, ca=str(certificates[0]), user="farm", password="right")
        assert "right" not in str(error.value)
        assert len(server.asked) <= 2


def test_no_other_registry_gets_a_token_for_the_login(certificates: tuple[Path, Path],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates[0]))
    with served(certificates[0]) as server:
        server.token, server.challenge, server.gives = "t", CHALLENGE, b'{"token": "t"}'
        with pytest.raises(FarmError, match="HTTP Error 401"):
            read(server.url, url=f"{server.url}1", user="farm", password="right")
        assert server.asked == [""]


@pytest.mark.parametrize("ca", ["", "other"])
def test_a_certificate_of_another_ca_is_refused(certificates: tuple[Path, Path], ca: str) -> None:
    with served(certificates[0]) as server, pytest.raises(FarmError, match="does not trust its certificate"):
        read(server.url, url=server.url, ca=str(certificates[1]) if ca else "", user="farm", password="right")
    assert server.asked == []


def test_neither_goes_to_another_registry(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0]) as server, pytest.raises(FarmError):
        read(server.url, url=f"{server.url}1", ca=str(certificates[0]), user="farm", password="right")
    assert server.asked == []


@pytest.mark.parametrize("redirects", [307, 308])  # a Python before 3.11 does not know 308
def test_the_login_does_not_follow_a_redirect(
        certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, redirects: int) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates[1]))  # what the system trusts
    with served(certificates[0]) as server, served(certificates[1], asks=False) as other:
        server.leads, server.redirects = f"{other.url}/elsewhere", redirects
        access = {"url": server.url, "ca": str(certificates[0]), "user": "farm", "password": "right"}
        assert read(server.url, **access) == b"content"
        assert (server.asked, other.asked) == ([BASIC], [""])


@pytest.mark.parametrize("leads", ["http://storage.example.org/x?signature", "ftp://127.0.0.1/x"])
def test_a_redirect_out_of_tls_is_not_followed(certificates: tuple[Path, Path], leads: str) -> None:
    with served(certificates[0], asks=False) as server, pytest.raises(FarmError) as error:
        server.leads = leads
        read(server.url, url=server.url, ca=str(certificates[0]))
    assert f"leads to {leads.partition('?')[0]}, which is not TLS" in str(error.value)


@pytest.mark.parametrize(("leads", "said"), [("https://[::1/x", "Invalid IPv6 URL"), ("/x", "infinite loop"),
                                             ("https://127.0.0.1:1/x", "Connection refused")])
def test_what_fails_is_told_in_words(certificates: tuple[Path, Path], leads: str, said: str) -> None:
    with served(certificates[0], asks=False) as server, pytest.raises(FarmError) as error:
        server.leads = leads
        read(server.url, url=server.url, ca=str(certificates[0]))
    assert said in error.value.message and not re.search("<urlopen|\n", error.value.message)


def test_what_breaks_off_is_no_damage(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0], asks=False) as server:
        server.promises = 20
        with pytest.raises(Unreachable, match="ends after 7 of 20 bytes"):
            read(server.url, url=server.url, ca=str(certificates[0]))


def test_a_length_that_is_no_number_says_nothing(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0], asks=False) as server:
        for server.promises in ("\N{SUPERSCRIPT TWO}", "9" * 5000):
            assert read(server.url, url=server.url, ca=str(certificates[0])) == b"content"


def test_a_node_says_whether_it_reaches_the_registry(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0]) as server:
        assert fetching.reached({"url": server.url, "ca": str(certificates[0])}) == ""
        assert "CERTIFICATE_VERIFY_FAILED" in fetching.reached({"url": server.url, "ca": str(certificates[1])})
    assert "Connection refused" in fetching.reached({"url": server.url, "ca": str(certificates[0])})


def test_no_proxy_of_the_hosts_environment_is_asked(
        certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """BuildKit, which pushes to the same registry, knows of none."""
    with served(certificates[0], asks=False) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)
        access = {"url": server.url, "ca": str(certificates[0])}
        assert fetching.reached(access) == ""
        assert read(server.url, **access) == b"content"


def test_a_service_is_ready_once_it_shows_its_own_certificate(certificates: tuple[Path, Path]) -> None:
    with served(certificates[0]) as server:
        assert readiness.http_answers(f"{server.url}/v2/", str(certificates[0])) == ""
        assert "the certificate is not the one in" in readiness.http_answers(f"{server.url}/v2/", str(certificates[1]))
        assert "CERTIFICATE_VERIFY_FAILED" in readiness.http_answers(f"{server.url}/v2/")
