# Copyright: the Desimages authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this machine's Maven downloads from: mirrors, logins, proxies and repositories of its settings, and the
repository that the mvn command itself comes with.

The settings are read here, not by mvn: to download one file mvn first downloads a plugin and its dozens of modules.
Sources: https://maven.apache.org/settings.html and .../guides/mini/guide-mirror-settings.html
Profiles count if they are in `activeProfiles`, or active by default. Encrypted passwords cannot be read.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from ansible_collections.desimages.farm.plugins.module_utils.errors import FarmError
from ansible_collections.desimages.farm.plugins.module_utils.references import loopback
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Login, Machine

SUPER_POM = "org/apache/maven/model/pom-4.0.0.xml"  # in one of the jars of a Maven
JARS = ("maven-model-builder*.jar", "maven-impl*.jar")  # of Maven 3, and 4
REMEDY = ("name one in the inventory: farm_origins: {maven: [https://...]}; or install maven, or write a mirror into "
          "~/.m2/settings.xml")


@dataclass(frozen=True)
class Repository:
    """A repository or mirror. `of` says which repositories a mirror replaces; nothing is fetched from a `blocked`
    one."""

    id: str
    url: str
    of: str = ""
    blocked: bool = False


@dataclass(frozen=True)
class Settings:
    """What counts of a settings.xml. `servers` maps an id to (user, password), `proxies` a protocol to the URL of a
    proxy."""

    mirrors: tuple[Repository, ...] = ()
    servers: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    bypassed: str = ""
    repositories: tuple[Repository, ...] = ()

    def over(self, other: Settings) -> Settings:
        """Both together; this one, the user's, comes first."""
        return Settings((*self.mirrors, *other.mirrors), {**other.servers, **self.servers},
                        self.proxies or other.proxies, self.bypassed if self.proxies else other.bypassed,
                        (*self.repositories, *other.repositories))

    def places(self) -> list[Repository]:
        """Where to download from, in order: the repositories, or their mirrors. Raises FarmError if there is none."""
        by_id = {one.id: one for one in reversed(self.repositories)}  # the first of an id counts
        found = [self._mirror(by_id[name]) or by_id[name]
                 for name in dict.fromkeys((*(one.id for one in self.repositories), "central")) if name in by_id]
        if "central" not in by_id:  # no mvn is installed, but a mirror may stand for its repository
            unknown = self._mirror(Repository("central", "https:"))
            found += [unknown] if unknown else []
        found = [one for one in dict.fromkeys(found) if not one.blocked]
        if not found:
            raise FarmError("no origin for Maven artifacts: this machine's Maven settings name none", hint=REMEDY)
        return found

    def _mirror(self, repository: Repository) -> Repository | None:
        """The mirror that replaces a repository: one for exactly this, else the first whose pattern matches."""
        exact = (one for one in self.mirrors if one.of == repository.id)
        return next(exact, None) or next((one for one in self.mirrors if _matches(one.of, repository)), None)

    def machine(self, here: Machine) -> Machine:
        """How this machine fetches, with Maven's logins and proxies."""
        logins = tuple(self._login(one) for one in self.places() if one.id in self.servers)
        environment = dict(here.environment)
        if self.proxies:
            plain = self.proxies.get("http", "")
            environment = {name: text for name, text in environment.items() if not name.lower().endswith("_proxy")}
            environment.update(http_proxy=plain, https_proxy=self.proxies.get("https", plain), no_proxy=self.bypassed)
        return replace(here, logins=(*logins, *here.logins), environment=environment)

    def _login(self, place: Repository) -> Login:
        user, password = self.servers[place.id]
        if re.fullmatch(r".*\{.+\}", password):
            raise FarmError(f"the password of the server {place.id} in Maven's settings is encrypted, or a variable"
                            " that is not set", hint="only mvn can decrypt it: use ${env.NAME} instead, or netrc")
        parts = urlsplit(place.url)
        return Login(parts.netloc.rpartition("@")[2], parts.path, user, password, parts.scheme)


def _matches(patterns: str, repository: Repository) -> bool:
    """Whether a `mirrorOf` matches: `*`, `external:*`, `external:http:*`, ids, and exceptions such as `!id`."""
    parts = urlsplit(repository.url)
    outside = parts.scheme != "file" and not loopback(parts.netloc)
    words = [word.strip() for word in patterns.split(",")]
    if f"!{repository.id}" in words:
        return False
    return (repository.id in words or "*" in words or ("external:*" in words and outside)
            or ("external:http:*" in words and outside and parts.scheme == "http"))


