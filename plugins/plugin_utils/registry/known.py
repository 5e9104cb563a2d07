# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signatures that this controller has verified, in one file of its state folder. I/O."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock

from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.names import signature_tag

FILE = "known/signatures.json"
FORMAT = 1
MOST = 100_000  # tags that are remembered; the oldest are forgotten first
Signed = tuple[str, str]  # digest, public key


class Known:
    """`repository:tag` -> (digest, the key that signed it). A damaged file counts as empty: signatures are then read
    and verified again."""

    def __init__(self, state: str) -> None:
        self._path, self._lock = Path(state) / FILE, Lock()
        self._signed = self._read()
        self._new: dict[str, Signed] = {}

    def signer(self, repository: str, tag: str, digest: str) -> str:
        """The key that signed that this tag names this digest; '' if that was not verified."""
        found, signer = self._signed.get(f"{repository}:{tag}", ("", ""))
        return signer if found == digest else ""

    @property
    def signatures(self) -> dict[str, tuple[str, str]]:
        """The tags of their signatures -> what these sign (repository, tag)."""
        places = [(repository, tag) for repository, _colon, tag in (name.rpartition(":") for name in self._signed)]
        return {signature_tag(*place): place for place in places}

    def add(self, repository: str, tag: str, digest: str, signer: str) -> None:
        with self._lock:
            self._signed[f"{repository}:{tag}"] = self._new[f"{repository}:{tag}"] = digest, signer

    def save(self) -> None:
        """Writes what was added since, beside what others have written meanwhile."""
        with self._lock:
            if not self._new:
                return
            merged = {name: one for name, one in self._read().items() if name not in self._new} | self._new
            self._new = {}
        keys = {signer: number for number, signer in enumerate(dict.fromkeys(one[1] for one in merged.values()))}
        kept = {name: [digest, keys[signer]] for name, (digest, signer) in list(merged.items())[-MOST:]}
        text = json.dumps({"format": FORMAT, "keys": list(keys), "signed": kept}, separators=(",", ":"))
        files.write(str(self._path), text, sync=False)  # a lost one costs a request for each tag

    def _read(self) -> dict[str, Signed]:
        try:
            said = json.loads(self._path.read_bytes())
            if said["format"] != FORMAT:
                return {}
            keys = [str(key) for key in said["keys"]]
            return {str(name): (str(digest), keys[number]) for name, (digest, number) in said["signed"].items()}
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return {}
