# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication at a registry: its challenges, the user's credentials, tokens.

Credentials belong to one origin (scheme, host and port). They are sent only there, and to the token service that it
names, only in TLS or within this machine. A token is sent only to the origin that it was issued for. Sources: RFC 9110,
11; https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ansible_collections.desimages.farm.plugins.module_utils.challenges import challenges, token, trusted
from ansible_collections.desimages.farm.plugins.module_utils.errors import PASSING, FarmError, RegistryError
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.http import Answer, words
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.login import Login, login

SPARED = 60.0  # seconds in which a login that was refused is not tried again: some lock out who tries it often
Ask = Callable[[str, str, dict[str, str], "bytes | None"], Answer]  # method, URL, headers, body


class Scope(NamedTuple):
    """What a request is for: reading or writing a repository ('' for none), with a blob of the repository `source`."""

    repository: str
    write: bool
    source: str = ""


class Keys:
    """The credentials and tokens for one origin, whose host and port are `host`. `ask` makes one exchange.

    `own` says that it is the registry itself. Challenges of other origins are answered only if the user has a login at
    that host. `given` is the login that the settings say; without it, the Docker client's is looked up. Safe to use
    from several threads.
    """

    def __init__(self, host: str, ask: Ask, *, own: bool, given: Login | None = None) -> None:
        self.host, self._ask, self._own, self._given = host, ask, own, given
        self._held: dict[Scope | None, str] = {}
        self._login: tuple[Login | None] | FarmError | None = (given,) if given else None
        self._lock = threading.Lock()
        self._refused: tuple[float, FarmError] | None = None  # when the login was refused a token, and how

    def header(self, scope: Scope) -> str:
        """The value of Authorization for a request; '' as long as none was asked for."""
        found = self._held.get(scope) or self._held.get(None) or ""
        return found or ("" if scope.write else self._held.get(Scope(scope.repository, True), ""))

    def answer(self, scope: Scope, challenge: str, refused: str) -> str:
        """The value of Authorization to retry with after a 401 to a request that had `refused`; '' if there is none.

        Raises RegistryError if the token service refuses, or does not give a token.
        """
        with self._lock:
            if (held := self.header(scope)) != refused:  # another thread has a new one already
                return held
            offered, known = challenges(challenge), self.known()
            if not (self._own or known):
                return ""
            if "bearer" in offered and (offered["bearer"].get("realm") or "basic" not in offered):
                if self._refused and time.monotonic() - self._refused[0] < SPARED:
                    raise self._refused[1]
                self._held[scope] = "Bearer " + self._token(offered["bearer"], scope, known)
                return self._held[scope]
            if "basic" in offered and known and known.name and known.basic != refused:
                self._held[None] = known.basic
                return known.basic
        return ""

    def hint(self) -> str:
        """The hint for a refusal."""
        if self._given:
            return (f"are farm_registry_user ({self._given.name}) and farm_registry_password those of {self.host}, and "
                    "may that user do this?")
        known = None
        with contextlib.suppress(FarmError):  # what is told is the refusal
            known = self.known()
        return f"run `docker login {self.host}`" + (" as a user who may do this" if known else " first")

    def known(self) -> Login | None:
        """The user's login here. It is looked up once, even if that fails: otherwise each thread waits for a helper."""
        if self._login is None:
            try:
                self._login = (login(self.host),)
            except FarmError as error:
                self._login = error
        if isinstance(self._login, FarmError):
            raise self._login
        return self._login[0]

    def _token(self, asked: dict[str, str], scope: Scope, known: Login | None) -> str:
        """A token from the service that a challenge names. Its expiry is not tracked: a refused token is replaced."""
        realm = self._realm(asked.get("realm", ""))
        usual = f"repository:{scope.repository}:{'pull,push' if scope.write else 'pull'}" if scope.repository else ""
        said = asked.get("scope", "")
        # who may write may read a repository that is not there yet, so such a token is asked for even by a read
        scopes = [said or usual, usual if scope.write and said and "push" not in said else "",
                  f"repository:{scope.source}:pull" if scope.source and f":{scope.source}:" not in said else ""]
        scopes = [text for text in scopes if text]
        query = [("service", asked["service"])] if asked.get("service") else []
        if known and known.identity:
            form = [("grant_type", "refresh_token"), ("client_id", "desimages"), ("refresh_token", known.identity)]
            query += [("scope", " ".join(scopes))] if scopes else []
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._ask("POST", realm, kind, urlencode([*form, *query]).encode())
        else:
            parts = urlsplit(realm)
            query += [("scope", text) for text in scopes]
            url = urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query), *query])))
            answer = self._ask("GET", url, {"Authorization": known.basic} if known else {}, None)
        if answer.status != 200:
            said = f"HTTP {answer.status} {words(answer.data)}".rstrip()
            hint = "it gives no tokens for now: try later" if answer.status in PASSING else self.hint()
            error = RegistryError(f"{self.host}: its token service {answer.shown} answers {said}", hint=hint)
            if known and answer.status == 401:
                self._refused = time.monotonic(), error
            raise error
        found = token(answer.data)
        if not found:
            raise RegistryError(f"{self.host}: its token service {answer.shown} answers without a token",
                                hint="is that address a registry's?")
        return found

    def _realm(self, realm: str) -> str:
        """The address of a token service, if a password may be sent there: in TLS, or from loopback to loopback."""
        if not realm:
            raise RegistryError(f"{self.host} wants a token, and does not say whose (realm)",
                                hint="correct auth.token.realm in the registry's configuration")
        if not trusted(realm, self.host):
            text = f"{self.host} names {realm!r} as its token service, which does not use TLS: nothing is sent there"
            raise RegistryError(text, hint="correct auth.token.realm in the registry's configuration")
        return urlunsplit(urlsplit(realm)._replace(fragment=""))
