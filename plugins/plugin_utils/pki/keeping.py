# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The farm's secrets on the controller: a folder that only the user who runs the playbook can enter. I/O."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ansible_collections.desimages.farm.plugins.module_utils import files
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput, FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import bcrypt
from ansible_collections.desimages.farm.plugins.plugin_utils.pki import certificates, handshake

RENEWED = certificates.RENEWED
CA, CA_KEY = "registry-ca.pem", "registry-ca.key"
CERTIFICATE, KEY = "registry.pem", "registry.key"
PASSWORD, HTPASSWD = "registry-password", "registry-htpasswd"
ROUNDS = 5  # 2**5, as htpasswd(1) has it: docker-registry computes the hash for every single request
LARGEST = 1 << 20  # bytes of a file here


@dataclass
class Change:
    """What is different from before: `reasons` for people, and the diff, without a secret."""

    reasons: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def add(self, what: str, why: str, before: str, after: str) -> None:
        self.reasons.append(f"{what}: {why}")
        self.before += [f"{what}: {before}"] if before else []
        self.after.append(f"{what}: {after}")

    def diff(self, folder: str) -> dict[str, str]:
        texts = {"before": self.before, "after": self.after}
        return {"before_header": folder, "after_header": folder,
                **{name: "".join(f"{line}\n" for line in lines) for name, lines in texts.items()}}


class Secrets:
    """The folder. In `check` mode nothing is written."""

    def __init__(self, folder: str, *, check: bool) -> None:
        self.folder, self.check = folder.rstrip("/"), check
        if not check:
            files.private_folder(self.folder)

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _read(self, name: str) -> str:
        return files.text_of(self.path(name), LARGEST)

    def _write(self, name: str, text: str) -> None:
        if not self.check:
            files.write(self.path(name), text, 0o600)

    def _pair(self, certificate: str, key: str) -> certificates.Pair | None:
        return certificates.read(self._read(certificate), self._read(key))

    def certify(self, hosts: list[str], now: datetime) -> tuple[Change, certificates.Pair]:
        """Makes the farm's CA and the registry's certificate if they are missing, wrong, or soon expire; returns what
        changed, and the certificate. If it is killed between a key and its certificate, both are made again."""
        change = Change()
        authority, server = self._pair(CA, CA_KEY), self._pair(CERTIFICATE, KEY)
        if why := certificates.old_authority(authority, now):
            before = _said(authority) if authority else ""
            label = certificates.label(authority) if authority else secrets.token_hex(4)
            authority = certificates.new_authority(now, label, authority.key if authority else None)
            self._write(CA_KEY, authority.key_pem)
            self._write(CA, authority.pem)
            change.add("the farm's CA", why, before, _said(authority))
        if authority is None:  # old_authority() would have said so
            raise FarmError(f"{self.folder}/{CA} is missing", hint="run again: a new one is made")
        if why := certificates.old_server(server, authority, hosts, now):
            before = _said(server) if server else ""
            server = certificates.new_server(authority, hosts, now)
            self._write(KEY, server.key_pem)
            self._write(CERTIFICATE, server.pem)
            change.add("the registry's certificate", why, before, _said(server))
        if server is None:
            raise FarmError(f"{self.folder}/{CERTIFICATE} is missing", hint="run again: a new one is made")
        return change, server

    def admit(self, user: str, password: str) -> Change:
        """Makes a password if none is given and none was made, and the line of htpasswd(1) for it."""
        change = Change()
        known = self._read(PASSWORD).strip()
        if not password and not known:
            known = secrets.token_urlsafe(32)
            self._write(PASSWORD, f"{known}\n")
            change.add("the registry's password", "there is none", "", f"made, in {self.path(PASSWORD)}")
        name, _colon, kept = self._read(HTPASSWD).strip().partition(":")
        if name != user or not _matches(kept, password or known):
            why = "there is none" if not name else "it has changed"
            made = bcrypt.hashpw((password or known).encode(), bcrypt.gensalt(ROUNDS)).decode()
            self._write(HTPASSWD, f"{user}:{made}\n")
            change.add("the registry's login", why, f"user {name}" if name else "",
                       f"user {user}{' (another password)' if name == user else ''}")
        return change


def accept(certificate: str, key: str, ca: str, host: str) -> datetime:
    """When a certificate that a person gave expires. Raises BadInput if clients would refuse it."""
    wrong = []
    for name, path in (("registry_certificate", certificate), ("registry_key", key), ("farm_registry_ca", ca)):
        try:
            if path:
                Path(path).read_bytes()
        except OSError as error:
            wrong.append(f"{name}: {path} cannot be read: {error.strerror}")
    if not wrong:
        said, hint = handshake.refused(certificate, key, ca, host)
        wrong = [f"registry_certificate: {said}: {hint}"] if said else []
    if wrong:
        raise BadInput(wrong, what="the registry's certificate")
    return certificates.expiry(Path(certificate).read_text(encoding="utf-8"))


def refuse_other(ca: str, own: str) -> None:
    """Raises FarmError if clients would trust another CA than the farm's, which signs the certificate."""
    if ca != own:
        raise FarmError(f"farm_registry_ca is {ca or 'empty'}, but the farm's own CA, {own}, signs the registry's"
                        " certificate", hint="give registry_certificate and registry_key of that CA, or leave"
                        " farm_registry_ca at its default")


def _said(pair: certificates.Pair) -> str:
    names = ", ".join(certificates.hosts(pair))
    return (f"for {names}, " if names else "") + f"until {pair.certificate.not_valid_after_utc:%Y-%m-%d}"


def _matches(kept: str, password: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), kept.encode())
    except ValueError:  # not a hash of bcrypt
        return False
