"""Inputs from git, a Maven repository and other registries: locked, built, and built from the archive alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.desimages.farm.plugins.plugin_utils.registry.client import Registry

from .conftest import REGISTRY, STATE, Farm, client, sh

RECIPE = """description: {name}
license: MIT
platforms: [linux/amd64, linux/arm64]
inputs:
"""
KIND = "application/vnd.docker."  # the media types of Docker's own images
LATER = 1_900_000_000  # 2030: no build of the farm makes such a file


def tree(data: bytes) -> dict[str, tuple[float, bytes]]:
    """path -> time and content of the files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: (member.mtime, file.read()) for member in tar if (file := tar.extractfile(member))}


@dataclass(frozen=True)
class Upstream:
    """Somebody's repository of images, in the same registry program."""

    repository: str

    @property
    def registry(self) -> Registry:
        return Registry(REGISTRY)

    def push(self, content: bytes) -> dict[str, Any]:
        name = "sha256:" + hashlib.sha256(content).hexdigest()
        self.registry.put_blob(self.repository, content, name)
        return {"digest": name, "size": len(content)}

    def publish(self, tag: str, text: str) -> None:
        """An image for two platforms, as Docker makes it: one gzipped layer with a file that says its platform."""
        children = []
        for architecture in ("amd64", "arm64"):
            raw = io.BytesIO()
            with tarfile.open(fileobj=raw, mode="w") as tar:
                for name, content in (("etc/os", text), ("etc/platform", architecture)):
                    member = tarfile.TarInfo(name)
                    member.size, member.mtime = len(content), LATER
                    tar.addfile(member, io.BytesIO(content.encode()))
            layer = self.push(gzip.compress(raw.getvalue()))
            config = self.push(json.dumps({
                "os": "linux", "architecture": architecture, "config": {"Env": ["OS=somebodys"]},
                "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()]},
            }).encode())
            manifest = json.dumps({
                "schemaVersion": 2, "mediaType": f"{KIND}distribution.manifest.v2+json",
                "config": {"mediaType": f"{KIND}container.image.v1+json", **config},
                "layers": [{"mediaType": f"{KIND}image.rootfs.diff.tar.gzip", **layer}]}).encode()
            name = "sha256:" + hashlib.sha256(manifest).hexdigest()
            self.registry.put_manifest(self.repository, name, manifest, f"{KIND}distribution.manifest.v2+json")
            children.append({"mediaType": f"{KIND}distribution.manifest.v2+json", "digest": name,
                             "size": len(manifest), "platform": {"os": "linux", "architecture": architecture}})
        kind = f"{KIND}distribution.manifest.list.v2+json"
        index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": children}).encode()
        self.registry.put_manifest(self.repository, tag, index, kind)


@dataclass(frozen=True)
class Built:
    """A catalog with an image for each kind of input, locked and built."""

    farm: Farm
    root: Path
    upstream: Upstream

    def image(self, name: str, platform: str, to: Path) -> tuple[dict[str, Any], list[bytes]]:
        """The config and the layers of what was built."""
        digest = self.farm.index(name)[platform]
        sh("skopeo", "copy", "-q", "--src-tls-verify=false",
           f"docker://{REGISTRY}/{self.farm.defaults['farm_namespace']}/{name}@{digest}", f"dir:{to}/{name}")
        manifest = json.loads((to / name / "manifest.json").read_text())
        files = [to / name / part["digest"].partition(":")[2] for part in (manifest["config"], *manifest["layers"])]
        return json.loads(files[0].read_text()), [
            subprocess.run(["zstd", "-dcq", str(file)], check=True, capture_output=True).stdout for file in files[1:]]


def write(root: Path, name: str, inputs: str, dockerfile: str) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "image.yml").write_text(RECIPE.format(name=name) + inputs)
    (root / name / "Dockerfile").write_text(dockerfile)


