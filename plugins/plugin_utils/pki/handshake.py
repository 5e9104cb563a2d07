# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a client would accept a server's certificate: a TLS handshake in memory. Nothing is sent. This file reads the
certificates.

It is what the farm's clients do, so it says what they would say: whether the key is the certificate's, the name, the
time, and who signed it.
"""

from __future__ import annotations

import ssl

_HINTS = (  # what OpenSSL says, and what to do
    ("expired", "renew it, and give the new one"),
    ("not yet valid", "check the clock of this machine"),
    ("mismatch", "farm_registry must be one of the names or addresses in the certificate"),
    ("issuer", "set farm_registry_ca to the CA that signed it, and add the intermediate CAs to the certificate's file"),
    ("self", "set farm_registry_ca to the CA that signed it"),
)


def refused(certificate: str, key: str, ca: str, host: str) -> tuple[str, str]:
    """Why a client that trusts the CAs in the file `ca` ('': the system's) refuses `host` with this certificate (with
    the CAs in between) and key, and what to do; ('', '') if it does not."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key, password=lambda: b"")  # else it asks on the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{key} is not the key of {certificate}", "give the key that the certificate was made for"
        return (f"{certificate} and {key} are not a certificate and its key: {_words(error)}",
                "both must be PEM, the key without a passphrase")
    try:
        client = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError as error:
        return f"{ca} has no certificate: {_words(error)}", "farm_registry_ca must be a file of certificates in PEM"
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(to_client, to_server, server_hostname=host.strip("[]")),
             server.wrap_bio(to_server, to_client, server_side=True)]
    try:
        for _round in range(4):  # of messages: TLS 1.3 needs two
            for side in sides:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        said = error.verify_message.rstrip(".")
        hint = next((hint for sign, hint in _HINTS if sign in said), "check the certificate")
        return f"{certificate} for {host}: {said}", hint
    except ssl.SSLError as error:
        return f"{certificate} for {host}: {_words(error)}", "check the certificate"
    return "", ""


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
