"""Small catalogs, a faulty registry and a login, made on the spot."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.desimages.farm.plugins.module_utils import supervision
from ansible_collections.desimages.farm.plugins.module_utils.errors import BadInput

if TYPE_CHECKING:  # these need libraries, and what travels is tested without any
    from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import Plan
    from ansible_collections.desimages.farm.plugins.plugin_utils.recipe.model import Sources

    from .faulty import Faulty

RECIPE = "description: {name}\nhome: https://example.org\nlicense: MIT\nplatforms: [linux/amd64, linux/arm64]\n"
DEFAULTS = "platforms: [linux/amd64, linux/arm64]\nbuild_platforms: [linux/amd64, linux/arm64]\nsuites: [trixie]\n"

CHAIN = {  # an image's folder -> its Dockerfile
    "debian": "FROM scratch\nCOPY etc /etc\n",
    "static": "FROM --platform=$BUILDPLATFORM debian AS made\nRUN true\nFROM scratch\nCOPY --from=made /a /a\n",
    "base": "FROM debian\nCOPY --from=static /a /a\n",
    "builder": "FROM debian AS go\nRUN true\nFROM debian AS c\nRUN false\n",
    "app": "FROM --platform=$BUILDPLATFORM builder-go AS build\nRUN make\nFROM static\nCOPY --from=build /out /\n",
}


class Catalog:
    """A catalog in a folder of its own; `write()` changes a file, `plan()` reads it all anew."""

    def __init__(self, root: Path) -> None:
        self.root = root / "images"
        self.write("defaults.yml", DEFAULTS)

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def image(self, name: str, dockerfile: str, extra: str = "") -> None:
        self.write(f"{name}/image.yml", RECIPE.format(name=name) + extra)
        self.write(f"{name}/Dockerfile", dockerfile)

    def plan(self, engine: str = "sha256:e") -> Plan:
        from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
        from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources
        from ansible_collections.desimages.farm.plugins.plugin_utils.plan.plan import make

        recipes = load_catalog([str(self.root)])
        return make(recipes, {name: read_sources(recipe) for name, recipe in recipes.items()}, engine, "desimages")

    def sources(self, name: str) -> Sources:
        """The files of an image."""
        from ansible_collections.desimages.farm.plugins.plugin_utils.catalog.catalog import load_catalog
        from ansible_collections.desimages.farm.plugins.plugin_utils.fetch.contexts import read_sources

        return read_sources(load_catalog([str(self.root)])[name])

    def problems(self) -> list[str]:
        """What is wrong with the catalog, which is bad."""
        with pytest.raises(BadInput) as found:
            self.plan()
        return found.value.problems


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary folder of the test's own, with a short name as sockets need: what others do in the machine's does not
    matter."""
    tmp_path_factory.getbasetemp()  # pytest's own is in the machine's, and outlives this test
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        Path(folder).chmod(0o711)  # tests of two users have folders in it that both reach
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def empty(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path)


@pytest.fixture
def chain(empty: Catalog) -> Catalog:
    for name, dockerfile in CHAIN.items():
        empty.image(name, dockerfile, "targets: [go, c]\n" if name == "builder" else "")
    empty.write("debian/etc/motd", "hello\n")
    empty.write("app/README.md", "about\n")
    return empty


@pytest.fixture(autouse=True)
def units(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unit test makes a unit of systemd on this machine."""
    monkeypatch.setattr(supervision, "UNITS", str(tmp_path_factory.getbasetemp() / "units"))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users reach: pytest's own are closed to them, and closed again by each pytest that starts."""
    with tempfile.TemporaryDirectory(prefix="desimages-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    from .faulty import Faulty, served

    with served(Faulty()) as found:
        yield found


other = faulty


@pytest.fixture
def log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Logs the person in at registries, as the Docker client does; returns what goes there."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(*registries: Faulty, **more: object) -> str:
        word = base64.b64encode(b"me:secret").decode()
        auths = {registry.address: {"auth": word, **more} for registry in registries}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        return f"Basic {word}"

    write()
    return write


@pytest.fixture
def coarse(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that keeps the times of files in seconds: an ext4 with the inodes of ext3."""
    folder, image = tmp_path / "coarse", tmp_path / "coarse.img"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-I", "128", str(image)], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
