# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs this machine's cargo, and downloads crates from the registry that it uses. I/O.

cargo decides which registry stands in for the default one, asks its index, and checks locks against it, all with the
machine's own settings and credentials; for that it needs the index alone. It cannot download a crate without what that
depends on, and unpacks all that it downloads (960 MB for 100 MB of crates). So the farm's own client downloads, from
where the registry's config.json says, as cargo would.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import THREADS, Client, download
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import cargo_lock, cargo_settings
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_failures import STALE, failure
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.cargo_lock import Crate

OLDEST = (1, 70)  # the first cargo that reads sparse indexes by itself
LONGEST = 1800.0  # seconds that a cargo command may take; it reads hundreds of files of an index
MOST = 8  # failures that one message tells in full, beside the first
SAY_EVERY = 5.0  # seconds between lines about downloads
NEW = "install cargo 1.70 or later, and put it into PATH"
OURS = "desimages"  # the name of the inventory's registry in cargo's settings
PROBE = """\
[package]
name = "desimages-asks"
version = "0.0.0"
edition = "2021"

[lib]
path = "lib.rs"

[dependencies]
asked = {{ package = "{name}", version = "={version}", default-features = false }}
"""


def find_cargo() -> tuple[str, tuple[int, int]]:
    """The cargo in PATH and its version. Raises FarmError if there is none, or it is too old."""
    binary = shutil.which("cargo")
    if not binary:
        raise FarmError("this machine has no cargo", hint=NEW)
    said = programs.run([binary, "--version"], seconds=60, folder="/")
    version = re.match(r"cargo (\d+)\.(\d+)", said.out)
    if not version:
        raise FarmError(f"{binary} does not run: {(said.err or said.out).strip()[:300]}", hint=NEW)
    found = (int(version[1]), int(version[2]))
    if found < OLDEST:
        raise FarmError(f"{binary} is {said.out.strip()}, which is too old", hint=NEW)
    return binary, found


