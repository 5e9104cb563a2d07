"""A registry of crates as cargo knows it, made on the spot: a sparse index and .crate files, which a server on loopback
or a folder has."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def packed(name: str, version: str, files: Mapping[str, str]) -> bytes:
    """A .crate file; the same bytes for the same files."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed, \
            tarfile.open(fileobj=compressed, mode="w") as archive:
        for path, text in sorted(files.items()):
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size, member.mode = len(text.encode()), 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def manifest(name: str, version: str, needs: Mapping[str, str] | None = None) -> str:
    """A Cargo.toml that needs crates by name and version."""
    lines = [f'{need} = "{wanted}"' for need, wanted in (needs or {}).items()]
    return "\n".join(['[package]', f'name = "{name}"', f'version = "{version}"', 'edition = "2021"', "",
                      "[dependencies]", *lines, ""])


class Crates:
    """A registry in a folder: `index` as sparse registries and local ones have it, and the .crate files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index = folder, folder / "index"
        self.index.mkdir(parents=True)
        self.asked: list[tuple[str, str]] = []  # path and Authorization of each request

    def path(self, name: str) -> Path:
        # https://doc.rust-lang.org/cargo/reference/registry-index.html#index-files
        parts = {1: ("1",), 2: ("2",), 3: ("3", name[:1])}.get(len(name), (name[:2], name[2:4]))
        return self.index.joinpath(*parts, name)

    def crate(self, name: str, version: str) -> Path:
        return self.folder / f"{name}-{version}.crate"

    def publish(self, name: str, version: str, needs: Mapping[str, str] | None = None,
                files: Mapping[str, str] | None = None) -> str:
        """Publishes a version; returns its sha256."""
        content = packed(name, version, {"Cargo.toml": manifest(name, version, needs), "src/lib.rs": "",
                                         **(files or {})})
        self.crate(name, version).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        deps = [{"name": need, "req": f"^{wanted}", "features": [], "optional": False, "default_features": True,
                 "target": None, "kind": "normal"} for need, wanted in (needs or {}).items()]
        line = {"name": name, "vers": version, "deps": deps, "cksum": sha256, "features": {}, "yanked": False}
        self._write(name, [*self._lines(name), line])
        return sha256

    def sha256(self, name: str, version: str) -> str:
        return next(line["cksum"] for line in self._lines(name) if line["vers"] == version)

    def yank(self, name: str, version: str) -> None:
        self._write(name, [{**line, "yanked": line["yanked"] or line["vers"] == version} for line in self._lines(name)])

    def remove(self, name: str, version: str, *, index: bool = False) -> None:
        """Removes the file, and its line of the index only if asked."""
        self.crate(name, version).unlink()
        if index:
            self._write(name, [line for line in self._lines(name) if line["vers"] != version])

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.path(name)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _write(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    @contextmanager
    def served(self, token: str = "") -> Iterator[str]:
        """Serves it on loopback; gives the address of its index. With a `token`, to those who send it."""
        crates = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *given: Any) -> None:
                super().__init__(*given, directory=str(crates.folder))

            def do_GET(self) -> None:
                crates.asked.append((self.path, self.headers.get("Authorization", "")))
                if token and self.headers.get("Authorization") != token:
                    self.send_error(401)
                else:
                    super().do_GET()

            def log_message(self, *given: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            config = {"dl": f"{address}/{{crate}}-{{version}}.crate", **({"auth-required": True} if token else {})}
            (self.index / "config.json").write_text(json.dumps(config))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield f"sparse+{address}/index/"
            finally:
                server.shutdown()
                thread.join()

    def as_folder(self, folder: Path) -> Path:
        """A copy as a local registry (`local-registry` of cargo's settings)."""
        shutil.copytree(self.folder, folder)
        (folder / "index" / "config.json").unlink(missing_ok=True)
        return folder


def locked_text(crates: Crates, name: str, version: str, needs: Sequence[str],
                others: Mapping[str, Sequence[str]]) -> str:
    """A Cargo.lock as cargo writes it. `others` maps a crate, such as `leaf 1.0.0`, to what it needs."""
    found = {f"{name} {version}": (needs, []), **{
        each: (needed, [f'source = "{default_source()}"', f'checksum = "{crates.sha256(*each.split())}"'])
        for each, needed in others.items()}}
    text = "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = 4\n"
    for each, (needed, lines) in sorted(found.items()):
        of = each.split()
        lines = [f'name = "{of[0]}"', f'version = "{of[1]}"', *lines,
                 *(["dependencies = [", *(f' "{one}",' for one in needed), "]"] if needed else [])]
        text += "\n[[package]]\n" + "\n".join(lines) + "\n"
    return text


@cache
def default_source() -> str:
    """What a Cargo.lock calls the registry that cargo uses by default."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Cargo.toml").write_text(manifest("x", "0.0.0", {"y": "1"}) + '[lib]\npath = "x.rs"\n')
        Path(folder, "x.rs").touch()
        done = subprocess.run(["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"], cwd=folder,
                              capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["packages"][0]["dependencies"][0]["source"])
