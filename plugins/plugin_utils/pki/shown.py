# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate that a server shows, whether or not anybody trusts it. This file talks to the network."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.module_utils import references
from ansible_collections.desimages.farm.plugins.plugin_utils.pki.certificates import expiry

TLS = 443


def expires(address: str, seconds: float = 10.0) -> datetime | None:
    """When the certificate of a registry (HOST[:PORT]) expires; None if it has none, or does not answer within so many
    seconds."""
    if references.loopback(address):
        return None
    parts = urlsplit(f"//{address}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent; an expired one counts too
    try:
        with socket.create_connection((parts.hostname or "", parts.port or TLS), seconds) as plain, \
                context.wrap_socket(plain, server_hostname=parts.hostname) as shown:
            found = shown.getpeercert(binary_form=True)
    except OSError:
        return None
    return expiry(ssl.DER_cert_to_PEM_cert(found)) if found else None
