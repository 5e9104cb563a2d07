"""READMEs of images and docs/catalog.md are what their recipes say."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.page import page
from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.readme import (
    MARK,
    compose,
    environment,
    own,
    readme,
    run,
)

from .conftest import Catalog

PROJECT = Path(__file__).resolve().parents[2]
RECIPE = """\
contract:
  command: [serve, "it's $HERE"]
  environment: {PASSWORD: a $b}
  ports: {web: 8080/tcp, dns: 53/udp, metrics: 9000/tcp}
  health: {http: "http://127.0.0.1:8080/", status: 200}
  metrics: "http://127.0.0.1:9000/metrics"
  volumes: [/data, /var/more]
  tmpfs: [/run]
  exceptions: {root: {root: it binds port 53}}
"""
DOCKERFILE = """\
FROM scratch
ENV PATH=/bin HOME=/data \\
    WORDS="two words"
EXPOSE 8080 53/udp 9000
VOLUME /data /var/more
HEALTHCHECK CMD ["/health", "http", "http://127.0.0.1:8080/"]
ENTRYPOINT ["/web"]
"""


def scripts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readmes", PROJECT / "scripts/readmes.py")
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


MADE = scripts().made()


@pytest.mark.parametrize("path", MADE, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_page_is_what_the_recipes_say(path: Path) -> None:
    assert path.exists() and path.read_text(encoding="utf-8") == MADE[path], "make readmes"


def test_every_image_has_a_readme_that_is_made() -> None:
    images = {path.parent for path in (PROJECT / "images").glob("*/image.yml")}
    assert {folder / "README.md" for folder in images} <= set(MADE)


@pytest.fixture
def web(empty: Catalog):
    empty.image("web", DOCKERFILE, RECIPE)
    return load_catalog([str(empty.root)], need_locks=False)["web"]


def test_what_people_wrote_stays_and_nothing_else_does(web) -> None:
    first = readme(web, "# web\n\nMy words.\n\n## More\n")
    assert own(first) == "My words.\n\n## More"
    assert readme(web, first) == first
    assert readme(web, first.replace("port 8080/tcp", "port 1/tcp")) == first
    assert own(readme(web, "")) == ""


def test_a_readme_has_all_that_the_contract_promises(web) -> None:
    text = readme(web, "")
    for said in ("port 8080/tcp | web", "port 53/udp | dns", "volume `/data`", "volume `/var/more`", "`/run`",
                 "environment `WORDS` | `two words`", "environment `PASSWORD` | for example `a $b`",
                 "http `http://127.0.0.1:8080/`", "metrics | `http://127.0.0.1:9000/metrics`",
                 "exception: root | root: it binds port 53"):
        assert said in text.partition(MARK)[0]
    assert environment(web.dockerfile.text) == {"HOME": "/data", "WORDS": "two words"}


def test_the_command_and_the_compose_file_say_the_same(web) -> None:
    words = shlex.split(run(web))
    options = {name: [words[at + 1] for at, word in enumerate(words) if word == name]
               for name in words if name.startswith("--")}
    service = yaml.safe_load(compose(web))["services"]["web"]
    assert options["--publish"] == service["ports"] == ["8080:8080", "53:53/udp", "127.0.0.1:9000:9000"]
    assert options["--volume"] == service["volumes"] == ["web:/data", "web-var-more:/var/more"]
    assert options["--tmpfs"] == service["tmpfs"] == ["/run"]
    assert options["--env"] == ["PASSWORD=a $b"]
    assert service["environment"] == {"PASSWORD": "a $$b"}, "compose fills variables in"
    assert words[-2:] == ["serve", "it's $HERE"]
    assert service["command"] == ["serve", "it's $$HERE"]
    assert "--read-only" in words and service["read_only"] and service["cap_drop"] == ["ALL"]
    assert set(yaml.safe_load(compose(web))["volumes"]) == {"web", "web-var-more"}


def test_the_exceptions_that_a_run_is_given_are_in_its_command(empty: Catalog) -> None:
    excepted = {"capabilities": {"SETUID": "a", "SETGID": "b"},
                "privileges": {"no-new-privileges": "c", "seccomp": "d"}}
    empty.image("web", DOCKERFILE, RECIPE.replace("{root: {root: it binds port 53}}", str(excepted)))
    web = load_catalog([str(empty.root)], need_locks=False)["web"]
    assert "--cap-add SETGID --cap-add SETUID" in run(web) and "--security-opt seccomp=unconfined" in run(web)
    service = yaml.safe_load(compose(web))["services"]["web"]
    assert service["cap_add"] == ["SETGID", "SETUID"] and service["security_opt"] == ["seccomp=unconfined"]
    assert "no-new-privileges" not in run(web)


def test_an_image_with_a_command_of_its_own_needs_none(empty: Catalog) -> None:
    empty.image("web", DOCKERFILE + 'CMD ["serve", "it\'s $HERE"]\n', RECIPE)
    web = load_catalog([str(empty.root)], need_locks=False)["web"]
    assert run(web).endswith("/web")
    assert "command" not in yaml.safe_load(compose(web))["services"]["web"]


def test_an_image_with_a_recipe_is_told_as_built_and_any_other_with_a_reason(web) -> None:
    said = {"why": "a reason", "do": "something"}
    text = page({"web": web}, {"web": said, "other": said}, {"web": "../tests/integration/test_web.py"})
    rows = [line for line in text.splitlines() if re.match(r"\| (\[web\]|other)", line)]
    assert "[test_web.py](../tests/integration/test_web.py); its contract: health, metrics, 2 volumes" in rows[0]
    assert rows[1:] == ["| other | a reason | something |"]


FAMILY = {
    "airplay", "aptly", "aptutil", "athens", "base", "builder", "buildkit", "caddy", "coredns", "debian",
    "elastic", "filebeat", "goproxy", "homekit-alsa", "homekit-wiz", "kibana", "librespot", "mongo", "netatalk",
    "packages", "parse", "plex", "postgres", "registry", "roon-bridge", "roon-server", "rudder",
    "rudder-transformer", "samba", "snapcast", "static", "tools",
}


def test_the_catalog_has_a_row_for_each_image_of_the_family() -> None:
    text = (PROJECT / "docs/catalog.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)^\| \[?([a-z][a-z-]*)[\] ]", text)) - {"image"}
    assert named >= FAMILY


def test_each_link_of_the_catalog_leads_somewhere() -> None:
    text = (PROJECT / "docs/catalog.md").read_text(encoding="utf-8")
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)}
    assert links and all((PROJECT / "docs" / link).exists() for link in links)
