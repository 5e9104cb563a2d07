# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How this machine is configured: apt's sources, proxies and credentials, netrc, the CA bundle. Read here, passed on as
values.

None of it is ever written into a file of the project, and no message contains a password.
"""

from __future__ import annotations

import contextlib
import glob
import ipaddress
import netrc
import os
import re
import shutil
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible_collections.desimages.farm.plugins.module_utils import programs
from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.plugin_utils.libraries import urllib3

HELPER = 30.0  # seconds that apt's Proxy-Auto-Detect program may take
DEBIAN, SECURITY = "debian", "debian-security"
ARCHIVES = (DEBIAN, SECURITY)
_RELEASES = {"stable", "oldstable", "oldoldstable", "testing", "unstable", "experimental", "sid",
             "bullseye", "bookworm", "trixie", "forky", "duke"}  # https://wiki.debian.org/DebianReleases
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def redact(url: str) -> str:
    """The URL without user and password, fit for a message."""
    try:
        parts = urlsplit(url)
    except ValueError:  # what is not a URL has no user that could be cut out
        return "(not a URL)"
    if not parts.netloc:  # a login before a host without a scheme
        return re.sub(r"^[^/?#]*@", "", url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(frozen=True)
class Source:
    """One entry of apt's sources: a base URI and a suite. `ours` is true if it names Debian's own archive keyring."""

    uri: str
    suite: str
    ours: bool = False

    @property
    def archive(self) -> str:
        """`debian`, `debian-security`, or '' for anything else. This guesses by names; signatures and hashes decide
        later."""
        if re.search(r"ubuntu|raspbian|raspberrypi", self.uri):
            return ""
        release = re.sub(r"(-security|/updates|-updates|-backports|-proposed-updates)$", "", self.suite)
        if release not in _RELEASES:
            return ""
        return SECURITY if re.search(r"(-security|/updates)$", self.suite) else DEBIAN


def one_line_sources(text: str) -> list[Source]:
    """The `deb` lines of a sources.list."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)", line)
        if match:
            found.append(Source(match[2], match[3], "debian-archive" in (match[1] or "")))
    return found


def deb822_sources(text: str) -> list[Source]:
    """The entries of a .sources file that are for binary packages and enabled."""
    found = []
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] = fields.get(name, "") + " " + line.strip()
            elif ":" in line:
                name, _colon, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled",
                                                                   "yes").lower() not in ("no", "false", "0"):
            ours = "debian-archive" in fields.get("signed-by", "")
            found += [Source(uri, suite, ours) for uri in fields.get("uris", "").split()
                      for suite in fields.get("suites", "").split()]
    return found


def _expanded(source: Source) -> list[Source]:
    """Replaces a `mirror+file:` list (Debian's cloud images have one) by the mirrors in it."""
    if not source.uri.startswith("mirror+file:"):
        return [source]
    try:
        lines = Path(re.sub(r"^mirror\+file:/*", "/", source.uri)).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [Source(line.split()[0], source.suite, source.ours) for line in lines if line.strip()
            and not line.startswith("#")]


def apt_sources(root: str = "/etc/apt") -> list[Source]:
    """All entries of this machine's apt, those that name Debian's keyring first."""
    found: list[Source] = []
    for path in [f"{root}/sources.list", *sorted(glob.glob(f"{root}/sources.list.d/*"))]:
        if path.endswith((".list", ".sources")) and os.path.isfile(path):
            text = Path(path).read_text(encoding="utf-8", errors="replace")
            found += one_line_sources(text) if path.endswith(".list") else deb822_sources(text)
    return sorted((entry for source in found for entry in _expanded(source)), key=lambda entry: not entry.ours)


def apt_bases(archive: str, root: str = "/etc/apt") -> tuple[str, ...]:
    """The base URIs of `debian` or `debian-security` that this machine's apt uses, for whatever suite."""
    uris = [source.uri.rstrip("/") for source in apt_sources(root) if source.archive == archive]
    return tuple(dict.fromkeys(uri for uri in uris if re.match(r"(https?|file|copy):", uri)))


def apt_settings() -> dict[str, str]:
    """apt's own settings for fetching (`Acquire::http*` and `Acquire::https*`); empty if there is no apt."""
    if not shutil.which("apt-config"):
        return {}
    text = programs.run(["apt-config", "dump"], seconds=60).out
    found = re.findall(r'^(Acquire::https?::\S+) "(.*)";$', text, re.M)
    return {name: value for name, value in found if value}


@dataclass(frozen=True)
class Login:
    """The login for a host, below a path. One without a scheme is for TLS only (apt_auth.conf(5))."""

    host: str
    path: str
    user: str
    password: str = field(repr=False)
    scheme: str = "https"


