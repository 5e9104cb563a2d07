# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's logins at registries: the Docker client's configuration, and the credential helpers that it names.

The Docker SDK reads the configuration. Helpers are run here: the SDK's own call has no deadline, and a helper may wait
for a keychain, a network or a person. Their protocol: https://github.com/docker/docker-credential-helpers
This file does I/O.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

SECONDS = 60.0  # how long a helper may take; some ask a service of their cloud
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
    from docker import auth, errors  # the Docker SDK; slow to import, and rarely needed

    try:
        config = auth.load_config()
        helper = config.get_credential_store(host)
        if helper:
            found = _ask(f"docker-credential-{helper}", auth.INDEX_URL if host == auth.INDEX_NAME else host)
            if found:
                return found
        entry: dict[str, Any] = auth.AuthConfig({"auths": config.auths}).resolve_authconfig(host) or {}
    except (errors.DockerException, OSError, ValueError, TypeError, AttributeError) as error:  # the last: wrong JSON
        text = f"the Docker client's configuration has no usable login for {host}: {error}"
        raise FarmError(text, hint="check its config.json (in DOCKER_CONFIG, or ~/.docker)") from error
    return _login(entry.get("username"), entry.get("password"), entry.get("IdentityToken"))


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
