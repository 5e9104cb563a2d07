# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive: what a unit was built from, kept in the farm's registry (D5).

Every input and context file is a blob whose digest is the sha256 in the lock. Each unit has one OCI artifact that names
its blobs; an annotation has the unit's record, whose sha256 is the build id.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, HashMismatch, Unreachable
from ansible_collections.desimages.farm.plugins.module_utils.platforms import Platform
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store, hash_of
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, File
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import EMPTY, MANIFEST, NoBlob, Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import ARCHIVE, NOTHING
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.unpacking import merge

if TYPE_CHECKING:  # who only reads the archive needs no keys
    from ansible_collections.desimages.farm.plugins.plugin_utils.registry.signatures import Trust

RECORD = "org.desimages.record"
UNIT = "application/vnd.desimages.unit.v1+json"
BLOB = "application/octet-stream"
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
_TITLE = "org.opencontainers.image.title"


class Archive:
    """The repository `<namespace>/archive` of the farm's registry."""

    def __init__(self, registry: Registry, namespace: str, store: Store, threads: int = 8) -> None:
        self.registry, self.repository, self.store, self.threads = registry, f"{namespace}/{ARCHIVE}", store, threads

    def recall(self, entries: Iterable[Entry]) -> list[Entry]:
        """Fetches from the archive what the store lacks; returns what the archive lacks too."""
        lacking = [entry for entry in entries if not self.store.has(entry.sha256, entry.size)]
        contents: dict[str, int] = {}  # sha256 -> the largest size in a lock line
        for entry in lacking:
            contents[entry.sha256] = max(entry.size, contents.get(entry.sha256, 0))
        with ThreadPoolExecutor(self.threads) as pool:
            there = pool.map(self._recall, contents, contents.values())
            found = {sha for sha, came in zip(contents, there) if came}
        # what arrived with another size than a line says is reported later
        return [entry for entry in lacking if entry.sha256 not in found or not self.store.has(entry.sha256, entry.size)]

    def _recall(self, sha256: str, size: int) -> bool:
        """Fetches one blob. If it is damaged, breaks off, is too long, or is not there after all (a registry may only
        remember it), it counts as missing: its origin is next."""
        digest = f"sha256:{sha256}"
        if not self.registry.has_blob(self.repository, digest):
            return False
        with self.store.alone(sha256):
            temporary = self.store.partial(f"{sha256}.archive")
            try:
                with temporary.open("wb") as out:
                    for piece in self.registry.blob(self.repository, digest, size):
                        out.write(piece)
                self.store.put(temporary, sha256)
            except (Unreachable, HashMismatch, NoBlob):
                return False
            finally:
                temporary.unlink(missing_ok=True)
            return True

    def keep(self, files: Iterable[File]) -> int:
        """Pushes files of the store to the archive; returns how many it did not have."""
        wanted = sorted({(file.sha256, file.size) for file in files})
        with ThreadPoolExecutor(self.threads) as pool:
            self.registry.put_blob(self.repository, b"{}", NOTHING)
            return sum(pool.map(self._keep, [sha256 for sha256, _size in wanted]))

    def lacks(self, contents: Iterable[str]) -> bool:
        """Whether any of these contents is not in the archive."""
        with ThreadPoolExecutor(self.threads) as pool:
            return not all(pool.map(lambda sha256: self.registry.has_blob(self.repository, f"sha256:{sha256}"),
                                    set(contents)))

    def _keep(self, sha256: str) -> bool:
        """Raises HashMismatch if the file was damaged since it was fetched: the registry hashes it and refuses."""
        try:
            return self.registry.put_blob(self.repository, self.store.path(sha256), f"sha256:{sha256}")
        except (FarmError, OSError):
            self.store.check(sha256)
            raise

    def describe(self, name: str, build_id: str, record: Mapping[str, object], files: Mapping[str, File]) -> None:
        """Pushes the artifact that names the files (path -> file) of a unit, so that the registry's garbage collection
        keeps them."""
        layers = [{"mediaType": BLOB, "digest": f"sha256:{file.sha256}", "size": file.size,
                   "annotations": {_TITLE: path}}
                  for path, file in sorted(files.items())]
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": UNIT,
            "config": {"mediaType": EMPTY, "digest": NOTHING, "size": 2},
            "layers": layers, "annotations": {_TITLE: name, RECORD: canonical.encode(record).decode()},
        }
        self.registry.put_manifest(self.repository, f"a-{build_id}", canonical.encode(manifest), MANIFEST)

    def offer(self, digest: str, entries: Iterable[Entry]) -> None:
        """Makes a locked image one that can be pulled by the digest of its manifest. Its files are in the archive.

        Its manifest gets no tag: as long as an artifact names its blob, it can be offered again. It needs no signature
        either, as the lock says the digest. Raises FarmError if its lock lines are not all of it.
        """
        if self.registry.digest(self.repository, digest):
            return
        with self.store.open(digest.partition(":")[2]) as file:
            data = file.read()
        content = oci.read(data, digest)
        known = {f"sha256:{entry.sha256}" for entry in entries}
        if lacking := [blob.digest for blob in content.blobs if blob.digest not in known]:
            raise FarmError(f"the lock has no line for {', '.join(lacking)}, which the manifest {digest} names",
                            hint="run `make lock` again")
        self.registry.put_manifest(self.repository, digest, data, content.media_type)

    def unpacked(self, name: str, entries: list[Entry], platform: Platform, epoch: int, trust: Trust, *,
                 again: bool = False) -> str:
        """The image whose only layer has the packages, unpacked but not configured (D7). It is made if it is missing,
        if its tag is not believed, or `again`.

        Returns `repository@digest`.
        """
        tag = unpacked_tag(entries, platform, epoch)
        found = None if again else trust.find(self.repository, tag)
        if found is None:
            with self.store.scratch() as out:  # a layout by hand may write the same file at this moment
                merge((self.store.open(entry.sha256) for entry in entries), out, epoch)
                out.flush()
                layer = {"mediaType": LAYER, "digest": f"sha256:{hash_of(out.fileno())}",
                         "size": os.fstat(out.fileno()).st_size}
                self.registry.put_blob(self.repository, Path(f"/proc/self/fd/{out.fileno()}"), str(layer["digest"]))
            config = canonical.encode({**platform.as_oci, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
                                       "config": {}})
            head = {"mediaType": CONFIG, "digest": f"sha256:{hashlib.sha256(config).hexdigest()}", "size": len(config)}
            self.registry.put_blob(self.repository, config, str(head["digest"]))
            manifest = canonical.encode({"schemaVersion": 2, "mediaType": MANIFEST, "config": head, "layers": [layer],
                                         "annotations": {_TITLE: name}})
            trust.sign(self.repository, tag, oci.digest(manifest))  # first: what is tagged is signed
            return f"{self.repository}@{self.registry.put_manifest(self.repository, tag, manifest, MANIFEST)}"
        return f"{self.repository}@{found[0]}"


def unpacked_tag(entries: list[Entry], platform: Platform, epoch: int) -> str:
    """The tag of the image whose only layer has some packages, unpacked."""
    return "u-" + canonical.sha256(["unpacked", 1, str(platform), epoch, [entry.sha256 for entry in entries]])
