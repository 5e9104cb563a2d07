"""A Debian mirror for tests: an archive made on the spot, behind real HTTP on loopback."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .debian_archive import NOW, Archive, Package


@dataclass
class Mirror:
    """An archive served over HTTP. `deaf` answers 500 to all, `no_head` answers 404 to every HEAD."""

    archive: Archive
    url: str = ""
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    published: int = 0
    deaf: bool = False
    no_head: bool = False

    def publish(self, packages: tuple[Package, ...]) -> None:
        """The suite as of now; packages that are not in it are no longer in the pool either."""
        self.published += 1
        date = NOW - timedelta(days=1) + timedelta(minutes=self.published)
        self.archive.suite("trixie", packages, date=date)
        for path in (self.archive.root / "dists").rglob("*"):  # apt asks for what is newer, to the second
            os.utime(path, (date.timestamp(), date.timestamp()))
        shutil.rmtree(self.archive.root / "pool", ignore_errors=True)
        for package in packages:
            for architecture in ("amd64", "arm64"):
                package.put(self.archive.root, architecture)


def serve(mirror: Mirror) -> ThreadingHTTPServer:
    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            mirror.connections += 1
            super().setup()

        def send_head(self) -> Any:
            mirror.requests.append(f"{self.command} {self.path}")
            if mirror.deaf or (mirror.no_head and self.command == "HEAD"):
                self.send_error(500 if mirror.deaf else 404)
                return None
            return super().send_head()

        def log_message(self, *arguments: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(mirror.archive.root)))
    mirror.url = f"http://127.0.0.1:{listener.server_port}"
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    return listener
