"""Registries that speak TLS in some wrong way, at an address that is not loopback: of a bridge that is made here."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates

from .docker_host import run

BRIDGE, HOST = "dsmtls0", "10.214.77.1"
WRONG = ("expired", "foreign", "other name", "no password")


@contextmanager
def bridge() -> Iterator[str]:
    """A bridge without ports; gives its address."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        run("ip", "address", "add", f"{HOST}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        yield HOST
    finally:
        run("ip", "link", "delete", BRIDGE)


def given(folder: Path, kind: str, authority: certificates.Pair) -> tuple[Path, Path]:
    """The files of a certificate for HOST, wrong in one way, and of its key."""
    now = datetime.now(timezone.utc)
    signer = certificates.new_authority(now, "stranger") if kind == "foreign" else authority
    hosts = ["registry.example.org"] if kind == "other name" else [HOST]
    made = certificates.new_server(signer, hosts, now - timedelta(days=400) if kind == "expired" else now)
    files = folder / f"{kind.replace(' ', '-')}.pem", folder / f"{kind.replace(' ', '-')}.key"
    for path, text in zip(files, (made.pem, made.key_pem)):
        path.write_text(text)
    return files


@contextmanager
def wrong_registry(folder: Path, kind: str, authority: certificates.Pair) -> Iterator[str]:
    """A registry that is wrong in one of WRONG; gives its address. It lets nobody in."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="nobody"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = _answer

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*given(folder, kind, authority))
    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # handshakes fail here
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"{HOST}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
