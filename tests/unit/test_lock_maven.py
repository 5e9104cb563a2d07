"""Files of Maven artifacts, from a repository on this machine, found by the machine's own Maven settings."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.desimages.farm.plugins.module_utils.errors import (
    FarmError,
    HashMismatch,
    Missing,
    Unreachable,
)
from ansible_collections.desimages.farm.plugins.module_utils.platforms import AMD64, ARM64
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch import maven_settings
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.client_settings import Machine
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.download import Client
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.maven_settings import Repository, Settings, parse
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.origins import Origins
from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.store import Store
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds import KINDS, kind_of
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.fetching import fetch_entries
from ansible_collections.desimages.farm.plugins.plugin_utils.kinds.kind import Desk
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe import dockerfile
from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Entry, Lock, Recipe

from .faulty import Asked, Faulty, Reply, served

DATA = b"what is in the zip"
PLACE = "/maven/org/example/search/1.2.0/search-1.2.0.zip"
GIVEN = {"maven": "org.example:search:1.2.0", "type": "zip"}
SETTINGS = """<?xml version="1.0"?>
<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0">
  <mirrors><mirror><id>near</id><url>http://{address}/maven/</url><mirrorOf>*</mirrorOf></mirror></mirrors>
  <servers><server><id>near</id><username>me</username><password>${{env.SECRET}}</password></server></servers>
