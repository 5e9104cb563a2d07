"""An HTTP proxy for hosts whose only way out is this machine: apt_proxy.py ADDRESS PORT. It fetches as this machine's
own apt does, through that one's proxy if it has one."""

from __future__ import annotations

import base64
import contextlib
import http.server
import selectors
import socket
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "collections"), str(PROJECT)]

from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import client_settings  # noqa: E402

HOP = {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding", "upgrade"}
MACHINE = client_settings.Machine.read()


class Proxy(http.server.BaseHTTPRequestHandler):
    """One connection of a host's apt."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A whole file, from what may be a mirror without TLS."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        with contextlib.closing(client_settings.pool(MACHINE.proxy(self.path, apt=True))) as pool:
            answer = pool.request("GET", self.path, headers=headers, preload_content=False, redirect=False,
                                  decode_content=False)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for data in answer.stream(1 << 16):
                self.wfile.write(data)
            answer.drain_conn()

    def do_CONNECT(self) -> None:
        """TLS, which apt itself checks."""
        self.close_connection = True
        with socket.create_connection(self._next(), timeout=60) as out:
            if proxy := MACHINE.proxy(f"https://{self.path}", apt=True):
                out.sendall(f"CONNECT {self.path} HTTP/1.1\r\nHost: {self.path}\r\n{_login(proxy)}\r\n".encode())
            else:
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            _both_ways(self.connection, out)

    def _next(self) -> tuple[str, int]:
        proxy = MACHINE.proxy(f"https://{self.path}", apt=True)
        parts = urlsplit(proxy if "://" in proxy else f"//{proxy or self.path}")
        return parts.hostname or "", parts.port or 443

    def log_message(self, *_words: object) -> None:
        """Says nothing: what is fetched, and from where, is this machine's own business."""


def _login(proxy: str) -> str:
    parts = urlsplit(proxy)
    text = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return f"Proxy-Authorization: Basic {base64.b64encode(text.encode()).decode()}\r\n" if text else ""


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    """Copies until either end closes, or nothing comes for ten minutes."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while found := ready.select(600):
            for key, _events in found:
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Proxy).serve_forever()
