# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tags are believed: those that a key of the farm signed, for exactly this repository, tag and digest.

The statement and its signature are annotations of a small artifact in the archive, whose tag follows from repository
and tag. What was verified is remembered on the controller, so that it costs no request a second time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from threading import Lock
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import canonical
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError, RegistryError
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import signing
from ansible_collections.desimages.farm.plugins.plugin_utils.registry import oci
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import EMPTY, MANIFEST, Registry
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.known import Known
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import ARCHIVE, BELIEVED, NOTHING
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import signature_tag as tag_of

FORMAT = 1
KIND = "application/vnd.desimages.signature.v1+json"
STATEMENT, SIGNATURE, SIGNER = "org.desimages.statement", "org.desimages.signature", "org.desimages.key"
LARGEST = 1 << 16  # bytes of such an artifact: ours have 1 KB
THREADS = 16  # that ask and sign when a person adopts what exists


class Trust:
    """Decides for one namespace which tags are believed, and signs. Safe to use from several threads."""

    def __init__(self, registry: Registry, namespace: str, keys: signing.Keys, known: Known) -> None:
        self.registry, self.namespace, self.keys, self.known = registry, namespace, keys, known
        self.archive = f"{namespace}/{ARCHIVE}"
        self._lock, self._ready = Lock(), False
        self._would: set[tuple[str, str, str]] = set()  # what check mode would adopt

    @classmethod
    def of(cls, registry: Registry, arguments: Mapping[str, Any], *, check: bool) -> Trust:
        """From the arguments of an action. The farm's key is made if it has none; not in `check` mode."""
        folder = arguments["secrets"] or f"{arguments['state']}/secrets"
        keys = signing.load(folder, arguments["signing_key"], arguments["trusted_keys"], check=check)
        return cls(registry, arguments["namespace"], keys, Known(arguments["state"]))

    def find(self, repository: str, tag: str) -> tuple[str, int, str] | None:
        """(digest, size in bytes, media type) of a tag; None if it does not exist, or is not believed."""
        found = self.registry.digest(repository, tag)
        return found if found and self.believes(repository, tag, found[0]) else None

    def believes(self, repository: str, tag: str, digest: str) -> bool:
        """Whether an accepted key signed that this tag names this digest. Raises Unreachable."""
        if self.known.signer(repository, tag, digest) in self.keys.accepted or (repository, tag, digest) in self._would:
            return True
        if not self.keys.accepted:
            return False
        signer = self._signer(repository, tag, digest)
        if signer:
            self.known.add(repository, tag, digest, signer)
        return bool(signer)

    def _signer(self, repository: str, tag: str, digest: str) -> str:
        """The key that signed it; '' if none that is accepted did. Whoever can push may have written what is read."""
        where = f"{self.archive}:{tag_of(repository, tag)}"
        try:
            data = self.registry.manifest(self.archive, tag_of(repository, tag))
            said = oci.read(data, where).annotations if data is not None and len(data) <= LARGEST else {}
            statement, signer = said.get(STATEMENT, ""), said.get(SIGNER, "")
            good = self.keys.verify(statement.encode(errors="replace"), said.get(SIGNATURE, ""), signer)
            claimed = oci.document(statement.encode(), where) if good else {}
        except FarmError:  # it is damaged, or no such artifact; unless the registry is gone
            if not self.registry.answers():
                raise
            return ""
        meant = {"format": FORMAT, "repository": repository, "tag": tag, "digest": digest}
        return signer if {name: claimed.get(name) for name in meant} == meant else ""

    def sign(self, repository: str, tag: str, digest: str, **about: str) -> None:
        """Pushes the signature of the farm's own key. `about` is said besides: `node` is who built it, `like` names
        the tag of the same repository that it was taken from."""
        with self._lock:
            if not self._ready:
                self.registry.put_blob(self.archive, b"{}", NOTHING)
                self._ready = True
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        said = {"format": FORMAT, "repository": repository, "tag": tag, "digest": digest, "when": when, **about}
        statement = canonical.encode(said)
        empty = {"mediaType": EMPTY, "digest": NOTHING, "size": 2}
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": KIND, "config": empty, "layers": [empty],
            "annotations": {oci.TITLE: f"signature of {repository}:{tag}", STATEMENT: statement.decode(),
                            SIGNATURE: self.keys.sign(statement), SIGNER: self.keys.own},
        }
        self.registry.put_manifest(self.archive, tag_of(repository, tag), canonical.encode(manifest), MANIFEST)
        self.known.add(repository, tag, digest, self.keys.own)

    def adopt(self, images: Iterable[str], *, check: bool) -> dict[str, str]:
        """Signs every tag of the namespace that units and unpacked packages are known by and that is not believed, as
        it is; returns them: `repository:tag` -> digest. `images` are looked for even if the registry has no list.

        In `check` mode nothing is signed, but they are believed from now on.
        """
        names = {f"{self.namespace}/{image}" for image in images} | {self.archive}
        with contextlib.suppress(RegistryError):  # it has no list
            names |= set(self.registry.repositories(self.namespace))

        def take(place: tuple[str, str]) -> tuple[str, str]:
            found = self.registry.digest(*place)
            if found is None or self.believes(*place, found[0]):
                return "", ""
            if check:
                self._would.add((*place, found[0]))
            else:
                self.sign(*place, found[0], adopted="true")
            return ":".join(place), found[0]

        with ThreadPoolExecutor(THREADS) as pool:
            return {name: digest for name, digest in pool.map(take, self._tags(sorted(names))) if name}

    def _tags(self, repositories: Iterable[str]) -> Iterator[tuple[str, str]]:
        for repository in repositories:
            for tag in self.registry.tags(repository):
                if (match := BELIEVED.match(tag)) and (match[1] == "u") == (repository == self.archive):
                    yield repository, tag

    def mend(self, repository: str, tag: str) -> None:
        """Signs a tag again whose signature is damaged or gone. Raises FarmError if it was never verified here as it
        is now: then nobody knows whether it is the farm's."""
        found = self.registry.digest(repository, tag)
        if found is None or self.known.signer(repository, tag, found[0]) not in self.keys.accepted:
            raise FarmError("its signature was never verified by this controller",
                            hint="build again, or sign what the registry has (docs/security.md)")
        self.sign(repository, tag, found[0], again="true")
