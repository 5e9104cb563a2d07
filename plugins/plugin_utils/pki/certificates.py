# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""X.509 certificates of the farm: its own CA, and those that it signs. No I/O, no clock.

Sources: RFC 5280; https://cabforum.org/working-groups/server/baseline-requirements/ for what clients insist on
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import (
    ec,
    hashes,
    serialization,
    signatures,
    x509,
)

CA_LASTS, LASTS = timedelta(days=3650), timedelta(days=397)  # the longest that clients accept from public CAs
RENEWED = timedelta(days=30)  # before it expires
SKEW = timedelta(days=1)  # how far a host's clock may be behind
NAME = "desimages farm"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()).decode()


def read(pem: str, key_pem: str) -> Pair | None:
    """A pair of the farm's own from its two PEM texts; None if one is not valid, or they do not belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        key = serialization.load_pem_private_key(key_pem.encode(), None)
    except (ValueError, TypeError):  # TypeError for a key with a passphrase
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return Pair(certificate, key)


def expiry(pem: str) -> datetime:
    """When the first certificate in a PEM text expires (UTC). Raises FarmError if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    except ValueError as error:
        raise FarmError(f"it has no certificate in PEM: {error}") from error


def new_authority(now: datetime, label: str, key: ec.EllipticCurvePrivateKey | None = None) -> Pair:
    """A private CA. With the `key` and `label` of the one before, it verifies what that signed. `label` tells CAs of
    several farms apart."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, f"{NAME} CA {label}")])
    public = key.public_key()
    made = (
        _begun(name, name, public, now, CA_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return Pair(made.sign(key, hashes.SHA256()), key)


def label(authority: Pair) -> str:
    """What new_authority was given."""
    found = authority.certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    return str(found[0].value).removeprefix(f"{NAME} CA ") if found else ""


def new_server(authority: Pair, hosts: Iterable[str], now: datetime) -> Pair:
    """A certificate for a server with these names and addresses; it does not outlast its CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, f"{NAME} registry")])
    lasts = min(LASTS, authority.certificate.not_valid_after_utc - now)
    made = (
        _begun(name, authority.certificate.subject, key.public_key(), now, lasts)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    return Pair(made.sign(authority.key, hashes.SHA256()), key)


def hosts(pair: Pair) -> list[str]:
    """The names and addresses in a server's certificate, sorted."""
    try:
        found = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return sorted(str(name.value) for name in found)


def old_authority(pair: Pair | None, now: datetime) -> str:
    """Why a CA is made again; '' if it stays."""
    if pair is None:
        return "there is no CA of the farm"
    return _due(pair, now)


def old_server(pair: Pair | None, authority: Pair, wanted: Iterable[str], now: datetime) -> str:
    """Why a server's certificate is made again; '' if it stays."""
    if pair is None:
        return "there is no certificate"
    try:
        pair.certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, signatures.InvalidSignature):
        return "another CA signed it"
    if hosts(pair) != sorted({str(name.value) for name in _names(wanted)}):
        return f"it is for {', '.join(hosts(pair))}"
    if pair.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc:
        return ""  # it cannot last longer than its CA
    return _due(pair, now)


def _due(pair: Pair, now: datetime) -> str:
    begins, ends = pair.certificate.not_valid_before_utc, pair.certificate.not_valid_after_utc
    if now < begins:
        return f"it is valid only from {begins:%Y-%m-%d} on"
    return f"it expires on {ends:%Y-%m-%d}" if ends - now < RENEWED else ""


def _begun(name: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime,
           lasts: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(issuer).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW).not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)


def _names(given: Iterable[str]) -> list[x509.GeneralName]:
    """Names and addresses as a certificate has them."""
    found: list[x509.GeneralName] = []
    for name in sorted(set(given)):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name.strip("[]"))))
        except ValueError:
            found.append(x509.DNSName(name.lower()))
    return found