def apt_logins(root: str = "/etc/apt") -> list[Login]:
    """apt's auth.conf and auth.conf.d (apt_auth.conf(5)): netrc, with an optional scheme, port and path in
    `machine`."""
    found = []
    for path in [f"{root}/auth.conf", *sorted(glob.glob(f"{root}/auth.conf.d/*.conf"))]:
        try:
            words = " ".join(line for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
                             if not line.startswith("#")).split()
        except OSError:
            continue
        for entry in re.findall(r"machine (\S+) login (\S+) password (\S+)", " ".join(words)):
            try:
                parts = urlsplit(entry[0] if "://" in entry[0] else f"//{entry[0]}")
            except ValueError:  # not a valid host
                continue
            found.append(Login(parts.netloc, parts.path, entry[1], entry[2], parts.scheme or "https"))
    return found


def pool(proxy: str, **options: Any) -> urllib3.PoolManager:
    """Connections through a proxy (a URL, with user and password if it needs them), or direct ones if it is empty."""
    if not proxy:
        return urllib3.PoolManager(**options)
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise FarmError(f"the proxy {redact(proxy)} is not an HTTP proxy",
                        hint="set http_proxy and https_proxy (or apt's Acquire::http::Proxy) to http://HOST:PORT, "
                             "or no_proxy for hosts that need none")
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
    return urllib3.ProxyManager(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", proxy_headers=headers, **options)


def _bypassed(url: str, listed: str) -> bool:
    """Whether the list in `no_proxy` has the host of a URL: by name, by name and port, or, as curl and programs in Go
    read it, by the network of an address."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    host = parts.hostname or ""
    if not listed:
        return False
    if urllib.request.proxy_bypass_environment(f"{host}:{port}", {"no": listed}):  # type: ignore[attr-defined]
        return True
    with contextlib.suppress(ValueError):  # it is a name
        address = ipaddress.ip_address(host)
        for entry in map(str.strip, listed.split(",")):
            bare = re.sub(rf"^\[(.*)\](:{port})?$", r"\1", entry)
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(bare, strict=False):
                    return True
    return False


@dataclass(frozen=True)
class Machine:
    """How this machine fetches: everything that a client needs to behave like the machine's own clients. `tokens` maps
    a server, such as `https://host:8443`, to what it wants in the header Authorization."""

    apt: Mapping[str, str] = field(default_factory=dict)
    logins: tuple[Login, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, root: str = "/etc/apt") -> Machine:
        return cls(apt_settings(), tuple(apt_logins(root)), dict(os.environ))

    def proxy(self, url: str, *, apt: bool = False) -> str:
        """The proxy for a URL, or ''. With `apt`, apt's own settings come first."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if apt:
            for name in (f"Acquire::{parts.scheme}::Proxy::{host}", f"Acquire::{parts.scheme}::Proxy"):
                if value := self.apt.get(name):
                    return "" if value.upper() in ("DIRECT", "FALSE") else value
            if helper := self.apt.get(f"Acquire::{parts.scheme}::Proxy-Auto-Detect"):
                value = programs.run([helper, url], seconds=HELPER).out.strip()
                return "" if value.upper() == "DIRECT" else value
        if _bypassed(url, self._variable("no_proxy")):
            return ""
        return self._variable(f"{parts.scheme}_proxy") or self._variable("all_proxy")

    def _variable(self, name: str) -> str:
        return self.environment.get(name) or self.environment.get(name.upper(), "")

    def login(self, url: str) -> tuple[str, str] | None:
        """User and password for a URL: from the URL itself, from apt's auth.conf, or from netrc."""
        parts = urlsplit(url)
        if parts.username:
            return unquote(parts.username), unquote(parts.password or "")
        at = parts.netloc.rpartition("@")[2]
        for entry in self.logins:
            if entry.scheme == parts.scheme and entry.host in (at,
                                                               parts.hostname) and parts.path.startswith(entry.path):
                return entry.user, entry.password
        path = self.environment.get("NETRC") or os.path.expanduser("~/.netrc")
        try:
            known = netrc.netrc(path).authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError):
            return None
        return (known[0], known[2] or "") if known else None

    def token(self, url: str) -> str:
        """The header Authorization for a URL, or ''."""
        parts = urlsplit(url)
        return self.tokens.get(f"{parts.scheme}://{parts.netloc}", "")

    def tls(self) -> ssl.SSLContext:
        """A client context with the CAs that this machine trusts."""
        named = next((self.environment[name] for name in _CA_VARIABLES if self.environment.get(name)), "")
        system = ssl.get_default_verify_paths()
        default = [path for path in (system.cafile, *_CA_FILES) if path and os.path.exists(path)]
        bundle = named or self.apt.get("Acquire::https::CaInfo", "") or (default[0] if default else "")
        return ssl.create_default_context(cafile=bundle or None)
