"""A registry in memory on loopback that can be told to answer incorrectly."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.access import Access
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Reply:
    """An answer in place of the usual one; `more` are headers that may be there several times."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    more: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    authorization: str
    body: bytes = b""


@dataclass
class Faulty:
    """`answers` maps a pattern of `METHOD /path` to replies, each given once and in turn; `drop` are headers that are
    left out, `said` headers with another value; `guard` gives a reply for requests that it does not let through."""

    address: str = ""
    answers: dict[str, list[Reply]] = field(default_factory=dict)
    drop: set[str] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)
    guard: Callable[[Asked], Reply | None] = lambda asked: None
    asked: list[Asked] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)

    def count(self, pattern: str) -> int:
        return sum(bool(re.match(pattern, f"{asked.method} {asked.path}")) for asked in self.asked)

    def image(
        self, repository: str, name: str, architecture: str = "amd64", variant: str = "", **more: object
    ) -> str:
        """Has an image of one layer under a tag; returns its digest."""
        platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
        config, layer = json.dumps(platform).encode(), f"layer of {name}".encode()
        self.blobs.update({digest(config): config, digest(layer): layer})
        kind = "application/vnd.oci.image.config.v1+json"
        value = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            **more,
            "config": {"mediaType": kind, "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": "application/octet-stream", "digest": digest(layer), "size": len(layer)}],
        }
        return self.hold(repository, name, json.dumps(value).encode())

    def hold(self, repository: str, name: str, data: bytes, kind: str = oci.MANIFEST) -> str:
        self.manifests[repository, name] = self.manifests[repository, digest(data)] = data, kind
        return digest(data)

    def reply(self, asked: Asked, kind: str) -> Reply:
        for pattern, replies in self.answers.items():
            if replies and re.match(pattern, f"{asked.method} {asked.path}"):
                return replies.pop(0)
        if refused := self.guard(asked):
            return refused
        found = self._usual(asked, kind)
        found.headers = {
            name: self.said.get(name, text) for name, text in found.headers.items() if name not in self.drop
        }
        return found

    def _usual(self, asked: Asked, kind: str) -> Reply:
        path, query = urlsplit(asked.path).path, parse_qs(urlsplit(asked.path).query)
        if match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            if asked.method == "PUT":
                made = self.hold(match[1], match[2], asked.body, kind)
                return Reply(201, {"Docker-Content-Digest": made})
            if match.groups() not in self.manifests:
                return Reply(404, body=b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
            data, kind = self.manifests[match[1], match[2]]
            return Reply(
                200,
                {"Docker-Content-Digest": digest(data), "Content-Type": kind, "Content-Length": str(len(data))},
                data,
            )
        if asked.method == "POST" and path.endswith("/blobs/uploads/"):
            return Reply(202, {"Location": f"{path}1?state=x"})
        if asked.method == "PUT" and "digest" in query:
            self.blobs[query["digest"][0]] = asked.body
            return Reply(201, {"Docker-Content-Digest": query["digest"][0]})
        if (match := re.fullmatch(r"/v2/(.+)/blobs/(.+)", path)) and match[2] in self.blobs:
            return Reply(200, {"Content-Length": str(len(self.blobs[match[2]]))}, self.blobs[match[2]])
        return Reply(200 if path == "/v2/" else 404, body=b"{}")


@contextmanager
def served(registry: Faulty) -> Iterator[Faulty]:
    """The registry on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer of two writes waits 40 ms for an acknowledgement

        def log_message(self, *words: object) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, self.headers.get("Authorization", ""), body)
            registry.asked.append(asked)
            reply = registry.reply(asked, self.headers.get("Content-Type", ""))
            self.send_response(reply.status)
            for name, text in [*reply.headers.items(), *reply.more]:
                self.send_header(name, text)
            if "Content-Length" not in reply.headers and not (
                self.command == "HEAD" and "Content-Length" in registry.drop
            ):
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        registry.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def to(faulty: Faulty) -> Registry:
    """A client of the farm's registry that tries nothing again."""
    return Registry(faulty.address, access=Access(), pauses=())


def wants(authorization: str, challenge: str = 'Basic realm="x"') -> Callable[[Asked], Reply | None]:
    return lambda asked: None if asked.authorization == authorization else Reply(401, {"WWW-Authenticate": challenge})
