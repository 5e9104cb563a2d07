# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's logins at registries: the Docker client's configuration, and the credential helpers that it names.

The Docker SDK is not asked: it takes a configuration that it cannot read for an empty one, one wrong login makes all of
them useless to it, and it waits for ever for a helper, which may wait for a keychain, a network or a person. Sources:
https://docs.docker.com/reference/cli/docker/login/ and https://github.com/docker/docker-credential-helpers
This file does I/O.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import programs, references
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

SECONDS = 60.0  # how long a helper may take; some ask a service of their cloud
HUB_LOGIN = "https://index.docker.io/v1/"  # how the Docker client names its login there
_NOT_FOUND = "credentials not found in native keychain"


@dataclass(frozen=True)
class Login:
    """A login at one host: name and password, or a token that replaces both (`identity`)."""

    name: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


def login(host: str) -> Login | None:
    """The user's login for a host; None if there is none.

    If a helper has none, `auths` is asked, as in the Docker client. Raises FarmError if the configuration or the helper
    cannot be used.
    """
    names = (HUB_LOGIN, *references.HUB) if references.hub(host) else (host,)
    try:
        config = _configuration()
        helpers, auths = _mapping(config, "credHelpers"), _mapping(config, "auths")
        helper = next((helpers[name] for name in names if helpers.get(name)), config.get("credsStore"))
        return (_ask(f"docker-credential-{helper}", names[0]) if helper else None) or _decoded(_entry(auths, names))
    except (OSError, ValueError, RecursionError) as error:
        text = f"the Docker client's configuration has no usable login for {host}: {error}"
        raise FarmError(text, hint="check its config.json (in DOCKER_CONFIG, or ~/.docker)") from error


def _configuration() -> Mapping[str, Any]:
    """What the Docker client's config.json says. Raises OSError or ValueError if it cannot be read."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    value = json.loads(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _mapping(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    if not isinstance(value, (dict, type(None))):
        raise ValueError(f"{name} is not a JSON object")
    return value or {}


def _entry(auths: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The entry for one of some names: that has the very name, or else a URL of that host, as Docker once wrote them.
    """
    for name in names:
        if name in auths:
            return auths[name]
    return next((entry for key, entry in auths.items() if re.sub("^https?://", "", key).partition("/")[0] in names), {})


def _decoded(entry: Any) -> Login | None:
    """The login in an entry of `auths`. Raises ValueError, which does not show it, if it is not valid."""
    if not isinstance(entry, (dict, type(None))):
        raise ValueError("the entry of it is not a JSON object")
    found = entry or {}
    if found.get("identitytoken"):  # what stands beside it then is no password
        return _login("", "", found["identitytoken"])
    name, password = found.get("username"), found.get("password")
    if found.get("auth"):
        try:
            word = base64.b64decode(found["auth"], validate=True).decode()
        except (ValueError, TypeError):
            word = ""
        name, colon, password = word.partition(":")
        if not colon:
            raise ValueError("auth is not NAME:PASSWORD in base64")
    return _login(name, str(password or "").rstrip("\0"), "")


def _ask(helper: str, host: str) -> Login | None:
    """The login that a credential helper has for a host. Its answer contains the secret, so errors do not show it."""
    def useless(why: str) -> FarmError:
        return FarmError(f"the credential helper {helper} has no usable login for {host}: {why}",
                         hint=f"make `echo {host} | {helper} get` work without asking you; or remove the helper from"
                              " the Docker client's config.json (in DOCKER_CONFIG, or ~/.docker: credHelpers,"
                              f" credsStore) and run `docker login {host}`")

    try:
        done = programs.run([helper, "get"], seconds=SECONDS, stdin=host)
    except FarmError as error:
        raise useless(error.message) from error
    if done.code:  # helpers write their messages to stdout
        said = " ".join((done.out.strip() or done.err.strip()).split())
        if _NOT_FOUND in said:
            return None
        raise useless(f"it exited with {done.code} and said {said[-300:]!r}")
    try:
        answer = json.loads(done.out)
        name, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise useless("its answer is not a JSON object with Username and Secret") from error
    if name == "<token>":  # by convention, then the secret is an identity token
        return _login("", "", secret)
    return _login(name, secret, "")


def _login(name: object, password: object, identity: object) -> Login | None:
    return Login(str(name or ""), str(password or ""), str(identity or "")) if name or identity else None