</settings>
"""


@dataclass
class Repo(Faulty):
    """A repository: its files by path."""

    files: dict[str, bytes] = field(default_factory=dict)

    def _usual(self, asked: Asked, kind: str) -> Reply:
        if asked.path not in self.files:
            return Reply(404)
        data = self.files[asked.path]
        return Reply(200, {"Content-Length": str(len(data))}, data)

    def publish(self, path: str, data: bytes, **sums: str) -> None:
        self.files[path] = data
        self.files.update({f"{path}.{name}": text.encode() for name, text in sums.items()})


@pytest.fixture
def repo() -> Iterator[Repo]:
    with served(Repo()) as found:
        assert isinstance(found, Repo)
        found.publish(PLACE, DATA, sha1=hashlib.sha1(DATA).hexdigest(),
                      sha256=f"{hashlib.sha256(DATA).hexdigest()}  search-1.2.0.zip\n")
        yield found


class Here:
    """A controller: its state, its home folder, its origins."""

    def __init__(self, folder: Path, settings: str = "", origins: dict[str, object] | None = None,
                 **environment: str) -> None:
        home = folder / "home"
        (home / ".m2").mkdir(parents=True)
        if settings:
            (home / ".m2/settings.xml").write_text(settings)
        here = Machine(environment={"HOME": str(home), "PATH": str(folder), **environment})
        client = Client(here, patience=0, sleep=lambda seconds: None)
        self.said: list[str] = []
        self.desk = Desk(Origins(origins, here=here, snapshots=False), folder, Store(folder / "store"), client,
                         say=self.said.append)

    def lock(self, old: Lock = Lock(), **given: object) -> Entry:  # noqa: B008
        kind = KINDS["maven"]
        recipe = Recipe(name="app", folder="/", dockerfile=dockerfile.parse("FROM scratch\n"), lock=old)
        found = kind.input("search", {**GIVEN, **given})
        (entry,) = kind.resolver(self.desk).resolve(recipe, found, [AMD64, ARM64]).entries
        return entry

    def fetch(self, entry: Entry) -> FarmError | None:
        return fetch_entries([(entry, "")], self.desk)[entry]


def of(repo: Repo, folder: Path) -> Here:
    return Here(folder, SETTINGS.format(address=repo.address), SECRET="s3cret")


def test_a_file_is_locked_with_the_login_and_the_mirror_of_the_machines_settings(repo: Repo, tmp_path: Path) -> None:
    wanted = "Basic " + base64.b64encode(b"me:s3cret").decode()
    repo.guard = lambda asked: None if asked.authorization == wanted else Reply(401)
    here = of(repo, tmp_path)
    entry = here.lock()
    assert (entry.sha256, entry.size, entry.platform, entry.path) == (
        hashlib.sha256(DATA).hexdigest(), len(DATA), "", "search")
    assert entry.fact == {"name": "org.example:search", "version": "1.2.0", "file": "search-1.2.0.zip"}
    assert here.desk.store.has(entry.sha256, entry.size)
    assert of(repo, tmp_path / "other").fetch(entry) is None
    assert here.said == []


def test_what_is_locked_is_not_asked_for_again(repo: Repo, tmp_path: Path) -> None:
    entry = of(repo, tmp_path / "one").lock()
    repo.asked.clear()
    assert of(repo, tmp_path / "two").lock(Lock((entry,))) == entry
    assert repo.asked == []


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_a_file_that_differs_from_its_repositorys_hash_enters_no_store(repo: Repo, tmp_path: Path, kind: str) -> None:
    repo.files[f"{PLACE}.{kind}"] = hashlib.new(kind, b"other").hexdigest().encode()
    here = of(repo, tmp_path)
    with pytest.raises(HashMismatch, match=rf"zip\.{kind} says"):
        here.lock()
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("answer", [Reply(403), Reply(404), Reply(200, body=b"<html>not here</html>")])
def test_a_repository_needs_no_hashes(repo: Repo, tmp_path: Path, answer: Reply) -> None:
    repo.answers[r"GET .*\.sha"] = [answer, answer]
    here = of(repo, tmp_path)
    assert here.lock().sha256 == hashlib.sha256(DATA).hexdigest()
    assert "has no hash of it" in here.said[0]


def test_what_the_lock_does_not_say_enters_no_store(repo: Repo, tmp_path: Path) -> None:
    entry = of(repo, tmp_path / "one").lock()
    repo.files[PLACE] = b"what is in the ZIP"
    error = of(repo, tmp_path / "two").fetch(entry)
    assert isinstance(error, HashMismatch)
    assert [path for path in (tmp_path / "two/store/sha256").rglob("*") if path.is_file()] == []


def test_what_is_gone_is_missing_and_what_is_silent_is_unreachable(repo: Repo, tmp_path: Path) -> None:
    entry = of(repo, tmp_path / "one").lock()
    del repo.files[PLACE]
    assert of(repo, tmp_path / "two").fetch(entry).__class__ is Missing
    with pytest.raises(Missing, match="are group, artifact, version, type and classifier right"):
        of(repo, tmp_path / "three").lock()
    down = Here(tmp_path / "four", origins={"maven": ["http://127.0.0.1:1/", f"http://{repo.address}/maven"]})
    assert down.fetch(entry).__class__ is Unreachable
    with pytest.raises(Unreachable):
        down.lock()


def test_the_next_repository_is_asked_for_what_one_lacks(repo: Repo, tmp_path: Path) -> None:
    here = Here(tmp_path, origins={"maven": [f"http://{repo.address}/empty/", f"http://{repo.address}/maven/"]})
    assert here.lock().sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_folder_may_be_the_origin(tmp_path: Path) -> None:
    file = tmp_path / "srv" / PLACE.removeprefix("/maven/")
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    assert Here(tmp_path, origins={"maven": f"file://{tmp_path}/srv"}).lock().size == len(DATA)


def test_without_settings_and_without_maven_it_is_said_how_to_name_an_origin(repo: Repo, tmp_path: Path) -> None:
    here = Here(tmp_path)
    with pytest.raises(FarmError, match="no origin for Maven artifacts") as error:
        here.lock()
    assert "farm_origins: {maven: [" in error.value.hint
    assert here.fetch(of(repo, tmp_path / "other").lock()).__class__ is FarmError


def test_the_repository_that_mvn_comes_with_needs_no_settings(repo: Repo, tmp_path: Path) -> None:
    home = tmp_path / "maven"
    (home / "lib").mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin/mvn").write_text("#!/bin/sh\nexit 1\n")
    (home / "bin/mvn").chmod(0o755)
    with zipfile.ZipFile(home / "lib/maven-model-builder-3.8.7.jar", "w") as jar:
        jar.writestr(maven_settings.SUPER_POM, "<project><repositories><repository><id>central</id>"
                     f"<url>http://{repo.address}/maven</url></repository></repositories></project>")
    (tmp_path / "mvn").symlink_to(home / "bin/mvn")
    assert Here(tmp_path).lock().size == len(DATA)


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ({"maven": "org.example:search:1.2.0"}, "search-1.2.0.jar"),
        ({"maven": "org.example:search:1.2.0", "type": "tar.gz"}, "search-1.2.0.tar.gz"),
        ({"maven": "a:b:1", "classifier": "linux-x86_64"}, "b-1-linux-x86_64.jar"),
    ],
)
def test_a_file_is_named_as_in_a_repository(given: dict[str, str], file: str) -> None:
    kind = kind_of(given)
    assert kind is KINDS["maven"]
    assert kind.facts(kind.input("x", given))["file"] == file  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "platform", "said"),
    [
        ({}, "", ""), ({"type": "jar"}, "", "the recipe says file search-1.2.0.jar, this line says search-1.2.0.zip"),
        ({"maven": "org.example:search:1.3.0"}, "", "the recipe says version 1.3.0"),
        ({"maven": "org.other:search:1.2.0"}, "", "the recipe says name org.other:search"),
        ({}, "linux/amd64", "a line for linux/amd64 only"),
    ],
)
def test_a_line_of_another_lock_is_told(given: dict[str, str], platform: str, said: str) -> None:
    kind = KINDS["maven"]
    facts = {"name": "org.example:search", "version": "1.2.0", "file": "search-1.2.0.zip"}
    found = kind.foreign(kind.input("search", {**GIVEN, **given}), kind.entry("search", "0" * 64, 1, platform, facts))
    assert found.startswith(said) and bool(found) == bool(said)
    assert list(kind.wrong(facts)) == []
    assert [text.split()[0] for text in kind.wrong({"name": "a:../b", "version": "1-SNAPSHOT", "file": "a/b"})] == [
        "name", "version", "file"]


# --- settings.xml


def places(text: str, *repositories: Repository) -> list[str]:
    found = parse(f"<settings>{text}</settings>", {"HOME": "/h", "TOKEN": "t"})
    return [one.url for one in found.over(Settings(repositories=repositories)).places()]


def mirror(of: str, name: str = "m", more: str = "") -> str:
    return (f"<mirrors><mirror><id>{name}</id><url>https://{name}.example/</url><mirrorOf>{of}</mirrorOf>{more}"
            "</mirror></mirrors>")


CENTRAL = Repository("central", "https://central.example/maven2")
INNER = Repository("inner", "http://inner.example")
NEAR = Repository("near", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [INNER.url, NEAR.url, CENTRAL.url]),
        (mirror("*"), ["https://m.example"]),
        (mirror("central"), [INNER.url, NEAR.url, "https://m.example"]),
        (mirror("*,!inner"), [INNER.url, "https://m.example"]),
        (mirror("external:*"), ["https://m.example", NEAR.url]),
        (mirror("external:http:*"), ["https://m.example", NEAR.url, CENTRAL.url]),
        (mirror("external:http:*", more="<blocked>true</blocked>"), [NEAR.url, CENTRAL.url]),
        (mirror("a, central"), [INNER.url, NEAR.url, "https://m.example"]),
        (mirror("*", more="<layout>p2</layout>"), [INNER.url, NEAR.url, CENTRAL.url]),
        (mirror("*") + mirror("central", "exact"), ["https://m.example", "https://exact.example"]),
    ],
)
def test_a_mirror_replaces_what_it_names(text: str, found: list[str]) -> None:
    assert places(text, INNER, NEAR, CENTRAL) == found


def test_a_mirror_of_central_needs_no_maven() -> None:
    assert places(mirror("central")) == ["https://m.example"]
    with pytest.raises(FarmError, match="no origin for Maven artifacts"):
        places(mirror("other"))


PROFILE = ("<profile><id>{0}</id><repositories><repository><id>{0}</id><url>https://{0}.example/</url><releases>"
           "<enabled>{1}</enabled></releases></repository></repositories>{2}</profile>")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PROFILE.format("a", "true", ""), []),
        (PROFILE.format("a", "true", "<activation><activeByDefault>true</activeByDefault></activation>"), ["a"]),
        (PROFILE.format("a", "false", "<activation><activeByDefault>true</activeByDefault></activation>"), []),
    ],
)
@pytest.mark.parametrize("chosen", ["", "b"])
def test_the_repositories_of_active_profiles_come_before_central(text: str, found: list[str], chosen: str) -> None:
    other = PROFILE.format("b", "true", "")
    active = f"<activeProfiles><activeProfile>{chosen}</activeProfile></activeProfiles>"
    names = ["b"] if chosen else found
    assert places(f"<profiles>{text}{other}</profiles>{active}", CENTRAL) == [
        *(f"https://{name}.example" for name in names), CENTRAL.url]


def test_proxies_and_logins_are_those_of_the_settings() -> None:
    text = ("<settings><proxies><proxy><active>false</active><host>off.example</host></proxy>"
            "<proxy><host>p.example</host><port>3128</port><username>a b</username><password>${env.TOKEN}</password>"
            "<nonProxyHosts>localhost|*.inner.example</nonProxyHosts></proxy></proxies>"
            "<servers><server><id>central</id><username>me</username><password>${env.TOKEN}</password></server>"
            "</servers></settings>")
    found = parse(text, {"TOKEN": "t"}).over(Settings(repositories=(CENTRAL,)))
    here = found.machine(Machine(environment={"https_proxy": "http://other:1"}))
    assert here.proxy("https://central.example/x") == "http://a%20b:t@p.example:3128"
    assert here.proxy("https://x.inner.example/x") == ""
    assert here.login("https://central.example/maven2/a") == ("me", "t")
    assert here.login("https://central.example/else") is None
    assert here.login("http://central.example/maven2/a") is None
    assert "p.example" not in repr(found) and "'t'" not in repr(here)


@pytest.mark.parametrize("password", ["{COQLCE6DU6GtcS5P=}", "a {x}", "${env.UNSET}"])
def test_a_password_that_cannot_be_read_is_told(password: str) -> None:
    server = f"<server><id>central</id><username>me</username><password>{password}</password></server>"
    found = parse(f"<settings><servers>{server}</servers></settings>", {}).over(Settings(repositories=(CENTRAL,)))
    with pytest.raises(FarmError, match="the password of the server central"):
        found.machine(Machine())
    Settings(servers=found.servers, repositories=(INNER,)).machine(Machine())  # a server that nothing needs


def test_settings_that_are_no_xml_are_told() -> None:
    with pytest.raises(FarmError, match="/x/settings.xml is not valid"):
        parse("<settings>", {}, "/x/settings.xml")


def test_settings_may_be_of_any_encoding_that_they_declare(tmp_path: Path) -> None:
    text = "<settings><servers><server><id>a</id><username>é</username></server></servers></settings>"
    for encoding, declared in (("latin-1", "ISO-8859-1"), ("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"),
                               ("utf-16", "UTF-16")):
        said = f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(encoding)
        assert parse(said, {}).servers == {"a": ("é", "")}
    (tmp_path / ".m2").mkdir()
    (tmp_path / ".m2/settings.xml").write_bytes(f'<?xml version="1.0" encoding="ISO-8859-1"?>{text}'.encode("latin-1"))
    assert maven_settings.read({"HOME": str(tmp_path), "PATH": ""}).servers == {"a": ("é", "")}
    for wrong in (text.encode("latin-1"), b'<?xml version="1.0" encoding="none-such"?><settings/>', b"\0"):
        with pytest.raises(FarmError, match="settings.xml is not valid"):
            parse(wrong, {})
