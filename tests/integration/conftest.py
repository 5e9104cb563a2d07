"""A real farm on this machine, for the tests alone: its own state folder and ports, provisioned once, used by all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
from ansible_collections.desimages.farm.plugins.module_utils.proc import started
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .docker_host import ROOT, DockerHost, run
from .small import Small

PROJECT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("DESIMAGES_TEST_STATE", "/var/tmp/desimages-test"))
COMPILED = str(PROJECT / ".cache/buildkitd")  # the molecule scenario has the same: BuildKit is compiled once
REGISTRY = os.environ.get("DESIMAGES_TEST_REGISTRY", "127.0.0.1:5990")


@dataclass
class Result:
    """What a playbook did: its exit code, the recap, the events of its tasks, and everything it printed."""

    rc: int
    stats: dict[str, Any]
    events: list[dict[str, Any]]
    text: str

    @property
    def changed(self) -> int:
        return sum((self.stats or {}).get("changed", {}).values())

    def task(self, name: str) -> dict[str, Any]:
        """The result of the last task of a name; empty where it did not run."""
        found = [e["event_data"]["res"] for e in self.events if e["event"] in ("runner_on_ok", "runner_on_failed")
                 and e["event_data"]["task"] == name]
        return found[-1] if found else {}

    @property
    def planned(self) -> set[str]:
        return {unit["unit"] for unit in self.task("Plan")["build"]}

    def states(self) -> dict[str, str]:
        """unit -> what became of it."""
        found = self.task("Index") or self.task("Build")
        return {unit["unit"]: unit["state"] for unit in found.get("units", [])}

    @property
    def built(self) -> set[str]:
        return {unit for unit, state in self.states().items() if state == "built"}


@dataclass
class Farm:
    """Runs playbooks against the test farm. `place` and `defaults` are extra variables of every run."""

    folder: Path
    defaults: dict[str, Any] = field(default_factory=dict)
    inventory: Path = PROJECT / "inventory" / "local"
    place: dict[str, Any] = field(default_factory=lambda: {
        "farm_state": str(STATE), "farm_registry": REGISTRY, "buildkitd_cache": COMPILED})

    def run(self, playbook: str = "build.yml", *arguments: str, **variables: Any) -> Result:
        private = Path(tempfile.mkdtemp(dir=self.folder))
        values = {**self.place, **self.defaults, **variables}
        (private / "extra.json").write_text(json.dumps(values))
        found = ansible_runner.run(
            private_data_dir=str(private), project_dir=str(PROJECT), playbook=playbook, inventory=str(self.inventory),
            cmdline=" ".join([f"-e @{private / 'extra.json'}", *arguments]),
            quiet=not os.environ.get("DESIMAGES_TEST_LOUD"),
            envvars={"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                     "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
        events = list(found.events)
        return Result(found.rc, found.stats or {}, events, found.stdout.read())

    def words(self, playbook: str = "build.yml", **variables: Any) -> list[str]:
        """The command line of the same, for a test that must end it."""
        values = Path(tempfile.mkdtemp(dir=self.folder)) / "extra.json"
        values.write_text(json.dumps({**self.place, **self.defaults, **variables}))
        return [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", str(self.inventory),
                "-e", f"@{values}"]

    def on(self, *folders: Path, **variables: Any) -> Farm:
        """The same farm with another catalog."""
        defaults = {**self.defaults, "farm_catalog": [str(f) for f in folders], **variables}
        return Farm(self.folder, defaults, self.inventory, self.place)

    def tags(self, image: str) -> list[str]:
        """The tags of an image that people see."""
        return [tag for tag in Registry(REGISTRY).tags(f"{self.defaults['farm_namespace']}/{image}")
                if not tag.startswith(("b-", "c-"))]

    def index(self, image: str, tag: str = "latest") -> dict[str, str]:
        """platform -> digest of an index, by tag or digest."""
        sign = "@" if ":" in tag else ":"
        text = sh("skopeo", "inspect", "--raw", "--tls-verify=false",
                  f"docker://{REGISTRY}/{self.defaults['farm_namespace']}/{image}{sign}{tag}")
        return children(text)


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """The provisioned farm, empty but for what earlier tests of this session built."""
    made = Farm(tmp_path_factory.mktemp("runner"))
    if not os.environ.get("DESIMAGES_TEST_KEEP"):
        made.run("playbooks/clean.yml")
    usual = os.umask(0o077)  # whatever mask a user has, services of other users work
    first = made.run("playbooks/provision.yml")
    os.umask(usual)
    assert first.rc == 0, first.text[-4000:]
    yield made
    if not os.environ.get("DESIMAGES_TEST_KEEP"):
        removed = made.run("playbooks/clean.yml")
        assert removed.rc == 0, removed.text[-4000:]
        assert re.search(rf"removed [1-9][\d.]* [MG]B in {re.escape(str(STATE))}\b", removed.text), removed.text[-4000:]
        assert not STATE.exists()


CHAIN = ("debian", "base", "static")
PROGRAMS = ("tools", "registry")


@dataclass(frozen=True)
class Chain:
    """The project's own catalog, built: debian, base and static for all platforms, the Go programs for `few` or, in a
    full test, for all."""

    farm: Farm
    first: tuple[Result, Result]
    registry: str = REGISTRY
    namespace: str = "desimages"

    def index(self, image: str) -> dict[str, str]:
        """platform -> digest of what the tag `latest` names."""
        data = Registry(self.registry).manifest(f"{self.namespace}/{image}", "latest")
        assert data, f"{image} has no tag latest"
        return children(data)

    def platforms(self, image: str) -> list[str]:
        return sorted(self.index(image))

    def reference(self, image: str, platform: str) -> str:
        return f"{self.registry}/{self.namespace}/{image}@{self.index(image)[platform]}"


@pytest.fixture(scope="session")
def chain(farm: Farm, request: pytest.FixtureRequest) -> Chain:
    from .unpacked import NATIVE  # here, as it needs this file

    short = "not full" in request.config.getoption("markexpr")
    few = {"farm_platforms": [NATIVE, "linux/arm/v6"], "farm_partial": True} if short else {}
    chain = farm.run(farm_images=list(CHAIN))
    assert chain.rc == 0, chain.text[-4000:]
    programs = farm.run(farm_images=list(PROGRAMS), **few)
    assert programs.rc == 0, programs.text[-4000:]
    return Chain(farm, (chain, programs))


@pytest.fixture(scope="session")
def docker() -> Iterator[Any]:
    """A client of a Docker that only these tests use (docker_host.py)."""
    host = DockerHost.start()
    yield host.client()
    host.stop()


@pytest.fixture(scope="session")
def rack(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A farm of several hosts (rack.py)."""
    from .rack import Rack  # here, as it needs this file

    made = Rack.start(tmp_path_factory.mktemp("rack"), farm)
    yield made
    made.stop()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's own catalog, to change."""
    shutil.copytree(PROJECT / "images", tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture(scope="session")
def locked(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small catalog with a lock made today."""
    small = Small(tmp_path_factory.mktemp("small") / "images")
    done = farm.on(small.root).run("playbooks/lock.yml")
    assert done.rc == 0, done.text[-3000:]
    assert (small.root / "box/lock.jsonl").exists()
    return small.root


@pytest.fixture
def small(locked: Path, tmp_path: Path) -> Small:
    shutil.copytree(locked, tmp_path / "images")
    found = Small.__new__(Small)
    found.root = tmp_path / "images"
    return found


@pytest.fixture
def own(farm: Farm, small: Small, request: pytest.FixtureRequest) -> Farm:
    """The farm with the small catalog, under a name of this test's own."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name)[:40].strip("-")
    name = f"{words}-{zlib.crc32(request.node.nodeid.encode()):08x}-{os.getpid()}"
    return farm.on(small.root, farm_namespace=name)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder for files of other owners, gone afterwards."""
    yield tmp_path
    run("rm", "-rf", *(str(path) for path in tmp_path.iterdir()))


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean git repository of what is here now, committed or not."""
    clone = tmp_path_factory.mktemp("sources") / "farm"
    names = sh("git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        source, target = PROJECT / name, clone / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    git = ("git", "-C", str(clone), "-c", "user.name=test", "-c", "user.email=test@example.org")
    sh(*git, "init", "-q", "-b", "main")
    sh(*git, "add", "-A")
    sh(*git, "commit", "-q", "-m", "as it is")
    return clone


@contextmanager
def held() -> Iterator[str]:
    """While somebody's process has the farm; gives the words that name it."""
    with subprocess.Popen(["sleep", "600"]) as holder:
        value = {"pid": holder.pid, "started": started(holder.pid), "since": "2026-11-24 10:00:00", "user": "somebody"}
        (STATE / "holder.json").write_text(json.dumps(value))
        try:
            yield f"held by process {holder.pid} of somebody since 2026-11-24 10:00:00"
        finally:
            holder.kill()


def children(index: str | bytes) -> dict[str, str]:
    """platform -> digest of what an index names."""
    return {"/".join(child["platform"][k] for k in ("os", "architecture", "variant")
                     if k in child["platform"]): child["digest"]
            for child in json.loads(index)["manifests"]}


def client(home: Path, *words: str) -> list[str]:
    """The words that run a program which talks to the farm's BuildKit: that listens to root."""
    return [*ROOT, "env", "-i", f"HOME={home}", f"PATH={home}:{STATE}/bin:/usr/bin:/bin",
            f"BUILDKIT_HOST=unix://{STATE}/buildkitd.sock", *words]


def sh(*words: str, **options: Any) -> str:
    """Runs a program and returns its output; a failure shows what it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder for files that containers read: pytest's own let nobody else in."""
    with tempfile.TemporaryDirectory(prefix="desimages-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
