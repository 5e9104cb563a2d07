"""Registries of packages, made on the spot: npm's, and an index of Python wheels. They serve what a test publishes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class Site:
    """A web server. `pages` maps a path to its type and content; `statuses` are answered instead; `asked` has each
    path that was asked for, with its Authorization."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.statuses: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    def paths(self) -> set[str]:
        return {path for path, _login in self.asked}


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.site.asked.append((path, self.headers.get("Authorization", "")))
        status = self.site.statuses.get(path, 200 if path in self.site.pages else 404)
        kind, content = self.site.pages[path] if status == 200 else ("text/plain", b"no")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@contextmanager
def served(site: Site) -> Iterator[Site]:
    handler = type("Handler", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


class NpmRegistry(Site):
    """https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md"""

    def publish(self, name: str, version: str, files: Mapping[str, str] | None = None, *, announced: bool = True,
                **package: Any) -> bytes:
        """One version of a package; its tarball. If the version is not `announced`, what was said about it before
        stays: its tarball alone is replaced."""
        manifest = {"name": name, "version": version, **package}
        content = tarball({"package.json": json.dumps(manifest), "index.js": f"// {name} {version}\n", **(files or {})})
        place = f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        self.pages[place] = ("application/octet-stream", content)
        if not announced:
            return content
        said = json.loads(self.pages[f"/{name}"][1]) if f"/{name}" in self.pages else {"name": name, "versions": {}}
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        scripts = package.get("scripts", {})
        said["versions"][version] = {
            **manifest, "hasInstallScript": bool({"preinstall", "install", "postinstall"} & set(scripts)),
            "dist": {"tarball": self.url + place, "integrity": integrity,
                     "shasum": hashlib.sha1(content).hexdigest()}}
        said["dist-tags"] = {"latest": version}
        self.pages[f"/{name}"] = ("application/json", json.dumps(said).encode())
        return content

    def deprecate(self, name: str, version: str, why: str) -> None:
        said = json.loads(self.pages[f"/{name}"][1])
        said["versions"][version]["deprecated"] = why
        self.pages[f"/{name}"] = ("application/json", json.dumps(said).encode())

    def remove(self, name: str, version: str) -> None:
        said = json.loads(self.pages[f"/{name}"][1])
        del said["versions"][version]
        said["dist-tags"] = {"latest": max(said["versions"], default="0.0.0")}
        self.pages[f"/{name}"] = ("application/json", json.dumps(said).encode())
        del self.pages[f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"]


def tarball(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in sorted(files.items()):
            found = tarfile.TarInfo(f"package/{name}")
            found.size, found.mode = len(text.encode()), 0o644
            archive.addfile(found, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)


class WheelIndex(Site):
    """https://packaging.python.org/en/latest/specifications/simple-repository-api/ in HTML, below /simple."""

    def publish(self, name: str, version: str, tags: str = "py3-none-any", needs: tuple[str, ...] = (),
                files: Mapping[str, str] | None = None, *, announced: bool = True, python: str = ">=3.8") -> str:
        """A wheel; its file name. If it is not `announced`, the hash that the index says stays as it was."""
        module = re.sub(r"[-.]+", "_", name)
        file = f"{module}-{version}-{tags}.whl"
        content = _wheel(module, version, name, tags, needs, files or {}, python)
        self.pages[f"/files/{file}"] = ("application/octet-stream", content)
        if announced:
            self._announce(name, f"{file}#sha256={hashlib.sha256(content).hexdigest()}", python)
        return file

    def publish_source(self, name: str, version: str) -> None:
        file = f"{re.sub(r'[-.]+', '_', name)}-{version}.tar.gz"
        self.pages[f"/files/{file}"] = ("application/gzip", tarball({"setup.py": "raise SystemExit('it ran')\n"}))
        self._announce(name, file, ">=3.8")

    def yank(self, name: str, file: str, why: str) -> None:
        place = self._place(name)
        text = self.pages[place][1].decode().replace(f">{file}<", f' data-yanked="{why}">{file}<')
        self.pages[place] = ("text/html", text.encode())

    def remove(self, name: str, file: str) -> None:
        del self.pages[f"/files/{file}"]
        place = self._place(name)
        lines = [line for line in self.pages[place][1].decode().splitlines() if file not in line]
        self.pages[place] = ("text/html", "\n".join(lines).encode())

    def _place(self, name: str) -> str:
        return f"/simple/{re.sub(r'[-_.]+', '-', name).lower()}/"

    def _announce(self, name: str, link: str, python: str) -> None:
        before = self.pages.get(self._place(name), ("", b"<!DOCTYPE html>"))[1].decode().splitlines()
        file = link.partition("#")[0]
        kept = [line for line in before if f">{file}<" not in line]
        wanted = python.replace("<", "&lt;").replace(">", "&gt;")
        kept.append(f'<a href="/files/{link}" data-requires-python="{wanted}">{file}</a><br>')
        self.pages[self._place(name)] = ("text/html", "\n".join(kept).encode())


def _wheel(module: str, version: str, name: str, tags: str, needs: tuple[str, ...], files: Mapping[str, str],
           python: str) -> bytes:
    info = f"{module}-{version}.dist-info"
    interpreter, abi, platforms = tags.split("-")
    contents = {
        f"{module}/__init__.py": f"version = {version!r}\n", **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
                            + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
                         + "".join(f"Tag: {one}-{abi}-{platform}\n" for one in interpreter.split(".")
                                   for platform in platforms.split(".")),
    }
    hashed = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
              for path, text in contents.items()}
    contents[f"{info}/RECORD"] = "".join(f"{path},sha256={digest},{len(contents[path].encode())}\n"
                                         for path, digest in hashed.items()) + f"{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()