@pytest.fixture(scope="module")
def built(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("inputs")
    upstream = Upstream("somebody/os")
    upstream.publish("1", "first\n")
    write(folder / "images", "based",
          f"  os: {{image: '{REGISTRY}/somebody/os:1'}}\n  tools: {{image: '{REGISTRY}/somebody/os:1', for: build}}\n",
          "FROM --platform=$BUILDPLATFORM tools AS made\nFROM os\nCOPY --from=made /etc/platform /etc/built-on\n"
          "COPY own /etc/own\n")
    (folder / "images/based/own").write_text("own\n")
    git = ["git", "-C", str(folder / "source.git"), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    sh("git", "init", "--quiet", str(folder / "source.git"))
    (folder / "source.git/hello").write_text("hello\n")
    sh(*git, "add", "hello")
    sh(*git, "commit", "--quiet", "--message=one")
    sh(*git, "tag", "v1")
    write(folder / "images", "sources", "  source: {git: 'https://upstream.example/source.git', ref: v1}\n",
          "FROM scratch\nCOPY --from=inputs /source /source.tar\n")
    jar = folder / "maven/org/example/app/1.0/app-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"a jar")
    write(folder / "images", "jar", "  app: {maven: 'org.example:app:1.0'}\n",
          "FROM scratch\nCOPY --from=inputs /app /app.jar\n")
    made = farm.on(folder / "images", farm_namespace="inputs", farm_origins={
        "git": {"https://upstream.example/": f"file://{folder}/"}, "maven": [f"file://{folder}/maven"]})
    for playbook in ("playbooks/lock.yml", "build.yml"):
        done = made.run(playbook)
        assert done.rc == 0, done.text[-4000:]
    return Built(made, folder / "images", upstream)


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_an_image_on_somebodys_base_has_all_of_it(built: Built, tmp_path: Path, platform: str) -> None:
    config, layers = built.image("based", platform, tmp_path)
    base, *own = map(tree, layers)
    assert base == {"etc/os": (LATER, b"first\n"), "etc/platform": (LATER, platform.partition("/")[2].encode())}
    files = {name: content for layer in own for name, (_time, content) in layer.items()}
    assert files == {"etc/built-on": b"amd64", "etc/own": b"own\n"}
    assert "OS=somebodys" in config["config"]["Env"]
    assert config["config"]["Labels"]["org.opencontainers.image.base.name"] == f"{REGISTRY}/somebody/os:1"


def test_a_tree_of_git_and_a_file_of_maven_are_what_they_were_locked_as(built: Built, tmp_path: Path) -> None:
    _config, (layer,) = built.image("sources", "linux/arm64", tmp_path)
    inner = tree(layer)["source.tar"][1]
    assert {name: content for name, (_time, content) in tree(inner).items()} == {"hello": b"hello\n"}
    _config, (layer,) = built.image("jar", "linux/arm64", tmp_path)
    assert tree(layer)["app.jar"][1] == b"a jar"


def test_a_second_run_does_nothing(built: Built) -> None:
    for playbook in ("build.yml", "playbooks/lock.yml"):
        done = built.farm.run(playbook)
        assert (done.rc, done.changed) == (0, 0), done.text[-3000:]


def test_a_tag_that_moves_moves_nothing_until_it_is_locked_again(built: Built) -> None:
    built.upstream.publish("1", "second\n")
    assert built.farm.run("build.yml", "--check").planned == set()
    check = built.farm.run("playbooks/lock.yml", "--check", "--diff")
    assert check.changed == 1
    assert "os sha256:" in check.text and "source" not in check.text.partition("based:")[0]


def test_it_is_built_from_the_archive_alone(built: Built) -> None:
    """Every origin is gone, and so is what this machine had kept, and the manifests of bases: a garbage collection may
    remove those, as they have no tag."""
    before = {name: built.farm.index(name) for name in ("based", "sources", "jar")}
    shutil.rmtree(STATE / "store/sha256")
    registry = Registry(REGISTRY)
    for name in before["based"].values():
        registry.delete_manifest("inputs/based", name)
    for tag in registry.tags("inputs/based"):
        if found := registry.digest("inputs/based", tag):
            registry.delete_manifest("inputs/based", found[0])
    lock = [json.loads(line) for line in (built.root / "based/lock.jsonl").read_text().splitlines()]
    for sha256 in {line["sha256"] for line in lock if line.get("file") == "manifest"}:
        assert registry.delete_manifest("inputs/archive", f"sha256:{sha256}")
    gone = {"git": {"https://upstream.example/": "file:///nowhere/"}, "maven": ["file:///nowhere"],
            "image": {f"{REGISTRY}/somebody/": "127.0.0.1:1/"}}
    done = built.farm.run(farm_origins=gone)
    assert done.rc == 0, done.text[-4000:]
    assert done.built == {"based linux/amd64", "based linux/arm64"}
    again = built.farm.run(farm_origins=gone, farm_rebuild=True, farm_images=list(before))
    assert again.rc == 0, again.text[-4000:]
    assert "NOT REPRODUCIBLE" not in again.text
    assert {name: built.farm.index(name) for name in before} == before


def test_by_hand_it_gets_the_same_digest(built: Built, scratch: Path) -> None:
    done = built.farm.run("playbooks/context.yml", image="based", to=str(scratch))
    assert done.rc == 0, done.text[-3000:]
    assert not [path for path in scratch.rglob("*") if path.name.startswith("layer-")]
    sh(*client(scratch, f"{scratch}/based-arm64/buildctl.sh"))
    found = json.loads((scratch / "based-arm64/metadata.json").read_text())["containerimage.digest"]
    assert built.farm.index("based", found) == {"linux/arm64": built.farm.index("based")["linux/arm64"]}
