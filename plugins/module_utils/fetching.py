# Copyright: the Desimages authors
# SPDX-License-Identifier: Apache-2.0
"""Reads blobs of the archive from a registry, with the login and the CA that a job came with. I/O.

No proxy of this host's environment is used, as BuildKit uses none for the registry. The farm's own registry asks for a
password; one that somebody else runs may ask for a token, which is got with the password.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from . import interim
from .challenges import challenges, token, trusted
from .errors import PASSING, FarmError, Unreachable
from .files import CHUNK
from .references import loopback

SILENCE = 60  # seconds after which it gives up on an archive that sends nothing
REACHED = 20  # seconds in which a registry must answer
SLOWEST = 5_000  # bytes a second; it gives up on an archive that sends less. Several jobs may share 1 Mbit/s
LARGEST = 1 << 20  # bytes of a token service's answer that are read
_TOKENS: dict[tuple[str, str], str] = {}  # repository and login -> the header with the last token
_DISTRUST = "this node does not trust its certificate: run playbooks/provision.yml, and check the node's clock"
_HINT = "does the registry run, and can this machine reach it?"
_REFUSED = {401: "it asks for a login: check farm_registry_user and farm_registry_password",
            403: "this login may not read there: check farm_registry_user and farm_registry_password"}


def reached(access: Mapping[str, str]) -> str:
    """Whether this machine reaches the registry `access` (`url`, `ca`) and trusts it: '', or why not. No login is
    needed."""
    try:
        with _opener(access["url"], access.get("ca", "")).open(f"{access['url']}/v2/", timeout=REACHED):
            return ""
    except HTTPError as error:
        return "" if error.code < 500 else f"{access['url']}: {error}"
    except FarmError as error:
        return error.message
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{access['url']}: {_why(error)}"


def _opener(url: str, ca: str) -> urllib.request.OpenerDirector:
    """`ca` is a file with what alone is trusted for that URL's host; '' is what the system trusts."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _Within(), _Plain(),
                                       _Exact(urlsplit(url).netloc, ca))


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(interim.Connection, req)


class _Exact(urllib.request.HTTPSHandler):
    """Trusts a CA, if there is one, for one host alone; for others, to which that may redirect, those of the system."""

    def __init__(self, host: str, ca: str) -> None:
        super().__init__()
        self._host, self._ca = host, ca

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        ca = self._ca if req.host == self._host and self._ca else None
        return self.do_open(interim.TlsConnection, req, context=ssl.create_default_context(cafile=ca))


class _Within(urllib.request.HTTPRedirectHandler):
    """Follows no redirect out of TLS, except within this machine: whoever is on the way would see what is read."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any,
                         newurl: str) -> urllib.request.Request | None:
        parts = urlsplit(newurl)
        here = parts.scheme == "http" and req.type == "http" and loopback(parts.netloc)
        if parts.scheme != "https" and not here:
            raise FarmError(f"{req.full_url} leads to {newurl.partition('?')[0]}, which is not TLS: it is not followed",
                            hint="tell a registry behind a proxy its own address (http.host)")
        # before 3.11 urllib knows no 308, which for a GET is a 307
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302


def _why(error: Exception) -> str:
    """An error of urllib in words."""
    if isinstance(error, http.client.IncompleteRead):
        return "the answer broke off"
    return str(error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error)


def _opened(opener: urllib.request.OpenerDirector, url: str, access: Mapping[str, str]) -> http.client.HTTPResponse:
    """The answer to a request with the login, or with a token if the registry wants one."""
    def ask(where: str, authorization: str) -> http.client.HTTPResponse:
        request = urllib.request.Request(where)
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        answer: http.client.HTTPResponse = opener.open(request, timeout=SILENCE)
        return answer

    secret = base64.b64encode(f"{access.get('user', '')}:{access.get('password', '')}".encode()).decode()
    basic = f"Basic {secret}" if access.get("password") else ""
    name = urlsplit(url).path.partition("/v2/")[2].rpartition("/blobs/")[0]
    key = (url.rpartition("/blobs/")[0], basic)
    try:
        return ask(url, _TOKENS.get(key) or basic)
    except HTTPError as error:
        wanted = challenges(", ".join(error.headers.get_all("WWW-Authenticate") or ())).get("bearer", {})
        if error.code != 401 or not access or not trusted(wanted.get("realm", ""), urlsplit(url).netloc):
            raise
        error.close()
        realm = urlsplit(wanted["realm"])
        query = {"service": wanted.get("service", ""), "scope": wanted.get("scope") or f"repository:{name}:pull"}
        query = {part: text for part, text in query.items() if text}
        where = urlunsplit(realm._replace(query=urlencode([*parse_qsl(realm.query), *query.items()]), fragment=""))
        with ask(where, basic) as answer:
            found = token(answer.read(LARGEST))
        if not found:
            raise FarmError(f"{url}: {wanted['realm']}, which gives its tokens, answers without one",
                            hint=_HINT) from error
        _TOKENS[key] = f"Bearer {found}"
        return ask(url, _TOKENS[key])


def pieces(url: str, size: int, access: Mapping[str, str]) -> Iterator[bytes]:
    """The content of a blob of `size` bytes, piece by piece. `access` may have `url`, `ca` (a file), `user` and
    `password`: they are used for that registry alone. Raises Unreachable if trying again may help, else FarmError."""
    mine = bool(access.get("url")) and url.startswith(f"{access['url']}/")
    opener = _opener(url, access.get("ca", "") if mine else "")
    until = time.monotonic() + SILENCE + size / SLOWEST
    try:
        with _opened(opener, url, access if mine else {}) as answer:
            said, came = answer.headers.get("Content-Length", ""), 0
            while piece := answer.read1(CHUNK):
                came += len(piece)
                yield piece
                if time.monotonic() > until:
                    raise Unreachable(f"{url} arrives at less than {SLOWEST // 1000} kB a second", hint=_HINT)
            if re.fullmatch("[0-9]{1,18}", said) and came < int(said):  # read1 does not tell this from the end
                raise Unreachable(f"{url} ends after {came} of {said} bytes", hint=_HINT)
    except HTTPError as error:
        kind = Unreachable if error.code in PASSING else FarmError
        said = str(error).partition("\n")[0]  # after a circle of redirects it goes on
        raise kind(f"{url}: {said}", hint=_REFUSED.get(error.code, _HINT)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError for what is not an address
        why = error.reason if isinstance(error, URLError) else error
        if isinstance(why, ssl.SSLCertVerificationError):
            raise FarmError(f"{url}: {_why(error)}", hint=_DISTRUST) from error
        raise Unreachable(f"{url}: {_why(error)}", hint=_HINT) from error
