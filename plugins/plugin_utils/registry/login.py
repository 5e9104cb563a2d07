# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's logins at registries: the Docker client's configuration, and the credential helpers that it names.

The Docker SDK reads the configuration. This file runs the helpers: the SDK's own call has no deadline, and a helper may
wait for a keychain, a network or a person. Source of what helpers print:
https://github.com/docker/docker-credential-helpers This file does I/O.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError

SECONDS = 60.0  # a helper has this long; some ask a service of their cloud first
_NOT_FOUND = "credentials not found in native keychain"


@dataclass(frozen=True)
class Login:
    """A person's login at one host: name and password, or a token that stands for both (`identity`)."""

    name: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


def login(host: str) -> Login | None:
    """What the person has for a host; None where that is nothing.

    A helper that has nothing leaves it to `auths`, as the Docker client does. Raises FarmError where the configuration
    or the helper cannot be used.
    """
    from docker import auth, errors  # the Docker SDK; slow to import and seldom needed

    try:
        config = auth.load_config()
        helper = config.get_credential_store(host)
        if helper:
            found = _ask(f"docker-credential-{helper}", auth.INDEX_URL if host == auth.INDEX_NAME else host)
            if found:
                return found
        entry: dict[str, Any] = auth.AuthConfig({"auths": config.auths}).resolve_authconfig(host) or {}
    except (errors.DockerException, OSError, ValueError, TypeError, AttributeError) as error:  # the last: other shapes
        text = f"the Docker client's configuration has no usable login for {host}: {error}"
        raise FarmError(text, hint="look at its config.json (DOCKER_CONFIG, else ~/.docker)") from error
    return _login(entry.get("username"), entry.get("password"), entry.get("IdentityToken"))


def _ask(helper: str, host: str) -> Login | None:
    """What a credential helper has for a host. Its answer holds the secret, so no error shows what is no message."""
    def useless(why: str) -> FarmError:
        return FarmError(f"the credential helper {helper} has no usable login for {host}: {why}",
                         hint=f"`echo {host} | {helper} get` has to answer by itself; or leave the helper out of the"
                              " Docker client's config.json (DOCKER_CONFIG, else ~/.docker: credHelpers, credsStore)"
                              f" and `docker login {host}`")

    try:
        done = programs.run([helper, "get"], seconds=SECONDS, stdin=host)
    except FarmError as error:
        raise useless(error.message) from error
    if done.code:  # helpers write their messages to stdout
        said = " ".join((done.out.strip() or done.err.strip()).split())
        if _NOT_FOUND in said:
            return None
        raise useless(f"it ended with {done.code} and said {said[-300:]!r}")
    try:
        answer = json.loads(done.out)
        name, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise useless("its answer is no JSON object with Username and Secret") from error
    if name == "<token>":  # how a helper says that its secret is an identity token
        return _login("", "", secret)
    return _login(name, secret, "")


def _login(name: object, password: object, identity: object) -> Login | None:
    return Login(str(name or ""), str(password or ""), str(identity or "")) if name or identity else None