def parse(text: str | bytes, environment: Mapping[str, str], name: str = "settings.xml") -> Settings:
    """Reads a settings.xml; bytes are of the encoding that it declares. Raises FarmError if it is not XML."""
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FarmError(f"{name} is not valid: {error}", hint="does mvn itself work?") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # with and without the namespace

    def said(element: ElementTree.Element, path: str, default: str = "") -> str:
        return _filled((element.findtext(path) or default).strip(), environment)

    mirrors = tuple(Repository(said(one, "id"), said(one, "url").rstrip("/"), said(one, "mirrorOf"),
                               said(one, "blocked") == "true")
                    for one in root.findall("mirrors/mirror") if said(one, "layout", "default") == "default")
    servers = {said(one, "id"): (said(one, "username"), said(one, "password"))
               for one in root.findall("servers/server") if said(one, "username")}
    proxies: dict[str, str] = {}
    bypassed = ""
    for one in root.findall("proxies/proxy"):
        if said(one, "active", "true") == "true" and said(one, "host"):
            login = ":".join(quote(said(one, word), safe="") for word in ("username", "password"))
            host = f"{said(one, 'host')}:{said(one, 'port', '8080')}"
            proxies.setdefault(said(one, "protocol", "http"), f"http://{f'{login}@' if login != ':' else ''}{host}")
            hosts = re.split(r"[|,]", said(one, "nonProxyHosts"))
            bypassed = bypassed or ",".join(text.strip().removeprefix("*") for text in hosts)
    return Settings(mirrors, servers, proxies, bypassed, _repositories(root, said))


def _repositories(root: ElementTree.Element, said: Callable[..., str]) -> tuple[Repository, ...]:
    """Those of the active profiles that have releases."""
    chosen = {(one.text or "").strip() for one in root.findall("activeProfiles/activeProfile")}
    profiles = root.findall("profiles/profile")
    active = [one for one in profiles if said(one, "id") in chosen]
    active = active or [one for one in profiles if said(one, "activation/activeByDefault") == "true"]
    found = [one for profile in active for one in profile.findall("repositories/repository")]
    return tuple(Repository(said(one, "id"), said(one, "url").rstrip("/")) for one in found
                 if said(one, "releases/enabled", "true") == "true")


def _filled(text: str, environment: Mapping[str, str]) -> str:
    """A text with its `${env.NAME}` and `${user.home}`; other variables stay as they are."""
    values = {**{f"env.{name}": value for name, value in environment.items()},
              "user.home": environment.get("HOME", os.path.expanduser("~"))}
    return re.sub(r"\$\{([^}]+)\}", lambda found: values.get(found[1], found[0]), text)


def read(environment: Mapping[str, str]) -> Settings:
    """The settings of this machine's Maven: the user's, those of the installation, and its own repository."""
    home = _installed(environment)
    found = Settings(repositories=_built_in(home) if home else ())
    user = Path(environment.get("HOME") or os.path.expanduser("~")) / ".m2/settings.xml"
    for path in ([home / "conf/settings.xml"] if home else []) + [user]:
        if path.is_file():
            found = parse(path.read_bytes(), environment, str(path)).over(found)
    return found


def _installed(environment: Mapping[str, str]) -> Path | None:
    """The folder of this machine's Maven."""
    program = shutil.which("mvn", path=environment.get("PATH"))
    named = [environment[name] for name in ("MAVEN_HOME", "M2_HOME") if environment.get(name)]
    folders = ([Path(program).resolve().parents[1]] if program else []) + list(map(Path, named))
    return next((folder for folder in folders if (folder / "lib").is_dir()), None)


def _built_in(home: Path) -> tuple[Repository, ...]:
    """The repositories that a Maven knows without any settings, from the POM that all others inherit."""
    for pattern in JARS:
        for path in sorted((home / "lib").glob(pattern)):
            try:
                with zipfile.ZipFile(path) as jar:
                    root = ElementTree.fromstring(jar.read(SUPER_POM))
            except (KeyError, OSError, zipfile.BadZipFile, ElementTree.ParseError):
                continue
            return tuple(Repository(one.findtext("{*}id") or "", (one.findtext("{*}url") or "").rstrip("/"))
                         for one in root.findall("{*}repositories/{*}repository"))
    return ()
