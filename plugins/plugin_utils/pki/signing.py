# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The farm's signing key (ed25519), in the folder of secrets or given by a variable, and the keys that are accepted.

`cryptography` is loaded only to sign, to verify, or to make a key: a run that changes nothing does none of these.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils import libraries
from ansible_collections.desimages.farm.plugins.plugin_utils.public_keys import public_key

KEY, PUBLIC = "signing-key.pem", "signing-key.pub"
LARGEST = 1 << 16  # bytes of a key's file
DOMAIN = b"desimages.farm statement\0"  # so that a signature is valid for nothing else that this key may sign
_NOTE = "# of the key whose text has the sha256 "


@dataclass(frozen=True)
class Keys:
    """`own` is the public key of the farm's own key; '' if there is none yet, which only happens in check mode.
    `accepted` are all public keys whose signatures count. Keys are in base64."""

    own: str
    accepted: frozenset[str]
    _private: str = field(default="", repr=False)

    def sign(self, data: bytes) -> str:
        """The signature of the own key, in base64."""
        return base64.b64encode(_private(self._private).sign(DOMAIN + data)).decode()

    def verify(self, data: bytes, signature: str, key: str) -> bool:
        """Whether an accepted key made this signature."""
        if key not in self.accepted:
            return False
        try:
            known = libraries.ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
            known.verify(base64.b64decode(signature, validate=True), DOMAIN + data)
        except (libraries.signatures.InvalidSignature, ValueError):
            return False
        return True


def load(folder: str, given: str, trusted: Iterable[str], *, check: bool) -> Keys:
    """The farm's keys: the own one is `given` as PEM, or in `folder`, where it is made if it is missing. `trusted` are
    further public keys. In `check` mode nothing is written.

    Raises BadInput if a key that was given is none.
    """
    others = [public_key(text) for text in trusted]
    if "" in others:
        raise BadInput([f"farm_trusted_keys: number {number} is not an ed25519 public key, in base64 or PEM"
                        for number, key in enumerate(others, 1) if not key], what="the inventory")
    place, private = f"{folder}/{KEY}", given.strip() or files.text_of(f"{folder}/{KEY}", LARGEST).strip()
    if not private:
        if os.path.lexists(place):
            raise FarmError(f"{place} cannot be read as a key", hint="restore it from your backup, or remove it: then "
                            "a new one is made, and what the registry has must be adopted (docs/security.md)")
        if check:
            return Keys("", frozenset(others))
        files.private_folder(folder)
        private = _new()
        files.write(place, f"{private}\n", 0o600)
    own = _public(folder, private, place if not given.strip() else "farm_signing_key", check=check)
    return Keys(own, frozenset([own, *others]), private)


def _new() -> str:
    made = libraries.ed25519.Ed25519PrivateKey.generate()
    text: bytes = made.private_bytes(libraries.serialization.Encoding.PEM, libraries.serialization.PrivateFormat.PKCS8,
                                     libraries.serialization.NoEncryption())
    return text.decode().strip()


def _private(text: str) -> Any:
    """The key of a PEM text. Raises ValueError if it is another kind of key, or none."""
    try:
        found = libraries.serialization.load_pem_private_key(text.encode(), None)
    except TypeError as error:  # it is encrypted
        raise ValueError(str(error)) from None
    if not isinstance(found, libraries.ed25519.Ed25519PrivateKey):
        raise ValueError("it is another kind of key")
    return found


def _public(folder: str, private: str, where: str, *, check: bool) -> str:
    """The public key of a private one. It is kept in a file beside it, with the hash of what it was made from."""
    made_from = hashlib.sha256(private.encode()).hexdigest()
    kept, _newline, note = files.text_of(f"{folder}/{PUBLIC}", LARGEST).partition("\n")
    if note.strip() == f"{_NOTE}{made_from}" and public_key(kept):
        return public_key(kept)
    try:
        raw = _private(private).public_key().public_bytes(libraries.serialization.Encoding.Raw,
                                                          libraries.serialization.PublicFormat.Raw)
    except (ValueError, libraries.signatures.UnsupportedAlgorithm):
        raise FarmError(f"{where} is not an ed25519 private key in PEM without a passphrase",
                        hint="make one with: openssl genpkey -algorithm ed25519") from None
    found = base64.b64encode(raw).decode()
    if not check:
        files.private_folder(folder)
        files.write(f"{folder}/{PUBLIC}", f"{found}\n{_NOTE}{made_from}\n", 0o600)
    return found
