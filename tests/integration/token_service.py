"""A token service as registries have one: it knows people, what each may do, and signs what it grants. Its answers are
those of https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/; a registry verifies its tokens
itself (https://distribution.github.io/distribution/spec/auth/jwt/).
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

ISSUER, NAME = "the tests", "a registry"  # who signs, and the service that tokens are for
LEEWAY = 60  # seconds that distribution lets a token live on
IDENTITY = "an identity token"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Service:
    """`people` maps a name to password and the actions in each repository. `life` is how many seconds a registry lets
    a token in."""

    signer: certificates.Pair
    people: dict[str, str]
    may: dict[str, list[str]]
    life: float = 300
    granted: list[dict[str, Any]] = field(default_factory=list)

    def token(self, name: str, scopes: list[str]) -> str:
        """A token for what a person may of what was asked for."""
        access = []
        for scope in scopes:
            kind, _colon, rest = scope.partition(":")
            repository, _colon, actions = rest.rpartition(":")
            allowed = [action for action in actions.split(",") if action in self.may.get(name, [])]
            access += [{"type": kind, "name": repository, "actions": allowed}] if allowed else []
        now = int(time.time())
        ends = int(time.time() + self.life) - LEEWAY
        claims = {"iss": ISSUER, "sub": name, "aud": NAME, "iat": now, "nbf": min(now, ends) - 60, "exp": ends,
                  "jti": uuid.uuid4().hex, "access": access}
        certificate = self.signer.certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(certificate).decode()]}
        text = ".".join(_text(json.dumps(part).encode()) for part in (head, claims))
        signed = self.signer.key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        numbers = b"".join(number.to_bytes(32, "big") for number in utils.decode_dss_signature(signed))
        self.granted.append({"sub": name, "access": access})
        return f"{text}.{_text(numbers)}"

    def answer(self, authorization: str, asked: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """The status and what is said to a request with these parameters."""
        name = ""
        if asked.get("grant_type") == ["refresh_token"]:
            name = "ann" if asked.get("refresh_token") == [IDENTITY] else ""
        elif authorization:
            said, _colon, password = base64.b64decode(authorization.partition(" ")[2]).decode().partition(":")
            name = said if self.people.get(said) == password else ""
        else:
            name = "anonymous"
        if not name:
            return 401, {"details": "incorrect username or password"}
        if asked.get("service") != [NAME]:
            return 400, {"details": "tokens are not for that"}
        scopes = [scope for text in asked.get("scope", []) for scope in text.split()]
        key = "access_token" if "grant_type" in asked else "token"
        return 200, {key: self.token(name, scopes), "expires_in": int(self.life)}


def serve(service: Service, host: str, pair: certificates.Pair, folder: Path) -> ThreadingHTTPServer:
    """The service with TLS on a free port of a host; not running yet."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked = parse_qs(body if self.command == "POST" else urlsplit(self.path).query)
            status, said = service.answer(self.headers.get("Authorization", ""), asked)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    (folder / "token-service.pem").write_text(pair.pem + pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(folder / "token-service.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


@contextmanager
def beside(service: Service, host: str, pair: certificates.Pair, folder: Path) -> Iterator[int]:
    """The same in a thread, so that a test sees what it grants; gives its port."""
    server = serve(service, host, pair, folder)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def apart(service: Service, host: str, pair: certificates.Pair, folder: Path) -> Iterator[int]:
    """The same in a process of its own (ansible-runner forks, threads do not); gives its port."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    texts = [(one.pem, one.key_pem) for one in (service.signer, pair)]
    process = context.Process(target=_main, args=(texts, service.people, service.may, host, folder, port), daemon=True)
    process.start()
    try:
        yield int(port.get(timeout=60))
    finally:
        process.terminate()
        process.join()


def _main(texts: list[tuple[str, str]], people: dict[str, str], may: dict[str, list[str]], host: str, folder: Path,
          port: Any) -> None:
    signer, pair = (certificates.read(*text) for text in texts)
    assert signer and pair
    server = serve(Service(signer, people, may), host, pair, folder)
    port.put(server.server_address[1])
    server.serve_forever()
