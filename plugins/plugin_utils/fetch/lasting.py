# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of connections that another attempt does not mend, and what a person can do about each."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import urllib3

_TLS = (  # what OpenSSL says, and what to do: at the farm's own registry, and elsewhere
    (re.compile("certificate has expired"),
     "renew the certificate; playbooks/provision.yml renews that of the farm's own registry",
     "have the certificate there renewed, or check the clock of this machine"),
    (re.compile("certificate is not yet valid"), "check the clock of this machine", ""),
    (re.compile("ostname mismatch|IP address mismatch|doesn't match"),
     "farm_registry must be one of the names or addresses in the certificate",
     "use one of the names or addresses in the certificate"),
    (re.compile("CERTIFICATE_VERIFY_FAILED"), "set farm_registry_ca to the CA that signed its certificate",
     "let this machine trust the CA that signed its certificate: put it into /usr/local/share/ca-certificates/NAME.crt"
     " and run update-ca-certificates"),
    (re.compile("NO_CERTIFICATE_OR_CRL_FOUND"), "farm_registry_ca must be a file of certificates in PEM",
     "SSL_CERT_FILE must be a file of certificates in PEM"),
    (re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"),
     "the farm uses plain HTTP on loopback, and TLS elsewhere: does it speak TLS?",
     "nothing there speaks TLS: use an address that does"),
    (re.compile("HANDSHAKE_FAILURE|PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|CERTIFICATE_REQUIRED|UNRECOGNIZED_NAME"
                "|KEY_TOO_SMALL|MD_TOO_WEAK"),
     "it must speak TLS 1.2 or later, under that name, and ask for no certificate of its clients", ""),
)
_REFUSES = re.compile("Tunnel connection failed: 4(?!08|29)")  # RFC 9110, 9.3.6
PROXY = ("the proxy does not lead there: check http_proxy and https_proxy (http://USER:PASSWORD@HOST:PORT if it asks "
         "for a login), or name in no_proxy what needs none")
_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def remedy(error: BaseException | None, url: str, *, farms: bool, met: bool) -> str:
    """What to do if connecting to `url` failed in a way that lasts; '' for any other error, which may pass.

    `farms` says that it is the farm's own registry, which settings can help; `met` that its host has answered before,
    so that its name is right.
    """
    if by_proxy(error) and ((not met and _no_such_host(error)) or _REFUSES.search(str(error))):
        return PROXY
    if not met and _no_such_host(error) and not (urlsplit(url).hostname or "").endswith(".local"):
        return f"check {'farm_registry' if farms else 'the address'}, or how this machine resolves names"
    here, there = next((hints for sign, *hints in _TLS if sign.search(str(error))), ("", ""))
    return here if farms else there or here


def by_proxy(error: BaseException | None) -> bool:
    """Whether it is the proxy that failed or refused, and nobody else was asked."""
    return isinstance(getattr(error, "reason", None) or error, urllib3.exceptions.ProxyError)


def _no_such_host(error: BaseException | None) -> bool:
    """Whether the resolver says that a name does not exist. Multicast DNS (`.local`) says so also of a machine that is
    starting."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.errno in _NO_SUCH_HOST
        error = error.__cause__ or error.__context__
    return False