class Registry:
    """The registry that cargo takes crates from, in one lock or fetch step. `folder` is for an index of our own, and is
    emptied first; `origin` is what the inventory names instead (fetch/origins.py)."""

    def __init__(self, folder: Path, origin: str, client: Client, store: Store,
                 say: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.origin, self.store, self.say = folder, origin, store, say
        self._client = client

    # --- cargo

    @cached_property
    def cargo(self) -> tuple[str, tuple[int, int]]:
        return find_cargo()

    @cached_property
    def _theirs(self) -> Path:
        """The CARGO_HOME of the person who runs the farm."""
        return Path(os.path.abspath(os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")))

    @cached_property
    def _start(self) -> Path:
        """Where cargo is started: where it finds the person's settings on its way up, so that paths in them mean what
        they mean to that person."""
        return self._theirs.parent if self._on_the_way and self._theirs.is_dir() else Path("/")

    @property
    def _on_the_way(self) -> bool:
        """Whether cargo finds the person's settings so; otherwise our CARGO_HOME has them."""
        return self._theirs.name == ".cargo"

    @cached_property
    def _home(self) -> Path:
        """A CARGO_HOME of our own: its index is read again, and the user's credentials are linked."""
        shutil.rmtree(self.folder, ignore_errors=True)
        home = self.folder / "home"
        home.mkdir(parents=True)
        for name in ("credentials", "credentials.toml", *(() if self._on_the_way else ("config", "config.toml"))):
            if (self._theirs / name).exists():
                (home / name).symlink_to(self._theirs / name)
        return home

    @cached_property
    def _options(self) -> list[str]:
        if not self.origin:
            return []
        key, value = ("local-registry", unquote(self._local)) if self._local else ("registry", self.origin)
        return ["--config", f'source.{cargo_settings.DEFAULT}.replace-with="{OURS}"',
                "--config", f"source.{OURS}.{key}={json.dumps(value)}"]

    @property
    def _local(self) -> str:
        """The folder of a registry on this machine's disk, as in its URL, or ''."""
        return urlsplit(self.origin).path if self.origin.startswith("file:") else ""

    def run(self, *arguments: str, manifest: Path) -> programs.Done:
        binary, _version = self.cargo
        environment = {**os.environ, "CARGO_HOME": str(self._home), "CARGO_TERM_COLOR": "never",
                       "CARGO_TERM_PROGRESS_WHEN": "never"}
        return programs.run([binary, *arguments, "--manifest-path", str(manifest), *self._options], seconds=LONGEST,
                            environment=environment, folder=str(self._start))

    # --- what it is asked

    @cached_property
    def name(self) -> str:
        """What a Cargo.lock calls this registry."""
        manifest = self._probe("a", "0.0.0")
        done = self.run("metadata", "--no-deps", "--offline", "--format-version", "1", manifest=manifest)
        if done.code:
            raise failure("cargo metadata", done.err, exit_code=done.code)
        return str(json.loads(done.out)["packages"][0]["dependencies"][0]["source"])

    def _probe(self, name: str, version: str) -> Path:
        """A package that needs one crate."""
        return self._asking(PROBE.format(name=name, version=version))

    def _asking(self, text: str) -> Path:
        work = self._home.parent / "probe"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        (work / "lib.rs").write_text("", encoding="utf-8")
        (work / "Cargo.toml").write_text(text, encoding="utf-8")
        return work / "Cargo.toml"

    def look(self, name: str, version: str) -> Crate:
        """A crate with its sha256 by the index. Raises Missing or Unreachable."""
        manifest = self._probe(name, version)
        done = self.run("generate-lockfile", manifest=manifest)
        if not done.code:
            text = (manifest.parent / "Cargo.lock").read_text(encoding="utf-8")
            if sha256 := cargo_lock.checksum(text, name, version):
                return Crate(name, version, sha256)
        # it may be yanked, or need what nobody can have any more; its own Cargo.lock may name something else
        line = self._lines(name).get(version, {})
        if re.fullmatch(r"[0-9a-f]{64}", str(line.get("cksum", ""))):
            return Crate(name, version, str(line["cksum"]))
        raise failure(f"cargo generate-lockfile for {name} {version}", done.err, exit_code=done.code)

    def check(self, manifest: Path, lock: int, where: str, hint: str) -> None:
        """Refuses a Cargo.lock that cargo would change: a build may not."""
        binary, version = self.cargo
        if lock >= 4 and version < cargo_lock.NEWER:
            raise FarmError(f"{where} has format {lock}, and {binary} is cargo {'.'.join(map(str, version))}",
                            hint=f"install cargo {'.'.join(map(str, cargo_lock.NEWER))} or later")
        done = self.run("update", "--workspace", "--locked", manifest=manifest)
        if done.code and STALE in done.err:
            raise FarmError(f"{where} does not fit its Cargo.toml: a build would change it", hint=hint)
        if done.code:
            raise failure(f"cargo update --workspace --locked for {where}", done.err, exit_code=done.code)

    def yanked(self, crates: Iterable[Crate]) -> list[str]:
        """Those of the crates that their authors have withdrawn, as far as the index that cargo read tells."""
        return [str(crate) for crate in crates if self._lines(crate.name).get(crate.version, {}).get("yanked")]

    def read(self, names: Sequence[str]) -> FarmError | None:
        """Has cargo read what its index says of these crates. What it reads first is what a package asks for itself, so
        it does not matter whether it then finds a choice that fits; if not, that is returned."""
        asked = "".join(f'{name} = {{ version = "*", default-features = false }}\n' for name in names)
        done = self.run("generate-lockfile", manifest=self._asking(PROBE.partition("asked =")[0] + asked))
        return failure("cargo generate-lockfile", done.err, exit_code=done.code) if done.code else None

    def versions(self, name: str) -> dict[str, bool]:
        """version -> whether it is yanked, for a crate that was read. Empty if the index does not have it."""
        return {version: bool(line.get("yanked")) for version, line in self._lines(name).items()}

    def _lines(self, name: str) -> dict[str, dict[str, Any]]:
        """version -> its line of the index, as cargo keeps it: JSON between NUL bytes. Empty if it is kept else."""
        found: dict[str, dict[str, Any]] = {}
        place = f"{cargo_lock.prefix(name.lower())}/{name.lower()}"
        paths = [*self._home.glob(f"registry/index/*/.cache/{place}")]
        if self._local:
            paths += [path for path in [Path(unquote(self._local)) / "index" / place] if path.is_file()]
        for path in paths:
            for piece in re.split(rb"[\0\n]", path.read_bytes()):
                try:
                    line = json.loads(piece)
                    found[line["vers"]] = line
                except (ValueError, KeyError, TypeError):
                    continue
        return found

    # --- downloads

    @cached_property
    def _config(self) -> dict[str, Any]:
        """The registry's config.json. cargo has read it if it was asked for anything."""
        found = [json.loads(text) for text in self._configs()]
        if len(found) != 1 or not isinstance(found[0].get("dl"), str):
            raise FarmError("cargo does not say where its registry keeps the files of crates",
                            hint="if its settings replace the default registry by a folder (local-registry), name "
                                 "that in farm_origins: {cargo: file:///...}; a folder of sources (directory) has no "
                                 "crates")
        return dict(found[0])

    def _configs(self) -> list[str]:
        found = [path.read_text(encoding="utf-8") for path in self._home.glob("registry/index/*/config.json")]
        for path in self._home.glob("registry/index/*/.git"):  # an index that is a git repository
            done = programs.run(["git", "--git-dir", str(path), "show", "refs/remotes/origin/HEAD:config.json"],
                                seconds=60)
            found += [] if done.code else [done.out]
        return found

    def ask(self, crate: Crate) -> None:
        """Has cargo find out where the registry has the files of crates, by asking for one of them."""
        if self._local:
            return
        done = self.run("generate-lockfile", manifest=self._probe(crate.name, crate.version))
        if done.code and not self._configs():
            raise failure("cargo generate-lockfile", done.err, exit_code=done.code)

    def url(self, crate: Crate) -> str:
        """Where the registry has the file of a crate."""
        if self._local:
            return f"file://{self._local.rstrip('/')}/{crate.name}-{crate.version}.crate"
        return cargo_lock.address(str(self._config["dl"]), *crate)

    @cached_property
    def client(self) -> Client:
        """The farm's client, with the proxy, the CA and the token that cargo would use."""
        if self._local:
            return self._client
        settings = cargo_settings.read(self._start, self._theirs, os.environ)
        here = settings.machine(self._client.here)
        if self._config.get("auth-required"):
            name = settings.registry(self.origin)
            token = settings.token(name)
            if not token:
                raise FarmError(f"the registry {name or 'that cargo uses'} wants a token, but cargo's settings have "
                                "none that the farm can read",
                                hint=f"run `cargo login --registry {name or 'NAME'}` with {cargo_settings.PROVIDER} as "
                                     "its credential-provider, or set CARGO_REGISTRIES_<NAME>_TOKEN")
            parts = urlsplit(str(self._config["dl"]))
            here = replace(here, tokens={f"{parts.scheme}://{parts.netloc}": token})
        return Client(here, apt=False, patience=self._client.patience, sleep=self._client.sleep,
                      clock=self._client.clock)

    def get(self, crates: Sequence[Crate], image: str,
            known: Mapping[Crate, int] = MappingProxyType({})) -> dict[Crate, int]:
        """Downloads crates into the store, but for those that are `known`; returns the sizes of all in bytes. Raises
        one error for all that fail."""
        wanted = [crate for crate in crates if crate not in known]
        client, done, said = self.client, 0, time.monotonic()
        failed: list[FarmError] = []

        def one(crate: Crate) -> FarmError | None:
            try:
                download(client, [self.url(crate)], crate.sha256, None, self.store, str(crate))
            except FarmError as error:
                return error
            return None

        with ThreadPoolExecutor(THREADS) as pool:
            for error in pool.map(one, wanted):
                failed += [error] if error else []
                done += 1
                if time.monotonic() - said > SAY_EVERY:
                    said = time.monotonic()
                    self.say(f"lock {image}: {done} of {len(wanted)} crates")
        if failed:
            worst = next((error for error in failed if isinstance(error, HashMismatch)), failed[0])
            others = [error.message for error in failed if error is not worst]
            more = [f"and {len(others) - MOST} more"] if others[MOST:] else []
            raise type(worst)("\n".join([worst.message, *others[:MOST], *more]), hint=worst.hint)
        return {crate: known[crate] if crate in known else self.store.path(crate.sha256).stat().st_size
                for crate in crates}
